"""From a page file to a page: parse, and prove whole.

Knows the file format through core/entry and how to read with or without waiting. Must not know keys,
variants or what becomes of a broken file: it says BadEntry.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from hashlib import blake2b
from typing import Final, NamedTuple

from isr_proxy.core.entry import (
    BODIES_OFFSET,
    HEADER_BYTES,
    VARY_MAGIC,
    BodyRef,
    Header,
    Meta,
    State,
    VaryIndex,
    decode_header,
    decode_meta,
    decode_state,
    decode_vary_index,
)
from isr_proxy.core.value import Value
from isr_proxy.errors import BadEntry
from isr_proxy.store.layout import Name
from isr_proxy.store.opened import CHUNK_BYTES, FileBodies, FileId, OpenFile, ResidentBodies

PEEK_BYTES: Final = 64 * 1024  # a whole file up to this size is read without waiting
RESIDENT_BYTES: Final = CHUNK_BYTES  # and up to this in a thread: no more than streaming holds at once
_VERIFIED_FILES: Final = 32768

Bytes = bytes | memoryview
Read = Callable[[int, int], Bytes]  # (offset, size) -> exactly that many bytes, or an exception
Bodies = ResidentBodies | FileBodies


class WouldWait(Exception):
    """It cannot be told without waiting for the disk."""


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
    """Files whose checksums this process has seen to be right; bounded, the oldest is forgotten first."""

    def __init__(self, limit: int = _VERIFIED_FILES) -> None:
        self._limit = limit
        self._stamps: dict[Name, Stamp] = {}
        self._lock = threading.Lock()  # marked from threads, read from anywhere

    def has(self, name: Name, stamp: Stamp) -> bool:
        return self._stamps.get(name) == stamp

    def mark(self, name: Name, stamp: Stamp) -> None:
        with self._lock:
            self._stamps.pop(name, None)
            self._stamps[name] = stamp
            if len(self._stamps) > self._limit:
                del self._stamps[next(iter(self._stamps))]

    def forget(self, name: Name) -> None:
        with self._lock:
            self._stamps.pop(name, None)


class Page(Value, frozen=True):
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
    """Loads page files for one store. `peek` belongs to the event loop's thread, `load` to any other."""

    def __init__(self, verified: Verified, executor: Executor) -> None:
        self._verified = verified
        self._executor = executor
        self._buffer = memoryview(bytearray(PEEK_BYTES))

    def peek(self, path: str, name: Name) -> Loaded | None:
        """Load without waiting, out of the page cache; WouldWait or OSError when that cannot be."""
        file = open_file(path)
        if file is None:
            return None
        status = os.fstat(file.descriptor)
        count = os.preadv(file.descriptor, [self._buffer], 0, os.RWF_NOWAIT)
        if count < min(status.st_size, PEEK_BYTES):
            raise WouldWait
        first = self._buffer[:count]
        if bytes(first[:8]) != VARY_MAGIC and not self._verified.has(name, stamp_of(status)):
            raise WouldWait
        return self._parse(file, status, first, _reader_now(file, first))

    def load(self, path: str, name: Name) -> Loaded | None:
        """Load and, the first time, verify; BrokenFile when it is not whole, OSError when the disk fails."""
        file = open_file(path)
        if file is None:
            return None
        status = os.fstat(file.descriptor)
        try:
            return self._loaded(file, status, name)
        except BadEntry as error:
            raise BrokenFile(name, status.st_ino, str(error)) from error

    def _loaded(self, file: OpenFile, status: os.stat_result, name: Name) -> Loaded:
        first = _pread_exactly(file, 0, min(status.st_size, RESIDENT_BYTES))
        read = _reader_waiting(file, first)
        loaded = self._parse(file, status, first, read)
        if isinstance(loaded, Page) and not self._verified.has(name, stamp_of(status)):
            verify(loaded.meta, read)
            self._verified.mark(name, stamp_of(status))
        return loaded

    def _parse(self, file: OpenFile, status: os.stat_result, first: Bytes, read: Read) -> Loaded:
        header = decode_header(first)
        raw = _meta_bytes(header, status.st_size, read)
        if header.magic == VARY_MAGIC:
            return decode_vary_index(raw, header)
        meta = decode_meta(raw, header)
        file_id = FileId(status.st_ino, bytes(first[:HEADER_BYTES]))
        bodies: Bodies
        if len(first) == status.st_size:
            bodies = ResidentBodies({ref.encoding: bytes(_part(first, ref)) for ref in meta.bodies}, file_id)
        else:
            bodies = FileBodies(file, meta.bodies, file_id, self._executor)
        return Page(meta, decode_state(first[:BODIES_OFFSET]), bodies)


def _part(whole: Bytes, ref: BodyRef) -> Bytes:
    return whole[ref.offset : ref.offset + ref.size]


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
    header = decode_header(head)
    raw = _meta_bytes(header, size, _reader_waiting(file, head))
    if header.magic == VARY_MAGIC:
        return decode_vary_index(raw, header)
    return decode_meta(raw, header), decode_state(head)


def verify(meta: Meta, read: Read) -> None:
    """Compare every body with its checksum, a chunk at a time; BadEntry when one differs."""
    for ref in meta.bodies:
        hasher = blake2b(digest_size=16)
        for offset in range(ref.offset, ref.offset + ref.size, CHUNK_BYTES):
            hasher.update(read(offset, min(CHUNK_BYTES, ref.offset + ref.size - offset)))
        if hasher.digest() != ref.checksum:
            raise BadEntry(f"checksum of the {ref.encoding} body")


def _reader_now(file: OpenFile, first: memoryview) -> Read:
    def read(offset: int, size: int) -> Bytes:
        if offset + size <= len(first):
            return first[offset : offset + size]
        buffer = bytearray(size)
        if os.preadv(file.descriptor, [buffer], offset, os.RWF_NOWAIT) < size:
            raise WouldWait
        return bytes(buffer)

    return read


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
