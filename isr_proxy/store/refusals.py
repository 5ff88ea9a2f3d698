"""What a refusal of the disk becomes: one exception, one counter, one clear log line a minute.

Knows errno and what an operator can do about it. Must not know entries.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from typing import Final

import structlog

from isr_proxy.errors import StoreUnavailable

_log = structlog.get_logger("isr_proxy.store")

_QUIET_SECONDS: Final = 60.0
_ADVICE: Final = {
    errno.ENOSPC: "free space on this file system or lower store.max_size",
    errno.EDQUOT: "raise the disk quota or lower store.max_size",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f)",
    errno.EROFS: "mount the file system of store.path writable",
    errno.EACCES: "give this user write access to store.path",
    errno.EPERM: "give this user write access to store.path",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.ENFILE: "raise the system's limit of open files (fs.file-max)",
    errno.EBUSY: "use a faster disk, or store.fsync: false; some pages are not stored meanwhile",
    errno.EIO: "check the disk; the kernel log names the fault",
}


class Refusals:
    """Counts what the disk refused, and says it without flooding the log."""

    def __init__(self, path: str, now: Callable[[], float]) -> None:
        self.count = 0
        self._path = path
        self._now = now
        self._said_at: dict[int, float] = {}

    def refused(self, error: OSError | sqlite3.Error, doing: str) -> StoreUnavailable:
        """Count a refusal and return the exception that stands for it; the caller raises or drops it."""
        self.count += 1
        number = (error.errno or 0) if isinstance(error, OSError) else -1
        self._say(number, doing, str(error))
        return StoreUnavailable(f"{doing}: {_word(number, error)}")

    def _say(self, number: int, doing: str, detail: str) -> None:
        now = self._now()
        if now - self._said_at.get(number, -_QUIET_SECONDS) < _QUIET_SECONDS:
            return
        self._said_at[number] = now
        advice = _ADVICE.get(number, "see the error; pages are served from the origin meanwhile")
        _log.error(
            "the store's disk refused",
            doing=doing,
            path=self._path,
            error=detail,
            advice=advice,
            so_far=self.count,
        )


def _word(number: int, error: Exception) -> str:
    return os.strerror(number) if number > 0 else str(error)
