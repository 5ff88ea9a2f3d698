"""Bodies of an opened entry: in memory, or behind an open descriptor.

Knows offsets and descriptors. Must not know keys, freshness or where a file lies: what is open stays
readable after its name is gone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Final

from isr_proxy.core.entry import BodyRef
from isr_proxy.errors import StoreUnavailable

# Measured: a smaller piece costs more turns of the event loop, a larger one leaves the processor's cache
# between being read and being sent. A thread is worth a larger one.
CHUNK_BYTES: Final = 128 * 1024
WAITING_BYTES: Final = 256 * 1024


@dataclass(frozen=True, slots=True)
class FileId:
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
        for position in range(start, end, WAITING_BYTES):
            yield body[position : min(position + WAITING_BYTES, end)]

    async def load(self) -> ResidentBodies:
        return self


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
        window = memoryview(bytearray(min(CHUNK_BYTES, max(0, end - position))))
        while position < end:
            chunk = _read_cached(self.file, position, window[: end - position])
            if chunk is None:
                chunk = await _read_in_thread(self.file, position, end - position, self._executor)
            position += len(chunk)
            yield chunk

    async def load(self) -> ResidentBodies:
        """Read all of them into memory, in one thread."""
        loop = asyncio.get_running_loop()
        return ResidentBodies(await loop.run_in_executor(self._executor, self._read_all), self.file_id)

    def _read_all(self) -> dict[str, bytes]:
        return {
            encoding: _read_exactly(self.file, ref.offset, ref.size) for encoding, ref in self._refs.items()
        }


async def read_piece(file: OpenFile, offset: int, size: int, executor: Executor) -> bytes:
    """Read up to `size` bytes, at least one; StoreUnavailable when the disk fails."""
    chunk = _read_cached(file, offset, memoryview(bytearray(min(size, CHUNK_BYTES))))
    return chunk or await _read_in_thread(file, offset, size, executor)


def _read_cached(file: OpenFile, offset: int, window: memoryview) -> bytes | None:
    """Read what the page cache has, through a window; None when that is nothing, or cannot be told."""
    try:
        count = os.preadv(file.descriptor, (window,), offset, os.RWF_NOWAIT)
    except OSError:
        return None
    return bytes(window[:count]) or None


async def _read_in_thread(file: OpenFile, offset: int, size: int, executor: Executor) -> bytes:
    loop = asyncio.get_running_loop()
    size = min(size, WAITING_BYTES)
    chunk = await loop.run_in_executor(executor, _read_waiting, file, offset, size)
    if not chunk:
        raise StoreUnavailable("a stored body ends before its size")
    return chunk


def _read_waiting(file: OpenFile, offset: int, size: int) -> bytes:
    try:
        return os.pread(file.descriptor, size, offset)
    except OSError as error:
        raise StoreUnavailable(f"reading a body: {error.strerror}") from error


def _read_exactly(file: OpenFile, offset: int, size: int) -> bytes:
    chunk = _read_waiting(file, offset, size)
    if len(chunk) < size:
        raise StoreUnavailable("a stored body ends before its size")
    return chunk
