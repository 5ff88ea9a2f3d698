"""Entering changes into the catalog: many rows by few statements.

Knows the SQL that changes pages and tags. Must not know transactions. SQLite lets go of the
interpreter at each step of a statement, and beside a busy loop it takes milliseconds to get it back: what is
asked row by row falls behind what a loop stores. So each statement is for all rows, and takes one step.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any, Final, TypeVar

import msgspec

from isr_proxy.store.changes import Change, Forgotten, Freshened, Row, Totals
from isr_proxy.store.layout import Name

COLUMNS: Final = (
    "name, scheme, host, path, query, variant, encodings, status, size_bytes, body_bytes, inode, mtime_ns,"
    " sequence, generated_at, fetched_at, stale_at, failures, last_error, retry_at, served_at"
)
_UPSERT: Final = " ON CONFLICT (name) DO UPDATE SET " + ", ".join(
    f"{column} = excluded.{column}" for column in COLUMNS.split(", ")[1:-1]
)  # a page made anew was not served by that: served_at stays
_ROWS_AT_ONCE: Final = 256  # of one statement: SQLite takes 32,766 values
_FRESHENED: Final = Freshened.__struct_fields__
_FRESHEN: Final = "UPDATE pages SET " + ", ".join(f"{field} = said.{field}" for field in _FRESHENED[1:])
_NOTHING: Final = Totals()

T = TypeVar("T")


class Batch:
    """The last change of each name, with what it leaves of those before it."""

    def __init__(self, changes: Iterable[Change]) -> None:
        self.gone: dict[Name, None] = {}
        self.rows: dict[Name, Row] = {}
        self.freshened: dict[Name, Freshened] = {}
        for change in changes:
            self._add(change)

    def _add(self, change: Change) -> None:
        name = change.name
        match change:
            case Row():
                if (known := self.rows.get(name)) is not None:  # served_at stays, as in the table
                    change = msgspec.structs.replace(change, served_at=known.served_at)
                self.rows[name] = change
                self.freshened.pop(name, None)
            case Freshened():
                self.freshened[name] = change
            case Forgotten():
                self.gone[name] = None
                self.rows.pop(name, None)
                self.freshened.pop(name, None)


def enter(database: sqlite3.Connection, batch: Batch) -> Totals:
    """Apply a batch, within the caller's transaction; returns what it adds to the totals."""
    gained = [_take_out(database, names) for names in _some(batch.gone)]
    gained += [_put(database, rows) for rows in _some(batch.rows.values())]
    for some in _some(batch.freshened.values()):
        said = _said(_FRESHENED, len(some))
        values = _flat(msgspec.structs.astuple(each) for each in some)
        database.execute(f"{said} {_FRESHEN} FROM said WHERE pages.name = said.name", values)
    return sum(gained, _NOTHING)


def note_served(database: sqlite3.Connection, served: Iterable[tuple[Name, float]]) -> None:
    """Note when pages were last served."""
    for some in _some(served):
        said = _said(("name", "at"), len(some))
        set_at = "UPDATE pages SET served_at = max(served_at, said.at) FROM said WHERE pages.name = said.name"
        database.execute(f"{said} {set_at}", _flat(some))


def _take_out(database: sqlite3.Connection, names: Sequence[Name]) -> Totals:
    before = _there(database, names)
    if before != _NOTHING:
        _untag(database, names)
        database.execute(f"DELETE FROM pages WHERE name IN {_tuples(1, len(names))}", names)
    return -before


def _put(database: sqlite3.Connection, rows: Sequence[Row]) -> Totals:
    names = [row.name for row in rows]
    before = _there(database, names)
    if before != _NOTHING:
        _untag(database, names)
    # In the order of the columns; the tags are rows of their own.
    values = [msgspec.structs.astuple(row)[:-1] for row in rows]
    database.execute(_insert(len(values)), _flat(values))
    for tagged in _some((row.name, tag) for row in rows for tag in row.tags):
        _tag(database, tagged)
    return Totals(sum(row.size_bytes for row in rows), sum(row.is_entry for row in rows)) + -before


def _there(database: sqlite3.Connection, names: Sequence[Name]) -> Totals:
    """Return what the rows of these names count for."""
    sums = "coalesce(sum(size_bytes), 0), coalesce(sum(status > 0), 0)"
    found = database.execute(f"SELECT {sums} FROM pages WHERE name IN {_tuples(1, len(names))}", names)
    return Totals(*found.fetchone())


def _untag(database: sqlite3.Connection, names: Sequence[Name]) -> None:
    pages = f"SELECT id FROM pages WHERE name IN {_tuples(1, len(names))}"
    database.execute(f"DELETE FROM tags WHERE page_id IN ({pages})", names)


def _tag(database: sqlite3.Connection, tagged: Sequence[tuple[Name, str]]) -> None:
    said = _said(("name", "tag"), len(tagged))
    pages = "SELECT id, tag FROM said CROSS JOIN pages ON pages.name = said.name"
    # A WITH that comes first would hide which table the conflict is about, so it stands in the SELECT.
    database.execute(f"INSERT OR IGNORE INTO tags {said} {pages}", _flat(tagged))


@lru_cache(maxsize=_ROWS_AT_ONCE)
def _insert(rows: int) -> str:
    return f"INSERT INTO pages ({COLUMNS}) VALUES {_tuples(rows, COLUMNS.count(',') + 1)}{_UPSERT}"


def _said(fields: Sequence[str], rows: int) -> str:
    """Return a table of what is said, for other parts of the statement."""
    return f"WITH said ({', '.join(fields)}) AS (VALUES {_tuples(rows, len(fields))})"


@lru_cache(maxsize=1024)
def _tuples(count: int, width: int) -> str:
    """Return `(?, ?), (?, ?)`."""
    return ", ".join([f"({', '.join('?' * width)})"] * count)


def _some(items: Iterable[T]) -> Iterator[Sequence[T]]:
    """Cut into pieces of what one statement takes."""
    left = iter(items)
    while piece := list(islice(left, _ROWS_AT_ONCE)):
        yield piece


def _flat(rows: Iterable[tuple[Any, ...]]) -> list[Any]:
    return [value for row in rows for value in row]
