"""Who may change a key's files: one at a time, and nothing is left of a lock that nobody wants."""

from __future__ import annotations

import asyncio

import pytest

from isr_proxy.errors import StoreUnavailable
from isr_proxy.store.company import Alone
from isr_proxy.store.key_locks import KeyLocks

KEY, OTHER = b"k" * 16, b"o" * 16


class Taken(Alone):
    """Another process has every key."""

    async def lock(self, digest: bytes) -> None:
        raise StoreUnavailable("another process holds the key")


async def test_a_key_is_held_by_one_at_a_time_in_order() -> None:
    locks, order = KeyLocks(Alone()), list[str]()

    async def hold(name: str, digest: bytes) -> None:
        async with locks.of(digest):
            order.append(f"{name} in")
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            order.append(f"{name} out")

    await asyncio.gather(hold("a", KEY), hold("b", KEY), hold("other", OTHER))
    assert [each for each in order if "other" not in each] == ["a in", "a out", "b in", "b out"]
    assert order.index("other in") < order.index("a out")
    assert locks._locks == {}


async def test_nothing_is_left_of_who_stops_waiting() -> None:
    locks = KeyLocks(Alone())

    async def hold() -> None:
        async with locks.of(KEY):
            pass

    async with locks.of(KEY):
        waiting = [asyncio.ensure_future(hold()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[1].cancel()
        await asyncio.sleep(0)
        assert len(locks._locks) == 1
    await asyncio.gather(*waiting, return_exceptions=True)
    assert [each.cancelled() for each in waiting] == [False, True, False]
    assert locks._locks == {}


async def test_nothing_is_left_where_another_process_does_not_let_go() -> None:
    locks = KeyLocks(Taken())
    with pytest.raises(StoreUnavailable):
        async with locks.of(KEY):
            pass
    assert locks._locks == {}
