"""A page out of the kernel's page cache, without waiting and without a thread.

Knows `preadv` with RWF_NOWAIT, what a file system says that has no such thing, and the files that are kept
open. Must not know keys, nor ever wait for the disk: WouldWait says that a thread must look.

A file that is asked for again is not opened, parsed and verified again, as long as it is still the file at
its path and nobody has written to it: its status tells at each look, whichever process replaced it. The
state is read at each look, with the bodies. That makes two system calls: `fstat` and `preadv`.

Whether an open file still lies at its path, the kernel's clock of changes (ctime) says: a file that is
replaced, deleted or moved changes. A change within one tick of that clock would not show, so a file must
have stayed the same for a while first; until then its path is looked up, which takes thrice as long.

A file is kept when it is opened for the second time within a while, so that a crawler closes nobody's.
Kept files are bounded in number and in bytes, since a file that another process deletes takes its room on
the disk until it is closed. Everything here belongs to the event loop's thread.
"""

from __future__ import annotations

import errno
import os
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from isr_proxy.core.entry import BODIES_OFFSET, HEADER_BYTES, Meta, State, VaryIndex, decode_state
from isr_proxy.store.layout import Layout, Name
from isr_proxy.store.opened import FileBodies, FileId, OpenFile, ResidentBodies
from isr_proxy.store.reading import (
    Bodies,
    Bytes,
    Loaded,
    Page,
    Stamp,
    Verified,
    open_file,
    parse,
    stamp_of,
    verify,
)

PEEK_BYTES: Final = 64 * 1024  # a whole file up to this size is read at once
_KEPT_FILES: Final = 512
_KEPT_BYTES: Final = 64 * 1024 * 1024
_SETTLED_AFTER: Final = 2.0  # seconds: beyond the ticks of any file system's clock
_NOT_SUPPORTED: Final = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})


class WouldWait(Exception):
    """It cannot be told without waiting for the disk."""


@dataclass(slots=True)
class _Kept:
    """A page file that is open, and what of it need not be read again."""

    file: OpenFile
    path: str
    stamp: Stamp
    changed_ns: int
    settles_at: float | None  # by when any later change shows; None: by now
    meta: Meta
    file_id: FileId
    views: tuple[tuple[str, memoryview], ...]  # where the bodies of a file that is read whole come to lie
    raw_states: bytes = b""
    state: State | None = None  # decoded from these


@dataclass(slots=True)
class _KeptIndex:
    """The index of a key that varies: its bytes never change, so that its file need only be the same."""

    file: OpenFile
    path: str
    stamp: Stamp
    changed_ns: int
    settles_at: float | None
    index: VaryIndex


