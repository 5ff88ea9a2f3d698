"""Real processes: started in a group of their own, waited for until they answer, stopped by their pid.

Knows nothing of what it starts.
"""

from __future__ import annotations

import http.client
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

START_SECONDS: Final = 30.0
STOP_SECONDS: Final = 10.0
# Below the kernel's ephemeral ports, so that no outgoing connection takes one before it is listened on.
_PORTS: Final = range(20_000, 32_000)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    for port in random.sample(_PORTS, 50):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port")


def eventually(ask: Callable[[], T], until: Callable[[T], bool], *, within: float = 10.0) -> T:
    """Ask again and again; return the first answer that satisfies `until`."""
    deadline = time.monotonic() + within
    while not until(answer := ask()):
        assert time.monotonic() < deadline, f"after {within} s still: {answer!r}"
        time.sleep(0.05)
    return answer


@dataclass(slots=True)
class Process:
    """A running program that serves HTTP."""

    popen: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(
        cls,
        command: Sequence[str | Path],
        *,
        cwd: Path,
        environ: Mapping[str, str],
        log: Path,
        ready: str,
    ) -> Process:
        """Start a command and wait until the URL `ready` answers with 2xx."""
        with log.open("ab") as output:
            popen = subprocess.Popen(
                [str(word) for word in command],
                cwd=cwd,
                env={**os.environ, **environ},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        process = cls(popen, log)
        try:
            process.wait_until_ready(ready)
        except BaseException:
            process.stop(signal.SIGKILL)
            raise
        return process

    def wait_until_ready(self, url: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not _answers(url):
            code = self.popen.poll()
            assert code is None, f"{self._name} ended with {code}:\n{self.output}"
            assert time.monotonic() < deadline, f"{self._name} does not answer {url}:\n{self.output}"
            time.sleep(0.05)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End the whole group and return the exit code; what does not end in time is killed."""
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, number)
            try:
                self.popen.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self.popen.pid, signal.SIGKILL)
        return self.popen.wait(STOP_SECONDS)

    @property
    def output(self) -> str:
        return self.log.read_text("utf-8", "replace")[-4000:]

    @property
    def _name(self) -> str:
        return " ".join(str(word) for word in self.popen.args) if isinstance(self.popen.args, list) else "it"


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", parts.path or "/")
        return 200 <= connection.getresponse().status < 300
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
