"""RFC 9111 §4.3.4: what a 304 says of a stored page, and whose that is (§3.5, law 4)."""

from __future__ import annotations

import asyncio

import pytest

from isr_proxy.core.http import format_date
from tests.harness import START, FakeClock, Proxy, eventually
from tests.http.conftest import COOKIES_APART, Site, Start
from tests.http.requirements import requires
from tests.http.test_rfc9111_3_3_incomplete_responses import BODY, asking, is_part
from tests.ranging_origin import ranged
from tests.scripted_origin import Headers, ScriptedOrigin, Send, Wait, head, page

FRESH = {"Cache-Control": "max-age=60"}
TAGGED = {**FRESH, "ETag": '"abc"'}
ALICES = {**TAGGED, "X-User": "alice"}
HIS = [{"Cookie": "sid=alice"}, {"Authorization": "Basic eDp5"}]


def unchanged(headers: Headers = ()) -> list[Send]:
    """Return the script of a 304."""
    return [Send(head(304, headers))]


async def waiting(proxy: Proxy, count: int) -> None:
    """Wait until so many wait for one fetch."""
    flights = proxy.worker.engine.flights
    await eventually(lambda: any(flight.waiters == count for flight in flights.in_flight()))


# --- one visitor's own request ---


@requires("RFC 9111 §3.5", "a 304 to one visitor's cookie or Authorization changes nothing for the others")
@pytest.mark.parametrize("his", HIS)
async def test_law_4_304_to_one_visitor(careful: Site, his: dict[str, str]) -> None:
    careful.on("/p", page("1", TAGGED), unchanged({**ALICES, "Cache-Control": "max-age=999"}), unchanged())
    await careful.get("/p")
    careful.clock.advance(61)
    assert (await careful.get("/p", his)).headers["x-user"] == "alice"
    reply = await careful.get("/p")
    assert (reply.text, reply.headers.get("x-user"), careful.hits("/p")) == ("1", None, 3)
    assert not await careful.is_reused("/p", after=61)


@requires("RFC 9111 §3.5", "nor does it take anything from them")
@pytest.mark.parametrize("control", ["private", "no-store"])
async def test_304_to_one_visitor_that_forbids_storing(careful: Site, control: str) -> None:
    careful.on("/p", page("1", TAGGED), unchanged({"Cache-Control": control}), page("2"))
    await careful.get("/p")
    careful.clock.advance(61)
    assert (await careful.get("/p", HIS[0])).text == "1"
    await careful.get("/p")
    assert careful.last.header("if-none-match") == '"abc"'


@requires("RFC 9111 §3.5", "whoever waits for it asks for himself")
@pytest.mark.parametrize("others", [{}, {"Cookie": "sid=bob"}])
async def test_law_4_304_while_others_wait(careful: Site, others: dict[str, str]) -> None:
    gate = asyncio.Event()
    careful.on("/p", page("1", TAGGED), [Wait(gate), *unchanged(ALICES)], unchanged(TAGGED))
    await careful.get("/p")
    careful.clock.advance(61)
    async with asyncio.TaskGroup() as visitors:
        first = visitors.create_task(careful.proxy.get("/p", HIS[0]))
        await careful.origin.received(2)
        second = visitors.create_task(careful.proxy.get("/p", others))
        await waiting(careful.proxy, 2)
        gate.set()
    assert first.result().headers["x-user"] == "alice"
    reply = second.result()
    assert (reply.status, reply.text, reply.headers.get("x-user")) == (200, "1", None)
    assert careful.hits("/p") == 3


@requires("RFC 9111 §3.5", "where the origin calls it public, it freshens the page for all")
async def test_public_304_to_one_visitor(careful: Site) -> None:
    careful.on("/p", page("1", TAGGED), unchanged({**TAGGED, "Cache-Control": "public, max-age=60"}))
    await careful.get("/p")
    careful.clock.advance(61)
    await careful.get("/p", HIS[0])
    assert await careful.is_reused("/p")


