"""The catalog's SQLite file: rows, queries, totals.

Knows SQL. Must not know asyncio or page files. One thread at a time uses a Ledger. Everything in it can
be rebuilt from the pages; it is never asked what may be served.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from isr_proxy.core.purges import RULE_TAG, Scope, Selector
from isr_proxy.store.changes import Change, Row, Totals
from isr_proxy.store.company import ENTRIES, PAGES
from isr_proxy.store.entering import COLUMNS, Batch, enter, note_served
from isr_proxy.store.layout import Name

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS pages (
    id INTEGER PRIMARY KEY, name BLOB NOT NULL UNIQUE,
    scheme TEXT NOT NULL, host TEXT NOT NULL, path TEXT NOT NULL, query TEXT,
    variant TEXT NOT NULL, encodings TEXT NOT NULL, status INTEGER NOT NULL,
    size_bytes INTEGER NOT NULL, body_bytes INTEGER NOT NULL,
    inode INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    sequence INTEGER NOT NULL, generated_at REAL NOT NULL, fetched_at REAL NOT NULL, stale_at REAL NOT NULL,
    failures INTEGER NOT NULL, last_error TEXT NOT NULL, retry_at REAL NOT NULL, served_at REAL NOT NULL);
CREATE INDEX IF NOT EXISTS pages_path ON pages (path);
CREATE INDEX IF NOT EXISTS pages_host ON pages (host);
CREATE INDEX IF NOT EXISTS pages_served ON pages (served_at) WHERE status > 0;
CREATE TABLE IF NOT EXISTS tags (page_id INTEGER NOT NULL, tag TEXT NOT NULL, PRIMARY KEY (tag, page_id))
    WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS tags_page ON tags (page_id);
CREATE TABLE IF NOT EXISTS tag_counts (tag TEXT PRIMARY KEY, pages INTEGER NOT NULL) WITHOUT ROWID;
CREATE TRIGGER IF NOT EXISTS tag_added AFTER INSERT ON tags BEGIN
    INSERT INTO tag_counts VALUES (new.tag, 1) ON CONFLICT (tag) DO UPDATE SET pages = pages + 1; END;
CREATE TRIGGER IF NOT EXISTS tag_removed AFTER DELETE ON tags BEGIN
    UPDATE tag_counts SET pages = pages - 1 WHERE tag = old.tag;
    DELETE FROM tag_counts WHERE tag = old.tag AND pages = 0; END;
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value) WITHOUT ROWID;
"""
SCHEMA_VERSION: Final = 2
COMPLETE: Final = "complete"
PARTIAL: Final = "partial"
BROKEN: Final = ".broken"  # what a broken file is renamed to
_IN_USE: Final = ""
_BUSY_SECONDS: Final = 5.0  # that another process may take to write a batch
_VICTIMS_AT_ONCE: Final = 256
_TOTALS: Final = (
    "SELECT coalesce((SELECT value FROM about WHERE name = 'size_bytes'), 0),"
    " coalesce((SELECT value FROM about WHERE name = 'entries'), 0)"
)
_IS_PAGE: Final = "status > 0 AND NOT EXISTS (SELECT 1 FROM tags WHERE tag = ? AND page_id = id)"

# However many pages have the tag: to count 100,000 rows of an index takes 5 ms, to look at the pages a third
# of a second.
_TAGGED: Final = (
    "SELECT coalesce((SELECT pages FROM tag_counts WHERE tag = ?1), 0) - (SELECT count(*) FROM tags AS rule"
    " CROSS JOIN tags AS named ON named.page_id = rule.page_id WHERE rule.tag = ?2 AND named.tag = ?1)"
)

# Each batch goes on in the index of tags where the last one ended, however many pages have the tag.
_OLDER_TAGGED: Final = (
    "SELECT name, path, id FROM tags CROSS JOIN pages ON id = page_id WHERE tag = ? AND page_id > ?"
    " AND status > 0 AND sequence < ? ORDER BY page_id LIMIT ?"
)


