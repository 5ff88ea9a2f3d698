"""Bodies of an opened entry: in memory, or behind an open descriptor.

Knows offsets and descriptors. Must not know keys, freshness or where a file lies: what is open stays
readable after its name is gone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Final

from isr_proxy.core.entry import BodyRef
from isr_proxy.core.value import Value
from isr_proxy.errors import StoreUnavailable

CHUNK_BYTES: Final = 256 * 1024


class FileId(Value, frozen=True):
    """Which file an entry was read from. The header holds the meta's checksum, since inodes are reused."""

    inode: int
    header: bytes


class OpenFile:
    """A descriptor that closes itself when nobody holds this object any more."""

    __slots__ = ("__weakref__", "descriptor")

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def close(self, _close: Callable[[int], None] = os.close) -> None:
        if self.descriptor >= 0:
            descriptor, self.descriptor = self.descriptor, -1
            _close(descriptor)

    def __del__(self) -> None:
        self.close()


class ResidentBodies:
    """Bodies in memory, by encoding."""

    __slots__ = ("file_id", "parts")

    def __init__(self, parts: Mapping[str, bytes], file_id: FileId) -> None:
        self.parts = parts
        self.file_id = file_id

    def resident(self, encoding: str) -> bytes | None:
        return self.parts[encoding]

    async def stream(self, encoding: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        body = self.parts[encoding]
        end = len(body) if stop is None else min(stop, len(body))
        for position in range(start, end, CHUNK_BYTES):
            yield body[position : min(position + CHUNK_BYTES, end)]


class FileBodies:
    """Bodies in an open file, read in a thread unless the page cache has them."""

    __slots__ = ("_executor", "_refs", "file", "file_id")

    def __init__(self, file: OpenFile, refs: Sequence[BodyRef], file_id: FileId, executor: Executor) -> None:
        self.file = file
        self.file_id = file_id
        self._refs = {ref.encoding: ref for ref in refs}
        self._executor = executor

    def resident(self, encoding: str) -> bytes | None:
        return None

    async def stream(self, encoding: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        ref = self._refs[encoding]
        position = ref.offset + start
        end = ref.offset + (ref.size if stop is None else min(stop, ref.size))
        while position < end:
            chunk = await read_piece(self.file, position, min(CHUNK_BYTES, end - position), self._executor)
            position += len(chunk)
            yield chunk


async def read_piece(file: OpenFile, offset: int, size: int, executor: Executor) -> bytes:
    """Read up to `size` bytes, at least one; StoreUnavailable when the disk fails."""
    chunk = _read_cached(file, offset, size)
    if chunk is None:
        loop = asyncio.get_running_loop()
        chunk = await loop.run_in_executor(executor, _read_waiting, file, offset, size)
    if not chunk:
        raise StoreUnavailable("a stored body ends before its size")
    return chunk


def _read_cached(file: OpenFile, offset: int, size: int) -> bytes | None:
    """Read what the page cache has; None when that is nothing, or cannot be told."""
    buffer = bytearray(size)
    try:
        count = os.preadv(file.descriptor, [buffer], offset, os.RWF_NOWAIT)
    except OSError:
        return None
    del buffer[count:]
    return bytes(buffer) or None


def _read_waiting(file: OpenFile, offset: int, size: int) -> bytes:
    try:
        return os.pread(file.descriptor, size, offset)
    except OSError as error:
        raise StoreUnavailable(f"reading a body: {error.strerror}") from error
