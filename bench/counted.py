"""isr-proxy as it is, which counts its asyncio tasks when it is asked to by USR1.

    python -m bench.counted FILE serve --config ...

The proxy tells no such number by itself. Each process writes its own into FILE.PID. Must not change what is
served.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Final

from bench.costs import tree

_SECONDS: Final = 5.0
_STEP: Final = 0.01
_USR1_BIT: Final = 1 << (signal.SIGUSR1 - 1)


def main() -> None:
    from isr_proxy.cli import main as serve

    file = sys.argv.pop(1)

    def write(_number: int, _frame: FrameType | None) -> None:
        try:
            count = len(asyncio.all_tasks())
        except RuntimeError:  # no loop runs in this process
            count = 0
        Path(f"{file}.{os.getpid()}.new").write_text(str(count))
        os.replace(f"{file}.{os.getpid()}.new", f"{file}.{os.getpid()}")

    signal.signal(signal.SIGUSR1, write)
    serve()


def tasks(pid: int, file: Path) -> int:
    """Return how many tasks a process and its descendants have now; RuntimeError when they do not say."""
    asked = [each for each in tree(pid) if _listens(each)]
    for each in asked:
        os.kill(each, signal.SIGUSR1)
    return sum(_read(Path(f"{file}.{each}")) for each in asked)


def _listens(pid: int) -> bool:
    """Tell whether a process catches USR1, which would end any other."""
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("SigCgt:"):
                return bool(int(line.split()[1], 16) & _USR1_BIT)
    except (FileNotFoundError, ProcessLookupError):
        pass
    return False


def _read(file: Path) -> int:
    deadline = time.monotonic() + _SECONDS
    while time.monotonic() < deadline:
        try:
            text = file.read_text()
        except FileNotFoundError:
            time.sleep(_STEP)
            continue
        file.unlink()
        return int(text)
    raise RuntimeError("the proxy does not count its tasks: its event loop stands still")


if __name__ == "__main__":
    main()
