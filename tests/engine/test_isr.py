"""A page's life on an ISR route: generated, served, stale, regenerated (issue 2, point 2)."""

from __future__ import annotations

import asyncio

import pytest

from tests.engine.conftest import Start
from tests.harness import FakeClock
from tests.scripted_origin import (
    Close,
    Hang,
    Reset,
    Script,
    ScriptedOrigin,
    Send,
    Wait,
    chunked,
    head,
    page,
)

ROUTE = "- {match: '/**', revalidate: 10s}"


async def test_miss_hit_stale_hit(start: Start, origin: ScriptedOrigin, clock: FakeClock) -> None:
    origin.on("/p", page("one"), page("two"))
    async with start(ROUTE) as proxy:
        first = await proxy.get("/p")
        assert (first.text, first.x_cache) == ("one", "MISS")
        assert first.cache_status == "isr-proxy; fwd=uri-miss; fwd-status=200; stored"
        await proxy.settled()
        hit = await proxy.get("/p")
        assert (hit.text, hit.x_cache, hit.cache_status) == ("one", "HIT", "isr-proxy; hit; ttl=10")
        clock.advance(13)
        stale = await proxy.get("/p")
        assert (stale.text, stale.x_cache) == ("one", "STALE")
        assert stale.cache_status == "isr-proxy; hit; ttl=-3; detail=regenerating"
        await proxy.settled()
        again = await proxy.get("/p")
        assert (again.text, again.x_cache) == ("two", "HIT")
        assert origin.hits("/p") == 2


async def test_a_stale_page_is_served_while_the_origin_hangs(
    start: Start, origin: ScriptedOrigin, clock: FakeClock
) -> None:
    release = asyncio.Event()
    origin.on("/p", page("one"), [Wait(release), *page("two")])
    async with start(ROUTE) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        clock.advance(11)
        replies = [await proxy.get("/p") for _ in range(5)]
        assert {reply.text for reply in replies} == {"one"}
        release.set()
        await proxy.settled()
        assert (await proxy.get("/p")).text == "two"
        assert origin.hits("/p") == 2


async def test_never_stays_fresh(start: Start, origin: ScriptedOrigin, clock: FakeClock) -> None:
    origin.on("/p", page("one"), page("two"))
    async with start("- {match: '/**', revalidate: never}") as proxy:
        await proxy.get("/p")
        await proxy.settled()
        clock.advance(10 * 365 * 86400)
        assert (await proxy.get("/p")).x_cache == "HIT"


async def test_zero_passes(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("one"), page("two"))
    async with start("- {match: '/**', revalidate: 0}") as proxy:
        first, second = await proxy.get("/p"), await proxy.get("/p")
        assert [first.text, second.text] == ["one", "two"]
        assert first.x_cache == "PASS"
        assert first.cache_status == "isr-proxy; fwd=bypass; fwd-status=200; detail=route-pass"


async def test_origin_mode_obeys_the_origin(start: Start, origin: ScriptedOrigin, clock: FakeClock) -> None:
    kept = {"Cache-Control": "s-maxage=5, stale-while-revalidate=60"}
    origin.on("/p", page("one", kept), page("two", kept))
    origin.on("/private", page("mine", {"Cache-Control": "private, max-age=60"}))
    async with start("- {match: '/**', revalidate: origin}") as proxy:
        assert (await proxy.get("/p")).headers["cache-control"] == kept["Cache-Control"]
        await proxy.settled()
        assert (await proxy.get("/p")).x_cache == "HIT"
        clock.advance(6)
        assert (await proxy.get("/p")).x_cache == "STALE"
        await proxy.settled()
        assert (await proxy.get("/p")).text == "two"
        assert (await proxy.get("/private")).x_cache == "MISS"
        assert (await proxy.get("/private")).x_cache == "PASS"


async def test_not_found_is_an_answer_with_a_short_ttl(
    start: Start, origin: ScriptedOrigin, clock: FakeClock
) -> None:
    origin.on("/p", page("page"), page("gone", status=404), page("back"))
    async with start(ROUTE) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        clock.advance(11)
        await proxy.get("/p")
        await proxy.settled()
        gone = await proxy.get("/p")
        assert (gone.status, gone.x_cache) == (404, "HIT")
        clock.advance(11)
        back = await proxy.get("/p")
        assert (back.status, back.text) == (200, "back")


