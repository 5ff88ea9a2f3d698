"""Connections whose requests are hot: when they end, who waits for whom, and how much is unsent."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from isr_proxy.core.settings import LimitSettings
from isr_proxy.serve.connection import Connection
from tests.engine.test_connections import lazy_visitor, unsent_bytes
from tests.harness import Visitor, eventually
from tests.lanes.conftest import Start
from tests.lanes.watching import PAGE, Watched
from tests.lanes.world import Asked
from tests.scripted_origin import ScriptedOrigin, Wait, page

LARGE = os.urandom(200_000)
IMAGE = {"Content-Type": "image/png"}
K = PAGE.raw


# --- how many requests ---


async def test_the_last_request_that_is_allowed_closes(start: Start) -> None:
    async with start(more="limits: {max_requests: 5}\n") as lane:
        await lane.learned()
        visitor = await lane.visitor()
        assert [await lane.is_hot(visitor) for _ in range(4)] == [True] * 4
        heard, is_hot = await lane.told(visitor)
        assert (is_hot, b"\r\nConnection: close\r\n" in heard) == (False, True)
        assert await visitor.reader.read() == b""


async def test_hot_answers_and_others_are_counted_together(start: Start) -> None:
    async with start(more="limits: {max_requests: 5}\n") as lane:
        await lane.learned()
        visitor = await lane.visitor()
        assert await lane.is_hot(visitor)
        assert not await lane.is_hot(visitor, Asked("/pass/1"))
        assert [await lane.is_hot(visitor) for _ in range(2)] == [True, True]
        assert b"\r\nConnection: close\r\n" in await lane.ask(visitor)


# --- draining ---


async def test_a_connection_that_was_answered_is_closed_by_a_drain(lane: Watched) -> None:
    await lane.learned()
    visitor = await lane.visitor()
    assert await lane.is_hot(visitor)
    await lane.proxy.worker.front.drain(5)
    assert await visitor.reader.read() == b""
    assert not lane.proxy.worker.front.connections


async def test_who_has_only_just_connected_is_told_to_close(lane: Watched) -> None:
    await lane.learned()
    visitor, _ = await lane.met()
    draining = asyncio.ensure_future(lane.proxy.worker.front.drain(5))
    await lane.read()
    heard, is_hot = await lane.told(visitor)
    assert (is_hot, b"\r\nConnection: close\r\n" in heard) == (False, True)
    await draining


async def test_who_connects_while_we_drain_is_told_to_close(lane: Watched) -> None:
    """His connection was on the way, or his handshake was not done, when we stopped to listen."""
    await lane.learned()
    lane.proxy.worker.front.is_draining = True
    heard, is_hot = await lane.told(await lane.visitor())
    assert (is_hot, b"\r\nConnection: close\r\n" in heard) == (False, True)


async def test_a_drain_lets_a_hot_answer_be_taken(lane: Watched, origin: ScriptedOrigin) -> None:
    origin.on("/large", page(LARGE, IMAGE))
    await lane.learned(Asked("/large"))
    visitor, _ = await lazy_visitor(lane.proxy)
    visitor.send("/large")
    await lane.read()
    draining = asyncio.ensure_future(lane.proxy.worker.front.drain(5))
    await lane.read()
    assert (await visitor.reply()).body == LARGE
    await draining


# --- how long ---


async def test_a_busy_connection_is_not_idle(lane: Watched) -> None:
    await lane.learned()
    visitor, connection = await lane.met()
    front = lane.proxy.worker.front
    connection.deadline = time.monotonic() - 1
    front.looked_at = time.monotonic()
    assert await lane.is_hot(visitor)
    idle = connection.limits.idle_timeout
    assert front.looked_at + idle <= connection.deadline <= front.looked_at + idle + 1.5


async def test_a_connection_that_rests_is_closed(lane: Watched) -> None:
    await lane.learned()
    visitor, connection = await lane.met()
    assert await lane.is_hot(visitor)
    connection.deadline = time.monotonic() - 1
    front = lane.proxy.worker.front
    assert front._sweeper is not None
    front._sweeper.cancel()
    front._sweep()
    assert await visitor.reader.read() == b""


async def test_the_longest_idle_one_gives_way_and_no_busy_one(start: Start) -> None:
    async with start(more="limits: {max_connections: 3}\n") as lane:
        busy = await lane.learned()
        idle = await lane.visitor()
        await lane.ask(idle, Asked("/pass/1"))
        later = await lane.visitor()
        await lane.ask(later, Asked("/pass/1"))
        assert await lane.is_hot(busy)
        last = await lane.visitor()
        assert (await last.get("/p")).status == 200
        assert await idle.reader.read() == b""
        for visitor in (busy, last, later):
            assert (await visitor.get("/p")).status == 200


async def test_who_was_never_answered_otherwise_can_give_way_too(start: Start) -> None:
    async with start(more="limits: {max_connections: 2}\n") as lane:
        await (await lane.learned()).close()
        await eventually(lambda: lane.proxy.worker.front.door.count == 0)
        first, second = await lane.visitor(), await lane.visitor()
        assert await lane.is_hot(first)
        assert await lane.is_hot(second)
        assert (await (await lane.visitor()).get("/p")).status == 200
        assert await first.reader.read() == b""
        assert await lane.is_hot(second)


async def test_who_takes_his_answer_is_not_idle(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/large", page(LARGE, IMAGE))
    async with start(more="limits: {max_connections: 1}\n") as lane:
        await (await lane.learned(Asked("/large"))).close()
        await eventually(lambda: lane.proxy.worker.front.door.count == 0)
        taking, connection = await lazy_visitor(lane.proxy)
        taking.send("/large")
        await eventually(lambda: connection.writing_paused)
        assert (await (await lane.visitor()).reply()).status == 503
        assert (await taking.reply()).body == LARGE
        await eventually(lambda: not connection.writing_paused)
        assert (await (await lane.visitor()).get("/large")).status == 200


# --- who does not read ---


async def full(lane: Watched, requests: int) -> tuple[Visitor, Connection]:
    """Have a visitor ask again and again, each in a packet of its own, and read nothing."""
    visitor, connection = await lazy_visitor(lane.proxy)
    asked = Asked("/large")
    for _ in range(requests):
        await lane.burst(visitor, asked.raw)
    await eventually(lambda: connection.writing_paused)
    return visitor, connection


async def test_law_8_hot_answers_stop_where_nobody_reads(lane: Watched, origin: ScriptedOrigin) -> None:
    origin.on("/large", page(LARGE, IMAGE))
    await lane.learned(Asked("/large"))
    visitor, connection = await full(lane, 40)
    assert unsent_bytes(connection) <= 64 * 1024 + 2 * (len(LARGE) + 1024)
    assert connection.requests_taken < 10
    other = await lane.visitor()
    assert await lane.is_hot(other, Asked("/large"))
    bodies = [(await visitor.reply()).body for _ in range(40)]
    assert bodies == [LARGE] * 40
    assert await lane.is_hot(visitor, Asked("/large"))


async def test_a_known_head_waits_while_nobody_reads(lane: Watched, origin: ScriptedOrigin) -> None:
    origin.on("/large", page(LARGE, IMAGE))
    await lane.learned(Asked("/large"))
    await lane.learned()
    visitor, connection = await full(lane, 3)
    hits, before = lane.hits, unsent_bytes(connection)
    await lane.burst(visitor, K, K, K)
    assert lane.hits <= hits + 1  # one is decided, and waits for its way out
    assert unsent_bytes(connection) <= before + len(LARGE)
    bodies = [(await visitor.reply()).body for _ in range(6)]
    assert bodies == [LARGE] * 3 + [b"a page"] * 3


async def test_who_stopped_reading_has_the_deadline_of_one_who_takes(
    lane: Watched, origin: ScriptedOrigin
) -> None:
    origin.on("/large", page(LARGE, IMAGE))
    await lane.learned(Asked("/large"))
    lane.proxy.worker.front.limits = LimitSettings(idle_timeout=1.0)
    _, connection = await full(lane, 1)
    assert connection.deadline > time.monotonic() + 10


# --- many at once ---


@pytest.mark.parametrize("size", [1, 7, 100, 1000, 10**6])
async def test_law_6_pipelined_known_heads_in_packets_of_any_size(size: int, lane: Watched) -> None:
    await lane.learned()
    visitor, stream = await lane.visitor(), K * 40
    for start in range(0, len(stream), size):
        visitor.writer.write(stream[start : start + size])
        await asyncio.sleep(0)
    assert [(await visitor.reply()).text for _ in range(40)] == ["a page"] * 40
    assert await lane.is_hot(visitor)


async def test_law_8_a_visitor_with_much_to_ask_lets_others_have_their_turn(lane: Watched) -> None:
    await lane.learned()
    greedy, connection = await lane.met()
    other = await lane.visitor()
    many = 64 * 1024 // len(K)
    greedy.writer.write(K * many)
    await eventually(lambda: connection.requests_taken > 0)
    assert (await other.get("/p")).text == "a page"
    assert connection.requests_taken < many // 2
    assert [(await greedy.reply()).text for _ in range(many)] == ["a page"] * many


async def test_a_request_for_the_origin_keeps_its_place(lane: Watched, origin: ScriptedOrigin) -> None:
    release = asyncio.Event()
    origin.on("/pass/slow", [Wait(release), *page("slow")])
    await lane.learned()
    visitor = await lane.visitor()
    await lane.burst(visitor, K, Asked("/pass/slow").raw, K, K)
    await eventually(lambda: origin.hits("/pass/slow") == 1)
    release.set()
    assert [(await visitor.reply()).text for _ in range(4)] == ["a page", "slow", "a page", "a page"]
