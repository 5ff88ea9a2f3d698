"""Attacks by numbers: connections, waiters, cold paths. What is too much gets 503, and hits are served."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import LimitSettings
from isr_proxy.run.config import parse
from isr_proxy.run.worker import Worker
from isr_proxy.serve.door import Door, Ticket
from tests.harness import FakeClock, Proxy, Reply, config, eventually
from tests.http.conftest import Start
from tests.http.requirements import requires
from tests.http.test_limits_head import is_counted
from tests.scripted_origin import Hang, ScriptedOrigin, Wait, page

ROUTE = "- {match: /pass/**, revalidate: 0}\n- {match: '/**', revalidate: 10s}"
BUSY_ORIGIN = "max_connections: 3, max_queue: 2, connect_timeout: 20s"


async def first_answer(proxy: Proxy) -> Reply:
    """Connect, and return what is said without being asked."""
    return await (await proxy.visitor()).reply()


def told(reply: Reply) -> tuple[int, str | None, str]:
    return reply.status, reply.headers.get("retry-after"), reply.headers["x-cache-reason"]


@requires("RFC 9110 §15.6.4", "connections beyond the limit get 503 with Retry-After")
async def test_too_many_connections(start: Start) -> None:
    async with start(ROUTE, more="limits: {max_connections: 2}\n") as proxy:
        visitors = [await proxy.visitor() for _ in range(2)]
        await eventually(lambda: proxy.worker.front.door.count == 2)
        assert told(await first_answer(proxy)) == (503, "1", "too-many-connections")
        assert is_counted(proxy, "too-many-connections")
        assert (await visitors[0].get("/p")).status == 404
        await visitors[0].close()
        await eventually(lambda: proxy.worker.front.door.count == 1)
        assert (await proxy.get("/p")).status == 404


@requires("RFC 9110 §15.6.4", "who had asked already when he was turned away still gets his 503")
async def test_turned_away_with_a_request_on_the_wire(start: Start) -> None:
    async with start(ROUTE, more="limits: {max_connections: 1}\n") as proxy:
        await proxy.visitor()
        await eventually(lambda: proxy.worker.front.door.count == 1)
        visitor = await proxy.visitor()
        visitor.writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000)
        assert (await visitor.reply()).status == 503
        assert await visitor.reader.read() == b""
        await eventually(lambda: not proxy.worker.front.turned_away)


@requires("RFC 9112 §9.5", "where all connections are taken, the longest idle one gives way")
async def test_who_is_idle_gives_way(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/slow", [Hang()])
    async with start(ROUTE, more="limits: {max_connections: 3}\n") as proxy:
        idle, second, busy = [await proxy.visitor() for _ in range(3)]
        for visitor in (idle, second):
            assert (await visitor.get("/p")).status == 404
        busy.send("/slow")
        await origin.received(2)
        await eventually(lambda: len(proxy.worker.front.idle) == 2)
        assert (await proxy.get("/p")).status == 404
        assert await idle.reader.read() == b""
        assert (await second.get("/p")).status == 404
        assert proxy.worker.front.door.count <= 3


@requires("Attack: connections of one client", "one address holds no more than its share")
async def test_too_many_connections_of_one_client(start: Start) -> None:
    async with start(ROUTE, more="limits: {max_connections_per_client: 2}\n") as proxy:
        visitors = [await proxy.visitor() for _ in range(2)]
        await eventually(lambda: proxy.worker.front.door.count == 2)
        assert told(await first_answer(proxy)) == (503, "1", "too-many-connections-of-client")
        await visitors[0].close()
        await eventually(lambda: proxy.worker.front.door.count == 1)
        assert (await proxy.get("/p")).status == 404


@requires(
    "Attack: connections of one client", "a trusted proxy's connections are not counted as one client's"
)
async def test_a_load_balancer_is_not_one_client(start: Start) -> None:
    more = "limits: {max_connections_per_client: 1}\ntrusted_proxies: [127.0.0.0/8]\n"
    async with start(ROUTE, more=more) as proxy:
        visitors = [await proxy.visitor() for _ in range(5)]
        assert {(await visitor.get("/p")).status for visitor in visitors} == {404}


def test_the_door_forgets_clients_who_left() -> None:
    door, limits = Door(), LimitSettings(max_connections_per_client=1)
    ticket = door.enter("192.0.2.1", limits, ())
    assert isinstance(ticket, Ticket)
    assert door.enter("192.0.2.1", limits, ()) is Reason.TOO_MANY_OF_CLIENT
    ticket.leave()
    ticket.leave()
    assert (door.count, door._of_client) == (0, {})


@pytest.fixture
async def flooded(start: Start, origin: ScriptedOrigin) -> AsyncIterator[tuple[Proxy, asyncio.Event]]:
    """Store /hit, then hold the origin with as many cold paths as it takes, and as many as may wait."""
    barrier = asyncio.Event()
    origin.on("/hit", page("stored"))
    async with start(ROUTE, origin_more=BUSY_ORIGIN) as proxy:
        await proxy.get("/hit")
        await proxy.settled()
        for number in range(5):
            origin.on(f"/cold/{number}", [Wait(barrier), *page(f"cold {number}")])
            (await proxy.visitor()).send(f"/cold/{number}")
        await origin.received(1 + 3)
        await eventually(lambda: "2 waiting" in repr(proxy.worker.client._turns.origins[0].pool))
        yield proxy, barrier


@requires(
    "Attack: flood of cold paths", "beyond connections and queue a miss gets 503 with Retry-After at once"
)
@pytest.mark.parametrize("path", ["/cold/more", "/pass/more"])
async def test_a_miss_in_a_flood(flooded: Any, origin: ScriptedOrigin, path: str) -> None:
    proxy, _ = flooded
    assert told(await proxy.get(path)) == (503, "1", "origin-queue-full")
    assert is_counted(proxy, "origin-queue-full")
    assert (origin.hits(path), origin.concurrent_max) == (0, 3)


@requires("Attack: flood of cold paths", "hits are served while the origin is held")
async def test_a_hit_in_a_flood(flooded: Any, origin: ScriptedOrigin) -> None:
    proxy, _ = flooded
    for _ in range(20):
        reply = await proxy.get("/hit")
        assert (reply.status, reply.x_cache, reply.text) == (200, "HIT", "stored")


@requires("Attack: flood of cold paths", "a stale page is served while the origin is held")
async def test_a_stale_page_in_a_flood(flooded: Any, origin: ScriptedOrigin) -> None:
    proxy, _ = flooded
    proxy.clock.advance(60)
    reply = await proxy.get("/hit")
    assert (reply.status, reply.x_cache, reply.text) == (200, "STALE", "stored")


@requires("Attack: flood of cold paths", "who waits is served once the origin answers")
async def test_after_a_flood(flooded: Any, origin: ScriptedOrigin) -> None:
    proxy, barrier = flooded
    visitors = list(proxy.visitors)
    barrier.set()
    replies = await asyncio.gather(*(visitor.reply() for visitor in visitors))
    assert sorted(reply.text for reply in replies) == [f"cold {number}" for number in range(5)]
    assert (await proxy.get("/cold/0")).x_cache == "HIT"


@requires("RFC 9110 §15.6.4", "visitors beyond the limit who wait for one page get 503 with Retry-After")
async def test_too_many_waiters(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", [Hang()])
    async with start(ROUTE, more="limits: {max_waiters: 1}\n") as proxy:
        (await proxy.visitor()).send("/p")
        await origin.received(1)
        assert told(await proxy.get("/p")) == (503, "1", "too-many-waiters")
        assert origin.hits("/p") == 1


@requires("Attack: connections of one client", "a reload applies new limits to new connections")
async def test_a_reload_changes_limits(origin: ScriptedOrigin, tmp_path: Path) -> None:
    texts = [
        config(origin.url, tmp_path / "store", ROUTE, more=f"limits: {{max_request_line: {size}}}\n")
        for size in (8192, 100)
    ]
    settings = [parse(text, file="f", environ={}) for text in texts]
    worker = await Worker.start(settings[0], now=FakeClock(), load=lambda: settings[1])
    proxy = Proxy(worker, FakeClock())
    try:
        visitor = await proxy.visitor()
        assert (await visitor.get("/p")).status == 404
        await worker.reload()
        assert (await visitor.get("/" + "p" * 200)).status == 404  # as it was when he came
        assert (await proxy.get("/" + "p" * 200)).status == 414
        await visitor.close()
    finally:
        await worker.stop(drain=1.0)