class Ledger:
    """One open catalog file."""

    def __init__(self, database: sqlite3.Connection, path: str, tally: memoryview[int]) -> None:
        self._database = database
        self._tally = tally
        self._inode = _inode(path)
        self.path = path

    @classmethod
    def open(cls, path: str, tally: memoryview[int]) -> Ledger:
        """Open or create; sqlite3.Error when that cannot be, or it is of another version.

        `tally` is where the totals are kept for whoever else has this file open (company.py).
        """
        database = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=_BUSY_SECONDS)
        try:
            return cls._prepared(database, path, tally)
        except BaseException:
            database.close()
            raise

    @classmethod
    def _prepared(cls, database: sqlite3.Connection, path: str, tally: memoryview[int]) -> Ledger:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = OFF")  # derived: a crash of the host rebuilds it
        database.execute("PRAGMA temp_store = MEMORY")
        database.execute("PRAGMA wal_autocheckpoint = 0")  # whoever commits may be the loop: see checkpoint()
        database.execute("PRAGMA cache_size = -4096")
        version = database.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, SCHEMA_VERSION):
            raise sqlite3.DatabaseError(f"catalog version {version}")
        database.executescript(_SCHEMA)
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        return cls(database, path, tally)

    @property
    def totals(self) -> Totals:
        """What all who have this file open have written."""
        return Totals(self._tally[PAGES], self._tally[ENTRIES])

    def publish(self) -> None:
        """Put the file's totals where all see them; only when nobody else writes yet."""
        self._set(self._written())

    def _set(self, totals: Totals) -> None:
        self._tally[PAGES], self._tally[ENTRIES] = totals.size_bytes, totals.entries

    def _written(self) -> Totals:
        return Totals(*self._database.execute(_TOTALS).fetchone())

    def is_in_place(self) -> bool:
        """Tell whether this file is still the catalog: another process may have replaced a broken one."""
        return self._inode == _inode(self.path)

    def _about(self, name: str, default: Any) -> Any:
        row = self._database.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return default if row is None else row[0]

    def _say(self, **values: object) -> None:
        said = [item for name_and_value in values.items() for item in name_and_value]
        places = ", ".join(["(?, ?)"] * len(values))
        self._database.execute(f"INSERT OR REPLACE INTO about VALUES {places}", said)

    # --- whether it can be believed ---

    def is_believable(self) -> bool:
        """Tell whether every page had its row when this was closed.

        Raises sqlite3.DatabaseError when it was not closed before the host went down: what was not
        synced then may be missing anywhere in the file.
        """
        closed = self._about("closed", _IN_USE)
        if closed == _IN_USE and self._about("boot", "") != boot():
            raise sqlite3.DatabaseError("not closed before the host restarted")
        return bool(closed == COMPLETE)

    def opened(self) -> None:
        """Say durably that from now on the file may lag behind the pages."""
        self._database.execute("PRAGMA synchronous = FULL")
        self._say(closed=_IN_USE, boot=boot())
        self.checkpoint()
        self._database.execute("PRAGMA synchronous = OFF")

    def checkpoint(self) -> None:
        """Move the write-ahead log into the file and empty it."""
        self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self, closed: str) -> None:
        """Close it as COMPLETE or PARTIAL, which is found at the next start."""
        try:
            self._database.execute("PRAGMA synchronous = FULL")
            self._say(closed=closed)
            self.checkpoint()
        finally:
            self._database.close()

    def abandon(self) -> None:
        """Close it as it is."""
        self._database.close()

    def file_bytes(self) -> int:
        """Return what the catalog takes on disk."""
        return sum(_allocated_now(self.path + suffix) for suffix in ("", "-wal", "-shm", BROKEN))

    def wal_bytes(self) -> int:
        return _allocated_now(self.path + "-wal")

    # --- writing ---

    @contextmanager
    def impatient(self) -> Iterator[None]:
        """Have SQLite say at once that another process holds the file (`is_busy`), instead of waiting."""
        self._database.execute("PRAGMA busy_timeout = 0")
        try:
            yield
        finally:
            self._database.execute(f"PRAGMA busy_timeout = {round(_BUSY_SECONDS * 1000)}")

    def apply(self, changes: Iterable[Change], served: Iterable[tuple[Name, float]]) -> None:
        """Apply changes as if in their order, then the notes of serving, in one transaction.

        The changes are asked for within it, while nobody else writes.
        """
        before = self.totals
        self._database.execute("BEGIN IMMEDIATE")
        try:
            before = self._written()
            gained = enter(self._database, Batch(changes))
            note_served(self._database, served)
            self._set(before + gained)
            self._say(size_bytes=self.totals.size_bytes, entries=self.totals.entries)
            self._database.execute("COMMIT")
        except BaseException:
            self._set(before)
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    # --- reading ---

    def victims(self, wanted_bytes: int) -> list[tuple[Name, int]]:
        """Return the least recently served entries that together take `wanted_bytes`, with their sizes."""
        cursor = self._database.execute(
            "SELECT name, size_bytes FROM pages WHERE status > 0 ORDER BY served_at LIMIT ?",
            (_VICTIMS_AT_ONCE,),
        )
        found: list[tuple[Name, int]] = []
        for name, size in cursor:
            if wanted_bytes <= 0:
                break
            found.append((name, size))
            wanted_bytes -= size
        return found

    def shard(self, first: int) -> dict[Name, tuple[int, int]]:
        """Return inode and mtime_ns of every row whose name begins with this byte."""
        low, high = bytes([first]), bytes([first + 1]) if first < 255 else b"\xff" * 64
        rows = self._database.execute(
            "SELECT name, inode, mtime_ns FROM pages WHERE name >= ? AND name < ?", (low, high)
        )
        return {name: (inode, mtime_ns) for name, inode, mtime_ns in rows}

    def matched(self, selectors: Sequence[Selector]) -> int:
        """Count the distinct entries that any of these selectors names; what is no page does not count."""
        if any(selector.scope is Scope.ALL for selector in selectors):
            rules = self._database.execute(
                "SELECT pages FROM tag_counts WHERE tag = ?", (RULE_TAG,)
            ).fetchone()
            return self.totals.entries - (0 if rules is None else int(rules[0]))
        if len(selectors) == 1 and selectors[0].scope is Scope.TAG:
            return int(self._database.execute(_TAGGED, (selectors[0].value, RULE_TAG)).fetchone()[0])
        if len(selectors) == 1:
            where, values = _condition(selectors[0])
            sql = f"SELECT count(*) FROM pages WHERE {_IS_PAGE} AND {where}"
            return int(self._database.execute(sql, (RULE_TAG, *values)).fetchone()[0])
        return self._matched_together(selectors)

    def _matched_together(self, selectors: Sequence[Selector]) -> int:
        self._database.execute("CREATE TEMP TABLE IF NOT EXISTS hits (id INTEGER PRIMARY KEY)")
        for selector in selectors:
            where, values = _condition(selector)
            sql = f"INSERT OR IGNORE INTO hits SELECT id FROM pages WHERE {_IS_PAGE} AND {where}"
            self._database.execute(sql, (RULE_TAG, *values))
        count = int(self._database.execute("SELECT count(*) FROM hits").fetchone()[0])
        self._database.execute("DELETE FROM hits")
        return count

    def older(
        self, selector: Selector, sequence: int, after: tuple[str, int], limit: int
    ) -> list[tuple[Name, str, int]]:
        """Return name, path and id of entries named by a selector whose fetch began before `sequence`.

        They come in the order (path, id) after the last one; a limited number at once.
        """
        if selector.scope is Scope.TAG:
            return list(self._database.execute(_OLDER_TAGGED, (selector.value, after[1], sequence, limit)))
        where, values = _condition(selector)
        order, position = _order(selector)
        sql = (
            f"SELECT name, path, id FROM pages WHERE {where} AND status > 0 AND sequence < ?"
            f" AND {position} ORDER BY {order} LIMIT ?"
        )
        resume = after if order == "path, id" else after[1:]
        return list(self._database.execute(sql, (*values, sequence, *resume, limit)))

    def listing(
        self, prefix: str, tag: str | None, after: tuple[str, int], limit: int
    ) -> list[tuple[Row, int]]:
        """Return entries whose path begins with `prefix`, in the order (path, id), with their ids."""
        where, values = _condition(Selector(Scope.PREFIX, prefix))
        if tag is not None:
            where += " AND id IN (SELECT page_id FROM tags WHERE tag = ?)"
            values = (*values, tag)
        sql = (
            f"SELECT id, {COLUMNS} FROM pages WHERE {where} AND status > 0"
            " AND (path, id) > (?, ?) ORDER BY path, id LIMIT ?"
        )
        return [
            self._row(found) for found in self._database.execute(sql, (*values, *after, limit)).fetchall()
        ]

    def at(self, path: str, query: str | None, host: str | None) -> list[Row]:
        """Return every entry of one URL: all its variants and dimensions."""
        found = self._database.execute(
            f"SELECT id, {COLUMNS} FROM pages WHERE path = ?1 AND query IS ?2 AND status > 0"
            " AND (?3 IS NULL OR host = ?3) ORDER BY id LIMIT 1000",
            (path, query, host),
        ).fetchall()
        return [self._row(values)[0] for values in found]

    def _row(self, found: tuple[Any, ...]) -> tuple[Row, int]:
        rows = self._database.execute("SELECT tag FROM tags WHERE page_id = ? ORDER BY tag", found[:1])
        named: dict[str, Any] = dict(zip(COLUMNS.split(", "), found[1:], strict=True))
        return Row(tags=tuple(tag for (tag,) in rows), **named), found[0]


