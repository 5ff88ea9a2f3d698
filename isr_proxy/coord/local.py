"""The purge log of one host: durable in SQLite, in force in memory.

Knows records and their file. Must not know entries. A record's sequence is the time in microseconds, or
one more than the last: should the file be lost, later sequences are still higher than any entry's, and
one record that hides everything says that what was purged is not known any more (law 7, in doubt purged).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Final, TypeVar

import structlog

from isr_proxy.core.purges import Purge, PurgeIndex, Scope, Selector, Strength
from isr_proxy.errors import StoreUnavailable

_log = structlog.get_logger("isr_proxy.purges")

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS purges (
    scope TEXT NOT NULL, host TEXT NOT NULL, value TEXT NOT NULL, strength TEXT NOT NULL,
    sequence INTEGER NOT NULL, at REAL NOT NULL,
    PRIMARY KEY (scope, host, value, strength)
) WITHOUT ROWID
"""
_ANY_HOST: Final = ""

R = TypeVar("R")


class LocalPurgeLog:
    """The purge log in one SQLite file. Only the newest record of each name and strength is kept."""

    def __init__(self, database: sqlite3.Connection, executor: ThreadPoolExecutor) -> None:
        self._database = database
        self._executor = executor
        self._lock = asyncio.Lock()
        self._index = PurgeIndex()
        self._epochs: list[int] | memoryview[int] = [0]

    @classmethod
    async def open(cls, path: Path, *, now: float) -> LocalPurgeLog:
        """Open or create the log.

        One without records is new, or was lost, so everything stored counts as purged; `prune` therefore
        always leaves the youngest record.
        """
        executor = ThreadPoolExecutor(1, "purges")
        database, records = await asyncio.get_running_loop().run_in_executor(executor, open_file, path)
        log = cls(database, executor)
        log._apply(records)
        if not records:
            try:
                await log.append((Selector(Scope.ALL),), now=now)
            except StoreUnavailable:
                pass  # in force all the same, and said above
        return log

    @property
    def index(self) -> PurgeIndex:
        return self._index

    @property
    def epochs(self) -> Sequence[int]:
        return self._epochs

    async def append(self, selectors: tuple[Selector, ...], *, now: float) -> int:
        """Record a purge; returns its sequence once it is on disk and in force."""
        async with self._lock:
            sequence = next_sequence(self._index.sequence, now)
            records = [Purge(sequence, now, selector) for selector in selectors]
            try:
                await self._run(lambda: insert(self._database, records))
            except sqlite3.Error as error:
                self._apply(records)  # in force at least until the restart
                raise not_written(error) from error
            self._apply(records)
            return sequence

    def _apply(self, records: list[Purge]) -> None:
        for record in records:
            self._index.apply(record)
        if isinstance(self._epochs, list):  # else it is everybody's
            self._epochs[0] = self._index.sequence

    async def prune(self, sequence: int) -> None:
        """Forget records up to `sequence`: no entry or fetch is left that they hide."""
        async with self._lock:
            sequence = min(sequence, self._index.sequence - 1)
            await self._run(lambda: delete(self._database, sequence))
            self._index.forget(sequence)

    async def records(self, after: int) -> list[Purge]:
        """Return the records younger than `after`, oldest first."""
        return await self._run(lambda: select(self._database, after))

    async def _run(self, work: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    async def aclose(self) -> None:
        await self._run(self._database.close)
        self._executor.shutdown()


def next_sequence(last: int, now: float) -> int:
    """Return the sequence of a record that is made now."""
    return max(last + 1, int(now * 1_000_000))


def not_written(error: sqlite3.Error) -> StoreUnavailable:
    return StoreUnavailable(f"the purge is in force but could not be written: {error}")


def prepare(path: Path, now: float) -> int:
    """Open or repair the log for several workers, who are not there yet; returns the youngest sequence."""
    database, records = open_file(path)
    with closing(database):
        if not records:
            records = [Purge(next_sequence(0, now), now, Selector(Scope.ALL))]
            with suppress(sqlite3.Error):  # said already
                insert(database, records)
    return max(record.sequence for record in records)


def open_file(path: Path) -> tuple[sqlite3.Connection, list[Purge]]:
    """Open the file and read it; a broken one is moved aside, one that cannot be written is copied."""
    try:
        return _load(path)
    except sqlite3.OperationalError as error:  # says nothing against what is in the file
        _log.error("purge log cannot be written; purges count until the restart", error=str(error))
        return _load_copy(path)
    except sqlite3.DatabaseError as error:
        _log.error("purge log is broken; everything stored counts as purged", error=str(error))
        return _replace(path)


def _load(path: Path) -> tuple[sqlite3.Connection, list[Purge]]:
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.execute(_SCHEMA)
        return database, select(database, 0)
    except sqlite3.Error:
        database.close()
        raise


def _load_copy(path: Path) -> tuple[sqlite3.Connection, list[Purge]]:
    """Read the log of a directory that cannot be written, by way of a copy; none that can be read is empty.

    SQLite itself refuses: a log left by a crash can only be read by writing beside it.
    """
    database = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    try:
        with TemporaryDirectory() as scratch:
            for file in path.parent.glob(f"{path.name}*"):
                copyfile(file, Path(scratch) / file.name)
            with closing(sqlite3.connect(Path(scratch) / path.name)) as copy:
                copy.backup(database)
    except (OSError, sqlite3.Error) as error:
        _log.error("purge log cannot be read; everything stored counts as purged", error=str(error))
    database.execute(_SCHEMA)
    database.execute("PRAGMA query_only=ON")  # so that a purge says that it is not durable
    return database, select(database, 0)


def _replace(path: Path) -> tuple[sqlite3.Connection, list[Purge]]:
    for suffix in ("", "-wal", "-shm"):
        broken = path.with_name(path.name + suffix)
        if broken.exists():
            broken.rename(path.with_name(f"{path.name}{suffix}.broken"))
    return _load(path)


def select(database: sqlite3.Connection, after: int) -> list[Purge]:
    rows = database.execute(
        "SELECT sequence, at, scope, value, host, strength FROM purges WHERE sequence > ? ORDER BY sequence",
        (after,),
    )
    return [
        Purge(sequence, at, Selector(Scope(scope), value, host or None, Strength(strength)))
        for sequence, at, scope, value, host, strength in rows
    ]


def insert(database: sqlite3.Connection, records: list[Purge]) -> None:
    rows = [
        (
            record.selector.scope.value,
            record.selector.host or _ANY_HOST,
            record.selector.value,
            record.selector.strength.value,
            record.sequence,
            record.at,
        )
        for record in records
    ]
    database.execute("BEGIN IMMEDIATE")
    try:
        database.executemany("INSERT OR REPLACE INTO purges VALUES (?, ?, ?, ?, ?, ?)", rows)
        database.execute("COMMIT")
    except sqlite3.Error:
        database.execute("ROLLBACK")
        raise


def delete(database: sqlite3.Connection, sequence: int) -> None:
    database.execute("DELETE FROM purges WHERE sequence <= ?", (sequence,))
