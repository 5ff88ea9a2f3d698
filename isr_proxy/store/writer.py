"""The disk store's writer: one entry in the making.

Knows the way from begin to commit or discard. Must not know how a file gets to its place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

from isr_proxy.core.entry import Meta, State
from isr_proxy.core.key import Key, Variant
from isr_proxy.errors import EntryTooLarge, StoreError
from isr_proxy.store.base import Entry
from isr_proxy.store.space import Reservation
from isr_proxy.store.spool import BodyReader, Spool

Commit = Callable[["DiskWriter", Meta, State, Sequence[tuple[str, bytes]]], Awaitable[Entry]]


class DiskWriter:
    """Grows a body and commits it. See store/base.py for the contract."""

    def __init__(
        self,
        key: Key,
        variant: Variant,
        spool: Spool,
        reservation: Reservation,
        commit: Commit,
        max_entry: int,
    ) -> None:
        self.key = key
        self.variant = variant
        self.spool = spool
        self.reservation = reservation
        self._commit = commit
        self._max_entry = max_entry
        self._is_committed = False

    @property
    def size_bytes(self) -> int:
        return self.spool.size_bytes

    @property
    def checksum(self) -> bytes:
        return self.spool.checksum

    @property
    def is_abandoned(self) -> bool:
        return self.spool.refusal is not None

    async def write(self, chunk: bytes) -> None:
        if not self.is_abandoned and self.size_bytes + len(chunk) > self._max_entry:
            raise EntryTooLarge(f"the body is larger than {self._max_entry} bytes")
        await self.spool.write(chunk)

    def resident(self) -> bytes | None:
        return self.spool.resident()

    def complete(self) -> bytes | None:
        return self.spool.resident() if self.spool.is_finished and not self.is_abandoned else None

    def reader(self, start: int = 0, stop: int | None = None) -> BodyReader:
        return self.spool.reader(start, stop)

    async def finish(self) -> None:
        await self.spool.finish()

    def fail(self, error: Exception) -> None:
        self.spool.fail(error)

    def abandon(self) -> None:
        self.spool.become_pipe(EntryTooLarge("the body is not stored"))

    async def commit(self, meta: Meta, state: State, encodings: Sequence[tuple[str, bytes]] = ()) -> Entry:
        await self.finish()
        if self.spool.refusal is not None:
            raise self.spool.refusal
        if not self.spool.is_finished:
            raise StoreError("a failed body cannot be committed")
        self._is_committed = True  # from here on the temporary file is the commit's to rename or discard
        return await self._commit(self, meta, state, encodings)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._is_committed:
            why = error if isinstance(error, Exception) else StoreError("the writer gave up")
            self.spool.fail(why)
            await asyncio.shield(self.spool.forget_file())
            self.reservation.release()
