"""isr-proxy as users run it: a process, a config file, an admin address.

Knows the public contract only: the command line, the YAML, the admin API.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.e2e.processes import Process, eventually, free_port
from tests.e2e.visitor import Answer, Visitor, is_hit

TOKEN: Final = "a-token-of-the-tests-of-32-characters-or-more"
ROOT: Final = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running proxy."""

    url: str
    admin: str
    store: Path
    process: Process

    def visitor(self) -> Visitor:
        return Visitor(self.url)

    def get(self, path: str) -> Answer:
        """Ask as somebody who was never here."""
        return self.visitor().get(path)

    def kept(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask until the store answers: whoever comes while a page is being written reads along."""
        return eventually(lambda: self.visitor().get(path, headers), is_hit)

    def admin_post(self, path: str, body: dict[str, Any]) -> Answer:
        headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
        return Visitor(self.admin).ask("POST", path, headers, json.dumps(body).encode())

    def stored_bytes(self) -> bytes:
        """Return every byte of the store's files."""
        return b"".join(path.read_bytes() for path in sorted(self.store.rglob("*")) if path.is_file())


@contextmanager
def serving(routes: str, origin: str, folder: Path, *, admin_port: int | None = None) -> Iterator[Proxy]:
    """Run a proxy in front of `origin`; `routes` is YAML, from `defaults:` or `routes:` on."""
    port, admin_port = free_port(), admin_port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    file, store = folder / "isr.yaml", folder / "store"
    file.write_text(_config(routes, origin, port, admin_port), "utf-8")
    admin = f"http://127.0.0.1:{admin_port}"
    process = Process.start(
        [sys.executable, "-m", "isr_proxy", "serve", "--config", file],
        cwd=folder,
        environ={"ISR_ADMIN_TOKEN": TOKEN},
        log=folder / "proxy.log",
        ready=f"{admin}/readyz",
    )
    try:
        yield Proxy(f"http://127.0.0.1:{port}", admin, store, process)
    finally:
        code = process.stop()
    assert code == 0, f"the proxy ended with {code}:\n{process.output}"


def _config(routes: str, origin: str, port: int, admin_port: int) -> str:
    return (
        f"listen: 127.0.0.1:{port}\n"
        f"origin: {{url: '{origin}'}}\n"
        "store: {path: ./store}\n"
        f"admin: {{listen: '127.0.0.1:{admin_port}', token: '${{ISR_ADMIN_TOKEN}}'}}\n"
        f"{routes.strip()}\n"
    )