@requires("RFC 9111 §3.5", "so with parts: a 304 to one visitor's cookie is his")
async def test_law_4_304_of_parts(careful: Site) -> None:
    careful.on("/p", ranged(BODY, TAGGED), unchanged(ALICES), unchanged(TAGGED))
    await careful.get("/p", asking("0-9"))
    careful.clock.advance(61)
    reply = await careful.get("/p", {**asking("0-9"), **HIS[0]})
    assert is_part(reply, 0, 10)
    assert reply.headers["x-user"] == "alice"
    reply = await careful.get("/p", asking("0-9"))
    assert is_part(reply, 0, 10)
    assert (reply.headers.get("x-user"), careful.hits("/p")) == (None, 3)


# --- cookies that are set, and fields that directives name ---


@requires("RFC 6265 §3", "a cookie that a 304 sets is for whoever asked, never stored")
@pytest.mark.parametrize("mode", ["refuse", "store", "drop"])
async def test_law_4_cookie_of_a_304(
    start: Start, origin: ScriptedOrigin, clock: FakeClock, mode: str
) -> None:
    origin.on("/p", page("1", TAGGED), unchanged({**TAGGED, "Set-Cookie": "a=1"}), unchanged(TAGGED))
    async with start(f"- {{match: /**, revalidate: origin, set_cookie: {mode}}}") as proxy:
        site = Site(origin, proxy, clock)
        await site.get("/p")
        clock.advance(61)
        his = None if mode == "drop" else "a=1"
        assert (await site.get("/p")).headers.get("set-cookie") == his
        assert (await site.get("/p")).headers.get("set-cookie") is None


@requires("RFC 9111 §5.2.2.7", "a field that private or no-cache names is never laid over the stored ones")
@pytest.mark.parametrize("directive", ["private", "no-cache"])
async def test_law_4_304_brings_a_named_field(site: Site, directive: str) -> None:
    named = {"Cache-Control": f'max-age=60, {directive}="X-User"', "ETag": '"abc"'}
    site.on("/p", page("1", {**named, "X-User": "a"}), unchanged({"ETag": '"abc"', "X-User": "alice"}))
    await site.get("/p")
    site.clock.advance(61)
    assert (await site.get("/p")).headers["x-user"] == "alice"
    reply = await site.get("/p")
    assert (reply.x_cache, reply.headers.get("x-user")) == ("HIT", None)


@requires("RFC 9111 §5.2.2.4", "whoever a page was fetched anew for gets the fields that no-cache names")
async def test_leader_of_a_regeneration(site: Site) -> None:
    said = {"Cache-Control": 'max-age=60, no-cache="Set-Cookie"'}
    site.on("/p", page("1", said), page("2", {**said, "Set-Cookie": "a=1"}))
    await site.get("/p")
    site.clock.advance(61)
    assert (await site.get("/p")).headers["set-cookie"] == "a=1"
    assert (await site.get("/p")).headers.get("set-cookie") is None


# --- for nobody any more ---


@requires("RFC 9111 §4.3.4", "a 304 that forbids storing is not for those who wait for it")
async def test_304_private_is_not_for_those_who_wait(site: Site) -> None:
    gate = asyncio.Event()
    private = {**ALICES, "Cache-Control": "private"}
    site.on("/p", page("1", TAGGED), [Wait(gate), *unchanged(private)], page("2", FRESH))
    await site.get("/p")
    site.clock.advance(61)
    async with asyncio.TaskGroup() as visitors:
        first = visitors.create_task(site.proxy.get("/p"))
        await site.origin.received(2)
        second = visitors.create_task(site.proxy.get("/p"))
        await waiting(site.proxy, 2)
        gate.set()
    assert first.result().headers["x-user"] == "alice"
    reply = second.result()
    assert (reply.text, reply.headers.get("x-user")) == ("2", None)


