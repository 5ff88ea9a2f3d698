"""RFC 9111 §4.2: explicit and guessed lifetimes, age, and when stale may be served."""

from __future__ import annotations

import asyncio

import pytest

from isr_proxy.core.http import format_date
from tests.harness import START, FakeClock
from tests.http.conftest import Site, Start
from tests.http.requirements import requires
from tests.scripted_origin import Headers, ScriptedOrigin, Send, Wait, head, page


def date(seconds: float) -> str:
    """Write an instant relative to the test's beginning."""
    return format_date(START + seconds)


LONG = [
    {"Cache-Control": "max-age=3600"},
    {"Cache-Control": "MaX-AgE=3600"},
    {"Cache-Control": 'max-age="3600"'},
    {"Cache-Control": "max-age=003600"},
    {"Cache-Control": "max-age=2147483647"},
    {"Cache-Control": "max-age=2147483648"},
    {"Cache-Control": "max-age=99999999999999999999"},
    {"Cache-Control": "max-age=3600,"},
    {"Cache-Control": ", ,max-age=3600"},
    {"Cache-Control": "foo=bar, max-age=3600, baz"},
    {"Cache-Control": 'ext="max-age=1", max-age=3600'},
    {"Cache-Control": "s-maxage=3600"},
    {"Cache-Control": "max-age=0, s-maxage=3600"},
    {"Cache-Control": "max-age=3600", "Expires": "0"},
    {"Cache-Control": "max-age=3600", "Expires": date(-99)},
    {"Expires": date(3600)},
    [("Expires", date(3600)), ("Expires", date(3600))],
    {"Expires": date(3600), "Date": date(0)},
    {"Expires": date(3600), "Date": "nonsense"},
    {"Expires": "Fri, 01 Jan 2038 00:00:00 GMT"},
    {"Expires": "Mon, 01 Jan 2150 00:00:00 GMT"},
    {"Expires": "Friday, 01-Jan-38 00:00:00 GMT"},
    {"Expires": "Fri Jan  1 00:00:00 2038"},
    {"Expires": "fri, 01 JAN 2038 00:00:00 gmt"},
]


@requires("RFC 9111 §4.2.1", "explicit freshness is read in each of its forms")
@pytest.mark.parametrize("headers", LONG)
async def test_fresh(site: Site, headers: Headers) -> None:
    assert await site.keeps(headers, after=3599)


STALE: list[Headers] = [
    {},
    {"Cache-Control": "max-age=0"},
    {"Cache-Control": "max-age=0", "Expires": date(3600)},
    {"Cache-Control": "max-age=3600, s-maxage=0"},
    {"Cache-Control": "max-age=-3600"},
    {"Cache-Control": "max-age=3600.5"},
    {"Cache-Control": "max-age=a3600"},
    {"Cache-Control": "max-age='3600'"},
    {"Cache-Control": "max-age"},
    {"Cache-Control": "max-age="},
    {"Cache-Control": 'ext="max-age=3600"'},
    {"Cache-Control": "max-age=1, max-age=3600"},
    [("Cache-Control", "max-age=1"), ("Cache-Control", "max-age=3600")],
    {"Expires": date(0)},
    {"Expires": date(-3600)},
    {"Expires": date(3600), "Date": date(3600)},
    {"Expires": "0"},
    {"Expires": ""},
    {"Expires": "2038-01-01T00:00:00Z"},
    {"Expires": "Fri, 01 Jan 38 00:00:00 GMT"},
    {"Expires": "Fri, 01 Jan 2038 00:00:00 EST"},
    {"Expires": "Fri, 01 Jan 2038 00:00:00 UTC"},
    {"Expires": "Fri 01 Jan 2038 00:00:00 GMT"},
    {"Expires": "Fri, 01 Jan 2038  00:00:00 GMT"},
    {"Expires": "Fri, 1 Jan 2038 00:00:00 GMT"},
    {"Expires": "Fri, 01 Jan 2038 0:00:00 GMT"},
    {"Expires": "Fri, 01 Jan 2038 00.00.00 GMT"},
    {"Expires": "Fri, 31 Feb 2038 00:00:00 GMT"},
    [("Expires", date(3600)), ("Expires", date(7200))],
]


