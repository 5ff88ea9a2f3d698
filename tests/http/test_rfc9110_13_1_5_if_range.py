"""RFC 9110 §13.1.5: a part only of what the visitor has already, else all of it."""

from __future__ import annotations

import pytest

from tests.http.conftest import Site
from tests.http.requirements import requires
from tests.scripted_origin import page

BODY = b"0123456789"
MODIFIED = "Fri, 01 Jan 2027 00:00:00 GMT"
LATER = "Fri, 01 Jan 2027 00:00:01 GMT"
FRESH = {"Cache-Control": "max-age=60"}


async def status(site: Site, headers: dict[str, str], condition: str) -> int:
    """Store a page with these headers; returns what a range of it gets on a condition."""
    site.on("/p", page(BODY, {**FRESH, **headers}))
    await site.get("/p")
    reply = await site.get("/p", {"Range": "bytes=0-1", "If-Range": condition})
    assert reply.body == (b"01" if reply.status == 206 else BODY)
    return reply.status


@requires("RFC 9110 §13.1.5", "entity tags are compared strongly")
@pytest.mark.parametrize(
    ("etag", "condition", "expected"),
    [
        ('"v1"', '"v1"', 206),
        ('"v1"', '"v2"', 200),
        ('"v1"', 'W/"v1"', 200),
        ('W/"v1"', 'W/"v1"', 200),
        ('W/"v1"', '"v1"', 200),
        ('"v1"', "v1", 200),
        ('"v1"', '"v1", "v2"', 200),
    ],
)
async def test_tags(site: Site, etag: str, condition: str, expected: int) -> None:
    assert await status(site, {"ETag": etag}, condition) == expected


@requires("RFC 9110 §13.1.5", "a date holds if it is exactly the page's, and that is strong")
@pytest.mark.parametrize(
    ("modified", "date", "condition", "expected"),
    [
        (MODIFIED, LATER, MODIFIED, 206),
        (MODIFIED, MODIFIED, MODIFIED, 200),
        (MODIFIED, LATER, LATER, 200),
        (MODIFIED, LATER, "Thu, 31 Dec 2026 23:59:59 GMT", 200),
        (MODIFIED, LATER, "Friday, 01-Jan-27 00:00:00 GMT", 206),
        (MODIFIED, LATER, "yesterday", 200),
    ],
)
async def test_dates(site: Site, modified: str, date: str, condition: str, expected: int) -> None:
    assert await status(site, {"Last-Modified": modified, "Date": date}, condition) == expected


@requires("RFC 9110 §8.8.2.2", "a later 304 does not make a date strong that was not when the page was made")
async def test_validated_later(site: Site) -> None:
    weak = {**FRESH, "ETag": '"v1"', "Last-Modified": "Fri, 15 Jan 2027 08:00:00 GMT"}
    site.on("/p", page(BODY, weak), page(b"", weak, 304))
    await site.get("/p")
    site.clock.advance(61)
    await site.get("/p")
    asked = {"Range": "bytes=0-1", "If-Range": "Fri, 15 Jan 2027 08:00:00 GMT"}
    assert (await site.get("/p", asked)).status == 200


@requires("RFC 9110 §13.1.5", "If-Range without Range is ignored")
async def test_alone(site: Site) -> None:
    site.on("/p", page(BODY, {**FRESH, "ETag": '"v1"'}))
    await site.get("/p")
    assert (await site.get("/p", {"If-Range": '"v0"'})).status == 200


@requires("RFC 9110 §13.1.5", "a range that lies outside gets all of it where If-Range does not hold")
async def test_outside(site: Site) -> None:
    site.on("/p", page(BODY, {**FRESH, "ETag": '"v1"'}))
    await site.get("/p")
    assert (await site.get("/p", {"Range": "bytes=99-", "If-Range": '"v0"'})).status == 200
    assert (await site.get("/p", {"Range": "bytes=99-", "If-Range": '"v1"'})).status == 416
