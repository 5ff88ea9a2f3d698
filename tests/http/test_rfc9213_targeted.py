"""RFC 9213: cache control for us alone."""

from __future__ import annotations

import pytest

from tests.http.conftest import Site
from tests.http.requirements import requires
from tests.scripted_origin import Headers

CDN = "CDN-Cache-Control"
CC = "Cache-Control"
FAR = "Fri, 01 Jan 2038 00:00:00 GMT"

KEPT: list[Headers] = [
    {CDN: "max-age=60"},
    {CDN: "max-age=60", CC: "no-store"},
    {CDN: "max-age=60", CC: "max-age=1"},
    {CDN: "max-age=60", CC: "private"},
    {CDN: "max-age=60", "Expires": "0"},
    {CDN: "foo, max-age=60;bar=1, baz=(1 2)"},
    {CDN: "max-age=60, max-age=70"},
    {CDN: "max-age=999999999999999"},
    [(CDN, "foo"), (CDN, "max-age=60")],
    {CDN: "max-age=1", "ISR-Cache-Control": "max-age=60"},
    {"Surrogate-Control": "max-age=60"},
    {"Surrogate-Control": 'max-age=60+30, content="ESI/1.0"', CC: "no-store"},
    {"Surrogate-Control": 'content="ESI/1.0"', CC: "max-age=60"},
]
NOT_KEPT: list[Headers] = [
    {CDN: "max-age=0", CC: "max-age=60"},
    {CDN: "max-age=1", CC: "max-age=60"},
    {CDN: "no-store", CC: "max-age=60"},
    {CDN: "private", CC: "max-age=60"},
    {CDN: "no-cache", CC: "max-age=60"},
    {CDN: "no-store, max-age=60"},
    {CDN: "none", CC: "max-age=60", "Expires": FAR},
    {CDN: "foo", "Expires": FAR},
    {CDN: 'max-age="60"', CC: "max-age=60"},
    {CDN: "max-age=60.5", CC: "max-age=60"},
    {CDN: "max-age", CC: "max-age=60"},
    {CDN: "max-age=60", "ISR-Cache-Control": "no-store"},
    {CDN: "no-store", "Surrogate-Control": "max-age=60"},
    {"Surrogate-Control": 'no-store, content="ESI/1.0"', CC: "max-age=60"},
    {"Surrogate-Control": 'content="ESI/1.0"', CC: "no-store"},
]
MALFORMED = [
    "",
    "max-age=60, &&&",
    "max-age =60",
    "max-age= 60",
    "MaX-aGe=60",
    "max-age=60;",
    "max-age=60,,a",
    "=1",
]


@requires("RFC 9213 §2.2", "the first valid field of the target list replaces Cache-Control and Expires")
@pytest.mark.parametrize("headers", KEPT)
async def test_kept(site: Site, headers: Headers) -> None:
    assert await site.keeps(headers, after=2)


@requires("RFC 9213 §2.2", "also where it is stricter, or says nothing of freshness")
@pytest.mark.parametrize("headers", NOT_KEPT)
async def test_not_kept(site: Site, headers: Headers) -> None:
    assert not await site.keeps(headers, after=2)


@requires("RFC 9213 §2.1", "one that is empty, or no structured dictionary, is as if it were not there")
@pytest.mark.parametrize("value", MALFORMED)
async def test_malformed(site: Site, value: str) -> None:
    assert await site.keeps({CDN: value, CC: "max-age=60"}, after=2)
    assert not await site.keeps({CDN: value, CC: "max-age=1"}, after=2)


@requires("RFC 9213 §2.1", "parameters of directives are ignored")
async def test_parameters(site: Site) -> None:
    assert not await site.keeps({CDN: "no-store;a=1", CC: "max-age=60"})


@requires("RFC 9213 §3", "CDN-Cache-Control goes on to caches before us; our own field does not")
async def test_forwarded(site: Site) -> None:
    site.says("/p", {CDN: "max-age=60", "ISR-Cache-Control": "max-age=60", "Surrogate-Control": "max-age=60"})
    for _ in range(2):
        headers = (await site.get("/p")).headers
        assert headers["cdn-cache-control"] == "max-age=60"
        assert not {"isr-cache-control", "surrogate-control"} & set(headers)
