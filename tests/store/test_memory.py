"""The hot tier holds what is asked for, boundedly, and never what is not true any more."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from isr_proxy.core.entry import State
from isr_proxy.core.purges import Purge, Scope, Selector
from isr_proxy.core.settings import KIB, MIB, StoreSettings
from isr_proxy.store.base import Entry
from isr_proxy.store.disk import DiskStore
from isr_proxy.store.memory import MemoryTier
from isr_proxy.store.opened import ResidentBodies
from isr_proxy.store.writing import overwrite_state
from tests.store.conftest import NOTHING, body_of, file_of, key, language, put, read


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
        entry = await put(tier, key(f"/{number % 3}"), b"%d" % number)
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


# --- told to who keeps what was found here ---


@pytest.fixture
def told(tier: MemoryTier) -> list[bytes]:
    """Return the names that a listener of the tier has heard."""
    names: list[bytes] = []
    tier.on_change(names.append)
    return names


async def test_a_listener_hears_of_every_change_of_what_is_held(tier: MemoryTier, told: list[bytes]) -> None:
    entry = await put(tier, key(), b"page")
    assert (tier.holds(entry), told) == (True, [])
    changes: list[Callable[[Entry], Awaitable[object]]] = [
        lambda held: tier.update(held, State(5, 5.0)),
        lambda held: tier.rewrite(held, held.meta, State(6, 6.0)),
        lambda held: put(tier, key(), b"other", sequence=7),
        tier.remove,
    ]
    for number, change in enumerate(changes):
        held = tier.peek(key(), NOTHING)
        assert isinstance(held, Entry)
        assert tier.holds(held)
        await change(held)
        assert told == [key().digest] * (number + 1)
        assert not tier.holds(held)


async def test_a_listener_hears_of_what_is_swept(tier: MemoryTier, told: list[bytes]) -> None:
    await put(tier, key("/a"), b"x", tags=("t",))
    await put(tier, key("/b"), b"x")
    await tier.sweep(Purge(5, 1.0, Selector(Scope.TAG, "t")))
    assert told == [key("/a").digest]


async def test_a_listener_hears_of_what_is_let_go_for_room(tier: MemoryTier, told: list[bytes]) -> None:
    held = [await put(tier, key(f"/{number}"), bytes(50 * KIB)) for number in range(30)]
    before = {entry.key.digest for entry in held if tier.holds(entry)}
    for _ in range(2):
        await put(tier, key("/new"), bytes(50 * KIB))
    after = {entry.key.digest for entry in held if tier.holds(entry)}
    assert told
    assert set(told) == before - after


async def test_a_listener_hears_of_variants_by_name(tier: MemoryTier, told: list[bytes]) -> None:
    (german, de), (english, en) = language("de"), language("en")
    await put(tier, key(), b"de", variant=de)
    await put(tier, key(), b"en", variant=en)
    await put(tier, key(), b"de again", variant=de)
    assert told == [key().digest + de.digest]
    await put(tier, key(), b"plain")
    assert sorted(told[1:]) == sorted([key().digest + de.digest, key().digest + en.digest])
    assert tier.peek(key(), german) is tier.peek(key(), english)


async def test_a_lookup_that_finds_the_same_changes_nothing(tier: MemoryTier, told: list[bytes]) -> None:
    entry = await put(tier, key(), b"page")
    await tier.lookup(key(), NOTHING)
    assert (tier.peek(key(), NOTHING) is entry, told) == (True, [])


async def test_a_lookup_that_finds_what_another_process_wrote_replaces_it(
    tier: MemoryTier, told: list[bytes], settings: StoreSettings
) -> None:
    entry = await put(tier, key(), b"page")
    file_id = entry.bodies.file_id if isinstance(entry.bodies, ResidentBodies) else None
    assert file_id is not None
    overwrite_state(str(file_of(settings, key())), file_id, State(8, 8.0))
    found = await tier.lookup(key(), NOTHING)
    assert (tier.peek(key(), NOTHING) is found, told) == (True, [key().digest])


# --- what is asked for most ---


async def test_a_page_keeps_its_popularity_when_it_is_regenerated(tier: MemoryTier) -> None:
    await put(tier, key("/popular"), b"x")
    for number in range(40):
        tier.peek(key("/popular"), NOTHING)
        entry = await put(tier, key("/popular"), b"%d" % number)
    for number in range(60):
        for _ in range(3):
            await put(tier, key(f"/{number}"), bytes(50 * KIB))
    assert tier.holds(entry)


async def test_hits_served_elsewhere_can_be_credited(tier: MemoryTier) -> None:
    entry = await put(tier, key("/popular"), bytes(50 * KIB))
    tier.credit(entry, 100)
    for number in range(60):
        for _ in range(20):
            await put(tier, key(f"/{number}"), bytes(50 * KIB))
    assert tier.holds(entry)
    await tier.remove(entry)
    tier.credit(entry, 100)
    assert tier.peek(key("/popular"), NOTHING) is None


async def test_a_large_page_is_read_into_memory_once_it_is_asked_for_again(
    store: DiskStore, settings: StoreSettings
) -> None:
    await put(store, key(), b"x" * 300 * KIB, encodings=[("br", b"brotli")])
    tier = MemoryTier(store, 1 * MIB)
    tier.peek(key(), NOTHING)
    await _loaded(tier)
    assert len(tier) == 0
    tier.peek(key(), NOTHING)
    await _loaded(tier)
    found = tier.peek(key(), NOTHING)
    assert isinstance(found, Entry)
    assert (found.bodies.resident("identity"), found.bodies.resident("br")) == (b"x" * 300 * KIB, b"brotli")


@pytest.mark.parametrize("steps", [0, 1])
async def test_law_2_a_large_page_that_changed_while_it_was_read_is_not_held(
    store: DiskStore, steps: int
) -> None:
    await put(store, key(), b"o" * 300 * KIB)
    tier = MemoryTier(store, 1 * MIB)
    for _ in range(2):
        found = tier.peek(key(), NOTHING)
    assert tier._loading is not None
    for _ in range(steps):
        await asyncio.sleep(0)
    tier._changed(key().digest, None)
    await _loaded(tier)
    assert isinstance(found, Entry)
    assert (len(tier), await body_of(found)) == (0, b"o" * 300 * KIB)


async def _loaded(tier: MemoryTier) -> None:
    if tier._loading is not None:
        await tier._loading


async def test_without_memory_everything_is_read_from_the_disk(store: DiskStore) -> None:
    tier = MemoryTier(store, 0)
    await put(tier, key(), b"page")
    for _ in range(3):
        assert await body_of(_known(tier.peek(key(), NOTHING))) == await read(tier, key()) == b"page"
    assert (len(tier), tier.size_bytes, store._listeners) == (0, 0, [])
