"""The company of a worker's store: the other workers of its host (store/company.py).

Knows how what a store asks of the others is done over a seat. Must not know what is stored.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from isr_proxy.coord.board import place_of
from isr_proxy.coord.byte_locks import taken
from isr_proxy.coord.seat import Seat
from isr_proxy.errors import StoreUnavailable
from isr_proxy.store.company import DOUBTS

SETTLE: Final = "settle"
DOUBT: Final = "doubt"

_EVICTION_BYTE: Final = (1 << 63) - 2
_UPPER_HALF: Final = 1 << 62  # of the lock file; leases are in the lower one
_LOCK_SECONDS: Final = 10.0  # a key's files are changed within milliseconds, unless a process is stopped
_EVICTION_SECONDS: Final = 60.0
_SETTLE_SECONDS: Final = 2.0
_INCARNATION_SHIFT: Final = 40


class HostCompany:
    """What one worker's store has to do with the stores of the others."""

    is_alone = False

    def __init__(self, seat: Seat, incarnation: int) -> None:
        self.tally = seat.board.tally
        self.stamps = seat.board.stamps
        self.name = f"{seat.slot}-{os.getpid()}"
        self.place: Callable[[bytes], int] = place_of
        self._seat = seat
        self._row = seat.row
        self._others = [row for slot, row in enumerate(seat.rows()) if slot != seat.slot]
        self._stamp = itertools.count(incarnation << _INCARNATION_SHIFT)

    @property
    def is_first(self) -> bool:
        return self._seat.is_first

    def changed(self, digest: bytes) -> None:
        self.stamps[place_of(digest)] = next(self._stamp)

    # --- locks ---

    async def lock(self, digest: bytes) -> None:
        await self._lock(_byte_of(digest), _LOCK_SECONDS)

    def unlock(self, digest: bytes) -> None:
        self._seat.locks.give_back(_byte_of(digest))

    async def lock_eviction(self) -> None:
        await self._lock(_EVICTION_BYTE, _EVICTION_SECONDS)

    def unlock_eviction(self) -> None:
        self._seat.locks.give_back(_EVICTION_BYTE)

    async def _lock(self, byte: int, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await taken(self._seat.locks, byte)
        except TimeoutError as error:
            raise StoreUnavailable("another worker does not let go of a page's files") from error

    # --- space and the catalog ---

    def promise(self, size_bytes: int) -> None:
        self._row.promised = size_bytes

    def promised_elsewhere(self) -> int:
        return sum(row.promised for row in self._others)

    async def settle(self) -> None:
        await self._seat.post.ask_others(SETTLE, timeout=_SETTLE_SECONDS)

    def doubt(self) -> None:
        self.tally[DOUBTS] = time.monotonic_ns()
        if not self._seat.is_first:
            self._seat.post.tell(0, DOUBT)


def _byte_of(digest: bytes) -> int:
    return _UPPER_HALF | int.from_bytes(blake2b(digest, digest_size=8).digest()) >> 2
