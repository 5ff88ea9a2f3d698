"""The disk store keeps what it was given, whole."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from isr_proxy.core.entry import State
from isr_proxy.core.http import Fields
from isr_proxy.core.key import PLAIN, variant_of
from isr_proxy.core.settings import KIB, MIB, StoreSettings
from isr_proxy.errors import StoreError, StoreInUse, TooManyVariants
from isr_proxy.store.base import Entry, VaryMiss
from isr_proxy.store.disk import DiskStore
from tests.store.conftest import NOTHING, Clock, body_of, disk_usage, file_of, key, language, meta, put, read


@pytest.mark.parametrize("size", [0, 1, 60 * KIB, 200 * KIB, 900 * KIB, 5 * MIB])
async def test_round_trip(store: DiskStore, size: int) -> None:
    body = os.urandom(size)
    await put(store, key(), body, encodings=[("br", b"br" * 10), ("gzip", b"gz")])
    found = await store.lookup(key(), NOTHING)
    assert await body_of(found) == body
    assert await body_of(found, "br") == b"br" * 10
    assert isinstance(found, Entry)
    assert [ref.encoding for ref in found.meta.bodies] == ["identity", "br", "gzip"]
    assert found.state == State(1, 1.0)


async def test_commit_returns_the_entry_it_stored(store: DiskStore) -> None:
    entry = await put(store, key(), b"x" * 2 * MIB)
    assert await body_of(entry) == b"x" * 2 * MIB
    assert entry.meta.body_bytes == 2 * MIB


async def test_ranges_of_a_large_body(store: DiskStore) -> None:
    body = os.urandom(2 * MIB)
    found = await put(store, key(), body)
    piece = b"".join([chunk async for chunk in found.bodies.stream("identity", 1_000_000, 1_500_000)])
    assert piece == body[1_000_000:1_500_000]


async def test_law_5_nothing_remains_of_a_writer_that_did_not_commit(
    store: DiskStore, settings: StoreSettings
) -> None:
    async with store.begin(key(), PLAIN) as writer:
        await writer.write(b"x" * 3 * MIB)
        assert len(os.listdir(f"{settings.path}/tmp")) == 1
    assert await read(store, key()) is None
    assert os.listdir(f"{settings.path}/tmp") == []


async def test_law_5_readers_see_the_old_page_or_the_new_one(store: DiskStore) -> None:
    pages = [bytes([number]) * 300 * KIB for number in range(12)]
    await put(store, key(), pages[0])
    seen: list[bytes | None] = []

    async def look() -> None:
        while len(seen) < 60:
            seen.append(await read(store, key()))

    async with asyncio.TaskGroup() as group:
        group.create_task(look())
        for page in pages:
            await put(store, key(), page)
    assert set(seen) <= set(pages)


async def test_an_open_entry_stays_readable_when_it_is_replaced_and_removed(store: DiskStore) -> None:
    old = await put(store, key(), b"o" * 3 * MIB)
    stream = old.bodies.stream("identity")
    first = await anext(stream)
    await store.remove(await put(store, key(), b"n" * 3 * MIB))
    assert first + b"".join([chunk async for chunk in stream]) == b"o" * 3 * MIB


async def test_law_5_a_key_that_shares_the_digest_is_a_miss(
    store: DiskStore, settings: StoreSettings
) -> None:
    await put(store, key("/one"), b"one")
    other = file_of(settings, key("/two"))
    other.parent.mkdir(exist_ok=True)
    file_of(settings, key("/one")).rename(other)
    assert await read(store, key("/two")) is None


async def test_update_writes_the_state_and_not_the_body(store: DiskStore, settings: StoreSettings) -> None:
    entry = await put(store, key(), b"body")
    inode = file_of(settings, key()).stat().st_ino
    entry = await store.update(entry, State(7, 50.0, failures=2, last_error="origin-status"))
    await store.update(entry, replace(entry.state, retry_at=99.0))
    found = store.peek(key(), NOTHING)
    assert isinstance(found, Entry)
    assert (found.state.sequence, found.state.retry_at, found.state.count) == (7, 99.0, 2)
    assert file_of(settings, key()).stat().st_ino == inode


async def test_update_leaves_a_replaced_entry_alone(store: DiskStore) -> None:
    old = await put(store, key(), b"old")
    await put(store, key(), b"new", sequence=5)
    returned = await store.update(old, State(9, 9.0))
    found = await store.lookup(key(), NOTHING)
    assert isinstance(found, Entry)
    assert (returned.state.sequence, found.state.sequence) == (9, 5)


@pytest.mark.parametrize("size", [10, 3 * MIB])
async def test_rewrite_keeps_the_bodies(store: DiskStore, size: int) -> None:
    entry = await put(store, key(), b"x" * size, encodings=[("br", b"brotli")])
    fresh = msgspec.structs.replace(entry.meta, etag='"new"', lines=((b"X-Long", b"y" * 5000),))
    rewritten = await store.rewrite(entry, fresh, State(3, 3.0))
    found = await store.lookup(key(), NOTHING)
    assert isinstance(found, Entry)
    assert (found.meta, found.state.sequence) == (rewritten.meta, 3)
    assert await body_of(found) == await body_of(rewritten) == b"x" * size
    assert await body_of(found, "br") == b"brotli"


async def test_remove_spares_an_entry_that_came_later(store: DiskStore) -> None:
    old = await put(store, key(), b"old")
    await put(store, key(), b"new")
    await store.remove(old)
    assert await read(store, key()) == b"new"


async def test_known_even_when_nothing_would_be_found(store: DiskStore) -> None:
    assert not await store.known(key())
    await put(store, key(), b"x")
    assert await store.known(key())


# --- variants ---


async def test_variants_are_told_apart(store: DiskStore) -> None:
    for value in ("de", "en"):
        await put(store, key(), value.encode(), variant=language(value)[1])
    assert await read(store, key(), language("de")[0]) == b"de"
    assert await read(store, key(), language("en")[0]) == b"en"
    assert await store.lookup(key(), language("fr")[0]) == VaryMiss(("accept-language",))


async def test_law_8_variants_are_capped(settings: StoreSettings, clock: Clock) -> None:
    store = DiskStore.open(replace(settings, max_variants=3), now=clock)
    for value in "abc":
        await put(store, key(), b"x", variant=language(value)[1])
    assert not await store.has_room(key(), language("d")[1])
    with pytest.raises(TooManyVariants):
        await put(store, key(), b"x", variant=language("d")[1])
    await put(store, key(), b"y", variant=language("a")[1])
    assert await read(store, key(), language("a")[0]) == b"y"
    await store.aclose()


async def test_law_8_an_evicted_variant_leaves_room(settings: StoreSettings, clock: Clock) -> None:
    store = DiskStore.open(replace(settings, max_variants=1), now=clock)
    await store.remove(await put(store, key(), b"x", variant=language("a")[1]))
    assert not await store.known(key())
    await put(store, key(), b"y", variant=language("b")[1])
    assert await read(store, key(), language("b")[0]) == b"y"
    await store.aclose()


async def test_a_page_without_vary_replaces_all_variants(store: DiskStore, settings: StoreSettings) -> None:
    fields, variant = language("de")
    await put(store, key(), b"de", variant=variant)
    await put(store, key(), b"plain")
    assert await read(store, key(), fields) == b"plain"
    assert not file_of(settings, key(), variant).exists()


async def test_other_names_replace_the_old_variants(store: DiskStore, settings: StoreSettings) -> None:
    fields, old = language("de")
    await put(store, key(), b"de", variant=old)
    await put(store, key(), b"by agent", variant=variant_of(["user-agent"], Fields()))
    assert await read(store, key(), fields) == b"by agent"
    assert not file_of(settings, key(), old).exists()


async def test_variants_stored_at_once_are_all_there(store: DiskStore) -> None:
    values = [f"l{number}" for number in range(12)]
    await asyncio.gather(*(put(store, key(), v.encode(), variant=language(v)[1]) for v in values))
    assert [await read(store, key(), language(v)[0]) for v in values] == [v.encode() for v in values]


# --- restart ---


async def test_law_7_a_restart_finds_everything(settings: StoreSettings, clock: Clock) -> None:
    first = DiskStore.open(settings, now=clock)
    entry = await put(first, key(), b"page", encodings=[("br", b"b")])
    await put(first, key("/v"), b"de", variant=language("de")[1])
    await first.update(entry, State(4, 77.0, stale_at=12.0, retry_at=90.0, failed_at=80.0, failures=3))
    await first.aclose()
    second = DiskStore.open(settings, now=clock)
    found = await second.lookup(key(), NOTHING)
    assert isinstance(found, Entry)
    assert (found.state.fetched_at, found.state.retry_at, found.state.stale_at) == (77.0, 90.0, 12.0)
    assert await read(second, key("/v"), language("de")[0]) == b"de"
    assert (second.stat().entries, second.catalog.is_complete) == (2, True)
    await second.aclose()


async def test_law_5_a_start_empties_tmp(settings: StoreSettings, clock: Clock) -> None:
    await DiskStore.open(settings, now=clock).aclose()
    file_of(settings, key()).parents[2].joinpath("tmp", "123-4").write_bytes(b"torn")
    store = DiskStore.open(settings, now=clock)
    assert os.listdir(f"{settings.path}/tmp") == []
    await store.aclose()


async def test_a_directory_has_one_holder(store: DiskStore, settings: StoreSettings, clock: Clock) -> None:
    with pytest.raises(StoreInUse, match=str(os.getpid())):
        DiskStore.open(settings, now=clock)


async def test_a_commit_is_carried_through_when_its_task_is_cancelled(
    settings: StoreSettings, clock: Clock
) -> None:
    first = DiskStore.open(settings, now=clock)
    writer = first.begin(key(), PLAIN)
    await writer.write(b"page")
    task = asyncio.get_running_loop().create_task(writer.commit(meta(key()), State(1, 1.0)))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await first.aclose()
    second = DiskStore.open(settings, now=clock)
    assert await read(second, key()) == b"page"
    await second.aclose()


# --- eviction ---


async def test_law_8_the_disk_stays_under_max_size(settings: StoreSettings, clock: Clock) -> None:
    store = DiskStore.open(replace(settings, max_size=2 * MIB), now=clock)
    for number in range(3000):
        clock.now += 1
        await put(store, key(f"/{number}"), b"x" * 1500, tags=("all", f"n{number}"))
        if number % 250 == 0:
            assert disk_usage(Path(settings.path)) <= 2 * MIB
    await store.catalog.flush()
    assert disk_usage(Path(settings.path)) <= 2 * MIB
    assert store.stat().entries > 50
    assert await read(store, key("/2999")) is not None
    await store.aclose()
    assert disk_usage(Path(settings.path)) <= 2 * MIB


async def test_the_least_recently_served_goes_first(store: DiskStore, clock: Clock) -> None:
    for path in ("/a", "/b", "/c"):
        clock.now += 100
        await put(store, key(path), b"x")
    clock.now += 100
    found = store.peek(key("/a"), NOTHING)
    assert isinstance(found, Entry)
    store.touch(found)
    victims = [name for name, _ in await store.catalog.victims(8192)]
    assert victims == [key("/b").digest, key("/c").digest]


async def test_an_entry_larger_than_the_store_is_refused(settings: StoreSettings, clock: Clock) -> None:
    store = DiskStore.open(replace(settings, max_size=2 * MIB), now=clock)
    await put(store, key("/small"), b"x")
    with pytest.raises(StoreError, match="max_size"):
        await put(store, key(), b"x" * 900 * KIB, encodings=[("br", b"x" * 2 * MIB)])
    assert await read(store, key("/small")) == b"x"
    await store.aclose()
