"""Where parts meet: broken bodies and what follows, interim heads, blank lines, relayed parts, closing."""

from __future__ import annotations

import time

from tests.harness import eventually
from tests.http.conftest import PASSING, Site, Start
from tests.http.requirements import requires
from tests.http.test_limits_slow import arriving
from tests.ranging_origin import ranged
from tests.scripted_origin import Close, Exchange, ScriptedOrigin, Send, head, page

BROKEN = b"POST /form HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"


@requires("RFC 9112 §7.1", "what comes behind a broken chunk is no end of the body, and no request")
async def test_behind_a_broken_chunk(start: Start, origin: ScriptedOrigin) -> None:
    async def wait(exchange: Exchange) -> None:
        await exchange.hang()

    origin.on("/form", wait)
    async with start(PASSING) as proxy:
        visitor, connection = await arriving(proxy, BROKEN)
        await eventually(lambda: connection._is_serving)
        visitor.writer.write(b"zz\r\n")
        await eventually(lambda: connection._is_broken)
        visitor.writer.write(b"0\r\n\r\nGET /next HTTP/1.1\r\nHost: a\r\n\r\n")
        reply = await visitor.reply()
        assert (reply.status, reply.headers["connection"]) == (400, "close")
        assert await visitor.reader.read() == b""
        assert not any(request.path == "/next" for request in origin.requests)


@requires("RFC 9110 §8.6", "no length in an interim response")
async def test_interim_length(passing: Site) -> None:
    early = Send(head(103, {"Link": "</a>", "Content-Length": "5"}))
    passing.on("/p", [early, *page("hi")])
    visitor = await passing.proxy.visitor()
    visitor.send("/p")
    raw = await visitor.reader.readuntil(b"\r\n\r\n")
    assert b" 103 " in raw
    assert b"Content-Length" not in raw


@requires("RFC 9110 §15.2", "an interim response that says close is not the last of its answer")
async def test_interim_that_closes(passing: Site) -> None:
    passing.on("/p", [Send(head(102, {"Connection": "close"})), *page("hi"), Close()])
    assert (await passing.get("/p")).text == "hi"


@requires("RFC 9112 §2.2", "a line break between two requests begins none")
async def test_blank_line_between(passing: Site) -> None:
    visitor, connection = await arriving(passing.proxy, b"")
    await visitor.get("/p")
    await eventually(lambda: connection.task is None)
    idle_until = connection.deadline
    visitor.writer.write(b"\r\n")
    await eventually(lambda: connection._head_bytes == 2)
    assert connection.deadline == idle_until
    assert (await visitor.get("/p")).status == 404


@requires("RFC 9112 §9.3", "behind a part that is not kept the connection goes on")
async def test_behind_a_relayed_part(site: Site) -> None:
    site.on("/p", ranged(b"x" * 100, {"ETag": '"v1"', "Cache-Control": "no-store"}))
    site.on("/next", page("next"))
    visitor = await site.proxy.visitor()
    for wanted in ("bytes=0-49", "bytes=50-99"):
        assert (await visitor.get("/p", {"Range": wanted})).status == 206
        assert (await visitor.get("/next")).text == "next"


@requires("RFC 9112 §9.6", "who is being closed keeps his deadline, whether he reads or not")
async def test_closing_keeps_its_deadline(start: Start) -> None:
    async with start(PASSING) as proxy:
        visitor, connection = await arriving(proxy, b"BAD\r\n\r\n")
        assert (await visitor.reply()).status == 400
        assert connection._is_lingering
        connection.pause_writing()
        connection.resume_writing()
        assert connection.deadline < time.monotonic() + 5


@requires("RFC 9110 §14.4", "a Content-Range that means nothing in a 200 is none of the parts cut from it")
async def test_a_content_range_of_a_200(site: Site) -> None:
    site.on("/p", page("hello", {"Cache-Control": "max-age=60", "Content-Range": "bytes 7-8/9"}))
    await site.get("/p")
    reply = await site.get("/p", {"Range": "bytes=0-1"})
    assert (reply.status, reply.text, reply.headers["content-range"]) == (206, "he", "bytes 0-1/5")
    assert (await site.get("/p", {"Range": "bytes=9-"})).headers["content-range"] == "bytes */5"
