"""RFC 9111 §4.3.3: an error in answer to a validation never costs the stored page (law 1)."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness import FakeClock, eventually
from tests.http.conftest import Site, Start
from tests.http.requirements import requires
from tests.scripted_origin import ScriptedOrigin, Wait, page

FRESH = {"Cache-Control": "max-age=60"}


async def is_validated_still(site: Site) -> bool:
    """Have a stored page meet what the origin says next, and tell whether it is still asked about."""
    for _ in range(3):
        await site.get("/p")
        site.clock.advance(61)
    return site.last.header("if-none-match") == '"abc"'


@requires("RFC 9111 §4.3.3", "a 5xx leaves the stored page alone, whatever it says of itself")
@pytest.mark.parametrize("said", ["max-age=0", "no-cache", "max-age=60"])
@pytest.mark.parametrize("stored", ["max-age=60", "max-age=60, must-revalidate", "s-maxage=60", "no-cache"])
async def test_law_1_5xx(site: Site, said: str, stored: str) -> None:
    good = {"Cache-Control": stored, "ETag": '"abc"'}
    site.on("/p", page("1", good), page("oops", {"Cache-Control": said, "ETag": '"e"'}, 503), page("2", good))
    assert await is_validated_still(site)


@requires("RFC 9111 §4.3.3", "so does another error, of a page that must be validated too")
@pytest.mark.parametrize("status", [400, 401, 403, 429])
async def test_law_1_4xx(site: Site, status: int) -> None:
    good = {"Cache-Control": "no-cache", "ETag": '"abc"'}
    site.on("/p", page("1", good), page("no", {}, status), page("2", good))
    assert await is_validated_still(site)


@requires("RFC 9111 §3", "an error that may not be reused unasked is a failure, as one that says nothing")
@pytest.mark.parametrize("said", ["max-age=0", "no-cache", "max-age=60, no-cache"])
async def test_error_that_is_never_fresh(site: Site, said: str) -> None:
    site.on("/p", page("oops", {"Cache-Control": said, "ETag": '"e"'}, 500), page("2", FRESH))
    assert (await site.get("/p")).x_cache == "ERROR"
    assert (await site.get("/p")).text == "2"


@requires("RFC 9111 §3", "nor do the next visitors fetch each for himself")
async def test_law_3_error_that_is_never_fresh(site: Site) -> None:
    gate = asyncio.Event()
    site.on("/p", page("oops", {"Cache-Control": "max-age=0"}, 500), [Wait(gate), *page("2", FRESH)])
    await site.get("/p")
    flights = site.proxy.worker.engine.flights
    async with asyncio.TaskGroup() as visitors:
        for _ in range(8):
            visitors.create_task(site.proxy.get("/p"))
        await eventually(lambda: sum(flight.waiters for flight in flights.in_flight()) == 8)
        gate.set()
    assert site.hits("/p") == 2


@requires("RFC 9111 §4.1", "a variant without room does not cost the page that was found in its place")
async def test_law_1_full_variants(start: Start, origin: ScriptedOrigin, clock: FakeClock) -> None:
    said = {**FRESH, "Vary": "Accept-Language"}
    async with start("- {match: /**, revalidate: origin}", max_entry="1MiB, max_variants: 2") as proxy:
        site = Site(origin, proxy, clock)
        for language in ("de", "en"):
            site.on("/p", page(language, {**said, "Content-Language": language}))
            await site.get("/p", {"Accept-Language": language})
        clock.advance(61)
        await site.get("/p", {"Accept-Language": "en, de;q=0.5"})
        site.on("/p", page("oops", {}, 500))
        assert (await site.get("/p", {"Accept-Language": "en"})).text == "en"
