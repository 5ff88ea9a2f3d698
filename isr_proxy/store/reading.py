"""From a page file to a page: parse, and prove whole.

Knows the file format through core/entry and how to read it in a thread (peeking.py: without waiting). Must
not know keys, variants or what becomes of a broken file: it says BadEntry.
"""

from __future__ import annotations

import os
import threading
from array import array
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Final, NamedTuple

from isr_proxy.core.entry import (
    BODIES_OFFSET,
    HEADER_BYTES,
    VARY_MAGIC,
    Header,
    Meta,
    State,
    VaryIndex,
    decode_header,
    decode_meta,
    decode_state,
    decode_vary_index,
    hasher_like,
)
from isr_proxy.errors import BadEntry
from isr_proxy.store.layout import Layout, Name
from isr_proxy.store.opened import WAITING_BYTES, FileBodies, FileId, OpenFile, ResidentBodies

RESIDENT_BYTES: Final = 256 * 1024  # a whole file up to this size is read at once
_VERIFIED_ROWS: Final = 32768  # a table of 1 MiB, however many pages are stored
_VERIFIED_PLACES: Final = 4
_ALL_BITS: Final = 2**64 - 1

Bytes = bytes | memoryview
Read = Callable[[int, int], Bytes]  # (offset, size) -> exactly that many bytes, or an exception
Bodies = ResidentBodies | FileBodies


class BrokenFile(BadEntry):
    """Which file is not a whole entry, and why."""

    def __init__(self, name: Name, inode: int, why: str) -> None:
        super().__init__(why)
        self.name = name
        self.inode = inode


class Stamp(NamedTuple):
    """By which a file is known to be the one that was verified."""

    inode: int
    mtime_ns: int
    size: int


def stamp_of(status: os.stat_result) -> Stamp:
    return Stamp(status.st_ino, status.st_mtime_ns, status.st_size)


class Verified:
    """Files whose checksums this process has seen to be right, as many as fit into a table of one size.

    A file is known by a hash of its name and stamp: eight bytes in one of the few places of its row, of
    which the one marked longest ago gives way. The hash has a secret of the process: nobody can aim at it.
    """

    def __init__(self, rows: int = _VERIFIED_ROWS) -> None:
        self._rows = rows
        self._marks = array("Q", bytes(8 * rows * _VERIFIED_PLACES))
        self._lock = threading.Lock()  # marked from threads, read from anywhere

    def has(self, name: Name, stamp: Stamp) -> bool:
        start = self._row(name)
        return _mark_of(name, stamp) in self._marks[start : start + _VERIFIED_PLACES]

    def mark(self, name: Name, stamp: Stamp) -> None:
        start, mark = self._row(name), _mark_of(name, stamp)
        with self._lock:
            row = self._marks[start : start + _VERIFIED_PLACES]
            if mark not in row:
                row.pop()
                row.insert(0, mark)
                self._marks[start : start + _VERIFIED_PLACES] = row

    def forget(self, name: Name) -> None:
        """Forget a file, and whatever shares its row: to verify once more is never wrong."""
        start = self._row(name)
        with self._lock:
            self._marks[start : start + _VERIFIED_PLACES] = array("Q", bytes(8 * _VERIFIED_PLACES))

    def _row(self, name: Name) -> int:
        return hash(name) % self._rows * _VERIFIED_PLACES


def _mark_of(name: Name, stamp: Stamp) -> int:
    return hash((name, stamp)) & _ALL_BITS | 1  # never 0, which is an empty place


class Page(NamedTuple):
    """What one page file holds, opened."""

    meta: Meta
    state: State
    bodies: Bodies


Loaded = Page | VaryIndex


def open_file(path: str) -> OpenFile | None:
    """Open for reading; None when there is no such file. OSError otherwise."""
    try:
        return OpenFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except (FileNotFoundError, NotADirectoryError):
        return None


