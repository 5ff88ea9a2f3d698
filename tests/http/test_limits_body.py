"""Request bodies that are too large: 413, at once where the length is told, and the origin request is cut."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness import Proxy, Visitor
from tests.http.conftest import Start
from tests.http.requirements import requires
from tests.http.test_limits_head import PASS, is_counted
from tests.scripted_origin import Exchange, Hang, ScriptedOrigin, Send, head, page

LIMITS = "limits: {max_body: 100KB}\n"
CHUNK = b"2710\r\n" + b"x" * 10_000 + b"\r\n"


async def posting(proxy: Proxy, framing: str, *, path: str = "/form", more: str = "") -> Visitor:
    """Send the head of a POST."""
    visitor = await proxy.visitor()
    visitor.writer.write(f"POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n{more}\r\n".encode())
    return visitor


@requires("RFC 9110 §15.5.14", "a Content-Length over the limit gets 413 before the origin is asked")
@pytest.mark.parametrize("length", ["100001", "9" * 18])
async def test_a_promise_that_is_too_large(start: Start, origin: ScriptedOrigin, length: str) -> None:
    async with start(PASS, more=LIMITS) as proxy:
        visitor = await posting(proxy, f"Content-Length: {length}")
        reply = await visitor.reply()
        assert (reply.status, reply.headers["x-cache-reason"]) == (413, "body-too-large")
        assert reply.headers["connection"] == "close"
        assert await visitor.reader.read() == b""
        assert is_counted(proxy, "body-too-large")
        assert origin.requests == []


@requires("RFC 9110 §10.1.1", "who waits for 100 is told 413 instead")
async def test_no_100_before_413(start: Start, origin: ScriptedOrigin) -> None:
    async with start(PASS, more=LIMITS) as proxy:
        visitor = await posting(proxy, "Content-Length: 100001", more="Expect: 100-continue\r\n")
        reply = await visitor.reply()
        assert (reply.status, reply.interim) == (413, ())


@requires("RFC 9110 §15.5.14", "a visitor who goes on sending still gets his 413")
async def test_the_answer_is_not_lost(start: Start) -> None:
    async with start(PASS, more=LIMITS) as proxy:
        visitor = await posting(proxy, "Content-Length: 5000000")
        visitor.writer.write(b"x" * 5_000_000)
        assert (await visitor.reply()).status == 413
        assert await visitor.reader.read() == b""


@requires("RFC 9110 §15.5.14", "a chunked body over the limit gets 413, and the origin request is cut")
async def test_chunks_that_are_too_many(start: Start, origin: ScriptedOrigin) -> None:
    cut = asyncio.Event()

    async def swallow(exchange: Exchange) -> None:
        await exchange.hang()
        cut.set()

    origin.on("/form", swallow)
    async with start(PASS, more=LIMITS) as proxy:
        visitor = await posting(proxy, "Transfer-Encoding: chunked")
        visitor.writer.write(CHUNK * 11)
        reply = await visitor.reply()
        assert (reply.status, reply.headers["x-cache-reason"]) == (413, "body-too-large")
        await asyncio.wait_for(cut.wait(), 3)
        assert is_counted(proxy, "body-too-large")


@requires("RFC 9110 §15.5.14", "where an answer has begun, a body over the limit cuts the connection")
async def test_chunks_that_are_too_many_behind_an_early_answer(start: Start, origin: ScriptedOrigin) -> None:
    async def hasty(exchange: Exchange) -> None:
        await exchange.send(head(200, {"Content-Length": "1000"}) + b"half")
        await exchange.hang()

    origin.on("/form", hasty)
    async with start(PASS, more=LIMITS) as proxy:
        visitor = await posting(proxy, "Transfer-Encoding: chunked")
        assert await visitor.reader.readuntil(b"half")
        visitor.writer.write(CHUNK * 11)
        assert len(await visitor.reader.read()) < 996


@requires("RFC 9110 §15.5.14", "a body of exactly the limit is passed")
@pytest.mark.parametrize(
    ("framing", "body"),
    [
        ("Content-Length: 100000", b"x" * 100_000),
        ("Transfer-Encoding: chunked", CHUNK * 10 + b"0\r\n\r\n"),
    ],
)
async def test_just_enough(start: Start, origin: ScriptedOrigin, framing: str, body: bytes) -> None:
    origin.on("/form", page("taken"))
    async with start(PASS, more=LIMITS) as proxy:
        visitor = await posting(proxy, framing)
        visitor.writer.write(body)
        assert (await visitor.reply()).text == "taken"
        assert len(origin.requests[0].body) == 100_000


@requires("RFC 9110 §15.5.14", "without a limit any body is passed, in constant memory")
async def test_no_limit(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/form", page("taken"))
    async with start(PASS, more="limits: {max_body: null}\n") as proxy:
        visitor = await posting(proxy, "Content-Length: 3000000")
        visitor.writer.write(b"x" * 3_000_000)
        assert (await visitor.reply()).text == "taken"
        assert len(origin.requests[0].body) == 3_000_000


@requires("RFC 9110 §15.5.14", "an origin's own 413 is passed on")
async def test_the_origins_own(start: Start, origin: ScriptedOrigin) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.run([Send(head(413, {"Content-Length": "2"}) + b"no"), Hang()])

    origin.on("/form", refuse)
    async with start(PASS, more=LIMITS) as proxy:
        reply = await (await posting(proxy, "Content-Length: 1000")).reply()
        assert (reply.status, reply.text, reply.x_cache) == (413, "no", "PASS")
