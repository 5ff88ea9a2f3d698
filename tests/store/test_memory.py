"""The hot tier holds what is asked for, boundedly, and never what is not true any more."""

from __future__ import annotations

import asyncio

import pytest

from isr_proxy.core.entry import State
from isr_proxy.core.purges import Purge, Scope, Selector
from isr_proxy.core.settings import KIB, MIB
from isr_proxy.store.base import Entry
from isr_proxy.store.disk import DiskStore
from isr_proxy.store.memory import MemoryTier
from tests.store.conftest import NOTHING, body_of, key, language, put, read


@pytest.fixture
def tier(store: DiskStore) -> MemoryTier:
    return MemoryTier(store, 1 * MIB)


async def test_what_was_committed_is_held(tier: MemoryTier) -> None:
    entry = await put(tier, key(), b"page")
    assert tier.peek(key(), NOTHING) is entry


async def test_what_was_looked_up_is_held(store: DiskStore) -> None:
    await put(store, key(), b"page")
    tier = MemoryTier(store, 1 * MIB)
    found = await tier.lookup(key(), NOTHING)
    assert tier.peek(key(), NOTHING) is found


async def test_law_8_memory_stays_under_its_limit(tier: MemoryTier) -> None:
    for number in range(100):
        await put(tier, key(f"/{number}"), bytes(50 * KIB))
        assert tier.size_bytes <= 1 * MIB
    assert 10 < len(tier) < 21


async def test_a_popular_page_outlives_a_crawler(tier: MemoryTier) -> None:
    entry = await put(tier, key("/popular"), b"x")
    assert tier.peek(key("/popular"), NOTHING) is entry
    for number in range(60):
        await put(tier, key(f"/{number}"), bytes(50 * KIB))
    assert tier.peek(key("/popular"), NOTHING) is entry


async def test_large_pages_are_left_to_the_disk(tier: MemoryTier) -> None:
    await put(tier, key(), bytes(2 * MIB))
    assert len(tier) == 0
    assert await read(tier, key()) == bytes(2 * MIB)


async def test_updates_and_rewrites_are_seen_at_once(tier: MemoryTier) -> None:
    entry = await put(tier, key(), b"page")
    await tier.update(entry, State(5, 5.0))
    found = tier.peek(key(), NOTHING)
    assert isinstance(found, Entry)
    assert found.state.sequence == 5
    await tier.rewrite(found, found.meta, State(6, 6.0))
    found = tier.peek(key(), NOTHING)
    assert isinstance(found, Entry)
    assert (found.state.sequence, await body_of(found)) == (6, b"page")


async def test_an_update_of_a_replaced_entry_is_not_seen(tier: MemoryTier) -> None:
    old = await put(tier, key(), b"old")
    new = await put(tier, key(), b"new")
    await tier.update(old, State(9, 9.0))
    assert tier.peek(key(), NOTHING) is new


async def test_law_2_what_was_removed_or_swept_is_forgotten(tier: MemoryTier) -> None:
    await tier.remove(await put(tier, key("/a"), b"x"))
    await put(tier, key("/b"), b"x", tags=("t",))
    assert await tier.sweep(Purge(5, 1.0, Selector(Scope.TAG, "t"))) == 1
    assert (len(tier), tier.size_bytes) == (0, 0)
    assert tier.peek(key("/b"), NOTHING) is None


async def test_variants_are_held_apart(tier: MemoryTier) -> None:
    (german, de), (english, en) = language("de"), language("en")
    first = await put(tier, key(), b"de", variant=de)
    second = await put(tier, key(), b"en", variant=en)
    assert (tier.peek(key(), german), tier.peek(key(), english)) == (first, second)
    plain = await put(tier, key(), b"plain")
    assert (tier.peek(key(), german), len(tier)) == (plain, 1)


async def test_a_lookup_overtaken_by_a_commit_is_not_held(tier: MemoryTier, store: DiskStore) -> None:
    await put(store, key(), b"old")
    tier._changed(key().digest, None)
    looking = asyncio.get_running_loop().create_task(tier.lookup(key(), NOTHING))
    await asyncio.sleep(0)
    new = await put(tier, key(), b"new")
    await looking
    assert tier.peek(key(), NOTHING) is new


async def test_law_2_the_tier_always_agrees_with_the_disk(tier: MemoryTier, store: DiskStore) -> None:
    async def change(number: int) -> None:
        entry = await put(tier, key(f"/{number % 3}"), b"%d" % number, sequence=60)
        await tier.update(entry, State(number, 1.0))
        if number % 5 == 0:
            await tier.remove(entry)

    await asyncio.gather(*(change(number) for number in range(60)))
    for number in range(3):
        path = key(f"/{number}")
        assert await body_of(_known(tier.peek(path, NOTHING))) == await read(store, path)


def _known(found: object) -> Entry | None:
    assert found is None or isinstance(found, Entry)
    return found
