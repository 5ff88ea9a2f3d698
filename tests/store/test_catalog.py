"""The catalog: listing, counting, sweeping, and coming back after it was lost."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from isr_proxy.core.purges import RULE_TAG, Purge, Scope, Selector, Strength
from isr_proxy.core.settings import StoreSettings
from isr_proxy.store.base import Entry
from isr_proxy.store.changes import Forgotten, Row
from isr_proxy.store.disk import DiskStore
from isr_proxy.store.ledger import Ledger
from isr_proxy.store.promptness import Promptness
from tests.harness import eventually
from tests.store.conftest import NOTHING, Clock, key, language, put, read, row


async def _site(store: DiskStore) -> None:
    await put(store, key("/"), b"x", tags=("home",), sequence=1)
    await put(store, key("/blog/a"), b"x", tags=("blog", "a"), sequence=1)
    await put(store, key("/blog/a", query="p=2"), b"x", tags=("blog",), sequence=5)
    await put(store, key("/blog/b", host="other.test"), b"x", tags=("blog",), sequence=1)
    for value in ("de", "en"):
        await put(store, key("/v"), b"x", variant=language(value)[1], sequence=1)


@pytest.mark.parametrize(
    ("selector", "count"),
    [
        (Selector(Scope.ALL), 6),
        (Selector(Scope.HOST, "other.test"), 1),
        (Selector(Scope.PATH, "/blog/a"), 2),
        (Selector(Scope.PATH, "/blog/a", "other.test"), 0),
        (Selector(Scope.TARGET, "/blog/a?p=2"), 1),
        (Selector(Scope.TARGET, "/blog/a"), 1),
        (Selector(Scope.PREFIX, "/blog/"), 3),
        (Selector(Scope.PREFIX, "/blog/", "site.test"), 2),
        (Selector(Scope.TAG, "blog"), 3),
        (Selector(Scope.PATH, "/v"), 2),
        (Selector(Scope.TAG, "nothing"), 0),
    ],
)
async def test_matched_counts_what_a_purge_hits(store: DiskStore, selector: Selector, count: int) -> None:
    await _site(store)
    assert await store.catalog.matched([selector]) == count


async def test_entries_hit_twice_count_once(store: DiskStore) -> None:
    await _site(store)
    selectors = [Selector(Scope.TAG, "blog"), Selector(Scope.PREFIX, "/blog/"), Selector(Scope.TAG, "home")]
    assert await store.catalog.matched(selectors) == 4
    assert await store.catalog.matched([*selectors, Selector(Scope.ALL)]) == 6


async def test_listing_goes_on_where_it_stopped(store: DiskStore) -> None:
    await _site(store)
    paths, cursor = [], None
    while True:
        listing = await store.catalog.listing(cursor=cursor, limit=4)
        paths += [row.path for row in listing.rows]
        cursor = listing.cursor
        if cursor is None:
            break
    assert paths == ["/", "/blog/a", "/blog/a", "/blog/b", "/v", "/v"]


async def test_listing_by_prefix_and_tag(store: DiskStore) -> None:
    await _site(store)
    listing = await store.catalog.listing(prefix="/blog", tag="a")
    assert [(row.path, row.tags) for row in listing.rows] == [("/blog/a", ("a", "blog"))]
    assert [row.variant for row in await store.catalog.at("/v", None)] == [
        "accept-language=de",
        "accept-language=en",
    ]


async def test_a_cursor_that_is_not_ours(store: DiskStore) -> None:
    with pytest.raises(ValueError, match="cursor"):
        await store.catalog.listing(cursor="nonsense")


async def test_law_2_a_sweep_deletes_what_was_fetched_before(store: DiskStore) -> None:
    await _site(store)
    assert await store.sweep(Purge(3, 50.0, Selector(Scope.TAG, "blog"))) == 2
    assert await read(store, key("/blog/a")) is None
    assert await read(store, key("/blog/a", query="p=2")) == b"x"
    assert await store.catalog.matched([Selector(Scope.ALL)]) == 4


async def test_law_2_a_sweep_of_everything_takes_many_batches(store: DiskStore) -> None:
    for number in range(250):
        await put(store, key(f"/{number}"), b"x")
    assert await store.sweep(Purge(9, 1.0, Selector(Scope.PREFIX, "/"))) == 250
    assert (store.stat().entries, await store.catalog.matched([Selector(Scope.ALL)])) == (0, 0)


async def test_law_7_a_soft_sweep_writes_when_it_went_stale(store: DiskStore) -> None:
    await _site(store)
    soft = Selector(Scope.TAG, "blog", strength=Strength.SOFT)
    assert await store.sweep(Purge(3, 50.0, soft)) == 2
    assert await store.sweep(Purge(4, 70.0, soft)) == 2
    found = await store.lookup(key("/blog/a"), NOTHING)
    assert isinstance(found, Entry)
    assert found.state.stale_at == 50.0


async def _reopened(settings: StoreSettings, clock: Clock) -> DiskStore:
    store = DiskStore.open(settings, now=clock)
    await store.catalog.wait_complete()
    return store


async def _filled(settings: StoreSettings, clock: Clock) -> Path:
    store = DiskStore.open(settings, now=clock)
    await _site(store)
    await store.aclose()
    return Path(settings.path, "catalog.sqlite")


@pytest.mark.parametrize("damage", ["gone", "garbage", "half", "middle"])
async def test_law_7_a_lost_catalog_is_rebuilt(settings: StoreSettings, clock: Clock, damage: str) -> None:
    _lose(await _filled(settings, clock), damage)
    store = await _reopened(settings, clock)
    await store.catalog.flush()
    if damage != "middle":
        assert await store.catalog.matched([Selector(Scope.TAG, "blog")]) == 3
        assert (store.stat().entries, store.stat().size_bytes) == (6, 7 * 4096)
    assert await read(store, key("/")) == b"x"
    await store.aclose()


def _lose(path: Path, damage: str) -> None:
    raw = path.read_bytes()
    match damage:
        case "gone":
            path.unlink()
        case "garbage":
            path.write_bytes(b"this was never SQLite" * 1000)
        case "half":
            path.write_bytes(raw[: len(raw) // 2])
        case _:
            path.write_bytes(raw[:8192] + b"\xff" * 8192 + raw[16384:])


async def test_requests_do_not_wait_for_the_rebuilding(settings: StoreSettings, clock: Clock) -> None:
    (await _filled(settings, clock)).unlink()
    store = DiskStore.open(settings, now=clock)
    assert await read(store, key("/")) == b"x"
    await put(store, key("/new"), b"new")
    assert not store.catalog.is_complete
    await store.catalog.wait_complete()
    await store.catalog.flush()
    assert store.stat().entries == 7
    await store.aclose()


async def test_law_8_what_a_killed_process_did_not_record_is_found(
    settings: StoreSettings, clock: Clock
) -> None:
    path = await _filled(settings, clock)
    before = path.read_bytes()
    store = DiskStore.open(settings, now=clock)
    opened = path.read_bytes()
    await put(store, key("/later"), b"x" * 9000, tags=("blog",))
    await store.remove(await put(store, key("/"), b"x"))
    await store.aclose()
    assert before != opened
    path.write_bytes(opened)  # as kill -9 before the first batch would have left it
    store = await _reopened(settings, clock)
    await store.catalog.flush()
    assert (store.stat().entries, await store.catalog.matched([Selector(Scope.TAG, "blog")])) == (6, 4)
    await store.aclose()


async def test_serving_is_noted_once_a_minute(store: DiskStore, clock: Clock) -> None:
    entry = await put(store, key(), b"x")
    for _ in range(3):
        clock.now += 25
        store.touch(entry)
    (row,) = (await store.catalog.listing()).rows
    assert row.served_at == 1_000_025.0


async def test_law_7_pages_are_stored_while_the_catalog_cannot_be(
    settings: StoreSettings, clock: Clock
) -> None:
    Path(settings.path, "catalog.sqlite").mkdir(parents=True)  # noqa: ASYNC240
    store = DiskStore.open(settings, now=clock)
    await put(store, key(), b"x")
    assert (store.catalog.is_complete, store.failures) == (False, 1)
    await store.aclose()
    Path(settings.path, "catalog.sqlite").rmdir()  # noqa: ASYNC240
    store = await _reopened(settings, clock)
    await store.catalog.flush()
    assert (await read(store, key()), store.stat().entries) == (b"x", 1)
    await store.aclose()


TAG = Selector(Scope.TAG, "blog")


def steps(ledger: Ledger, ask: Callable[[], object]) -> int:
    """Return how many steps SQLite's machine takes for a question, to the next ten."""
    count = 0

    def stepped() -> int:
        nonlocal count
        count += 10
        return 0

    ledger._database.set_progress_handler(stepped, 10)
    ask()
    ledger._database.set_progress_handler(None, 0)
    return count


