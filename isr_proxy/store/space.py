"""Room on the disk: nothing is written that would take the store over `max_size` (law 8).

Knows bytes: what lies there, what is promised, what is too much. Must not know what a page is worth: the
catalog names the least recently served, and the owner deletes them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from isr_proxy.errors import StoreUnavailable
from isr_proxy.store.catalog import Catalog
from isr_proxy.store.layout import Name
from isr_proxy.store.writing import allocated

_FIXED_BYTES: Final = 64 * 1024  # lock, version, tmp/, bad/, pages/ themselves, a directory that grows
_SPARE_FRACTION: Final = 64  # evict 1/64 of the store more than needed, so that it is not done every time
_SPARE_MAX_BYTES: Final = 64 * 1024 * 1024


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


class Space:
    """The budget of one store."""

    def __init__(self, max_size: int, catalog: Catalog, drop: Callable[[Name], Awaitable[None]]) -> None:
        self.reserved_bytes = 0
        self.bad_bytes = 0  # of bad/
        self.evictions = 0
        self._max_size = max_size
        self._catalog = catalog
        self._drop = drop
        self._shards: dict[int, int] = {}  # first byte of a name -> what its directory takes
        self._lock = asyncio.Lock()

    def shard_takes(self, first: int, size_bytes: int) -> None:
        """Hear what a directory of pages takes by now."""
        self._shards[first] = size_bytes

    def most_bytes(self) -> int:
        """Return an upper bound of what the whole store takes on disk, promises included."""
        directories = sum(self._shards.values())
        return self._catalog.most_bytes() + directories + self.reserved_bytes + self.bad_bytes + _FIXED_BYTES

    async def make_room(self) -> None:
        """Evict until everything promised fits; StoreUnavailable when nothing is left to evict."""
        while self.most_bytes() > self._max_size:
            if self.most_bytes() - self._catalog.pages_bytes() > self._max_size:
                raise StoreUnavailable("it does not fit into store.max_size, whatever is evicted")
            async with self._lock:
                await self._evict_batch()

    async def _evict_batch(self) -> None:
        await self._catalog.flush()  # what is pending is counted too high until then
        excess = self.most_bytes() - self._max_size
        if excess <= 0:
            return
        spare = min(self._max_size // _SPARE_FRACTION, _SPARE_MAX_BYTES)
        victims = await self._catalog.victims(excess + spare)
        if not victims:
            raise StoreUnavailable("it does not fit into store.max_size, and nothing is left to evict")
        await asyncio.gather(*(self._drop(name) for name, _ in victims))
        self.evictions += len(victims)
        await self._catalog.flush()
