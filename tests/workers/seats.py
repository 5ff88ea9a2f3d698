"""Several seats in one process: what workers share, without the workers.

Each seat opens its own lock file and its own store, as a process would after the fork.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from isr_proxy.coord.board import Board
from isr_proxy.coord.host_log import HostPurgeLog
from isr_proxy.coord.leases import HostLeases
from isr_proxy.coord.local import prepare
from isr_proxy.coord.seat import Seat
from isr_proxy.coord.wires import Wires
from isr_proxy.core.settings import StoreSettings
from isr_proxy.run.company import SETTLE, HostCompany
from isr_proxy.store import catalog
from isr_proxy.store.claim import claim, has_pages
from isr_proxy.store.disk import DiskStore
from isr_proxy.store.layout import Layout
from isr_proxy.store.opened import OpenFile
from isr_proxy.store.refusals import Refusals


@dataclass
class Row:
    """A board, its wires, and as many seats as are taken."""

    board: Board
    wires: Wires
    seats: list[Seat]

    def leases(self) -> list[HostLeases]:
        return [HostLeases(seat.locks, seat.post, seat.rows()) for seat in self.seats]

    def die(self, slot: int) -> None:
        """End a seat as a kill would: its locks are free, and its letters stay."""
        seat = self.seats[slot]
        seat.locks.close()
        self.board.row(slot).leave()
        for other in self.seats:
            if other is not seat:
                other.post.tell(other.slot, "died", bytes([slot]))


@asynccontextmanager
async def seated(count: int = 2) -> AsyncIterator[Row]:
    """Take so many seats, all of them reading their letters."""
    board, wires = Board.make(), Wires(count)
    for slot in range(count):
        board.row(slot).take()
    row = Row(board, wires, [Seat.taken(slot, board, wires) for slot in range(count)])
    for seat in row.seats:
        seat.post.open()
    try:
        yield row
    finally:
        for seat in row.seats:
            await seat.aclose()
        wires.close()


@asynccontextmanager
async def logs(row: Row, path: Path, now: float = 1_000.0) -> AsyncIterator[list[HostPurgeLog]]:
    """Have every seat follow one purge log."""
    row.board.epoch = prepare(path, now)
    joined = [await HostPurgeLog.join(path, seat) for seat in row.seats]
    try:
        yield joined
    finally:
        for log in joined:
            await log.aclose()


def claimed(settings: StoreSettings, row: Row, now: Callable[[], float]) -> OpenFile:
    """Claim a directory for all, as a supervisor does."""
    layout, refusals = Layout(settings.path), Refusals(settings.path, now)
    lock = claim(layout, refusals)
    assert lock is not None
    catalog.prepare(layout.catalog, refusals, row.board.tally, pages_exist=has_pages(layout))
    return lock


@asynccontextmanager
async def stores(
    row: Row, settings: StoreSettings, now: Callable[[], float]
) -> AsyncIterator[list[DiskStore]]:
    """Open one directory in every seat."""
    lock = claimed(settings, row, now)
    opened = [opened_in(seat, settings, lock, now) for seat in row.seats]
    try:
        yield opened
    finally:
        for store in reversed(opened):
            await store.aclose()


def opened_in(seat: Seat, settings: StoreSettings, lock: OpenFile, now: Callable[[], float]) -> DiskStore:
    company = HostCompany(seat, seat.slot + 1)
    company.name = f"{seat.slot}-test"
    own = OpenFile(-1) if seat.slot else lock
    store = DiskStore.joined(settings, Refusals(settings.path, now), own, company, now=now)

    async def settle(_: bytes) -> bytes:
        await store.catalog.flush()
        return b""

    seat.post.answer(SETTLE, settle)
    return store
