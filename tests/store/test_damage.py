"""Whatever happens to a file, nobody gets wrong bytes or an exception."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from isr_proxy.core.entry import (
    STATE_BYTES,
    State,
    decode_header,
    decode_meta,
    encode_header,
    encode_meta,
    state_offset,
)
from isr_proxy.core.settings import KIB, MIB, StoreSettings
from isr_proxy.store.base import Entry
from isr_proxy.store.disk import DiskStore
from tests.store.conftest import NOTHING, Clock, body_of, file_of, key, language, put, read

BODY = bytes(range(256)) * 3
BROTLI = b"brotli" * 20


async def _damage_then_read(where: float, flip: int, cut: bool) -> None:
    with tempfile.TemporaryDirectory() as root:
        config = StoreSettings(root, fsync=False, max_size=64 * MIB)
        await _fill(config)
        for path in (file_of(config, key()), file_of(config, key("/v"))):
            _damage(path, where, flip, cut)
        store = DiskStore.open(config, now=Clock())
        found = await store.lookup(key(), NOTHING)
        assert await body_of(found) in (BODY, None)
        assert not isinstance(found, Entry) or await body_of(found, "br") == BROTLI
        assert await read(store, key("/v"), language("de")[0]) in (b"de", None)
        await store.aclose()


async def _fill(config: StoreSettings) -> None:
    store = DiskStore.open(config, now=Clock())
    entry = await put(store, key(), BODY, encodings=[("br", BROTLI)])
    await store.update(entry, State(2, 2.0))
    await put(store, key("/v"), b"de", variant=language("de")[1])
    await store.aclose()


def _damage(path: Path, where: float, flip: int, cut: bool) -> None:
    raw = bytearray(path.read_bytes())
    position = int(where * len(raw))
    if cut:
        del raw[position:]
    else:
        raw[position] ^= flip
    path.write_bytes(raw)


@settings(max_examples=60, deadline=None)
@given(st.floats(0, 1, exclude_max=True), st.integers(1, 255), st.booleans())
def test_law_5_damage_anywhere_is_a_miss_or_harmless(where: float, flip: int, cut: bool) -> None:
    asyncio.run(_damage_then_read(where, flip, cut))


@pytest.mark.parametrize("is_whole", [True, False])
async def test_a_file_with_checksums_of_the_older_kind_is_read_and_verified(
    settings: StoreSettings, clock: Clock, *, is_whole: bool
) -> None:
    first = DiskStore.open(settings, now=clock)
    await put(first, key(), BODY)
    await first.aclose()
    path = file_of(settings, key())
    raw = path.read_bytes()
    header = decode_header(raw)
    page = decode_meta(raw[header.meta_offset :], header)
    older = blake2b(BODY, digest_size=16).digest()
    bodies = tuple(structs.replace(ref, checksum=older) for ref in page.bodies)
    written = encode_meta(structs.replace(page, bodies=bodies))
    head = encode_header(written, header.meta_offset)
    path.write_bytes(head + raw[len(head) : header.meta_offset] + written)
    if not is_whole:
        _damage(path, 0.5, 1, cut=False)
    second = DiskStore.open(settings, now=clock)
    assert await read(second, key()) == (BODY if is_whole else None)
    assert second.bad_entries == (not is_whole)
    await second.aclose()


@pytest.mark.parametrize("size", [100, 2 * MIB])
async def test_law_5_a_bad_file_is_moved_aside_and_counted(
    settings: StoreSettings, clock: Clock, size: int
) -> None:
    first = DiskStore.open(settings, now=clock)
    await put(first, key(), b"x" * size)
    await first.aclose()
    _damage(file_of(settings, key()), 0.5, 1, cut=False)
    second = DiskStore.open(settings, now=clock)
    assert await read(second, key()) is None
    assert (second.bad_entries, len(os.listdir(f"{settings.path}/bad"))) == (1, 1)
    assert await second.lookup(key(), NOTHING) is None
    assert (second.bad_entries, second.stat().entries) == (1, 1)
    await second.catalog.flush()
    assert second.stat().entries == 0
    await second.aclose()


async def test_law_8_bad_files_are_kept_boundedly(settings: StoreSettings, clock: Clock) -> None:
    store = DiskStore.open(settings, now=clock)
    for number in range(110):
        await put(store, key(f"/{number}"), b"x")
        _damage(file_of(settings, key(f"/{number}")), 0.99, 1, cut=False)
        assert await read(store, key(f"/{number}")) is None
    assert (store.bad_entries, len(os.listdir(f"{settings.path}/bad"))) == (110, 100)
    await store.aclose()


async def test_law_5_a_torn_state_falls_back_to_the_older(store: DiskStore, settings: StoreSettings) -> None:
    entry = await put(store, key(), b"x")
    entry = await store.update(entry, State(2, 22.0))
    await store.update(entry, State(3, 33.0))
    raw = bytearray(file_of(settings, key()).read_bytes())
    raw[state_offset(2) : state_offset(2) + STATE_BYTES // 2] = bytes(STATE_BYTES // 2)
    file_of(settings, key()).write_bytes(raw)
    found = await store.lookup(key(), NOTHING)
    assert isinstance(found, Entry)
    assert found.state.fetched_at == 22.0


COMMIT_FOR_EVER = """
import asyncio, sys, time
from isr_proxy.core.settings import StoreSettings
from isr_proxy.store.disk import DiskStore
from tests.store.conftest import key, language, put

async def main():
    store = DiskStore.open(StoreSettings(sys.argv[1], fsync=False), now=time.monotonic)
    for number in range(10**9):
        page = bytes([number % 256])
        size = 2_000_000 if number % 7 == 0 else 5_000
        await put(store, key(f"/{number % 5}"), page * size)
        await put(store, key("/v"), page * 100, variant=language(f"l{number % 3}")[1])
        if number == 0:
            print("ready", flush=True)  # something is stored, however slow the machine

asyncio.run(main())
"""


async def test_law_5_kill_9_leaves_whole_entries(settings: StoreSettings, clock: Clock) -> None:
    settings = replace(settings, max_size=10 * 1024 * MIB)
    for delay in (0.05, 0.11, 0.17, 0.23):
        await _run_and_kill(settings.path, delay)
        store = DiskStore.open(settings, now=clock)
        bodies = [await read(store, key(f"/{number}")) for number in range(5)]
        bodies += [await read(store, key("/v"), language(f"l{number}")[0]) for number in range(3)]
        assert all(body is None or body == body[:1] * len(body) for body in bodies)
        assert any(bodies)
        await store.catalog.wait_complete()
        assert (store.bad_entries, os.listdir(f"{settings.path}/tmp")) == (0, [])
        await store.aclose()


async def _run_and_kill(path: str, delay: float) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", COMMIT_FOR_EVER, path, stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    assert await child.stdout.readline() == b"ready\n"
    await asyncio.sleep(delay)
    child.send_signal(signal.SIGKILL)
    assert await child.wait() == -signal.SIGKILL


async def test_large_files_are_verified_before_the_first_byte_leaves(
    settings: StoreSettings, clock: Clock
) -> None:
    first = DiskStore.open(settings, now=clock)
    await put(first, key(), b"x" * 600 * KIB, encodings=[("br", b"y" * 600 * KIB)])
    await first.aclose()
    _damage(file_of(settings, key()), 0.9, 4, cut=False)
    second = DiskStore.open(settings, now=clock)
    assert await second.lookup(key(), NOTHING) is None
    await second.aclose()
