"""The two apps behind the proxy, as processes.

Knows how each is started and how a test changes what it publishes. Must not know the proxy.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.e2e.next_build import QUIET, built_app, next_command
from tests.e2e.processes import Process, free_port
from tests.e2e.proxy import TOKEN

SITE: Final = Path(__file__).parent / "django_site"
READER: Final = "ada"
PASSWORD: Final = "a secret of the tests"


@dataclass(slots=True)
class NextApp:
    """`next start`; `admin_port` is where it tells the proxy what it has published."""

    folder: Path
    admin_port: int
    port: int
    process: Process

    @classmethod
    def start(cls, folder: Path, admin_port: int) -> NextApp:
        port = free_port()
        (folder / "content").mkdir(parents=True, exist_ok=True)
        return cls(folder, admin_port, port, _start_next(folder, port, admin_port))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def write(self, slug: str, text: str) -> None:
        """Change the text of an article, as an editor would in the CMS behind the app."""
        (self.folder / "content" / f"{slug}.txt").write_text(text, "utf-8")

    def kill(self) -> None:
        self.process.stop(signal.SIGKILL)

    def restart(self) -> None:
        self.process = _start_next(self.folder, self.port, self.admin_port)

    def stop(self) -> None:
        self.process.stop()


def _start_next(folder: Path, port: int, admin_port: int) -> Process:
    return Process.start(
        next_command("start", "--hostname", "127.0.0.1", "--port", str(port)),
        cwd=built_app(),
        environ={
            **QUIET,
            "CONTENT_DIR": str(folder / "content"),
            "ISR_ADMIN_URL": f"http://127.0.0.1:{admin_port}",
            "ISR_ADMIN_TOKEN": TOKEN,
        },
        log=folder / "next.log",
        ready=f"http://127.0.0.1:{port}/",
    )


@dataclass(frozen=True, slots=True)
class DjangoSite:
    """`manage.py runserver` with a database of its own and one account."""

    url: str
    process: Process

    @classmethod
    def start(cls, folder: Path) -> DjangoSite:
        port = free_port()
        environ = {"DJANGO_DATABASE": str(folder / "db.sqlite3"), "PYTHONDONTWRITEBYTECODE": "1"}
        _manage("migrate", "--run-syncdb", "--verbosity=0", environ=environ)
        account = {**environ, "DJANGO_SUPERUSER_PASSWORD": PASSWORD}
        _manage("createsuperuser", "--noinput", "--username", READER, "--email", "a@b.test", environ=account)
        process = Process.start(
            [sys.executable, SITE / "manage.py", "runserver", "--noreload", f"127.0.0.1:{port}"],
            cwd=SITE,
            environ=environ,
            log=folder / "django.log",
            ready=f"http://127.0.0.1:{port}/",
        )
        return cls(f"http://127.0.0.1:{port}", process)


def _manage(*arguments: str, environ: dict[str, str]) -> None:
    command = [sys.executable, str(SITE / "manage.py"), *arguments]
    done = subprocess.run(command, cwd=SITE, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"