@requires("RFC 9111 §4.1", "a 304 or an answer to HEAD that says a page varies ends its use for others")
@pytest.mark.parametrize("vary", ["Foo", "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_304_says_it_varies(site: Site, vary: str, method: str) -> None:
    status = 304 if method == "GET" else 200
    varying = {**TAGGED, "Vary": vary}
    site.on("/p", page("1", TAGGED), [Send(head(status, varying))], page("2", FRESH))
    await site.get("/p", {"Foo": "a"})
    site.clock.advance(61)
    await site.get("/p", {"Foo": "a"}, method=method)
    assert not await site.is_reused("/p", headers={"Foo": "b"})


# --- about something else ---


@requires("RFC 9111 §4.3.4", "a weak validator, too, says which page a 304 is about; the ETag decides")
@pytest.mark.parametrize("other", [{"ETag": 'W/"other"'}, {"Last-Modified": format_date(START - 1)}])
async def test_304_with_another_weak_validator(site: Site, other: dict[str, str]) -> None:
    stored = {**FRESH, "ETag": 'W/"abc"', "Last-Modified": format_date(START - 99)}
    site.on("/p", page("1", stored), unchanged({**FRESH, **other}), page("2", FRESH))
    await site.get("/p")
    site.clock.advance(61)
    assert (await site.get("/p")).text == "2"


@requires("RFC 9111 §4.3.4", "so with parts: they are asked for again")
async def test_304_of_other_parts(site: Site) -> None:
    site.on("/p", ranged(BODY, TAGGED), unchanged({"ETag": '"other"'}), ranged(BODY, TAGGED))
    await site.get("/p", asking("0-9"))
    site.clock.advance(61)
    assert is_part(await site.get("/p", asking("0-9")), 0, 10)
    assert site.last.header("if-none-match") is None


@requires("RFC 9111 §4.3.4", "what is answered to the second question never costs the stored page")
@pytest.mark.parametrize("mode", ["origin", "60s"])
@pytest.mark.parametrize(("status", "more"), [(403, {}), (500, FRESH)])
async def test_law_1_304_of_another_then_an_error(
    start: Start, origin: ScriptedOrigin, clock: FakeClock, mode: str, status: int, more: dict[str, str]
) -> None:
    other, error = unchanged({"ETag": '"other"'}), page("no", more, status)
    origin.on("/p", page("good", TAGGED), other, error, page("oops", {}, 500))
    async with start(f"- {{match: /**, revalidate: {mode}}}") as proxy:
        site = Site(origin, proxy, clock)
        await site.get("/p")
        for _ in range(2):
            clock.advance(61)
            reply = await site.get("/p")
        assert (reply.status, reply.text) == (200, "good")


@requires("RFC 9111 §4.3.4", "an ISR page is asked for neutrally, so its 304 is for all, less its cookies")
async def test_isr_304_that_sets_a_cookie(start: Start, origin: ScriptedOrigin, clock: FakeClock) -> None:
    origin.on("/p", page("1", {"ETag": '"abc"'}), unchanged({"Set-Cookie": "a=1"}))
    async with start("- {match: /**, revalidate: 60s}") as proxy:
        site = Site(origin, proxy, clock)
        await site.get("/p")
        clock.advance(61)
        assert (await site.get("/p")).x_cache == "STALE"
        reply = await site.get("/p")
        assert (reply.x_cache, reply.headers.get("set-cookie")) == ("HIT", None)


@requires("RFC 9111 §4.3.4", "behind a stale page, a 304 that is nobody's is not asked for at every hit")
async def test_law_3_cookie_of_a_304_behind(start: Start, origin: ScriptedOrigin, clock: FakeClock) -> None:
    stored = {"Cache-Control": "max-age=60, stale-while-revalidate=999", "ETag": '"abc"'}
    origin.on("/p", page("1", stored), unchanged({"Set-Cookie": "a=1"}))
    async with start(COOKIES_APART) as proxy:
        site = Site(origin, proxy, clock)
        await site.get("/p")
        clock.advance(61)
        for _ in range(4):
            assert (await site.get("/p")).x_cache == "STALE"
        assert origin.hits("/p") == 2
