"""A growing body: many readers, each at its own pace, in bounded memory."""

from __future__ import annotations

import asyncio
import gc
import os
import tracemalloc

import pytest

from isr_proxy.core.entry import State, checksum
from isr_proxy.core.key import PLAIN
from isr_proxy.core.settings import KIB, MIB, StoreSettings
from isr_proxy.errors import EntryTooLarge, OriginReset, StoreError, VisitorGone
from isr_proxy.store.base import BodyStream, Writer
from isr_proxy.store.disk import DiskStore
from tests.store.conftest import Clock, key, meta, read

CHUNK = 64 * KIB


async def _all(reader: BodyStream) -> bytes:
    return b"".join([chunk async for chunk in reader])


async def _write(writer: Writer, body: bytes) -> None:
    for start in range(0, len(body), CHUNK):
        await writer.write(body[start : start + CHUNK])


async def test_readers_get_every_byte_whenever_they_come(store: DiskStore) -> None:
    body = os.urandom(3 * MIB)
    async with store.begin(key(), PLAIN) as writer, asyncio.TaskGroup() as group:
        early = group.create_task(_all(writer.reader()))
        await _write(writer, body[: 2 * MIB])
        middle = group.create_task(_all(writer.reader()))
        await _write(writer, body[2 * MIB :])
        await writer.finish()
        late = group.create_task(_all(writer.reader()))
        await writer.commit(meta(key()), State(1, 1.0))
    assert early.result() == middle.result() == late.result() == body


async def test_bytes_are_there_before_the_body_is_complete(store: DiskStore) -> None:
    async with store.begin(key(), PLAIN) as writer:
        reader = writer.reader()
        await writer.write(b"first")
        assert await anext(aiter(reader)) == b"first"


async def test_the_checksum_is_known_before_the_commit(store: DiskStore) -> None:
    for body in (b"", b"small", os.urandom(3 * MIB)):
        async with store.begin(key(), PLAIN) as writer:
            await _write(writer, body)
            await writer.finish()
            assert writer.checksum == checksum(body)
            entry = await writer.commit(meta(key()), State(1, 1.0))
            assert entry.meta.body_checksum == writer.checksum


async def test_readers_raise_what_the_origin_failed_with_after_what_came(store: DiskStore) -> None:
    writer = store.begin(key(), PLAIN)
    reader = writer.reader()
    await writer.write(b"half")
    writer.fail(OriginReset("origin-reset", "cut"))
    assert await anext(reader) == b"half"
    with pytest.raises(OriginReset):
        await anext(reader)
    with pytest.raises(StoreError):
        await writer.commit(meta(key()), State(1, 1.0))


async def test_readers_end_well_when_a_finished_body_is_not_committed(store: DiskStore) -> None:
    async with store.begin(key(), PLAIN) as writer:
        reader = writer.reader()
        await writer.write(b"same as before")
        await writer.finish()
    assert await _all(reader) == b"same as before"


async def test_law_8_a_slow_reader_costs_no_memory_and_no_time(store: DiskStore) -> None:
    tracemalloc.start()
    async with store.begin(key(), PLAIN) as writer:
        reader = writer.reader()
        for _ in range(32 * MIB // CHUNK):
            await writer.write(bytes(CHUNK))
        await writer.commit(meta(key()), State(1, 1.0))
    assert tracemalloc.get_traced_memory()[1] < 8 * MIB
    tracemalloc.stop()
    assert sum([len(chunk) async for chunk in reader]) == 32 * MIB


async def test_law_8_a_large_page_is_streamed_in_bounded_memory(store: DiskStore) -> None:
    async with store.begin(key(), PLAIN) as writer:
        for _ in range(32 * MIB // CHUNK):
            await writer.write(bytes(CHUNK))
        entry = await writer.commit(meta(key()), State(1, 1.0))
    tracemalloc.start()
    assert sum([len(chunk) async for chunk in entry.bodies.stream("identity")]) == 32 * MIB
    assert tracemalloc.get_traced_memory()[1] < 4 * MIB
    tracemalloc.stop()


async def test_law_8_a_body_beyond_max_entry_is_refused_and_the_chunk_not_taken(
    settings: StoreSettings, clock: Clock
) -> None:
    store = DiskStore.open(StoreSettings(settings.path, max_entry=100), now=clock)
    async with store.begin(key(), PLAIN) as writer:
        await writer.write(b"x" * 100)
        with pytest.raises(EntryTooLarge):
            await writer.write(b"y")
        assert writer.size_bytes == 100
    await store.aclose()


async def test_an_abandoned_body_still_reaches_its_reader_and_is_not_stored(store: DiskStore) -> None:
    body = os.urandom(8 * MIB)
    async with store.begin(key(), PLAIN) as writer:
        receiving = asyncio.get_running_loop().create_task(_all(writer.reader()))
        await _write(writer, body[: 2 * MIB])
        writer.abandon()
        await _write(writer, body[2 * MIB :])
        await writer.finish()
        assert await receiving == body
        with pytest.raises(EntryTooLarge):
            await writer.commit(meta(key()), State(1, 1.0))
    assert await read(store, key()) is None


async def test_law_8_an_abandoned_body_waits_for_its_slowest_reader(store: DiskStore) -> None:
    async with store.begin(key(), PLAIN) as writer:
        reader = writer.reader()
        writer.abandon()
        filling = asyncio.get_running_loop().create_task(_write(writer, bytes(4 * MIB)))
        for _ in range(200):
            await asyncio.sleep(0)
        assert not filling.done()
        assert writer.size_bytes < 2 * MIB
        while not filling.done():
            await anext(reader)
        assert writer.size_bytes == 4 * MIB


async def test_an_abandoned_body_without_readers_ends(store: DiskStore) -> None:
    async with store.begin(key(), PLAIN) as writer:
        reader = writer.reader()
        writer.abandon()
        await writer.write(b"x")
        filling = asyncio.get_running_loop().create_task(_write(writer, bytes(4 * MIB)))
        await asyncio.sleep(0)
        del reader
        gc.collect()
        with pytest.raises(VisitorGone):
            await filling


async def test_readers_of_a_part_end_with_it_while_the_body_grows(store: DiskStore) -> None:
    body = os.urandom(3 * MIB)
    async with store.begin(key(), PLAIN) as writer, asyncio.TaskGroup() as group:
        spilled = group.create_task(_all(writer.reader(5, 2 * MIB)))
        far = group.create_task(_all(writer.reader(2 * MIB + 1, 2 * MIB + 9)))
        await _write(writer, body[: 2 * MIB + 2 * CHUNK])
        assert await spilled == body[5 : 2 * MIB]
        assert await far == body[2 * MIB + 1 : 2 * MIB + 9]
        assert await _all(writer.reader(7, 7)) == b""
        assert await _all(writer.reader(7, 8)) == body[7:8]


async def test_law_8_an_abandoned_body_does_not_wait_for_who_reads_further_on(store: DiskStore) -> None:
    body = os.urandom(8 * MIB)
    async with store.begin(key(), PLAIN) as writer:
        reader = writer.reader(7 * MIB, 7 * MIB + 10)
        writer.abandon()
        await _write(writer, body[: 4 * MIB])
        with pytest.raises(StoreError):
            writer.reader(1)
        receiving = asyncio.get_running_loop().create_task(_all(reader))
        await _write(writer, body[4 * MIB :])
        assert await receiving == body[7 * MIB : 7 * MIB + 10]
