"""Whether a small page is written by the loop itself, or in a thread.

Knows sizes and how long the last writes took. Must not know files.

A write into the page cache takes less than handing it to a thread does, and beside a busy loop a thread gets
its turns late and dearly. But a disk that is asked to sync, or that has too much to write already, makes
whoever writes wait: then it must not be the loop, on which every hit depends. So it is tried now and then,
and the loop waits for a tenth of its time at the very most, and ever less while it finds the disk slow.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final, TypeVar

SMALL_BYTES: Final = 64 * 1024
SLOW_SECONDS: Final = 0.002  # a write that took as long has waited for the disk
_RESTS: Final = 10  # times as long as that the loop does not write after it, doubled for each in a row
_DOUBLINGS: Final = 8

R = TypeVar("R")


class Promptness:
    """Of one store's disk; `clock` is monotonic seconds."""

    def __init__(self, *, fsync: bool, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._slow_until = float("inf") if fsync else 0.0
        self._slow_in_a_row = 0

    def is_prompt(self, size_bytes: int) -> bool:
        """Tell whether so much may be written without waiting for anything."""
        return size_bytes <= SMALL_BYTES and self._clock() >= self._slow_until

    def run(self, work: Callable[[], R]) -> R:
        """Do it now, and remember when that took too long."""
        begun_at = self._clock()
        try:
            return work()
        finally:
            self._took(begun_at, self._clock())

    def _took(self, begun_at: float, ended_at: float) -> None:
        seconds = ended_at - begun_at
        if seconds <= SLOW_SECONDS:
            self._slow_in_a_row = 0
            return
        self._slow_until = ended_at + seconds * _RESTS * 2**self._slow_in_a_row
        self._slow_in_a_row = min(self._slow_in_a_row + 1, _DOUBLINGS)
