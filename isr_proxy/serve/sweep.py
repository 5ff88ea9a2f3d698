"""The sweeper: carries out purges on what lies on disk, later, so that the log stays short.

Knows which records are swept, and when one may be forgotten. Must not know how an entry is deleted. A
purge never waits for it: a record hides its entries from the moment it is in the log (law 2).

A fetch that began before a purge may still store a page that the record has to hide. So a record counts as
done only when it was swept while no such fetch was flying; until then it is swept again.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from collections.abc import Callable
from itertools import groupby
from typing import Any, Final, Protocol

import structlog

from isr_proxy.coord.flight import Flights
from isr_proxy.coord.local import LocalPurgeLog
from isr_proxy.core.purges import Purge
from isr_proxy.errors import StoreError, StoreUnavailable
from isr_proxy.serve.hit_for_pass import PASS_SECONDS as HIT_FOR_PASS_SECONDS
from isr_proxy.store.catalog import Catalog

_log = structlog.get_logger("isr_proxy.sweep")

_AGAIN_SECONDS: Final = 5.0  # after a failure, or while an older fetch flies
_LONG: Final = 100  # entries; the sweep of more is not waited for
_KEEP_SECONDS: Final = HIT_FOR_PASS_SECONDS  # what is remembered of a page asks the log that long


class Sweepable(Protocol):
    """What holds entries and can carry out a record on them."""

    @property
    def catalog(self) -> Catalog: ...

    async def sweep(self, purge: Purge) -> int:
        """Delete, or mark stale, the entries that a record names; StoreUnavailable when the disk refuses."""


class Sweeper:
    """Follows one purge log, oldest record first."""

    def __init__(
        self,
        log: LocalPurgeLog,
        store: Sweepable,
        flights: Flights[Any],
        now: Callable[[], float],
        again_seconds: float = _AGAIN_SECONDS,
    ) -> None:
        self._log = log
        self._store = store
        self._flights = flights
        self._now = now
        self._again_seconds = again_seconds
        self._allowed = log.index.sequence
        self._swept = 0  # every record up to here was swept once
        self._backlog = 0  # entries that the records kicked since then hit
        self._settled = 0  # and up to here, with no older fetch flying
        self._prunable: deque[tuple[int, float]] = deque()  # settled records: sequence, at
        self._wake = asyncio.Event()
        self._moved = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Sweep what the log holds, and from now on what is kicked."""
        self._wake.set()
        self._task = asyncio.get_running_loop().create_task(self._run())

    def kick(self, sequence: int, matched: int = 0) -> None:
        """Sweep records up to this one too; `matched`: how many entries they hit, where that was counted."""
        self._allowed = max(self._allowed, sequence)
        self._backlog += matched
        self._wake.set()

    async def caught_up(self, timeout: float) -> None:
        """Wait until everything kicked was swept once, at most `timeout` seconds; not for a long sweep."""
        if self._backlog > _LONG:
            return
        try:
            async with asyncio.timeout(timeout):
                while self._swept < self._allowed:
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            pass

    async def _run(self) -> None:
        while True:
            await self._woken()
            try:
                await self.sweep_once()
            except (StoreError, sqlite3.Error, OSError) as error:
                _log.warning("sweeping failed and is tried again", error=str(error))

    async def _woken(self) -> None:
        """Wait for a kick; while something is left to do, also for a while only."""
        is_waiting = bool(self._prunable) or self._settled < self._allowed
        try:
            async with asyncio.timeout(self._again_seconds if is_waiting else None):
                await self._wake.wait()
        except TimeoutError:
            pass
        self._wake.clear()

    async def sweep_once(self) -> None:
        """Sweep every record that is not done, and forget those done long enough ago."""
        allowed = self._allowed
        records = [record for record in await self._log.records(self._settled) if record.sequence <= allowed]
        is_in_order = True
        for sequence, together in groupby(records, key=lambda record: record.sequence):
            purges = list(together)
            is_in_order = await self._sweep(sequence, purges) and is_in_order
            if is_in_order:
                self._settled = sequence
                self._prunable.append((sequence, purges[0].at))
        self._progress(allowed)
        if is_in_order:
            self._settled = allowed
        await self._prune()

    async def _sweep(self, sequence: int, records: list[Purge]) -> bool:
        """Sweep one purge; tells whether it is done."""
        is_alone = self._flights.oldest_sequence(sequence) >= sequence
        if sequence <= self._swept and not is_alone:
            return False
        for record in records:
            swept = await self._store.sweep(record)
            if swept:
                _log.info("swept", scope=record.selector.scope.value, entries=swept)
        if not self._store.catalog.is_complete:
            raise StoreUnavailable("the catalog was lost while it was swept by")
        self._progress(sequence)
        return is_alone

    def _progress(self, sequence: int) -> None:
        self._swept = max(self._swept, sequence)
        if self._swept >= self._allowed:
            self._backlog = 0
        self._moved.set()

    async def _prune(self) -> None:
        """Forget what is done, once nobody asks the log for it any more."""
        sequence = None
        while self._prunable and self._prunable[0][1] <= self._now() - _KEEP_SECONDS:
            sequence, _ = self._prunable.popleft()
        if sequence is not None:
            await self._log.prune(sequence)

    async def aclose(self) -> None:
        """Stop; the next start goes on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
