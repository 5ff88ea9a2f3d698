"""RFC 9110 §15.2 and RFC 8297: interim responses go through, and are never the answer."""

from __future__ import annotations

import asyncio

import pytest

from tests.http.conftest import Site
from tests.http.requirements import requires
from tests.scripted_origin import Send, Wait, head, page

HINTS = head(103, {"Link": "</a.css>; rel=preload", "Cache-Tag": "secret"})


@requires("RFC 8297 §2", "103 reaches the visitor before the answer is there, with its fields")
async def test_early_hints(passing: Site) -> None:
    ready = asyncio.Event()
    passing.on("/p", [Send(HINTS), Wait(ready), *page("hello")])
    visitor = await passing.proxy.visitor()
    visitor.send("/p")
    raw = await visitor.reader.readuntil(b"\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 103 ")
    assert b"Link: </a.css>; rel=preload\r\n" in raw
    assert b"Cache-Tag" not in raw
    ready.set()
    reply = await visitor.reply()
    assert (reply.text, reply.headers.get("link")) == ("hello", None)


@requires("RFC 9110 §15.2", "every interim response is forwarded, in order; a 100 too that nobody asked for")
async def test_all_interims(passing: Site) -> None:
    interims = [Send(head(status)) for status in (102, 100, 103, 199, 103)]
    passing.on("/p", [*interims, *page("hello")])
    reply = await passing.get("/p")
    assert (reply.interim, reply.text) == ((102, 100, 103, 199, 103), "hello")


@requires("RFC 9110 §15.2", "who speaks HTTP/1.0 gets no interim response")
async def test_http_10(passing: Site) -> None:
    passing.on("/p", [Send(HINTS), *page("hello")])
    visitor = await passing.proxy.visitor()
    visitor.writer.write(b"GET /p HTTP/1.0\r\nHost: a\r\n\r\n")
    assert (await visitor.reader.read()).startswith(b"HTTP/1.1 200 ")


@requires("RFC 8297 §2", "early hints are not stored with the page")
async def test_hints_are_not_stored(site: Site) -> None:
    site.on("/p", [Send(HINTS), *page("hello", {"Cache-Control": "max-age=60"})])
    await site.get("/p")
    reply = await site.get("/p")
    assert (reply.x_cache, reply.interim, reply.headers.get("link")) == ("HIT", (), None)


@requires("RFC 9110 §15.2", "an endless row of interim responses is no answer")
@pytest.mark.parametrize("count", [65])
async def test_endless_interims(count: int, passing: Site) -> None:
    passing.on("/p", [Send(HINTS * count), *page("hello")])
    reply = await passing.get("/p")
    assert (reply.status, len(reply.interim)) == (502, count - 1)
