"""A body while it grows: one writer, any number of readers, each at its own pace.

Knows bytes, a temporary file and who has read how far. Must not know entries. What does not fit into
memory lies in the temporary file, so a slow reader costs neither memory nor the writer's time. When the
body will not be stored (too large, or the disk refuses) the spool is a pipe: the last bytes stay in
memory, boundedly, and the writer waits for the slowest reader.

    growing --finish--> finished        readers end after the last byte
       |  \\--fail----> failed          readers raise the error once they have read what came
       \\--abandon----> pipe            still growing, never stored
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Final, Protocol, Self

from isr_proxy.core.entry import BODIES_OFFSET, hasher
from isr_proxy.errors import StoreError, StoreUnavailable, VisitorGone
from isr_proxy.store.opened import CHUNK_BYTES, read_piece
from isr_proxy.store.refusals import Refusals
from isr_proxy.store.writing import Identity, Temp, Workshop, write_at

MEMORY_BYTES: Final = 1024 * 1024  # a body up to this size is written once, at commit
_BATCH_BYTES: Final = 256 * 1024  # beyond it, what one thread call writes
_HASH_INLINE_BYTES: Final = 64 * 1024


class Disk(Protocol):
    """What a spool needs of its store."""

    @property
    def executor(self) -> Executor: ...

    @property
    def workshop(self) -> Workshop: ...

    @property
    def refusals(self) -> Refusals: ...


class Spool:
    """One growing body."""

    def __init__(self, disk: Disk, reserve: Callable[[int], Awaitable[None]]) -> None:
        self.size_bytes = 0
        self.checksum = b""  # set by finish()
        self.refusal: StoreError | None = None  # why it became a pipe
        self._disk = disk
        self._reserve = reserve
        self._temp: Temp | None = None
        self._spilled_bytes = 0
        self._tail = bytearray()
        self._tail_offset = 0  # of the body; beyond _spilled_bytes when the pipe has let bytes go
        self._hasher = hasher()
        self._readers: weakref.WeakSet[BodyReader] | None = None  # of most bodies there are none
        self._sleepers: list[asyncio.Future[None]] = []
        self._is_finished = False
        self._error: Exception | None = None

    # --- the writer's side ---

    async def write(self, chunk: bytes) -> None:
        """Append; in a pipe, wait for the slowest reader, and raise when there is none."""
        self._tail += chunk
        self.size_bytes += len(chunk)
        self._wake()
        if self.refusal is None and len(self._tail) > self._allowance():
            await self._spill()
        if self.refusal is not None:
            await self._drained(self.refusal)

    def _allowance(self) -> int:
        return _BATCH_BYTES if self._spilled_bytes else MEMORY_BYTES

    async def _spill(self) -> None:
        tail = self._tail
        try:
            await self._reserve(len(tail))
            await asyncio.get_running_loop().run_in_executor(self._disk.executor, self._spill_now, tail)
        except StoreError as error:
            self._tail = bytearray(tail)  # the error's traceback still holds views of the other
            self.become_pipe(error)
            return
        self._spilled_bytes += len(tail)
        self._tail, self._tail_offset = bytearray(), self._spilled_bytes

    def _spill_now(self, tail: bytearray) -> None:
        try:
            if self._temp is None:
                self._temp = self._disk.workshop.create()
            write_at(self._temp.file.descriptor, tail, BODIES_OFFSET + self._spilled_bytes)
        except OSError as error:
            raise self._disk.refusals.refused(error, "writing a body") from error
        self._hasher.update(tail)

    def become_pipe(self, why: StoreError) -> None:
        """Give up storing it; the readers still get every byte."""
        if self.refusal is None:
            self.refusal = why
            if self._temp is not None:
                self._disk.executor.submit(self._temp.discard)

    async def _drained(self, refusal: StoreError) -> None:
        while True:
            slowest = min((reader.position for reader in self._readers or ()), default=None)
            if slowest is None:
                raise refusal if isinstance(refusal, StoreUnavailable) else VisitorGone("no reader is left")
            self._let_go(slowest)
            if len(self._tail) <= MEMORY_BYTES:
                return
            await self._sleep()

    def _let_go(self, position: int) -> None:
        """Drop what every reader has read."""
        read = min(position, self.size_bytes) - self._tail_offset
        if read > 0:
            del self._tail[:read]
            self._tail_offset += read

    async def finish(self) -> None:
        """Say that the body is complete, and compute its checksum."""
        if self._is_finished or self._error is not None:
            return
        if self.refusal is None:
            await self._hash_tail()
        self._is_finished = True
        self._wake()

    async def _hash_tail(self) -> None:
        if len(self._tail) > _HASH_INLINE_BYTES:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._disk.executor, self._hasher.update, self._tail)
        else:
            self._hasher.update(self._tail)
        self.checksum = self._hasher.digest()

    def fail(self, error: Exception) -> None:
        """End it with an error; a finished body cannot fail any more."""
        if not self._is_finished and self._error is None:
            self._error = error
            self._wake()

    async def forget_file(self) -> None:
        """Unlink the temporary file, if any; readers keep its descriptor."""
        if self._temp is not None and self.refusal is None:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._disk.executor, self._temp.discard)

    @property
    def is_finished(self) -> bool:
        return self._is_finished

    @property
    def spilled_bytes(self) -> int:
        return self._spilled_bytes

    def identity(self) -> Identity:
        """Return the finished body for the making of its page."""
        return Identity(self._tail, self._spilled_bytes, self.checksum, self._temp)

    def resident(self) -> bytes | None:
        """Return the body so far, None when part of it is not in memory."""
        return bytes(self._tail) if self._tail_offset == 0 else None

    # --- the readers' side ---

    def reader(self, start: int = 0, stop: int | None = None) -> BodyReader:
        """Read the bytes [start, stop); StoreError when a pipe has let the first go already."""
        if start < self._tail_offset > self._spilled_bytes:
            raise StoreError("the beginning of the body is gone")
        reader = BodyReader(self, start, stop)
        if self._readers is None:
            self._readers = weakref.WeakSet()
        self._readers.add(reader)
        return reader

    async def read_at(self, position: int) -> bytes:
        """Return the next piece, b"" at the end; raises what the writer failed with."""
        while True:
            if position < self._spilled_bytes:
                return await self._read_spilled(position)
            if position < self.size_bytes:
                start = position - self._tail_offset
                return bytes(self._tail[start : start + CHUNK_BYTES])
            if self._error is not None:
                raise self._error
            if self._is_finished:
                return b""
            await self._sleep()

    async def _read_spilled(self, position: int) -> bytes:
        if self._temp is None:
            raise StoreError("nothing was spilled")
        left = self._spilled_bytes - position
        return await read_piece(self._temp.file, BODIES_OFFSET + position, left, self._disk.executor)

    def left(self, reader: BodyReader) -> None:
        """Count a reader out: a pipe's writer may be waiting for him."""
        if self._readers is not None:
            self._readers.discard(reader)
        self._wake()

    def moved(self) -> None:
        """Hear that a reader went on; only a pipe's writer cares."""
        if self.refusal is not None:
            self._wake()

    # --- waiting, on both sides ---

    async def _sleep(self) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append(future)
        await future

    def _wake(self) -> None:
        sleepers, self._sleepers = self._sleepers, []
        for future in sleepers:
            if not future.done() and not future.get_loop().is_closed():
                future.set_result(None)


class BodyReader:
    """One reader of a growing body. Counts as reading until it ends, is closed, or is dropped."""

    def __init__(self, spool: Spool, start: int, stop: int | None) -> None:
        self.position = start
        self._stop = stop
        self._spool = spool

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        left = None if self._stop is None else max(0, self._stop - self.position)
        try:
            chunk = b"" if left == 0 else (await self._spool.read_at(self.position))[:left]
        except BaseException:
            await self.aclose()
            raise
        if not chunk:
            await self.aclose()
            raise StopAsyncIteration
        self.position += len(chunk)
        self._spool.moved()
        return chunk

    async def aclose(self) -> None:
        """Stop reading."""
        self._spool.left(self)

    def __del__(self) -> None:
        self._spool.left(self)