def tagged(ledger: Ledger, numbers: range) -> None:
    ledger.apply(
        (numbered(number, ("blog", RULE_TAG) if number % 100 == 0 else ("blog",)) for number in numbers), ()
    )


def numbered(number: int, tags: tuple[str, ...]) -> Row:
    return row(number.to_bytes(20), tags, f"/{number}")


async def test_a_tag_is_counted_without_looking_at_its_pages(store: DiskStore) -> None:
    ledger = store.catalog._ledger
    tagged(ledger, range(1, 2001))
    assert ledger.matched([TAG]) == 1980  # without the rules
    few = steps(ledger, lambda: ledger.matched([TAG]))
    ledger.apply((numbered(number, ("blog",)) for number in range(2001, 4001)), ())
    assert ledger.matched([TAG]) == 3980
    assert steps(ledger, lambda: ledger.matched([TAG])) == few


async def test_a_purge_waits_for_no_note_of_serving(store: DiskStore) -> None:
    await _site(store)
    for number in range(5000):
        store.catalog.note_served(number.to_bytes(20))
    assert await store.catalog.matched([TAG]) == 3
    assert len(store.catalog._served) == 5000
    await store.catalog.flush()
    assert not store.catalog._served


async def test_who_asks_gets_his_answer_between_two_batches(store: DiskStore) -> None:
    for number in range(5000):
        store.catalog.note_served(number.to_bytes(20))
    flushing = asyncio.ensure_future(store.catalog.flush())
    await asyncio.sleep(0)
    await _site(store)
    assert await store.catalog.matched([TAG]) == 3
    assert not flushing.done()
    await flushing