def _condition(selector: Selector) -> tuple[str, tuple[object, ...]]:
    """Return the WHERE clause of a selector; each begins with an indexed column."""
    where, values = _scope_condition(selector)
    if selector.host is not None and selector.scope in (Scope.PATH, Scope.TARGET, Scope.PREFIX):
        return f"{where} AND +host = ?", (*values, selector.host)
    return where, values


def _scope_condition(selector: Selector) -> tuple[str, tuple[object, ...]]:
    value = selector.value
    match selector.scope:
        case Scope.ALL:
            return "1", ()
        case Scope.HOST:
            return "host = ?", (value,)
        case Scope.PATH:
            return "path = ?", (value,)
        case Scope.TARGET:
            path, question, query = value.partition("?")
            return "path = ? AND query IS ?", (path, query if question else None)
        case Scope.PREFIX:
            if not value:
                return "1", ()
            return "path >= ? AND path < ?", (value, value[:-1] + chr(ord(value[-1]) + 1))
        case Scope.TAG:
            return "id IN (SELECT page_id FROM tags WHERE tag = ?)", (value,)


def _order(selector: Selector) -> tuple[str, str]:
    """Return the order in which the selector's index gives its rows, and how to go on in it."""
    if selector.scope in (Scope.PATH, Scope.TARGET, Scope.PREFIX):
        return "path, id", "(path, id) > (?, ?)"
    return "id", "id > ?"


def _allocated_now(path: str) -> int:
    try:
        return os.stat(path).st_blocks * 512
    except OSError:
        return 0


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0  # in memory


def is_busy(error: sqlite3.Error) -> bool:
    """Tell whether another process held the file for too long: nothing is wrong with it."""
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY


def boot() -> str:
    """Return what changes when the host restarts: after that, an unsynced catalog proves nothing."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return file.read().strip()
    except OSError:
        return "unknown"