@requires(
    "RFC 9111 §4.2.1", "what is absent, over or malformed is not fresh; in doubt the stricter reading counts"
)
@pytest.mark.parametrize("headers", STALE)
async def test_not_fresh(site: Site, headers: Headers) -> None:
    assert not await site.keeps(headers, after=2)


# --- §4.2.2 ---

OLD = {"Last-Modified": date(-36_000)}


@requires("RFC 9111 §4.2.2", "without explicit freshness, a tenth of the time since Last-Modified is guessed")
@pytest.mark.parametrize(("after", "is_reused"), [(3599, True), (3601, False)])
async def test_guessed(site: Site, after: float, is_reused: bool) -> None:
    assert await site.keeps(OLD, after=after) is is_reused


@requires("RFC 9111 §4.2.2", "a guess is at most a day")
async def test_guess_is_capped(site: Site) -> None:
    assert not await site.keeps({"Last-Modified": date(-10 * 365 * 86_400)}, after=86_401)


@requires("RFC 9110 §15.1", "for the heuristically cacheable statuses")
@pytest.mark.parametrize("status", [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501])
async def test_guessed_statuses(site: Site, status: int) -> None:
    assert await site.keeps(OLD, status=status)


@requires("RFC 9111 §4.2.2", "for others only if they are called public")
@pytest.mark.parametrize("status", [201, 202, 302, 303, 307, 403, 418, 500, 502, 503, 504, 599])
async def test_statuses_without_a_guess(site: Site, status: int) -> None:
    assert not await site.keeps(OLD, status=status)
    assert await site.keeps({**OLD, "Cache-Control": "public"}, status=status)


@requires("RFC 9111 §4.2.2", "by default errors that a visitor may have provoked are not kept by a guess")
@pytest.mark.parametrize("status", [405, 414, 501])
async def test_guess_by_default(start: Start, origin: ScriptedOrigin, status: int) -> None:
    origin.on("/p", page("1", OLD, status))
    async with start("- {match: /**, revalidate: origin}") as proxy:
        await proxy.get("/p")
        await proxy.settled()
        await proxy.get("/p")
    assert origin.hits("/p") == 2


@requires("RFC 9111 §4.2.2", "a route may forbid guessing")
async def test_no_guess(start: Start, origin: ScriptedOrigin, clock: FakeClock) -> None:
    origin.on("/p", page("1", OLD))
    async with start("- {match: /**, revalidate: origin, heuristic: 'off'}") as proxy:
        await proxy.get("/p")
        await proxy.settled()
        clock.advance(1)
        await proxy.get("/p")
    assert origin.hits("/p") == 2


# --- §4.2.3, §5.1 ---

AGED: list[tuple[Headers, float, bool]] = [
    ({"Age": "3599"}, 0, True),
    ({"Age": "3600"}, 0, False),
    ({"Age": "1800"}, 1799, True),
    ({"Age": "1800"}, 1801, False),
    ({"Age": "2147483648"}, 0, False),
    ({"Age": "99999999999999999999"}, 0, False),
    ({"Age": "0, 7200"}, 0, True),
    ({"Age": "7200, 0"}, 0, False),
    ([("Age", "0"), ("Age", "7200")], 0, True),
    ([("Age", "7200"), ("Age", "0")], 0, False),
    ({"Age": "x"}, 0, True),
    ({"Age": "-7200"}, 0, True),
    ({"Age": "7200.0"}, 0, True),
    ({"Age": "7200x"}, 0, True),
    ({"Age": "7200;a=b"}, 0, True),
    ({"Date": date(-7200)}, 0, False),
    ({"Date": date(7200)}, 3599, True),
]


@requires("RFC 9111 §4.2.3", "the age a response comes with counts: the first Age that is a number, or Date")
@pytest.mark.parametrize(("headers", "after", "is_reused"), AGED)
async def test_age(site: Site, headers: Headers, after: float, is_reused: bool) -> None:
    pairs = [*(headers.items() if isinstance(headers, dict) else headers)]
    assert await site.keeps([*pairs, ("Cache-Control", "max-age=3600")], after=after) is is_reused


