"""Making page files whole: exclusive temporary file, write, fsync, rename (law 5).

Knows the steps and their order. Must not know which entry may replace which. Everything here blocks and
runs in the store's threads; OSError comes out as it is.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import msgspec

from isr_proxy.core.entry import (
    BODIES_OFFSET,
    HEADER_BYTES,
    BodyRef,
    Meta,
    State,
    checksum,
    encode_header,
    encode_meta,
    encode_state,
    state_offset,
)
from isr_proxy.core.key import Variant
from isr_proxy.core.value import Value
from isr_proxy.errors import StoreError
from isr_proxy.store.layout import Layout
from isr_proxy.store.opened import FileId, OpenFile
from isr_proxy.store.reading import Stamp, read_head, stamp_of

BLOCK_BYTES: Final = 4096
_COPY_BYTES: Final = 1024 * 1024
_INDEX_BYTES: Final = 8192  # estimate of an index and its padding
Buffer = bytes | bytearray | memoryview


def allocated(size: int) -> int:
    """Return what a file of this size takes on disk."""
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES


class Temp(Value, frozen=True):
    """A file in the making that nobody else sees."""

    file: OpenFile
    path: str

    def discard(self) -> None:
        """Forget it; whoever still reads its descriptor may go on."""
        try:
            os.unlink(self.path)
        except OSError:
            pass  # whatever stays behind in tmp/ goes at the next start


class Identity(Value, frozen=True):
    """The identity body of a page in the making: in memory, or its beginning already in a Temp."""

    tail: Buffer  # the bytes that are not in the file yet
    spilled_bytes: int
    checksum: bytes
    temp: Temp | None = None

    @property
    def size_bytes(self) -> int:
        return self.spilled_bytes + len(self.tail)


def bodies_bytes(meta: Meta) -> int:
    return sum(ref.size for ref in meta.bodies)


def left_to_write(
    tail_bytes: int, meta: Meta, variant: Variant, encodings: Sequence[tuple[str, bytes]]
) -> int:
    """Return an upper estimate of what a commit still writes, its index included."""
    lines = sum(len(name) + len(value) + 16 for name, value in meta.lines)
    tags = sum(2 * len(tag) + 8 for tag in meta.tags)
    index = _INDEX_BYTES if variant.headers else 0
    copies = sum(len(content) + 64 for _, content in encodings)
    names = 2 * (len(meta.path) + len(meta.query or "") + len(meta.host)) + 512
    return BODIES_OFFSET + tail_bytes + lines + tags + index + copies + names


class Workshop:
    """Makes files in tmp/ and moves them to their place."""

    def __init__(self, layout: Layout, name: str, *, fsync: bool) -> None:
        """Make files; `name` is that of this process, among others that make files there."""
        self.layout = layout
        self.fsync = fsync
        self._name = name
        self._numbers = itertools.count()

    def create(self) -> Temp:
        """Create an empty temporary file."""
        path = f"{self.layout.tmp}/{self._name}-{next(self._numbers)}"
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        return Temp(OpenFile(os.open(path, flags, 0o644)), path)

    def make_page(
        self, body: Identity, encodings: Sequence[tuple[str, bytes]], meta: Meta, state: State
    ) -> tuple[Temp, Meta]:
        """Write a whole page into a temporary file; returns it with the meta as stored."""
        refs = _lay_out(body, encodings)
        meta = msgspec.structs.replace(meta, bodies=tuple(refs))
        temp = body.temp or self.create()
        try:
            _write_page(temp.file.descriptor, body, encodings, meta, state)
            self.settle(temp.file.descriptor)
        except BaseException:
            temp.discard()
            raise
        return temp, meta

    def make_raw(self, raw: bytes) -> Temp:
        """Write these bytes into a temporary file."""
        temp = self.create()
        try:
            write_at(temp.file.descriptor, raw, 0)
            self.settle(temp.file.descriptor)
        except BaseException:
            temp.discard()
            raise
        return temp

    def make_copy(self, source: OpenFile, meta: Meta, state: State) -> Temp:
        """Write a page with the bodies of `source`, which the kernel copies; `meta` says where they lie."""
        end = max((ref.offset + ref.size for ref in meta.bodies), default=BODIES_OFFSET)
        temp = self.create()
        try:
            target = temp.file.descriptor
            raw = _encoded(meta)
            write_at(target, _opening(raw, end, state), 0)
            copy_range(source.descriptor, target, BODIES_OFFSET, end)
            write_at(target, raw, end)
            self.settle(target)
        except BaseException:
            temp.discard()
            raise
        return temp

    def settle(self, descriptor: int) -> None:
        if self.fsync:
            os.fsync(descriptor)

    def settle_directory(self, path: str) -> None:
        if self.fsync:
            directory = OpenFile(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            os.fsync(directory.descriptor)
            directory.close()

    def install(self, temp: Temp, path: str) -> None:
        """Rename into place; from here on every reader sees the new file, whole."""
        shard = os.path.dirname(path)
        try:
            os.rename(temp.path, path)
        except FileNotFoundError:
            os.makedirs(shard, exist_ok=True)
            self.settle_directory(self.layout.pages)
            os.rename(temp.path, path)
        self.settle_directory(shard)


def _lay_out(body: Identity, encodings: Sequence[tuple[str, bytes]]) -> list[BodyRef]:
    refs = [BodyRef("identity", BODIES_OFFSET, body.size_bytes, body.checksum)]
    for encoding, content in encodings:
        offset = refs[-1].offset + refs[-1].size
        refs.append(BodyRef(encoding, offset, len(content), checksum(content)))
    return refs


def _write_page(
    descriptor: int, body: Identity, encodings: Sequence[tuple[str, bytes]], meta: Meta, state: State
) -> None:
    raw = _encoded(meta)
    end = meta.bodies[-1].offset + meta.bodies[-1].size
    opening = _opening(raw, end, state)
    rest = [body.tail, *(content for _, content in encodings), raw]
    if body.spilled_bytes:
        write_at(descriptor, opening, 0)
        write_at(descriptor, b"".join(rest), BODIES_OFFSET + body.spilled_bytes)
    else:
        write_at(descriptor, b"".join([opening, *rest]), 0)


def _opening(meta: bytes, meta_offset: int, state: State) -> bytes:
    """Return the first BODIES_OFFSET bytes: header, and the state in the copy its count says."""
    raw = bytearray(BODIES_OFFSET)
    header = encode_header(meta, meta_offset)
    raw[: len(header)] = header
    copy, offset = encode_state(state), state_offset(state.count)
    raw[offset : offset + len(copy)] = copy
    return bytes(raw)


def _encoded(meta: Meta) -> bytes:
    try:
        return encode_meta(meta)
    except UnicodeEncodeError as error:
        raise StoreError(f"a page's meta cannot be written: {error}") from error


def file_id_of(descriptor: int, inode: int) -> FileId:
    return FileId(inode, os.pread(descriptor, HEADER_BYTES, 0))


def write_at(descriptor: int, raw: Buffer, offset: int) -> None:
    """Write all of it; the kernel may take less at once."""
    view = memoryview(raw)
    while view:
        count = os.pwrite(descriptor, view, offset)
        view, offset = view[count:], offset + count


def copy_range(source: int, target: int, start: int, end: int) -> None:
    """Copy the bytes [start, end) of a file to the same place in another, in the kernel where it can."""
    while start < end:
        try:
            count = os.copy_file_range(source, target, end - start, start, start)
        except OSError:
            count = 0
        if not count:
            piece = os.pread(source, min(_COPY_BYTES, end - start), start)
            if not piece:
                raise StoreError("a page ended while it was copied")
            write_at(target, piece, start)
            count = len(piece)
        start += count


def overwrite_state(path: str, expected: FileId, state: State) -> tuple[State, Stamp] | None:
    """Write a state into its copy's place; None when another file, or none, lies there by now."""
    try:
        file = OpenFile(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        return None
    file_id, current = read_head(file)
    if file_id != expected or current is None:
        return None
    fresh = replace(state, count=current.count + 1)
    write_at(file.descriptor, encode_state(fresh), state_offset(fresh.count))
    return fresh, stamp_of(os.fstat(file.descriptor))
