"""What the hot tier says it takes is what it takes: `store.memory` means bytes of this process."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Sequence

import msgspec
import pytest

from isr_proxy.core.entry import State
from isr_proxy.core.http import Line
from isr_proxy.core.key import PLAIN, Key
from isr_proxy.core.settings import KIB, MIB
from isr_proxy.store.disk import DiskStore
from isr_proxy.store.memory import MemoryTier
from tests.store.conftest import NOTHING, meta

ENTRIES = 300
LINES: tuple[Line, ...] = (
    (b"Content-Type", b"text/html; charset=utf-8"),
    (b"ETag", b'"abcdef0123456789"'),
    (b"Date", b"Thu, 26 Nov 2026 01:00:44 GMT"),
    (b"Cache-Control", b"s-maxage=60, stale-while-revalidate=3600"),
    (b"X-Powered-By", b"Next.js"),
    (b"Link", b"</a.css>; rel=preload; as=style"),
)
COPIES = (("br", bytes(2 * KIB)), ("gzip", bytes(3 * KIB)))


def page(number: int) -> Key:
    return Key("http", "www.site.test", f"/some/path/{number}")


async def fill(store: DiskStore, size: int, lines: int, copies: Sequence[tuple[str, bytes]]) -> None:
    for number in range(ENTRIES):
        async with store.begin(page(number), PLAIN) as writer:
            await writer.write(bytes(size))
            stored = msgspec.structs.replace(meta(page(number), tags=("tag",)), lines=LINES[:lines])
            await writer.commit(stored, State(1, 1.0), copies)


@pytest.mark.parametrize(
    ("size", "lines", "copies"),
    [(1 * KIB, 0, ()), (1 * KIB, 6, ()), (10 * KIB, 6, ()), (10 * KIB, 6, COPIES)],
)
async def test_law_8_a_held_entry_weighs_what_it_takes(
    store: DiskStore, size: int, lines: int, copies: Sequence[tuple[str, bytes]]
) -> None:
    await fill(store, size, lines, copies)
    tier = MemoryTier(store, 64 * MIB)
    peeker = store._shelf._peeker
    peeker.peek(page(0).digest)  # what is made once is there
    peeker._max_files = 0
    gc.collect()
    tracemalloc.start()
    try:
        for number in range(ENTRIES):
            tier.peek(page(number), NOTHING)
        store.catalog._noted.clear()
        store.catalog._served.clear()
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert len(tier) == ENTRIES
    assert 0.95 < tier.size_bytes / taken < 1.1
