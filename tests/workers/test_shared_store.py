"""One directory, two stores: what one changes, the other goes by."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from isr_proxy.core.entry import State
from isr_proxy.core.http import Fields
from isr_proxy.core.settings import KIB, MIB, StoreSettings
from isr_proxy.errors import StoreUnavailable, Superseded
from isr_proxy.run import company
from isr_proxy.run.foundations import doubt
from isr_proxy.store.base import PENDING, Entry
from isr_proxy.store.memory import MemoryTier
from tests.store.conftest import NOTHING, Clock, body_of, disk_usage, key, language, put, read
from tests.workers.seats import seated, stores


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path) -> StoreSettings:
    return StoreSettings(str(tmp_path / "store"), max_size=256 * MIB, fsync=False)


async def held(tier: MemoryTier, fields: Fields = NOTHING) -> bytes | None:
    """Return what can be had without waiting."""
    found = tier.peek(key(), fields)
    return None if found is PENDING else await body_of(found)


def used(settings: StoreSettings) -> int:
    """Return what the directory takes, while files come and go."""
    while True:
        try:
            return disk_usage(Path(settings.path))
        except FileNotFoundError:
            continue


async def test_a_tier_notices_what_another_worker_has_stored(settings: StoreSettings, clock: Clock) -> None:
    async with seated() as row, stores(row, settings, clock) as (one, other):
        tier = MemoryTier(one, 1 * MIB)
        await put(tier, key(), b"old")
        assert await held(tier) == b"old"
        await put(other, key(), b"new", sequence=2)
        assert await read(tier, key()) == b"new"
        assert await held(tier) == b"new"


async def test_what_one_worker_found_absent_is_found_once_another_has_stored_it(
    settings: StoreSettings, clock: Clock
) -> None:
    async with seated() as row, stores(row, settings, clock) as (one, other):
        assert one.peek(key(), NOTHING) is None
        await put(other, key(), b"theirs", sequence=5)
        assert await read(one, key()) == b"theirs"
        with pytest.raises(Superseded):
            await put(one, key(), b"late", sequence=1)


async def test_a_tier_notices_what_another_worker_has_freshened_and_removed(
    settings: StoreSettings, clock: Clock
) -> None:
    async with seated() as row, stores(row, settings, clock) as (one, other):
        tier = MemoryTier(one, 1 * MIB)
        await put(tier, key(), b"page")
        theirs = await other.lookup(key(), NOTHING)
        assert isinstance(theirs, Entry)
        await other.update(theirs, State(7, 7.0))
        found = await tier.lookup(key(), NOTHING)
        assert isinstance(found, Entry)
        assert found.state.sequence == 7
        await other.remove(theirs)
        assert tier.peek(key(), NOTHING) is None
        assert len(tier) == 0


async def test_a_tier_notices_that_a_page_varies_now_and_that_it_does_not_any_more(
    settings: StoreSettings, clock: Clock
) -> None:
    german, variant = language("de")
    async with seated() as row, stores(row, settings, clock) as (one, other):
        tier = MemoryTier(one, 1 * MIB)
        await put(tier, key(), b"plain")
        await put(other, key(), b"deutsch", variant=variant, sequence=2)
        assert await read(tier, key(), german) == b"deutsch"
        assert await held(tier, german) == b"deutsch"
        await put(other, key(), b"plain again", sequence=3)
        assert await read(tier, key(), german) == b"plain again"
        assert await held(tier, german) == b"plain again"
        entry = tier.peek(key(), german)
        assert isinstance(entry, Entry)
        assert tier.peek(key(), german) is entry, "it is held, so nobody looks at the disk again"


async def test_the_late_writer_of_another_worker_loses(settings: StoreSettings, clock: Clock) -> None:
    async with seated() as row, stores(row, settings, clock) as (one, other):
        await put(one, key(), b"young", sequence=9)
        with pytest.raises(Superseded):
            await put(other, key(), b"old", sequence=8)
        assert await read(other, key()) == b"young"


async def test_variants_of_two_workers_are_both_there(settings: StoreSettings, clock: Clock) -> None:
    async with seated() as row, stores(row, settings, clock) as (one, other):
        words = [f"l{number}" for number in range(12)]
        await asyncio.gather(
            *(
                put((one, other)[number % 2], key(), word.encode(), variant=language(word)[1])
                for number, word in enumerate(words)
            )
        )
        for word in words:
            assert await read(one, key(), language(word)[0]) == word.encode()


async def test_the_catalog_has_what_lies_there_whoever_was_last(
    settings: StoreSettings, clock: Clock
) -> None:
    async with seated() as row, stores(row, settings, clock) as (one, other):
        for number in range(20):  # each records what it did; who writes it down first is chance
            store = (one, other)[number % 2]
            await put(store, key(), b"x" * number * 100, sequence=number + 1, tags=(f"t{number}",))
        await one.catalog.flush()
        await other.catalog.flush()
        (found,) = await one.catalog.at("/page", None)
        assert (found.body_bytes, found.tags) == (1900, ("t19",))
        assert one.catalog.totals == other.catalog.totals
        assert one.catalog.totals.entries == 1
        await other.drop(key().digest)
        await one.catalog.flush()
        assert await one.catalog.at("/page", None) == []
        assert one.catalog.totals.size_bytes == 0


async def test_an_answer_includes_what_others_have_not_written_down_yet(
    settings: StoreSettings, clock: Clock
) -> None:
    async with seated(3) as row, stores(row, settings, clock) as joined:
        for number, store in enumerate(joined):
            await put(store, key(f"/{number}"), b"x")
        listing = await joined[0].catalog.listing()
        assert [found.path for found in listing.rows] == ["/0", "/1", "/2"]


async def test_law_8_all_together_stay_under_max_size(settings: StoreSettings, clock: Clock) -> None:
    small = replace(settings, max_size=2 * MIB)
    async with seated(3) as row, stores(row, small, clock) as joined:

        async def fill(number: int) -> None:
            for page in range(150):
                clock.now += 1
                await put(joined[number], key(f"/{number}/{page}"), b"x" * 12 * KIB)
                if page % 30 == 0:
                    assert used(settings) <= 2 * MIB

        await asyncio.gather(*(fill(number) for number in range(3)))
        assert used(settings) <= 2 * MIB
        assert joined[0].stat().entries > 50
        clock.now += 1
        await put(joined[2], key("/last"), b"x" * 12 * KIB)
        assert await read(joined[1], key("/last")) is not None


async def test_what_somebody_who_died_has_not_written_down_is_found_by_the_first(
    settings: StoreSettings, clock: Clock
) -> None:
    async with seated() as row, stores(row, settings, clock) as (one, other):
        await put(other, key(), b"page")
        other.catalog._pending.clear()  # as a kill would
        doubt(row.board)
        assert not one.catalog.is_complete
        one.fill_catalog()
        await asyncio.wait_for(one.catalog.wait_complete(), 10.0)
        assert [found.path for found in await one.catalog.at("/page", None)] == ["/page"]


async def test_a_catalog_that_is_replaced_is_found_by_the_others(
    settings: StoreSettings, clock: Clock
) -> None:
    async with seated() as row, stores(row, settings, clock) as (one, other):
        await put(other, key("/before"), b"page")
        await other.catalog.flush()
        row.board.tally[0] += 1
        await one.catalog.reopen(f"{settings.path}/catalog.sqlite")
        await put(other, key("/after"), b"page")
        await other.catalog.flush()
        one.fill_catalog()
        await asyncio.wait_for(one.catalog.wait_complete(), 10.0)
        rows = (await one.catalog.listing()).rows
        assert [found.path for found in rows] == ["/after", "/before"]
        assert other.catalog.totals.entries == 2


async def test_a_key_that_nobody_lets_go_of_costs_its_page_and_no_more(
    settings: StoreSettings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(company, "_LOCK_SECONDS", 0.05)
    async with seated() as row, stores(row, settings, clock) as (one, other):
        entry = await put(one, key(), b"page")
        await other.company.lock(key().digest)
        with pytest.raises(StoreUnavailable):
            await put(one, key(), b"new", sequence=2)
        changed = await one.update(entry, State(5, 5.0))
        assert changed.state.sequence == 5  # for whoever asked
        await put(one, key("/other"), b"page")
        other.company.unlock(key().digest)
        await put(one, key(), b"new", sequence=2)
        assert await read(other, key()) == b"new"
