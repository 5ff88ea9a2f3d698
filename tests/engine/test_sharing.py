"""What one visitor's request may do to others' pages, and what an odd answer may not (laws 1, 4, 9)."""

from __future__ import annotations

import asyncio

import pytest

from isr_proxy.core.purges import Scope, Selector
from tests.engine.conftest import Start
from tests.harness import FakeClock
from tests.scripted_origin import Exchange, ScriptedOrigin, Send, chunked, head, page

ISR = "- {match: '/**', revalidate: 10s}"
ORIGIN = "- {match: '/**', revalidate: origin}"
SHARED = {"Cache-Control": "s-maxage=10, stale-while-revalidate=0, stale-if-error=3600"}
ALICE = {"Cookie": "session=alice"}


async def test_law_4_an_error_page_made_for_one_visitor_is_shown_to_him_alone(
    start: Start, origin: ScriptedOrigin
) -> None:
    release = asyncio.Event()

    async def fail(exchange: Exchange) -> None:
        await release.wait()
        await exchange.run(page(f"error for {exchange.request.header('cookie')}", status=500))

    origin.on("/p", fail)
    async with start(ORIGIN) as proxy:
        alice, bob = await proxy.visitor(), await proxy.visitor()
        alice.send("/p", ALICE)
        await origin.received(1)
        bob.send("/p")
        await asyncio.sleep(0.05)
        release.set()
        assert (await alice.reply()).text == "error for session=alice"
        assert "alice" not in (await bob.reply()).text


async def test_law_9_a_personal_answer_does_not_take_the_page_from_others(
    start: Start, origin: ScriptedOrigin, clock: FakeClock
) -> None:
    private = page("alice's", {"Cache-Control": "private"})
    origin.on("/p", page("shared", SHARED), private, page("down", status=500))
    async with start(ORIGIN) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        clock.advance(11)
        assert (await proxy.get("/p", ALICE)).text == "alice's"
        reply = await proxy.get("/p")
        assert (reply.text, reply.x_cache) == ("shared", "STALE")


@pytest.mark.parametrize("status", [404, 410, 301])
async def test_a_guard_does_not_keep_what_was_deleted_or_moved(
    status: int, start: Start, origin: ScriptedOrigin, clock: FakeClock
) -> None:
    route = "- {match: '/**', revalidate: 10s, guard: {max_shrink: 0.5, min_bytes: 50}}"
    origin.on("/p", page("x" * 100), page("", status=status))
    async with start(route) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        clock.advance(11)
        await proxy.get("/p")
        await proxy.settled()
        assert (await proxy.get("/p")).status == status


SHELL = """\
- {match: '/shell', revalidate: never}
- {match: '/**', revalidate: 10s, fallback: {shell: /shell}}"""


async def test_an_uncacheable_page_is_not_hidden_behind_its_shell(
    start: Start, origin: ScriptedOrigin
) -> None:
    origin.on("/shell", page("loading"))
    origin.on("/p", page("mine", {"Cache-Control": "no-store"}))
    async with start(SHELL) as proxy:
        assert (await proxy.get("/p")).text == "loading"
        await proxy.settled()
        assert (await proxy.get("/p")).text == "mine"


async def test_a_missing_shell_is_not_served_as_the_page(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/shell", page("no shell here", status=404))
    origin.on("/p", page("page"))
    async with start(SHELL) as proxy:
        reply = await proxy.get("/p")
        assert (reply.status, reply.text) == (200, "page")


async def test_a_page_that_fails_behind_its_shell_is_not_tried_at_every_visit(
    start: Start, origin: ScriptedOrigin, clock: FakeClock
) -> None:
    origin.on("/shell", page("loading"))
    origin.on("/p", page("down", status=500))
    async with start(SHELL) as proxy:
        for _ in range(5):
            assert (await proxy.get("/p")).text == "loading"
            await proxy.settled()
        assert origin.hits("/p") == 1
        clock.advance(4)
        await proxy.get("/p")
        await proxy.settled()
        assert origin.hits("/p") == 2


@pytest.mark.parametrize("status", [304, 206])
async def test_an_answer_nobody_asked_for_is_a_bad_response(
    status: int, start: Start, origin: ScriptedOrigin
) -> None:
    origin.on("/p", [Send(head(status, {"ETag": '"x"', "Content-Length": "0"}))])
    async with start(ISR) as proxy:
        reply = await proxy.get("/p")
        assert (reply.status, reply.headers["x-cache-reason"]) == (502, "bad-response")


async def test_a_body_too_large_to_store_passes_from_then_on(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", chunked(b"x" * 3000, b"y" * 3000))
    async with start(ISR, max_entry="2KiB") as proxy:
        assert len((await proxy.get("/p")).body) == 6000
        await proxy.settled()
        assert [(await proxy.get("/p")).x_cache for _ in range(2)] == ["PASS", "PASS"]


async def test_tags_of_a_304_count(start: Start, origin: ScriptedOrigin, clock: FakeClock) -> None:
    unchanged = [Send(head(304, {"ETag": '"a"', "Cache-Tag": "new"}))]
    origin.on("/p", page("page", {"ETag": '"a"'}), unchanged, page("page"))
    async with start(ISR) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        clock.advance(11)
        await proxy.get("/p")
        await proxy.settled()
        await proxy.worker.purges.append((Selector(Scope.TAG, "new"),), now=clock())
        assert (await proxy.get("/p")).x_cache == "MISS"


async def test_who_asks_for_a_new_page_gets_the_old_one_when_the_origin_fails(
    start: Start, origin: ScriptedOrigin
) -> None:
    route = "- {match: '/**', revalidate: 10s, client_directives: honor}"
    origin.on("/p", page("good"), page("down", status=500))
    async with start(route) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        reply = await proxy.get("/p", {"Cache-Control": "no-cache"})
        assert (reply.status, reply.text) == (200, "good")


async def test_an_answer_that_may_not_replace_the_page_is_not_asked_for_twice(
    start: Start, origin: ScriptedOrigin, clock: FakeClock
) -> None:
    route = "- {match: '/**', revalidate: 10s, stale_while_revalidate: 0}"
    origin.on("/p", page("old"), page("new", {"Set-Cookie": "a=b"}))
    async with start(route) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        clock.advance(11)
        assert (await proxy.get("/p")).text == "new"
        assert origin.hits("/p") == 2


async def test_early_hints_of_a_miss_reach_its_visitor(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", [Send(head(103, {"Link": "</a.css>; rel=preload"})), *page("hello")])
    async with start(ISR) as proxy:
        reply = await proxy.get("/p")
        assert (reply.interim, reply.text) == ((103,), "hello")