@requires("RFC 9111 §5.1", "a reused response says its age, counted on from what it came with")
async def test_age_is_told(site: Site) -> None:
    site.says("/p", {"Cache-Control": "max-age=3600", "Age": "30"})
    await site.get("/p")
    site.clock.advance(12)
    assert (await site.get("/p")).headers["age"] == "42"


@requires("RFC 9111 §4.2.3", "what passes until the head comes counts, with or without an Age")
@pytest.mark.parametrize(("more", "age"), [({}, "29"), ({"Age": "30"}, "59")])
async def test_age_counts_the_delay(site: Site, more: dict[str, str], age: str) -> None:
    gate = asyncio.Event()
    site.on("/p", [Wait(gate), *page("1", {"Cache-Control": "max-age=3600", **more})])
    async with asyncio.TaskGroup() as visitors:
        visitors.create_task(site.proxy.get("/p"))
        await site.origin.received(1)
        site.clock.advance(29)
        gate.set()
    await site.proxy.settled()
    assert (await site.get("/p")).headers["age"] == age


@requires("RFC 9111 §4.2.3", "the age counts from the head on, however long the body takes")
async def test_age_counts_from_the_head(site: Site) -> None:
    gate = asyncio.Event()
    start = head(200, {"Cache-Control": "max-age=3600", "Content-Length": "2"})
    site.on("/p", [Send(start + b"o"), Wait(gate), Send(b"k")])
    visitor = await site.proxy.visitor()
    visitor.send("/p")
    await visitor.reader.readuntil(b"\r\n\r\no")
    site.clock.advance(29)
    gate.set()
    await site.proxy.settled()
    assert (await site.get("/p")).headers["age"] == "29"


@requires("RFC 9110 §6.6.1", "a reused response keeps its Date")
async def test_date_is_kept(site: Site) -> None:
    site.says("/p", {"Cache-Control": "max-age=3600", "Date": date(-5)})
    await site.get("/p")
    site.clock.advance(12)
    assert (await site.get("/p")).headers["date"] == date(-5)


# --- §4.2.4 ---

DOWN = page("down", status=503)
FORBIDDING = [
    "max-age=1, must-revalidate",
    "max-age=1, proxy-revalidate",
    "s-maxage=1",
    "max-age=1, no-cache",
    "max-age=1, must-revalidate, stale-if-error=99, stale-while-revalidate=99",
]


@requires("RFC 9111 §4.2.4", "what the origin forbids to serve stale is not, though the origin fails")
@pytest.mark.parametrize("directives", FORBIDDING)
async def test_stale_is_forbidden(site: Site, directives: str) -> None:
    site.on("/p", page("1", {"Cache-Control": directives}), DOWN)
    await site.get("/p")
    site.clock.advance(2)
    assert (await site.get("/p")).status == 503


@requires("RFC 9111 §5.2.2.2", "must-revalidate and an origin that cannot be reached: 504")
async def test_must_revalidate_disconnected(site: Site) -> None:
    site.says("/p", {"Cache-Control": "max-age=1, must-revalidate"})
    await site.get("/p")
    site.clock.advance(2)
    await site.origin.stop()
    assert (await site.get("/p")).status == 504


@requires("RFC 9111 §4.2.4", "disconnected from the origin, a stale response is served, and says so")
async def test_stale_when_disconnected(site: Site) -> None:
    site.says("/p", {"Cache-Control": "max-age=1"})
    await site.get("/p")
    site.clock.advance(2)
    await site.origin.stop()
    reply = await site.get("/p")
    assert (reply.text, reply.x_cache, reply.headers["age"]) == ("1", "STALE", "2")


@requires("RFC 9111 §4.2.4", "an ISR route overrides s-maxage and must-revalidate: its own words count")
async def test_isr_overrides(start: Start, origin: ScriptedOrigin, clock: FakeClock) -> None:
    origin.on("/p", page("1", {"Cache-Control": "s-maxage=1, must-revalidate"}), DOWN)
    async with start("- {match: /**, revalidate: 10s}") as proxy:
        await proxy.get("/p")
        await proxy.settled()
        clock.advance(11)
        assert (await proxy.get("/p")).x_cache == "STALE"
