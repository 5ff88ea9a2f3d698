"""The catalog: what lies on disk, for listing, counting, purging and eviction.

Knows rows and their batches. Its SQLite file is used by one at a time: a thread that answers and enters in
order, or, while that has nothing to do, the loop. Must not know how pages are read. The catalog
is derived: when it is missing, broken or left behind by a crash, `is_complete` is false until the pages
have been scanned again, and no request waits for that (laws 2 and 7 never depend on it).

Several processes may write to it. Their batches do not come in the order in which they changed the files, so
each reads a file again while nobody else writes: the last to write a row has seen the last change.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, TypeVar

import structlog

from isr_proxy.core.purges import Selector
from isr_proxy.store.changes import Change, Forgotten, Row, Totals
from isr_proxy.store.company import DOUBTS, SETTLED, Company, is_settled
from isr_proxy.store.layout import Name
from isr_proxy.store.ledger import BROKEN, COMPLETE, PARTIAL, Ledger, is_busy
from isr_proxy.store.promptness import Promptness
from isr_proxy.store.refusals import Refusals

_log = structlog.get_logger("isr_proxy.store")

_FLUSH_SECONDS: Final = 1.0
_BATCH: Final = 32  # changes, or notes of serving: whoever asks waits for the one that is on its way
_PENDING: Final = 2000  # changes; who records more waits for a flush
_BUSY_PENDING: Final = 20_000  # and while others hold the file, no more than these are kept
_NOTES: Final = 10_000
_NOTE_SECONDS: Final = 60.0
_WAL_BYTES: Final = (64 * 1024, 4 * 1024 * 1024)
_ROW_BYTES: Final = 1024  # what a change may add to the file, as an upper estimate
_START: Final = ("", 0)

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of the list; `cursor` asks for the next, None at the end."""

    rows: tuple[Row, ...]
    cursor: str | None


