"""What a worker stands on: its store, its purge log and its leases, alone or among others.

Knows in which order they are opened, and let go. Must not know what is built on them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from isr_proxy.coord.base import Leases
from isr_proxy.coord.board import Board
from isr_proxy.coord.host_log import HostPurgeLog
from isr_proxy.coord.leases import HostLeases, NoLeases
from isr_proxy.coord.local import LocalPurgeLog, prepare
from isr_proxy.coord.seat import Seat
from isr_proxy.core.settings import Settings, StoreSettings
from isr_proxy.run.company import HostCompany
from isr_proxy.run.share import Share
from isr_proxy.store import catalog
from isr_proxy.store.claim import claim, clear_leftovers, has_pages
from isr_proxy.store.company import DOUBTS, Company
from isr_proxy.store.disk import DiskStore
from isr_proxy.store.layout import Layout
from isr_proxy.store.opened import OpenFile
from isr_proxy.store.refusals import Refusals

PURGES: Final = "purges.sqlite"


@dataclass(frozen=True, slots=True)
class Foundations:
    """One worker's; `seat` is None where it is alone."""

    disk: DiskStore
    purges: LocalPurgeLog
    leases: Leases
    seat: Seat | None

    async def aclose(self) -> None:
        """Let go of them, after all that stands on them."""
        await self.disk.aclose()
        await self.purges.aclose()
        if self.seat is not None:
            await self.seat.aclose()


async def lay(settings: Settings, now: Callable[[], float], share: Share | None) -> Foundations:
    """Open the store and the log; StoreError or OSError say why it cannot be."""
    if share is not None:
        return await _lay_among_others(settings, now, share)
    disk = DiskStore.open(settings.store, now=now)
    try:
        purges = await LocalPurgeLog.open(Path(settings.store.path) / PURGES, now=now())
    except BaseException:
        await disk.aclose()
        raise
    return Foundations(disk, purges, NoLeases(), None)


async def _lay_among_others(settings: Settings, now: Callable[[], float], share: Share) -> Foundations:
    seat = Seat.taken(share.slot, share.board, share.wires)
    company: Company = HostCompany(seat, share.incarnation)
    clear_leftovers(_layout(settings.store), f"{share.slot}-")
    refusals = Refusals(settings.store.path, now)
    disk = DiskStore.joined(settings.store, refusals, share.claim, company, now=now)
    purges = await HostPurgeLog.join(Path(settings.store.path) / PURGES, seat)
    return Foundations(disk, purges, HostLeases(seat.locks, seat.post, seat.rows()), seat)


# --- what the supervisor does before there are workers, and when there are none any more ---


def claim_for_all(settings: StoreSettings, now: Callable[[], float], share: Share) -> OpenFile | None:
    """Claim the directory and repair what is shared in it. StoreError says why it cannot be."""
    layout, refusals = _layout(settings), Refusals(settings.path, now)
    lock = claim(layout, refusals)
    path = ":memory:" if lock is None else layout.catalog
    catalog.prepare(path, refusals, share.board.tally, pages_exist=has_pages(layout))
    share.board.epoch = prepare(Path(settings.path) / PURGES, now())
    return lock


def release(settings: StoreSettings, share: Share, lock: OpenFile | None) -> None:
    """Say of the catalog whether it is whole, and let go of the directory."""
    if lock is not None:
        catalog.close_complete(_layout(settings).catalog, share.board.tally)
        lock.close()


def doubt(board: Board) -> None:
    """Say that the catalog may lack what somebody who died has changed."""
    board.tally[DOUBTS] = time.monotonic_ns()


def _layout(settings: StoreSettings) -> Layout:
    return Layout(os.path.abspath(settings.path))