async def test_a_redirect_is_a_page(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/old", page("", {"Location": "/new"}, status=308))
    async with start(ROUTE) as proxy:
        await proxy.get("/old")
        await proxy.settled()
        hit = await proxy.get("/old")
        assert (hit.status, hit.headers["location"], hit.x_cache) == (308, "/new", "HIT")


async def test_not_found_fallback_never_asks(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("one"))
    async with start("- {match: '/**', revalidate: 10s, fallback: not_found}") as proxy:
        reply = await proxy.get("/p")
        assert (reply.status, reply.x_cache) == (404, "FALLBACK")
        assert origin.hits("/p") == 0


SHELL = """\
- {match: '/blog/_loading', revalidate: never}
- {match: '/blog/{slug}', revalidate: 10s, fallback: {shell: /blog/_loading}}"""


async def test_shell_at_once_page_behind(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/blog/_loading", page("loading"))
    origin.on("/blog/a", page("page"))
    async with start(SHELL) as proxy:
        shell = await proxy.get("/blog/a")
        assert (shell.text, shell.x_cache, shell.headers["cache-control"]) == (
            "loading",
            "FALLBACK",
            "no-store",
        )
        await proxy.settled()
        assert (await proxy.get("/blog/a")).text == "page"


async def test_a_crawler_gets_the_page_not_the_shell(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/blog/a", page("page"))
    async with start(SHELL) as proxy:
        reply = await proxy.get("/blog/a", {"User-Agent": "Googlebot/2.1"})
        assert (reply.text, reply.x_cache) == ("page", "MISS")


# --- law 1: every way to fail, on every path ---

FAILURES: dict[str, Script] = {
    "5xx": page("oops", status=503),
    "429": page("slow down", status=429),
    "reset": [Reset()],
    "closed": [Close()],
    "first byte": [Hang()],
    "between chunks": [Send(head(200, {"Content-Length": "9"}) + b"begun"), Hang()],
    "short": [Send(head(200, {"Content-Length": "9"}) + b"short"), Close()],
    "no last chunk": [*chunked(b"half")[:-1], Close()],
    "over max_entry": page("x" * 3000),
    "guard": page("guard: DATABASE DOWN"),
    "not http": [Send(b"hello?\r\n\r\n"), Close()],
}
GUARDED = "- {match: '/**', revalidate: 10s, guard: {forbids: [DATABASE DOWN]}}"
QUICK = {"timeout": "300ms", "max_entry": "2KiB"}  # these two must really pass


@pytest.mark.parametrize("name", FAILURES)
async def test_law_1_a_failed_regeneration_leaves_the_old_page(
    name: str, start: Start, origin: ScriptedOrigin, clock: FakeClock
) -> None:
    origin.on("/p", page("good"), FAILURES[name])
    async with start(GUARDED, **QUICK) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        clock.advance(11)
        assert (await proxy.get("/p")).text == "good"
        await proxy.settled()
        kept = await proxy.get("/p")
        assert (kept.status, kept.text, kept.x_cache) == (200, "good", "STALE")
        assert "detail=retry-later" in kept.cache_status
        origin.on("/p", page("new"))
        clock.advance(13)
        await proxy.get("/p")
        await proxy.settled()
        assert (await proxy.get("/p")).text == "new"


@pytest.mark.parametrize("name", FAILURES)
async def test_law_1_beyond_stale_while_revalidate_the_failure_is_still_hidden(
    name: str, start: Start, origin: ScriptedOrigin, clock: FakeClock
) -> None:
    routes = GUARDED.replace("guard:", "stale_while_revalidate: 0, stale_if_error: 1h, guard:")
    origin.on("/p", page("good"), FAILURES[name])
    async with start(routes, **QUICK) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        clock.advance(60)
        reply = await proxy.get("/p")
        assert (reply.status, reply.text, reply.x_cache) == (200, "good", "STALE")


EXPECTED_COLD = {
    "5xx": (503, "oops"),
    "429": (429, "slow down"),
    "reset": (502, None),
    "closed": (502, None),
    "first byte": (504, None),
    "between chunks": (200, "begun"),
    "short": (200, "short"),
    "no last chunk": (200, "half"),
    "over max_entry": (200, "x" * 3000),
    "guard": (200, "guard: DATABASE DOWN"),
    "not http": (502, None),
}


@pytest.mark.parametrize("name", FAILURES)
async def test_law_1_a_failure_on_a_cold_path_is_never_stored(
    name: str, start: Start, origin: ScriptedOrigin
) -> None:
    status, text = EXPECTED_COLD[name]
    origin.on("/p", FAILURES[name], page("good"))
    async with start(GUARDED, **QUICK) as proxy:
        reply = await proxy.get("/p")
        assert reply.status == status
        assert text is None or reply.text == text
        assert reply.is_whole == (name not in ("between chunks", "short", "no last chunk"))
        await proxy.settled()
        if name != "over max_entry":  # which passes from now on
            assert (await proxy.get("/p")).text == "good"


@pytest.mark.parametrize("name", FAILURES)
async def test_law_1_beyond_stale_if_error_the_failure_is_seen(
    name: str, start: Start, origin: ScriptedOrigin, clock: FakeClock
) -> None:
    routes = GUARDED.replace("guard:", "stale_while_revalidate: 0, stale_if_error: 30s, guard:")
    origin.on("/p", page("good"), FAILURES[name])
    async with start(routes, **QUICK) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        clock.advance(60)
        reply = await proxy.get("/p")
        assert reply.status == EXPECTED_COLD[name][0]
        assert reply.text != "good"