class Catalog:
    """The catalog of one store. Recording never waits; asking does."""

    def __init__(
        self,
        ledger: Ledger,
        refusals: Refusals,
        now: Callable[[], float],
        max_size: int,
        company: Company,
        current: Callable[[Change], Change],
    ) -> None:
        self._ledger = ledger
        self._company = company
        self._current = current
        self._refusals = refusals
        self._now = now
        self._wal_limit = min(max(max_size // 64, _WAL_BYTES[0]), _WAL_BYTES[1])
        self._executor = ThreadPoolExecutor(1, "catalog")
        self._pending: list[Change] = []
        self._pending_bytes = 0
        self._recorded = self._begun = 0  # changes, ever; and those whose writing has begun
        self._served: dict[Name, float] = {}  # not written yet
        self._noted: dict[Name, float] = {}  # written or not: no second note within a minute
        self._promptness = Promptness(fsync=False)
        self._runs = 0  # that the thread has before it
        self._lock = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._flusher: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[bool]] = set()
        self._moved = asyncio.Event()
        self._replaced: list[Ledger] = []  # kept: closing them would take away the log of the new one
        self._file_bytes = ledger.file_bytes()
        self.is_broken = False  # a batch was lost, or there is no file: it must be reopened and filled
        self.on_broken: Callable[[], None] = lambda: None
        self.on_written: Callable[[], None] = lambda: None

    @classmethod
    def open(
        cls,
        path: str,
        refusals: Refusals,
        now: Callable[[], float],
        max_size: int,
        company: Company,
        *,
        pages_exist: bool,
        current: Callable[[Change], Change],
    ) -> Catalog:
        """Open the file at `path`, moving a broken one aside; `pages_exist`: a new one must be filled.

        `current` reads a file again, where others write to the catalog too.
        """
        if company.is_alone:
            ledger = open_ledger(path, refusals, company.tally, pages_exist)
        else:
            ledger = _join_ledger(path, refusals, company.tally)
        catalog = cls(ledger, refusals, now, max_size, company, current)
        catalog.is_broken = ledger.path != path
        return catalog

    # --- recording ---

    def record(self, change: Change) -> None:
        """Note a change; it counts from the next question on."""
        self._pending.append(change)
        self._recorded += 1
        if isinstance(change, Row):
            self._pending_bytes += change.size_bytes
        elif isinstance(change, Forgotten):
            self._served.pop(change.name, None)
            self._noted.pop(change.name, None)
        self._schedule()

    def note_served(self, name: Name) -> None:
        """Note that an entry was served, at most once a minute for each."""
        now = self._now()
        if now - self._noted.get(name, -_NOTE_SECONDS) < _NOTE_SECONDS:
            return
        if len(self._noted) >= _NOTES:
            self._noted.clear()
        self._noted[name] = now
        self._served[name] = now
        if len(self._served) >= _NOTES:
            self._served.pop(next(iter(self._served)))
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is None and not self.is_broken:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_SECONDS, self._start_flush)

    def _start_flush(self) -> None:
        self._timer = None
        self._flusher = asyncio.get_running_loop().create_task(self.flush())

    async def settle(self) -> None:
        """Wait for a flush when much is pending, so that what is pending stays bounded."""
        if len(self._pending) >= _PENDING:
            await self.flush()

    async def flush(self) -> None:
        """Write everything recorded so far; once begun, a batch is written whoever stops waiting.

        What comes meanwhile waits for the next flush: else each batch had only what came since the last one.
        """
        notes = len(self._served)
        if not await self._flush_changes():
            return
        for _ in range(0, notes, _BATCH):
            if not await self._carried(self._write_notes()):
                return
        async with self._lock:  # what somebody else began
            pass

    async def _flush_changes(self) -> bool:
        """Write the changes recorded so far, or leave them to who does; False when it is to be tried again.

        What is asked next is answered behind them: by then they are entered, or before it in the thread.
        """
        until = self._recorded
        while self._pending and self._begun < until:
            if not await self._carried(self._write_changes()):
                return False
        return True

    async def _carried(self, writing: Coroutine[Any, Any, bool]) -> bool:
        task = asyncio.get_running_loop().create_task(writing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def _write_changes(self) -> bool:
        """Write the next changes; False when it is to be tried again.

        Between two batches whoever waits has his turn.
        """
        async with self._lock:
            batch, self._pending = self._pending[:_BATCH], self._pending[_BATCH:]
            self._begun += len(batch)
            if not batch or await self._write(batch, {}):
                return True
            self._begun -= len(batch)
            self._pending = [*batch, *self._pending]
            self._schedule()
            return False

    async def _write_notes(self) -> bool:
        """Write the next notes of serving; where others hold the file too long they are lost."""
        async with self._lock:
            served = {name: self._served.pop(name) for name in list(islice(self._served, _BATCH))}
            return not served or await self._write([], served)

    async def _write(self, batch: list[Change], served: dict[Name, float]) -> bool:
        """Write a batch; False when others held the file too long, and it is to be tried again."""
        try:
            if not self.is_broken:
                await self._apply(batch, served)
        except sqlite3.Error as error:
            if is_busy(error) and len(self._pending) < _BUSY_PENDING:
                return False
            self._break(error)
        self._pending_bytes -= sum(change.size_bytes for change in batch if isinstance(change, Row))
        self.on_written()
        return True

    async def _apply(self, batch: list[Change], served: dict[Name, float]) -> None:
        """Enter a batch here, where that waits for nothing: beside a busy loop a thread costs it far more."""
        if served or not self._is_entered_here(batch):
            await self._run(lambda: self._enter(batch, served))
        if self._ledger.wal_bytes() > self._wal_limit:
            await self._run(self._ledger.checkpoint)
        self._file_bytes = self._ledger.file_bytes()

    def _is_entered_here(self, batch: list[Change]) -> bool:
        """Enter changes without the thread, where it has nothing to do and nobody else has the file.

        Nothing is awaited between the look and the end, so the file is used by one at a time.
        """
        if self._runs or not self._company.is_alone or not self._promptness.is_prompt(0):
            return False
        try:
            with self._ledger.impatient():
                self._promptness.run(lambda: self._enter(batch, {}))
        except sqlite3.Error as error:
            if not is_busy(error):
                raise
            return False
        return True

    def _enter(self, batch: list[Change], served: dict[Name, float]) -> None:
        if self._company.is_alone:
            self._ledger.apply(batch, served.items())
        else:
            self._apply_current({change.name: change for change in batch}, served)

    def _apply_current(self, changed: dict[Name, Change], served: dict[Name, float]) -> None:
        self._ledger.apply(map(self._current, changed.values()), served.items())
        if not self._ledger.is_in_place():  # that file was replaced meanwhile, so this one may lack them
            self._renew()
            self._ledger.apply(map(self._current, changed.values()), served.items())

    def _renew(self) -> None:
        """Open the file that another process has put in the place of a broken one."""
        if not self._ledger.is_in_place():
            self._replaced.append(self._ledger)
            self._ledger = Ledger.open(self._ledger.path, self._company.tally)

    def _break(self, error: sqlite3.Error) -> None:
        self._refusals.refused(error, "writing the catalog")
        self._company.doubt()
        if self._company.is_first and not self.is_broken:
            self.is_broken = True
            self.on_broken()

    async def reopen(self, path: str) -> None:
        """Start over with an empty file, after a batch was lost. OSError or sqlite3.Error."""
        async with self._lock:
            self._ledger = await self._run(lambda: _replaced(self._ledger, path, self._company.tally))
            self.is_broken = False

    # --- what is there ---

    @property
    def is_complete(self) -> bool:
        return is_settled(self._company.tally)

    def doubts(self) -> int:
        """Return what `completed` is to be told after a scan that begins now."""
        return self._company.tally[DOUBTS]

    def completed(self, doubts: int) -> None:
        """Say that every page on disk has its row, unless something was lost since."""
        self._company.tally[SETTLED] = doubts
        self._moved.set()

    async def wait_complete(self) -> None:
        while not self.is_complete:
            self._moved.clear()
            await self._moved.wait()

    @property
    def totals(self) -> Totals:
        """Entries and bytes, without what is still pending."""
        return self._ledger.totals

    def most_bytes(self) -> int:
        """Return an upper bound of what pages and catalog take on disk; exact right after a flush."""
        return self.pages_bytes() + self._file_bytes + self._wal_limit + len(self._pending) * _ROW_BYTES

    def pages_bytes(self) -> int:
        return self._ledger.totals.size_bytes + self._pending_bytes

    def pending_bytes(self) -> int:
        """Return an upper bound of what is recorded and not written."""
        return self._pending_bytes + len(self._pending) * _ROW_BYTES

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    # --- asking; each answer includes whatever was recorded before ---

    async def victims(self, wanted_bytes: int) -> list[tuple[Name, int]]:
        """Return the least recently served entries that free this much; the caller deletes them."""
        return await self._ask(lambda: self._ledger.victims(wanted_bytes), [])

    async def matched(self, selectors: Sequence[Selector]) -> int:
        """Count the distinct entries that a purge with these selectors hits."""
        await self._flush_changes()
        return await self._answer(lambda: self._ledger.matched(selectors), 0)

    async def older(
        self, selector: Selector, sequence: int, after: tuple[str, int] = _START, limit: int = 50
    ) -> list[tuple[Name, str, int]]:
        """Return the next entries a purge hits; go on after the last one's (path, id)."""
        await self._flush_changes()
        return await self._answer(lambda: self._ledger.older(selector, sequence, after, limit), [])

    async def shard(self, first: int) -> dict[Name, tuple[int, int]]:
        return await self._ask(lambda: self._ledger.shard(first), {})

    async def at(self, path: str, query: str | None, host: str | None = None) -> list[Row]:
        """Return every entry of one URL."""
        return await self._ask(lambda: self._ledger.at(path, query, host), [])

    async def listing(
        self, *, prefix: str = "", tag: str | None = None, cursor: str | None = None, limit: int = 100
    ) -> Listing:
        """List entries by path; ValueError for a cursor that is not ours."""
        after = _parse_cursor(cursor)
        nothing: list[tuple[Row, int]] = []
        found = await self._ask(lambda: self._ledger.listing(prefix, tag, after, limit), nothing)
        more = f"{found[-1][1]}:{found[-1][0].path}" if len(found) == limit and found else None
        return Listing(tuple(row for row, _ in found), more)

    async def _ask(self, question: Callable[[], R], otherwise: R) -> R:
        await self.flush()
        return await self._answer(question, otherwise)

    async def _answer(self, question: Callable[[], R], otherwise: R) -> R:
        await self._company.settle()
        try:
            return await self._run(lambda: self._answered(question))
        except sqlite3.Error as error:
            self._break(error)
            return otherwise

    def _answered(self, question: Callable[[], R]) -> R:
        self._renew()
        return question()

    async def _run(self, work: Callable[[], R]) -> R:
        """Have the thread do something; whoever stops waiting does not end it."""
        self._runs += 1
        run = asyncio.get_running_loop().run_in_executor(self._executor, work)
        run.add_done_callback(self._ran)
        return await asyncio.shield(run)

    def _ran(self, run: asyncio.Future[Any]) -> None:
        self._runs -= 1
        if not run.cancelled():
            run.exception()  # whoever asked may be gone; then nobody else looks at it

    async def close(self) -> None:
        """Write what is pending and close; a complete catalog is believed at the next start."""
        if self._timer is not None:
            self._timer.cancel()
        await self.flush()
        closed = COMPLETE if self.is_complete else PARTIAL
        try:
            if self._company.is_alone:
                await self._run(lambda: self._ledger.close(closed))
            else:
                await self._run(self._ledger.abandon)  # the last to go says whether it is complete
        except sqlite3.Error as error:
            self._refusals.refused(error, "closing the catalog")
        self._executor.shutdown()


def _parse_cursor(cursor: str | None) -> tuple[str, int]:
    if cursor is None:
        return _START
    number, colon, path = cursor.partition(":")
    if not colon or not number.isdigit():
        raise ValueError("the cursor is not one that a listing gave")
    return path, int(number)


def open_ledger(path: str, refusals: Refusals, tally: memoryview[int], pages_exist: bool) -> Ledger:  # noqa: FBT001
    """Open the file, moving a broken one aside; the tally says whether every page has its row in it."""
    is_new = not os.path.exists(path)
    try:
        ledger = Ledger.open(path, tally)
        is_current = not pages_exist if is_new else ledger.is_believable()
        ledger.opened()
    except sqlite3.OperationalError as error:
        refusals.refused(error, "opening the catalog")
        ledger, is_current = Ledger.open(":memory:", tally), False
    except sqlite3.DatabaseError as error:
        _log.warning("the catalog is of no use and is rebuilt from the pages", why=str(error))
        _move_aside(path)
        return open_ledger(path, refusals, tally, pages_exist)
    ledger.publish()
    tally[DOUBTS], tally[SETTLED] = 0, 0 if is_current else -1
    return ledger


def prepare(path: str, refusals: Refusals, tally: memoryview[int], *, pages_exist: bool) -> None:
    """Open or repair the file for several processes, which are not there yet."""
    open_ledger(path, refusals, tally, pages_exist).abandon()


def close_complete(path: str, tally: memoryview[int]) -> None:
    """Say, after the last of several processes has written what it had, whether nothing is missing."""
    if is_settled(tally) and os.path.exists(path):
        Ledger.open(path, tally).close(COMPLETE)


def _join_ledger(path: str, refusals: Refusals, tally: memoryview[int]) -> Ledger:
    try:
        return Ledger.open(path, tally)
    except sqlite3.Error as error:
        refusals.refused(error, "opening the catalog")
        return Ledger.open(":memory:", tally)


def _replaced(ledger: Ledger, path: str, tally: memoryview[int]) -> Ledger:
    ledger.abandon()
    _move_aside(path)
    fresh = Ledger.open(path, tally)
    fresh.opened()
    fresh.publish()
    return fresh


def _move_aside(path: str) -> None:
    """Keep the last broken file for whoever wants to know why; its log is useless without it."""
    for suffix in ("-wal", "-shm"):
        if os.path.exists(path + suffix):
            os.unlink(path + suffix)
    if os.path.exists(path):
        os.replace(path, path + BROKEN)
