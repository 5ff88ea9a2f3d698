"""Locks between processes: one byte of a file each, of open file descriptions.

Knows Linux' F_OFD_SETLK. Must not know what is locked. The kernel gives a lock back when the process that
holds it dies, however it dies. Such a lock belongs to the description, not to who asked: the same process
would get it twice. So who holds what within this process is kept here.

A description must not be shared with another process, so it is opened anew, after a fork.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import struct
from typing import Final

_SETLK: Final = 37  # F_OFD_SETLK, which the fcntl module of Python 3.11 does not name
_FLOCK: Final = "hhqqi4x"  # struct flock: type, whence, start, length, pid

_PAUSE: Final = 0.001
_LONGEST_PAUSE: Final = 0.05


class ByteLocks:
    """The locks that one process takes on the file behind `descriptor`."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.open(f"/proc/self/fd/{descriptor}", os.O_RDWR | os.O_CLOEXEC)
        self._held: set[int] = set()

    def take(self, byte: int) -> bool:
        """Take a lock without waiting; False while anybody has it, this process included."""
        if byte in self._held or not self._set(fcntl.F_WRLCK, byte):
            return False
        self._held.add(byte)
        return True

    def give_back(self, byte: int) -> None:
        self._held.discard(byte)
        self._set(fcntl.F_UNLCK, byte)

    def _set(self, kind: int, byte: int) -> bool:
        try:
            fcntl.fcntl(self._file, _SETLK, struct.pack(_FLOCK, kind, os.SEEK_SET, byte, 1, 0))
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.EACCES):
                return False
            raise
        return True

    def close(self) -> None:
        """Give everything back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


async def taken(locks: ByteLocks, byte: int) -> None:
    """Take a lock that is held for milliseconds only: wait in short steps. The caller sets a limit."""
    pause = _PAUSE
    while not locks.take(byte):
        await asyncio.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
