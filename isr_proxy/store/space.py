"""Room on the disk: nothing is written that would take the store over `max_size` (law 8).

Knows bytes: what lies there, what is promised, what is too much, by all processes of the directory. Must not
know what a page is worth: the catalog names the least recently served, and the owner deletes them.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from isr_proxy.errors import StoreUnavailable
from isr_proxy.store.catalog import Catalog
from isr_proxy.store.company import BAD, DIRECTORIES, Company
from isr_proxy.store.layout import SHARDS, Layout, Name
from isr_proxy.store.writing import allocated

_FIXED_BYTES: Final = 64 * 1024  # lock, version, tmp/, bad/, pages/ themselves, a directory that grows
_SPARE_FRACTION: Final = 64  # evict 1/64 of the store more than needed, so that it is not done every time
_SPARE_MAX_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class StoreStat:
    """The store in numbers, for the admin API and metrics."""

    entries: int
    size_bytes: int
    max_bytes: int
    is_complete: bool  # the catalog: counts are too low while it is rebuilt
    is_writable: bool
    bad_entries: int
    failures: int
    evictions: int


class Reservation:
    """Bytes promised to one writer, from its first spill until its file has its row."""

    def __init__(self, space: Space) -> None:
        self.reserved_bytes = 0
        self._space = space

    async def grow(self, size_bytes: int) -> None:
        """Promise more; StoreUnavailable when even eviction cannot make the room."""
        size_bytes = allocated(size_bytes)
        self._space.reserved_bytes += size_bytes
        self.reserved_bytes += size_bytes
        await self._space.make_room()

    def release(self) -> None:
        self._space.reserved_bytes -= self.reserved_bytes
        self.reserved_bytes = 0
        self._space.publish()


class Space:
    """The budget of one store."""

    def __init__(
        self, max_size: int, catalog: Catalog, company: Company, drop: Callable[[Name], Awaitable[None]]
    ) -> None:
        self.reserved_bytes = 0
        self.evictions = 0
        self._max_size = max_size
        self._catalog = catalog
        self._company = company
        self._drop = drop
        self._lock = asyncio.Lock()
        catalog.on_written = self.publish

    def measure(self, layout: Layout) -> None:
        """Look at the directories, never at the pages: at most 256 of them."""
        for number, shard in enumerate(SHARDS):
            try:
                self.shard_takes(number, os.stat(f"{layout.pages}/{shard}").st_blocks * 512)
            except FileNotFoundError:
                pass

    def shard_takes(self, first: int, size_bytes: int) -> None:
        """Hear what a directory of pages takes by now."""
        self._company.tally[DIRECTORIES + first] = size_bytes

    def bad_takes(self, size_bytes: int) -> None:
        """Hear what bad/ takes by now."""
        self._company.tally[BAD] = size_bytes

    def publish(self) -> None:
        """Tell the others what is promised here, and not in the catalog yet."""
        self._company.promise(self.reserved_bytes + self._catalog.pending_bytes())

    def most_bytes(self) -> int:
        """Return an upper bound of what the whole store takes on disk, promises included."""
        tally = self._company.tally
        beside = sum(tally[DIRECTORIES:].tolist()) + tally[BAD] + self._company.promised_elsewhere()
        return self._catalog.most_bytes() + beside + self.reserved_bytes + _FIXED_BYTES

    async def make_room(self) -> None:
        """Evict until everything promised fits; StoreUnavailable when nothing is left to evict.

        That is known only once everybody has written down what he stored: until then it looks promised.
        What is promised is said first, and looked at then: of two processes that promise at the same time, at
        least one sees both promises.
        """
        self.publish()
        while self.most_bytes() > self._max_size:
            async with self._lock:
                await self._company.lock_eviction()
                try:
                    await self._evict_batch()
                finally:
                    self._company.unlock_eviction()

    async def _evict_batch(self) -> None:
        await self._catalog.flush()  # what is pending is counted too high until then
        await self._company.settle()
        excess = self.most_bytes() - self._max_size
        if excess <= 0:
            return
        if excess > self._catalog.pages_bytes():
            raise StoreUnavailable("it does not fit into store.max_size, whatever is evicted")
        spare = min(self._max_size // _SPARE_FRACTION, _SPARE_MAX_BYTES)
        victims = await self._catalog.victims(excess + spare)
        if not victims:
            raise StoreUnavailable("it does not fit into store.max_size, and nothing is left to evict")
        await asyncio.gather(*(self._drop(name) for name, _ in victims))
        self.evictions += len(victims)
        await self._catalog.flush()
