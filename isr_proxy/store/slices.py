"""Where a stored body lies, to be read again and again without waiting.

Knows a path and the bytes that its file begins with: its header, which holds the checksum of its meta, and
its state. A file that begins with them, and was not written to since, is the very entry that was found and
verified there. Must not know keys, nor ever wait for the disk.

A slice that is read often stays open for a while. Until its reader lets go of it, or many others are open, it
does not see that its file is another one by now: whoever reads is told of changes, and lets go now and then
in case somebody else made one. Everything here belongs to the event loop's thread.
"""

from __future__ import annotations

import os
from typing import Final

from isr_proxy.core.entry import BODIES_OFFSET, HEADER_BYTES, State, decode_state
from isr_proxy.errors import BadEntry
from isr_proxy.store.opened import OpenFile
from isr_proxy.store.reading import Stamp, open_file, stamp_of

MOST_OPEN: Final = 256
_SHARED_BYTES: Final = 64 * 1024  # a file is read into the same memory each time, up to this size
_SHARED: Final = memoryview(bytearray(_SHARED_BYTES))
_BEGINNING: Final = (_SHARED[:BODIES_OFFSET],)


class FileSlice:
    """One body in one file."""

    __slots__ = ("_file", "_first", "_opened", "_path", "_stamp", "_start", "_stop", "_window", "size_bytes")

    def __init__(
        self, opened: Slices, path: str, stamp: Stamp, first: bytes, start: int, size_bytes: int
    ) -> None:
        self.size_bytes = size_bytes
        self._stamp = stamp
        self._opened = opened
        self._path = path
        self._first = first
        self._start = start
        self._stop = start + size_bytes
        self._window = (_SHARED[: self._stop],) if self._stop <= _SHARED_BYTES else None
        self._file: OpenFile | None = None

    def read(self) -> memoryview | None:
        """Return the body, to be used before anything else is read.

        None: the file is another one by now, or that cannot be told without waiting.
        """
        window = self._window or (memoryview(bytearray(self._stop)),)
        file = self._file or self._open()
        if file is None or _read(file, window) < self._stop or window[0][:BODIES_OFFSET] != self._first:
            return None
        return window[0][self._start :]

    def _open(self) -> OpenFile | None:
        """Open the file at the path, if nobody has written to it or put another in its place."""
        try:
            file = open_file(self._path)
            if file is None or stamp_of(os.fstat(file.descriptor)) != self._stamp:
                return None
        except OSError:
            return None
        self._opened.add(self)
        self._file = file
        return file

    def is_of(self, header: bytes, state: State) -> bool:
        """Tell whether its file is the one with this header and state."""
        return self._first.startswith(header) and decode_state(self._first) == state

    def let_go(self) -> None:
        """Close the file; its path is looked up again next time."""
        if self._file is not None:
            self._file = None
            self._opened.discard(self)


class Slices:
    """The slices of one store; few of them are open at the same time."""

    def __init__(self) -> None:
        self._open: dict[FileSlice, None] = {}

    def of(self, path: str, header: bytes, state: State, offset: int, size_bytes: int) -> FileSlice | None:
        """Return a slice of the file with this header and state; None when that does not lie there now."""
        try:
            file = open_file(path)
            if file is None or _read(file, _BEGINNING) < BODIES_OFFSET:
                return None
            stamp = stamp_of(os.fstat(file.descriptor))
            first = bytes(_BEGINNING[0])
            is_same = first[:HEADER_BYTES] == header and decode_state(first) == state
        except (BadEntry, OSError):
            return None
        return FileSlice(self, path, stamp, first, offset, size_bytes) if is_same else None

    def add(self, opened: FileSlice) -> None:
        """Note one that is open now; the one that is open longest is closed for it."""
        if len(self._open) >= MOST_OPEN:
            next(iter(self._open)).let_go()
        self._open[opened] = None

    def discard(self, closed: FileSlice) -> None:
        """Note one that is not open any more."""
        self._open.pop(closed, None)


def _read(file: OpenFile, window: tuple[memoryview]) -> int:
    """Fill a window from the beginning of a file; returns how much the page cache had of it."""
    try:
        return os.preadv(file.descriptor, window, 0, os.RWF_NOWAIT)
    except OSError:
        return 0
