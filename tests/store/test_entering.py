"""Entering changes: many at once come to the same as one after the other."""

from __future__ import annotations

from itertools import groupby
from random import Random
from typing import Any

from msgspec import structs

from isr_proxy.store.changes import Change, Forgotten, Freshened, Row
from isr_proxy.store.company import Alone
from isr_proxy.store.ledger import Ledger
from tests.store.conftest import row

NAMES = [bytes([number]) * 20 for number in range(1, 6)]


def ledger() -> Ledger:
    return Ledger.open(":memory:", Alone().tally)


def made(name: bytes, serial: int, tags: tuple[str, ...] = ()) -> Row:
    """Return a row of which everything that may change says which it is."""
    return structs.replace(
        row(name, tags, f"/{name[0]}"),
        status=200 if serial % 4 else 0,
        size_bytes=4096 * (1 + serial % 3),
        body_bytes=serial,
        inode=serial,
        mtime_ns=serial,
        sequence=serial,
        generated_at=float(serial),
        fetched_at=float(serial),
        served_at=float(serial),
    )


def changed(random: Random, serial: int) -> Change:
    name = random.choice(NAMES)
    match random.randrange(4):
        case 0:
            return Forgotten(name)
        case 1:
            return Freshened(name, serial, serial, 1.0 * serial, 2.0, 3, f"why {serial}", 4.0)
        case _:
            return made(name, serial, tuple(random.sample("abcd", random.randrange(4))))


def content(of: Ledger) -> dict[str, list[tuple[Any, ...]]]:
    """Return everything in it but the numbers of its rows."""
    database = of._database
    columns = [about[1] for about in database.execute("PRAGMA table_info(pages)") if about[1] != "id"]
    return {
        "pages": database.execute(f"SELECT {', '.join(columns)} FROM pages ORDER BY name").fetchall(),
        "tags": database.execute(
            "SELECT name, tag FROM tags JOIN pages ON id = page_id ORDER BY name, tag"
        ).fetchall(),
        "counts": database.execute("SELECT * FROM tag_counts ORDER BY tag").fetchall(),
        "totals": database.execute("SELECT * FROM about ORDER BY name").fetchall(),
    }


def test_a_batch_comes_to_the_same_as_its_changes_one_by_one() -> None:
    random = Random(11)
    for _ in range(200):
        together, one_by_one = ledger(), ledger()
        for _ in range(3):
            changes = [changed(random, serial) for serial in range(1, random.randrange(2, 12))]
            together.apply(changes, ())
            for change in changes:
                one_by_one.apply([change], ())
        assert content(together) == content(one_by_one)
        assert together.totals == one_by_one.totals


def test_a_batch_takes_as_many_statements_however_many_rows_it_has() -> None:
    def statements(count: int) -> int:
        told: list[str] = []
        written = ledger()
        named = [number.to_bytes(20) for number in range(count)]
        written._database.set_trace_callback(told.append)
        written.apply((made(name, 1, ("a", "b")) for name in named), [(name, 5.0) for name in named])
        written.apply((Freshened(name, 2, 2, 2.0, 0.0, 0, "", 0.0) for name in named), ())
        written.apply((Forgotten(name) for name in named), ())
        return len(list(groupby(told)))  # a statement is told again for each trigger that it fires

    assert statements(100) == statements(2)


def test_a_note_of_serving_is_never_earlier_than_the_one_before() -> None:
    noted = ledger()
    noted.apply([made(NAMES[0], 1), made(NAMES[1], 5)], [(NAMES[0], 9.0), (NAMES[1], 3.0), (NAMES[2], 4.0)])
    assert [page[-1] for page in content(noted)["pages"]] == [9.0, 5.0]


def test_a_batch_larger_than_a_statement_is_entered_whole() -> None:
    many = ledger()
    many.apply((made(number.to_bytes(20), 1, ("a", "b")) for number in range(1000)), ())
    assert many.totals.entries == 1000
    assert content(many)["counts"] == [("a", 1000), ("b", 1000)]