class Peeker:
    """Looks into the page files of one store."""

    def __init__(
        self,
        layout: Layout,
        verified: Verified,
        executor: Executor,
        max_files: int = _KEPT_FILES,
        max_bytes: int = _KEPT_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.is_supported = True  # by the file system, as far as anybody has tried
        self.kept_bytes = 0
        self._layout = layout
        self._verified = verified
        self._executor = executor
        self._max_files = max_files
        self._max_bytes = max_bytes
        self._clock = clock
        self._kept: OrderedDict[Name, _Kept | _KeptIndex] = OrderedDict()
        self._opened: set[Name] = set()  # lately
        self._opened_before: set[Name] = set()
        self._buffer = memoryview(bytearray(PEEK_BYTES))
        self._whole = (self._buffer,)
        self._head = (self._buffer[:BODIES_OFFSET],)

    def __len__(self) -> int:
        return len(self._kept)

    def peek(self, name: Name) -> Loaded | None:
        """Load a page file; WouldWait, OSError or BadEntry when a thread must."""
        kept = self._kept.get(name)
        if kept is None:
            return self._open(name)
        if not self._is_same(kept):
            self.forget(name)
            return self._open(name)
        self._kept.move_to_end(name)
        return self._page(kept) if isinstance(kept, _Kept) else kept.index

    def _is_same(self, kept: _Kept | _KeptIndex) -> bool:
        """Tell whether this file still lies at its path, and nobody has written to it."""
        if kept.settles_at is None:
            status = os.fstat(kept.file.descriptor)
            return status.st_ctime_ns == kept.changed_ns and status.st_nlink > 0
        try:
            status = os.stat(kept.path)
        except (FileNotFoundError, NotADirectoryError):
            return False
        if status.st_ctime_ns != kept.changed_ns or stamp_of(status) != kept.stamp:
            return False
        if self._clock() >= kept.settles_at:
            kept.settles_at = None
        return True

    def forget(self, name: Name) -> None:
        """Close a file, unless a body is being read from it."""
        kept = self._kept.pop(name, None)
        if kept is not None:
            self.kept_bytes -= kept.stamp.size

    # --- a file that is not kept ---

    def _open(self, name: Name) -> Loaded | None:
        if not self.is_supported:
            raise WouldWait
        path = self._layout.page(name)
        file = open_file(path)
        if file is None:
            return None
        status = os.fstat(file.descriptor)
        stamp = stamp_of(status)
        first = self._first(file, stamp.size)
        loaded = parse(first, stamp.size, lambda offset, size: self._read(file, first, offset, size))
        if not isinstance(loaded, VaryIndex):
            self._check(name, stamp, loaded, first)
        if self._is_asked_again(name) and stamp.size * 8 <= self._max_bytes:
            return self._keep(name, self._kept_of(file, path, status, first, loaded))
        return loaded if isinstance(loaded, VaryIndex) else self._page_of(file, stamp, first, loaded)

    def _page_of(self, file: OpenFile, stamp: Stamp, first: memoryview, meta: Meta) -> Page:
        state, file_id = decode_state(first[:BODIES_OFFSET]), FileId(stamp.inode, bytes(first[:HEADER_BYTES]))
        if len(first) < stamp.size:
            return Page(meta, state, FileBodies(file, meta.bodies, file_id, self._executor))
        parts = {}
        for ref in meta.bodies:
            parts[ref.encoding] = bytes(first[ref.offset : ref.offset + ref.size])
        return Page(meta, state, ResidentBodies(parts, file_id))

    def _is_asked_again(self, name: Name) -> bool:
        """Tell whether a file was opened not long ago; one that never is again need not be kept."""
        if name in self._opened or name in self._opened_before:
            return True
        if len(self._opened) >= self._max_files:
            self._opened, self._opened_before = set(), self._opened
        self._opened.add(name)
        return False

    def _kept_of(
        self, file: OpenFile, path: str, status: os.stat_result, first: memoryview, loaded: Meta | VaryIndex
    ) -> _Kept | _KeptIndex:
        stamp, changed_ns, settles_at = stamp_of(status), status.st_ctime_ns, self._clock() + _SETTLED_AFTER
        if isinstance(loaded, VaryIndex):
            return _KeptIndex(file, path, stamp, changed_ns, settles_at, loaded)
        refs = loaded.bodies if len(first) == stamp.size else ()
        views = tuple((ref.encoding, first[ref.offset : ref.offset + ref.size]) for ref in refs)
        file_id = FileId(stamp.inode, bytes(first[:HEADER_BYTES]))
        return _Kept(file, path, stamp, changed_ns, settles_at, loaded, file_id, views)

    def _first(self, file: OpenFile, size: int) -> memoryview:
        """Read the whole of a small file, the head of a large one."""
        if size <= PEEK_BYTES:
            self._preadv(file, self._whole, 0, size)
            return self._buffer[:size]
        self._preadv(file, self._head, 0, BODIES_OFFSET)
        return self._buffer[:BODIES_OFFSET]

    def _read(self, file: OpenFile, first: memoryview, offset: int, size: int) -> Bytes:
        if offset + size <= len(first):
            return first[offset : offset + size]
        rest = bytearray(size)
        self._preadv(file, (rest,), offset, size)
        return memoryview(rest)

    def _check(self, name: Name, stamp: Stamp, meta: Meta, first: memoryview) -> None:
        """Verify what never was, where all of it is at hand: it takes less than to have a thread do it."""
        if self._verified.has(name, stamp):
            return
        if len(first) < stamp.size:
            raise WouldWait
        verify(meta, lambda offset, size: first[offset : offset + size])
        self._verified.mark(name, stamp)

    def _keep(self, name: Name, kept: _Kept | _KeptIndex) -> Loaded:
        self._kept[name] = kept
        self.kept_bytes += kept.stamp.size
        while len(self._kept) > self._max_files or self.kept_bytes > self._max_bytes:
            self.forget(next(iter(self._kept)))
        if isinstance(kept, _KeptIndex):
            return kept.index
        return Page(kept.meta, self._state(kept), self._bodies(kept))

    # --- a file that is open ---

    def _page(self, kept: _Kept) -> Page:
        into, size = (self._whole, kept.stamp.size) if kept.views else (self._head, BODIES_OFFSET)
        self._preadv(kept.file, into, 0, size)
        return Page(kept.meta, self._state(kept), self._bodies(kept))

    def _state(self, kept: _Kept) -> State:
        """Return the state that was just read; decoded once, for as long as it stays the same."""
        raw = bytes(self._buffer[HEADER_BYTES:BODIES_OFFSET])
        if kept.state is None or raw != kept.raw_states:
            kept.state, kept.raw_states = decode_state(self._buffer[:BODIES_OFFSET]), raw
        return kept.state

    def _bodies(self, kept: _Kept) -> Bodies:
        if not kept.views:
            return FileBodies(kept.file, kept.meta.bodies, kept.file_id, self._executor)
        parts = {}
        for encoding, view in kept.views:
            parts[encoding] = bytes(view)
        return ResidentBodies(parts, kept.file_id)

    def _preadv(self, file: OpenFile, into: tuple[memoryview | bytearray], offset: int, size: int) -> None:
        """Read at least `size` bytes that the page cache has; a short count is the rest of it missing."""
        try:
            count = os.preadv(file.descriptor, into, offset, os.RWF_NOWAIT)
        except OSError as error:
            if error.errno in _NOT_SUPPORTED:
                self.is_supported = False
            raise WouldWait from error
        if count < size:
            raise WouldWait