class Loader:
    """Loads page files for one store, waiting for the disk: for its threads."""

    def __init__(self, layout: Layout, verified: Verified, executor: Executor) -> None:
        self._layout = layout
        self._verified = verified
        self._executor = executor

    def load(self, name: Name) -> Loaded | None:
        """Load and, the first time, verify; BrokenFile when it is not whole, OSError when the disk fails."""
        file = open_file(self._layout.page(name))
        if file is None:
            return None
        status = os.fstat(file.descriptor)
        try:
            return self._loaded(file, status, name)
        except BadEntry as error:
            raise BrokenFile(name, status.st_ino, str(error)) from error

    def _loaded(self, file: OpenFile, status: os.stat_result, name: Name) -> Loaded:
        stamp = stamp_of(status)
        first = _pread_exactly(file, 0, min(stamp.size, RESIDENT_BYTES))
        read = _reader_waiting(file, first)
        loaded = parse(first, stamp.size, read)
        if isinstance(loaded, VaryIndex):
            return loaded
        if not self._verified.has(name, stamp):
            verify(loaded, read)
            self._verified.mark(name, stamp)
        return Page(loaded, decode_state(first[:BODIES_OFFSET]), self._bodies(file, first, stamp, loaded))

    def _bodies(self, file: OpenFile, first: bytes, stamp: Stamp, meta: Meta) -> Bodies:
        file_id = FileId(stamp.inode, first[:HEADER_BYTES])
        if len(first) < stamp.size:
            return FileBodies(file, meta.bodies, file_id, self._executor)
        parts = {ref.encoding: first[ref.offset : ref.offset + ref.size] for ref in meta.bodies}
        return ResidentBodies(parts, file_id)


def parse(first: Bytes, size: int, read: Read) -> Meta | VaryIndex:
    """Read the meta or index of a file whose beginning is `first`; BadEntry when it is not whole."""
    header = decode_header(first)
    raw = _meta_bytes(header, size, read)
    return decode_vary_index(raw, header) if header.magic == VARY_MAGIC else decode_meta(raw, header)


def _meta_bytes(header: Header, size: int, read: Read) -> Bytes:
    """Return the meta's bytes; a file ends with them, so any other length is a torn one."""
    if header.meta_offset + header.meta_bytes != size or header.meta_offset < BODIES_OFFSET:
        raise BadEntry("the file does not end with its meta")
    return read(header.meta_offset, header.meta_bytes)


def read_head(file: OpenFile) -> tuple[FileId, State | None]:
    """Return which file this is and its state; None for an index. BadEntry or OSError."""
    head = _pread_exactly(file, 0, BODIES_OFFSET)
    file_id = FileId(os.fstat(file.descriptor).st_ino, head[:HEADER_BYTES])
    is_index = decode_header(head).magic == VARY_MAGIC
    return file_id, None if is_index else decode_state(head)


def read_index(file: OpenFile) -> VaryIndex | None:
    """Return the index that a key's own file is, None when it is a page. BadEntry or OSError."""
    if os.pread(file.descriptor, len(VARY_MAGIC), 0) != VARY_MAGIC:
        return None
    read = read_summary(file)
    return read if isinstance(read, VaryIndex) else None


def read_summary(file: OpenFile) -> VaryIndex | tuple[Meta, State]:
    """Return meta and state without the bodies, for the catalog. BadEntry or OSError."""
    size = os.fstat(file.descriptor).st_size
    head = _pread_exactly(file, 0, min(size, BODIES_OFFSET))
    read = parse(head, size, _reader_waiting(file, head))
    return read if isinstance(read, VaryIndex) else (read, decode_state(head))


def verify(meta: Meta, read: Read) -> None:
    """Compare every body with its checksum, a chunk at a time; BadEntry when one differs."""
    for ref in meta.bodies:
        hasher = hasher_like(ref.checksum)
        for offset in range(ref.offset, ref.offset + ref.size, WAITING_BYTES):
            hasher.update(read(offset, min(WAITING_BYTES, ref.offset + ref.size - offset)))
        if hasher.digest() != ref.checksum:
            raise BadEntry(f"checksum of the {ref.encoding} body")


def _reader_waiting(file: OpenFile, first: bytes) -> Read:
    def read(offset: int, size: int) -> Bytes:
        if offset + size <= len(first):
            return memoryview(first)[offset : offset + size]
        return _pread_exactly(file, offset, size)

    return read


def _pread_exactly(file: OpenFile, offset: int, size: int) -> bytes:
    raw = os.pread(file.descriptor, size, offset)
    if len(raw) == size:
        return raw
    pieces, have = [raw], len(raw)
    while have < size:
        piece = os.pread(file.descriptor, size - have, offset + have)
        if not piece:
            raise BadEntry("the file ends early")
        pieces.append(piece)
        have += len(piece)
    return b"".join(pieces)
