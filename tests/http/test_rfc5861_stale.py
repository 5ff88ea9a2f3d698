"""RFC 5861: stale-while-revalidate and stale-if-error; RFC 8246: immutable."""

from __future__ import annotations

import pytest

from tests.http.conftest import Site
from tests.http.requirements import requires
from tests.scripted_origin import Close, Hang, Script, page

SWR = {"Cache-Control": "max-age=1, stale-while-revalidate=10"}
SIE = {"Cache-Control": "max-age=1, stale-if-error=10"}


@requires("RFC 5861 §3", "within stale-while-revalidate the old page is served at once and made anew behind")
async def test_while_revalidate(site: Site) -> None:
    site.says("/p", SWR, SWR)
    await site.get("/p")
    site.clock.advance(5)
    assert (await site.get("/p")).text == "1"
    assert (await site.get("/p")).text == "2"


@requires("RFC 5861 §3", "and no longer")
async def test_after_the_window(site: Site) -> None:
    site.says("/p", SWR, SWR)
    await site.get("/p")
    site.clock.advance(12)
    assert (await site.get("/p")).text == "2"


FAILURES: list[Script] = [*(page("down", status=status) for status in (500, 502, 503, 504)), [Close()]]


@requires("RFC 5861 §4", "within stale-if-error the old page is served when the origin fails")
@pytest.mark.parametrize("failure", FAILURES)
async def test_if_error(site: Site, failure: Script) -> None:
    site.on("/p", page("1", SIE), failure)
    await site.get("/p")
    site.clock.advance(5)
    assert (await site.get("/p")).text == "1"


@requires("RFC 5861 §4", "and no longer")
@pytest.mark.parametrize("failure", FAILURES)
async def test_error_after_the_window(site: Site, failure: Script) -> None:
    site.on("/p", page("1", SIE), failure)
    await site.get("/p")
    site.clock.advance(12)
    assert (await site.get("/p")).status >= 500


@requires("RFC 8246 §2", "immutable is passed on, and neither makes a response fresh nor keeps it so")
async def test_immutable(site: Site) -> None:
    site.says("/p", {"Cache-Control": "max-age=60, immutable"}, {"Cache-Control": "immutable"})
    await site.get("/p")
    assert (await site.get("/p")).headers["cache-control"] == "max-age=60, immutable"
    assert not await site.is_reused("/p", after=61)
    assert not await site.is_reused("/p")


@requires("RFC 5861 §3", "one regeneration, however many see the page stale")
async def test_one_regeneration(site: Site) -> None:
    site.on("/p", page("1", SWR), [Hang()])
    await site.get("/p")
    site.clock.advance(5)
    for _ in range(5):
        assert (await site.proxy.get("/p")).text == "1"
    await site.origin.received(2)
    assert site.hits("/p") == 2


@requires(
    "RFC 5861 §4", "a request may allow more than the answer did, as long as the origin forbids nothing"
)
@pytest.mark.parametrize(
    ("stored", "asked", "text"),
    [
        ("max-age=1, stale-if-error=0", "stale-if-error=600", "1"),
        ("max-age=1, stale-if-error=0", "stale-if-error=5", "oops"),
        ("max-age=1, stale-if-error=0", "stale-if-error=x", "oops"),
        ("max-age=1, must-revalidate", "stale-if-error=600", "oops"),
        ("no-cache", "stale-if-error=600", "oops"),
    ],
)
async def test_if_error_of_a_request(site: Site, stored: str, asked: str, text: str) -> None:
    site.on("/p", page("1", {"Cache-Control": stored, "ETag": '"a"'}), page("oops", {}, 500))
    await site.get("/p")
    site.clock.advance(61)
    assert (await site.get("/p", {"Cache-Control": asked})).text == text
