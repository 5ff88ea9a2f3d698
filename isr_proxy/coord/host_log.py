"""The purge log of a host with several workers: the same file, followed by all of them (law 2).

Knows how a record comes into force everywhere. Must not know entries. A record is written first, then the
epoch on the board says that there is one, then the others are told and say that they have it. Whoever judges
an entry compares the epoch first, so a worker that was not told, or slept, goes by the record all the same.

Should the disk refuse a record, it goes to the others by letter. What the epoch tells of, and neither file
nor letter, counts as the purge of everything: in doubt, purged.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec
import structlog

from isr_proxy.coord.board import EPOCH
from isr_proxy.coord.byte_locks import taken
from isr_proxy.coord.local import LocalPurgeLog, delete, insert, next_sequence, not_written, open_file, select
from isr_proxy.coord.seat import LOG_BYTE, Seat
from isr_proxy.coord.wires import MAX_BODY_BYTES
from isr_proxy.core.purges import Purge, PurgeIndex, Scope, Selector
from isr_proxy.errors import StoreUnavailable

_log = structlog.get_logger("isr_proxy.purges")

PURGED: Final = "purged"
UNWRITTEN: Final = "unwritten"
PRUNED: Final = "pruned"
_ANSWER_SECONDS: Final = 5.0
_TURN_SECONDS: Final = 5.0

_encode = msgspec.msgpack.Encoder().encode
_decode_records = msgspec.msgpack.Decoder(list[Purge]).decode
_decode_number = msgspec.msgpack.Decoder(int).decode


class HostPurgeLog(LocalPurgeLog):
    """One worker's hold of the log. `on_change` is told, soon after, of records that came into force."""

    def __init__(
        self,
        database: sqlite3.Connection,
        reader: sqlite3.Connection,
        executor: ThreadPoolExecutor,
        seat: Seat,
    ) -> None:
        super().__init__(database, executor)
        self._reader = reader  # for the event loop: the other one may be waiting for the disk, in its thread
        self._seat = seat
        self._board = seat.board
        self._epochs = seat.board.words[EPOCH : EPOCH + 1]
        self._listeners: list[Callable[[], None]] = []
        seat.post.answer(PURGED, self._told)
        seat.post.on(UNWRITTEN, self._given)
        seat.post.on(PRUNED, lambda sender, body: self._index.forget(_decode_number(body)))

    @classmethod
    async def join(cls, path: Path, seat: Seat) -> HostPurgeLog:
        """Follow the log that the supervisor has prepared."""
        executor = ThreadPoolExecutor(1, "purges")
        database, records = await asyncio.get_running_loop().run_in_executor(executor, open_file, path)
        log = cls(database, reading(path, database), executor, seat)
        log._apply(records)
        seat.row.applied = log.index.sequence
        return log

    def on_change(self, listener: Callable[[], None]) -> None:
        self._listeners.append(listener)

    # --- following ---

    @property
    def index(self) -> PurgeIndex:
        if self._index.sequence < self._epochs[0]:
            self._catch_up()
        return self._index

    def _catch_up(self) -> None:
        """Put in force what others have recorded: out of the file, which has it, mostly."""
        self._read()
        if self._index.sequence < self._board.epoch:
            self._seat.post.drain()
        epoch = self._board.epoch
        if self._index.sequence < epoch:
            _log.error("a purge is lost; everything stored counts as purged")
            self._apply([Purge(epoch, epoch / 1_000_000, Selector(Scope.ALL))])
        self._seat.row.applied = self._index.sequence
        self._say_so()

    def _read(self) -> None:
        try:
            self._apply(select(self._reader, self._index.sequence))
        except sqlite3.Error as error:
            _log.error("purge log cannot be read", error=str(error))

    def _given(self, _: int, body: bytes) -> None:
        """Take what could not be written, after what could and is older."""
        self._read()
        self._apply(_decode_records(body))
        self._say_so()

    def _say_so(self) -> None:
        for listener in self._listeners:
            asyncio.get_running_loop().call_soon(listener)

    async def _told(self, _: bytes) -> bytes:
        """Say that what was recorded is in force here."""
        return _encode(self.index.sequence)

    # --- recording ---

    async def append(self, selectors: tuple[Selector, ...], *, now: float) -> int:
        """Record a purge; returns its sequence once it is on disk and every living worker goes by it.

        A worker that does not answer for five seconds is not waited for: it compares the epoch before it
        judges the next request, so it can at most end an answer that it had begun before.
        """
        async with self._lock:
            async with self._turn():
                sequence = next_sequence(self.index.sequence, now)
                records = [Purge(sequence, now, selector) for selector in selectors]
                problem = await self._write(records)
                self._apply(records)
                self._seat.row.applied = self._board.epoch = sequence
            self._say_so()
        silent = await self._seat.post.ask_others(PURGED, timeout=_ANSWER_SECONDS)
        for slot in (slot for slot, answer in silent.items() if answer is None):
            if self._board.row(slot).is_taken and self._board.row(slot).applied < sequence:
                _log.warning("a worker does not answer; it will go by the purge when it does", worker=slot)
        if problem is not None:
            raise not_written(problem) from problem
        return sequence

    async def _write(self, records: list[Purge]) -> sqlite3.Error | None:
        try:
            await self._run(lambda: insert(self._database, records))
        except sqlite3.Error as error:
            self._seat.post.tell_others(UNWRITTEN, _letter(records))
            return error
        return None

    async def prune(self, sequence: int) -> None:
        async with self._lock, self._turn():
            sequence = min(sequence, self.index.sequence - 1)
            await self._run(lambda: delete(self._database, sequence))
            self._index.forget(sequence)
        self._seat.post.tell_others(PRUNED, _encode(sequence))

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Be the only one on this host who writes to the log: the epoch then grows as its records do."""
        locks = self._seat.locks
        try:
            async with asyncio.timeout(_TURN_SECONDS):
                await taken(locks, LOG_BYTE)
        except TimeoutError as error:
            raise StoreUnavailable("nothing is purged: another worker does not let go of the log") from error
        try:
            yield
        finally:
            locks.give_back(LOG_BYTE)

    async def aclose(self) -> None:
        self._reader.close()
        await super().aclose()


def reading(path: Path, database: sqlite3.Connection) -> sqlite3.Connection:
    """Open the log a second time; one that is a copy in memory is the only one."""
    if not database.execute("PRAGMA database_list").fetchone()[2]:
        return database
    return sqlite3.connect(path, isolation_level=None, check_same_thread=False)


def _letter(records: list[Purge]) -> bytes:
    """Write records for the others; of too many, that everything is purged."""
    body = _encode(records)
    if len(body) <= MAX_BODY_BYTES:
        return body
    return _encode([Purge(records[0].sequence, records[0].at, Selector(Scope.ALL))])