async def test_the_counts_of_tags_follow_every_change(store: DiskStore) -> None:
    ledger, random = store.catalog._ledger, Random(7)
    for _ in range(60):
        rows = [
            numbered(random.randrange(1, 30), tuple(random.sample("abcd", random.randrange(4))))
            for _ in range(5)
        ]
        gone = [Forgotten(random.randrange(1, 30).to_bytes(20))]
        ledger.apply([*rows, *gone], ())
        counted = dict(ledger._database.execute("SELECT tag, count(*) FROM tags GROUP BY tag"))
        assert dict(ledger._database.execute("SELECT tag, pages FROM tag_counts")) == counted


async def test_a_batch_of_a_tag_costs_the_same_however_many_pages_have_it(store: DiskStore) -> None:
    ledger = store.catalog._ledger

    def batch() -> list[tuple[bytes, str, int]]:
        return ledger.older(TAG, 9, ("/50", 50), 20)

    tagged(ledger, range(1, 101))
    few = steps(ledger, batch)
    tagged(ledger, range(101, 2001))
    assert steps(ledger, batch) <= few + 20
    assert [number for _, _, number in batch()] == list(range(51, 71))


def threads_of(ledger: Ledger) -> set[int]:
    """Return, as they come, the threads that ask SQLite for anything."""
    seen: set[int] = set()
    ledger._database.set_trace_callback(lambda _: seen.add(threading.get_ident()))
    return seen


async def test_changes_are_entered_without_a_thread(store: DiskStore) -> None:
    store.catalog._promptness = Promptness(fsync=False, clock=lambda: 0.0)
    seen = threads_of(store.catalog._ledger)
    await _site(store)
    await store.catalog.flush()
    assert seen == {threading.get_ident()}


async def entered_by(store: DiskStore, may_go_on: threading.Event) -> set[int]:
    """Flush while the thread waits for the event; returns who entered what was recorded."""
    seen = threads_of(store.catalog._ledger)
    flushing = asyncio.ensure_future(store.catalog.flush())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not seen
    may_go_on.set()
    await flushing
    return seen


async def test_nothing_is_entered_by_the_loop_while_a_question_is_answered(store: DiskStore) -> None:
    await _site(store)
    store.catalog._promptness = Promptness(fsync=False, clock=lambda: 0.0)
    may_go_on = threading.Event()
    asking = asyncio.ensure_future(store.catalog._run(may_go_on.wait))
    await asyncio.sleep(0)
    seen = await entered_by(store, may_go_on)
    await asking
    assert seen
    assert threading.get_ident() not in seen


async def test_notes_of_serving_are_entered_by_the_thread(store: DiskStore) -> None:
    await _site(store)
    await store.catalog.flush()
    seen = threads_of(store.catalog._ledger)
    store.catalog.note_served(bytes(20))
    await store.catalog.flush()
    assert seen
    assert threading.get_ident() not in seen


async def test_a_question_that_nobody_waits_for_any_more_still_has_the_file(store: DiskStore) -> None:
    await _site(store)
    store.catalog._promptness = Promptness(fsync=False, clock=lambda: 0.0)
    began, may_go_on = threading.Event(), threading.Event()

    def ask() -> None:
        began.set()
        may_go_on.wait()

    asking = asyncio.ensure_future(store.catalog._run(ask))
    await eventually(began.is_set)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    seen = await entered_by(store, may_go_on)
    assert seen
    assert threading.get_ident() not in seen


async def test_the_loop_does_not_wait_for_who_holds_the_file(store: DiskStore) -> None:
    store.catalog._promptness = Promptness(fsync=False, clock=lambda: 0.0)
    other = sqlite3.connect(store.catalog._ledger.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    await _site(store)
    seen = threads_of(store.catalog._ledger)
    flushing = asyncio.ensure_future(store.catalog.flush())
    await eventually(lambda: len(seen) == 2)  # it was tried here, and is waited for by the thread
    other.execute("ROLLBACK")
    other.close()
    await flushing
    assert await store.catalog.matched([TAG]) == 3


async def test_no_commit_moves_the_log_by_itself(store: DiskStore) -> None:
    found = store.catalog._ledger._database.execute("PRAGMA wal_autocheckpoint").fetchone()
    assert found == (0,)


async def test_what_comes_during_a_flush_waits_for_the_next(store: DiskStore) -> None:
    """Else each batch would have only what came since the one before, and be as dear as a full one."""
    numbers = iter(range(1, 1000))
    batches = 0

    def another() -> None:
        nonlocal batches
        batches += 1
        if batches < 100:
            store.catalog.record(numbered(next(numbers), ()))

    for _ in range(64):
        store.catalog.record(numbered(next(numbers), ()))
    store.catalog.on_written = another
    await store.catalog.flush()
    assert batches == 2
    assert store.catalog.has_pending
    await store.catalog.flush()
    assert batches == 3
