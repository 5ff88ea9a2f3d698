"""What a measurement starts: processes that listen on a port of this machine, and what they cost.

Knows processes, ports and /proc. Must not know what is measured.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_START_SECONDS: Final = 20.0
_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextmanager
def listening(
    command: Sequence[str], port: int, core: int | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until the block ends, once it accepts connections; `core` pins it and its children."""
    pin: Callable[[], None] | None = None if core is None else lambda: os.sched_setaffinity(0, {core})
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=pin)
    try:
        _wait_for(port, process)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{process.args!r} does not listen on {port}") from error
            time.sleep(0.05)
        else:
            return


def origin(port: int) -> list[str]:
    """Return the command of the measurements' origin."""
    return [sys.executable, "-m", "bench.origin", str(port)]


def isr_proxy(config: Path) -> list[str]:
    """Return the command of the proxy."""
    return [sys.executable, "-m", "isr_proxy", "serve", "--config", str(config)]


def missing(programs: Sequence[str]) -> list[str]:
    """Return which of these programs are not installed."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return [program for program in programs if shutil.which(program, path=path) is None]


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in tree(int(child)))]


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process and its descendants have taken."""
    fields = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in tree(pid)]
    return sum(int(line[11]) + int(line[12]) for line in fields) / _TICK


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants."""
    return sum(int(Path(f"/proc/{each}/statm").read_text().split()[1]) for each in tree(pid)) * _PAGE_BYTES


def disk_bytes(root: Path) -> int:
    """Return what a directory takes on disk, as `du` counts; what vanishes meanwhile counts nothing."""
    total, left = 0, [str(root)]
    while left:
        directory = left.pop()
        try:
            total += os.stat(directory).st_blocks * 512
            for item in os.scandir(directory):
                if item.is_dir(follow_symlinks=False):
                    left.append(item.path)
                else:
                    total += item.stat(follow_symlinks=False).st_blocks * 512
        except FileNotFoundError:
            continue
    return total
