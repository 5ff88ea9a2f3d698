"""What a process tree costs: processor time, memory, open files, disk.

Knows /proc and the kernel's clocks. Must not know what is measured.

Processor time is read from each process's own CPU clock (`clock_getcpuclockid(3)`). It has nanoseconds, and
keeps the time of threads that have ended. Measured beside the alternatives, over 20 threads that took
217.6 ms by cpuacct and ended: this clock 217.2, utime+stime 210 (ticks of 10 ms), schedstat of the threads
that are left 8.6. A child that ended is counted too, in ticks, once its parent has waited for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_TICK: Final = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_CPUCLOCK_SCHED: Final = 2  # of the kernel's encoding of a process's clock
_QUIET_SECONDS: Final = 0.03
_QUIET_SHARE: Final = 0.02


def tree(pid: int) -> list[int]:
    """Return a process and all its descendants; none when it is gone."""
    found, left = [], [pid]
    while left:
        each = left.pop()
        children = _children(each)
        if children is not None:
            found.append(each)
            left += children
    return found


def _children(pid: int) -> list[int] | None:
    """Return the children that any thread of a process has started, None when it is gone."""
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_text().split())
    except (FileNotFoundError, ProcessLookupError):
        return found if os.path.exists(f"/proc/{pid}") else None
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time that processes and their descendants have taken, ended ones included."""
    return sum(_own_seconds(each) + _ended_seconds(each) for pid in pids for each in tree(pid))


def _own_seconds(pid: int) -> float:
    try:
        return time.clock_gettime((~pid << 3) | _CPUCLOCK_SCHED)
    except OSError:
        return 0.0  # gone since it was listed; from now on its parent has its time


def _ended_seconds(pid: int) -> float:
    """Return the processor time of children that ended and were waited for."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[13]) + int(fields[14])) / _TICK


def settled_cpu_seconds(pids: Iterable[int], within: float = 1.0) -> float:
    """Return the processor time once the processes do nothing any more: what runs behind counts too."""
    pids = list(pids)
    deadline = time.monotonic() + within
    used = cpu_seconds(pids)
    while time.monotonic() < deadline:
        time.sleep(_QUIET_SECONDS)
        before, used = used, cpu_seconds(pids)
        if used - before < _QUIET_SECONDS * _QUIET_SHARE:
            break
    return used


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and its descendants."""
    return sum(_resident_pages(each) for each in tree(pid)) * _PAGE_BYTES


def _resident_pages(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def open_files(pid: int) -> int:
    """Return how many descriptors a process and its descendants hold."""
    return sum(_descriptors(each) for each in tree(pid))


def _descriptors(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except (FileNotFoundError, ProcessLookupError):
        return 0


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
