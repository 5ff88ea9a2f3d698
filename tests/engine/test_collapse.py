"""Many visitors, one fetch (issue 2, point 4; law 3)."""

from __future__ import annotations

import asyncio

from tests.engine.conftest import Start
from tests.harness import FakeClock, Visitor
from tests.scripted_origin import Exchange, ScriptedOrigin, Send, Wait, head, page

ROUTE = "- {match: '/**', revalidate: 10s}"


async def test_law_3_a_thousand_visitors_of_a_cold_path_make_one_fetch(
    start: Start, origin: ScriptedOrigin
) -> None:
    release = asyncio.Event()
    origin.on("/p", [Wait(release), *page("one")])
    async with start(ROUTE) as proxy:
        visitors = [await proxy.visitor() for _ in range(1000)]
        for visitor in visitors:
            visitor.send("/p")
        await origin.received(1)
        await asyncio.gather(*(_sent(visitor) for visitor in visitors))
        release.set()
        replies = await asyncio.gather(*(visitor.reply() for visitor in visitors))
        assert {(reply.status, reply.text) for reply in replies} == {(200, "one")}
        assert origin.hits("/p") == 1


async def _sent(visitor: Visitor) -> None:
    await visitor.writer.drain()


async def test_law_3_a_thousand_visitors_of_a_stale_path_make_one_fetch_and_none_waits(
    start: Start, origin: ScriptedOrigin, clock: FakeClock
) -> None:
    release = asyncio.Event()
    origin.on("/p", page("one"), [Wait(release), *page("two")])
    async with start(ROUTE) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        clock.advance(11)
        visitors = [await proxy.visitor() for _ in range(1000)]
        replies = await asyncio.gather(*(visitor.get("/p") for visitor in visitors))
        assert {(reply.text, reply.x_cache) for reply in replies} == {("one", "STALE")}
        release.set()
        await proxy.settled()
        assert origin.hits("/p") == 2


async def test_law_3_a_leader_who_hangs_up_changes_nothing_for_the_others(
    start: Start, origin: ScriptedOrigin
) -> None:
    release = asyncio.Event()
    origin.on("/p", [Wait(release), *page("one")])
    async with start(ROUTE) as proxy:
        leader = await proxy.visitor()
        leader.send("/p")
        await origin.received(1)
        waiter = await proxy.visitor()
        waiter.send("/p")
        leader.reset()
        release.set()
        reply = await waiter.reply()
        assert (reply.text, reply.cache_status) == ("one", "isr-proxy; fwd=uri-miss; collapsed")
        assert origin.hits("/p") == 1


async def test_law_3_a_page_nobody_waits_for_any_more_is_still_stored(
    start: Start, origin: ScriptedOrigin
) -> None:
    release = asyncio.Event()
    origin.on("/p", [Wait(release), *page("one")])
    async with start(ROUTE) as proxy:
        only = await proxy.visitor()
        only.send("/p")
        await origin.received(1)
        only.reset()
        release.set()
        await proxy.settled()
        assert (await proxy.get("/p")).x_cache == "HIT"


async def test_waiters_receive_before_the_body_ends(start: Start, origin: ScriptedOrigin) -> None:
    release = asyncio.Event()
    origin.on("/p", [Send(head(200, {"Content-Length": "10"}) + b"begun"), Wait(release), Send(b"ended")])
    async with start(ROUTE) as proxy:
        first, second = await proxy.visitor(), await proxy.visitor()
        first.send("/p")
        assert (await first.reader.readuntil(b"begun")).endswith(b"begun")
        second.send("/p")
        assert (await second.reader.readuntil(b"begun")).endswith(b"begun")
        release.set()
        assert await first.reader.readexactly(5) == await second.reader.readexactly(5) == b"ended"


async def test_a_slow_reader_does_not_slow_the_fetch(start: Start, origin: ScriptedOrigin) -> None:
    body = b"x" * 20_000_000
    origin.on("/big", page(body))
    async with start(ROUTE) as proxy:
        slow = await proxy.visitor()
        slow.send("/big")
        await slow.reader.readuntil(b"\r\n\r\n")
        slow.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await proxy.settled()
        assert (await proxy.get("/big")).x_cache == "HIT"
        slow.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert await slow.reader.readexactly(len(body)) == body


async def test_nobody_queues_behind_the_uncacheable(
    start: Start, origin: ScriptedOrigin, clock: FakeClock
) -> None:
    release = asyncio.Event()
    private = {"Cache-Control": "no-store"}
    origin.on("/p", page("first", private), [Wait(release), *page("mine", private)])
    async with start(ROUTE) as proxy:
        assert (await proxy.get("/p")).text == "first"
        visitors = [await proxy.visitor() for _ in range(20)]
        for visitor in visitors:
            visitor.send("/p")
        await origin.until(lambda: origin.concurrent_max == 20)
        release.set()
        replies = await asyncio.gather(*(visitor.reply() for visitor in visitors))
        assert {(reply.text, reply.x_cache) for reply in replies} == {("mine", "PASS")}


async def test_hit_for_pass_ends(start: Start, origin: ScriptedOrigin, clock: FakeClock) -> None:
    origin.on("/p", page("first", {"Cache-Control": "no-store"}), page("second"))
    async with start(ROUTE) as proxy:
        await proxy.get("/p")
        clock.advance(121)
        assert (await proxy.get("/p")).x_cache == "MISS"
        await proxy.settled()
        assert (await proxy.get("/p")).x_cache == "HIT"


async def test_hit_for_pass_ends_once_the_key_proves_cacheable(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("odd", {"Cache-Control": "no-store"}), page("even"))
    async with start(ROUTE) as proxy:
        replies = [await proxy.get("/p") for _ in range(3)]
        await proxy.settled()
        assert [reply.x_cache for reply in replies] == ["MISS", "PASS", "MISS"]
        assert (await proxy.get("/p")).x_cache == "HIT"


async def test_variants_are_never_mixed(start: Start, origin: ScriptedOrigin) -> None:
    varies = {"Vary": "RSC"}

    async def script(exchange: Exchange) -> None:
        kind = exchange.request.header("rsc") or "html"
        await exchange.run(page(f"kind {kind}", varies))

    origin.on("/p", script)
    async with start(ROUTE) as proxy:
        assert (await proxy.get("/p", {"RSC": "1"})).text == "kind 1"
        await proxy.settled()
        html, flight = await proxy.get("/p"), await proxy.get("/p", {"RSC": "1"})
        assert [(html.text, html.x_cache), (flight.text, flight.x_cache)] == [
            ("kind html", "HIT"),
            ("kind 1", "HIT"),
        ]


async def test_law_8_variants_beyond_the_cap_are_relayed_not_stored(
    start: Start, origin: ScriptedOrigin
) -> None:
    origin.on("/p", page("hello", {"Vary": "Accept-Language"}))
    async with start(ROUTE) as proxy:
        for number in range(15):  # and the one without the header
            await proxy.get("/p", {"Accept-Language": f"x-{number}"})
            await proxy.settled()
        over = await proxy.get("/p", {"Accept-Language": "x-99"})
        assert (over.text, "too-many-variants" in over.cache_status) == ("hello", True)
        assert (await proxy.get("/p", {"Accept-Language": "x-3"})).x_cache == "HIT"
        assert (await proxy.get("/p", {"Accept-Language": "x-98"})).x_cache == "PASS"
