"""What a measurement starts: processes that listen on a port of this machine, and their end.

Knows processes, ports and cores. Must not know what is measured, nor what a process costs (costs.py).
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.costs import tree

_START_SECONDS: Final = 60.0  # HAProxy clears all of its cache first
_STOP_SECONDS: Final = 20.0


class CannotStart(Exception):
    """A command ended before it listened; its last words."""


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def listening(
    command: Sequence[str],
    port: int,
    core: int | None = None,
    *,
    output: Path | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block ends, once it accepts connections; `core` pins it and its children.

    It has a session of its own, so that ctrl-C reaches only who started it, and who stops it in turn.
    """
    with started(command, core, output=output, cwd=cwd) as process:
        _wait_for(port, process, output)
        yield process


@contextmanager
def started(
    command: Sequence[str], core: int | None = None, *, output: Path | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block ends; `output` takes what it says."""
    pin: Callable[[], None] | None = None if core is None else lambda: os.sched_setaffinity(0, {core})
    with open(output or os.devnull, "ab") as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said if output is not None else None,
            cwd=cwd,
            preexec_fn=pin,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and every descendant it has now; what does not end in time is killed."""
    family = _handles(tree(process.pid)) if process.poll() is None else []
    process.terminate()
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    finally:
        for handle in family:
            _kill(handle)


def _handles(pids: Sequence[int]) -> list[int]:
    """Return handles that stay those processes', even when their numbers are used again."""
    found = []
    for pid in pids:
        try:
            found.append(os.pidfd_open(pid))
        except ProcessLookupError:
            continue
    return found


def _kill(handle: int) -> None:
    """End what is left, and wait until it has ended; a handle can be read from then on."""
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        select.select([handle], [], [], _STOP_SECONDS)
    except ProcessLookupError:
        pass
    finally:
        os.close(handle)


def _wait_for(port: int, process: subprocess.Popen[bytes], output: Path | None) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                said = "" if output is None else output.read_text("utf-8", "replace").strip()[-1000:]
                raise CannotStart(f"It does not listen. {said}") from error
            time.sleep(0.02)
        else:
            return


def origin(port: int) -> list[str]:
    """Return the command of the measurements' origin."""
    return [sys.executable, "-m", "bench.origin", str(port)]


def isr_proxy(config: Path) -> list[str]:
    """Return the command of the proxy."""
    return [sys.executable, "-m", "isr_proxy", "serve", "--config", str(config)]


def path_of(program: str) -> str | None:
    """Return where a program lies, None when it is not installed; Debian has servers in /usr/sbin."""
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def missing(programs: Sequence[str]) -> list[str]:
    """Return which of these programs are not installed."""
    return [program for program in programs if path_of(program) is None]


def end_on_term() -> None:
    """Let TERM unwind like ctrl-C does, so that nothing is left running."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
