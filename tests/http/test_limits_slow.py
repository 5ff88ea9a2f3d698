"""Attacks by slowness: heads, bodies, answers that are not taken. Nobody holds a place for ever."""

from __future__ import annotations

import asyncio
import time

import pytest

from isr_proxy.serve.connection import Connection
from tests.engine.test_connections import unread
from tests.harness import Proxy, Visitor, eventually
from tests.http.conftest import Start
from tests.http.requirements import requires
from tests.http.test_limits_body import posting
from tests.http.test_limits_head import PASS, is_counted
from tests.scripted_origin import Exchange, ScriptedOrigin, page

SLOW = "limits: {body_timeout: 20s, min_rate: 100}\n"  # 2000 bytes in each look


async def arriving(proxy: Proxy, raw: bytes) -> tuple[Visitor, Connection]:
    """Have a visitor send this; returns also the proxy's side of his connection."""
    before = set(proxy.worker.front.connections)
    visitor = await proxy.visitor()
    await eventually(lambda: proxy.worker.front.connections - before)
    (connection,) = proxy.worker.front.connections - before
    visitor.writer.write(raw)
    return visitor, connection


@requires("RFC 9110 §15.5.9", "a head that does not end in time gets 408")
async def test_half_a_head(start: Start, origin: ScriptedOrigin) -> None:
    async with start(PASS, more="limits: {head_timeout: 200ms}\n") as proxy:
        visitor, _ = await arriving(proxy, b"GET / HTTP/1.1\r\nHost: a\r\nX: ")
        reply = await visitor.reply()
        assert (reply.status, reply.headers["x-cache-reason"]) == (408, "head-timeout")
        assert reply.headers["connection"] == "close"
        assert is_counted(proxy, "head-timeout")
        assert origin.requests == []


@requires("Attack: slow headers", "one byte at a time does not put the head's deadline off")
async def test_one_byte_at_a_time(start: Start) -> None:
    async with start(PASS) as proxy:
        visitor, connection = await arriving(proxy, b"")
        first = connection.deadline
        for number, byte in enumerate(b"GET / HTTP/1.1\r\nX: y", 1):
            visitor.writer.write(bytes([byte]))
            await eventually(lambda count=number: connection._head_bytes == count)
        assert connection.deadline == first <= time.monotonic() + 30


@requires("Attack: slow headers", "the head behind a kept connection has the same deadline")
async def test_one_byte_at_a_time_behind_a_request(start: Start) -> None:
    async with start(PASS, more="limits: {head_timeout: 5s}\n") as proxy:
        visitor, connection = await arriving(proxy, b"")
        await visitor.get("/p")
        await eventually(lambda: connection.task is None)
        assert connection.deadline > time.monotonic() + 60  # idle
        visitor.writer.write(b"G")
        await eventually(lambda: connection.deadline <= time.monotonic() + 5)


@requires("RFC 9112 §9.5", "a connection without a request closes without an answer")
async def test_an_idle_connection(start: Start) -> None:
    async with start(PASS, more="limits: {idle_timeout: 200ms}\n") as proxy:
        visitor = await proxy.visitor()
        await visitor.get("/p")
        assert await visitor.reader.read() == b""


@requires("RFC 9110 §15.5.9", "a body that comes too slowly gets 408, and the origin request is cut")
@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
async def test_a_slow_body(start: Start, origin: ScriptedOrigin, framing: str) -> None:
    cut = asyncio.Event()

    async def swallow(exchange: Exchange) -> None:
        await exchange.hang()
        cut.set()

    origin.on("/form", swallow)
    async with start(PASS, more="limits: {body_timeout: 200ms}\n") as proxy:
        visitor = await posting(proxy, framing, more="")
        visitor.writer.write(b"5\r\nabcde\r\n")
        reply = await visitor.reply()
        assert (reply.status, reply.headers["x-cache-reason"]) == (408, "body-timeout")
        await asyncio.wait_for(cut.wait(), 3)
        assert is_counted(proxy, "body-timeout")


async def looked_at(proxy: Proxy, connection: Connection) -> bool:
    """Have the proxy look at a body now; tells whether it may go on."""
    connection.expire()
    await proxy.get("/other")
    return connection.payload.exception() is None


@requires("Attack: slow body", "a body must keep the least rate all the time, whatever came before")
async def test_a_body_that_becomes_slow(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/form", page("taken"))
    async with start(PASS, more=SLOW) as proxy:
        raw = b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 9000000\r\n\r\n"
        visitor, connection = await arriving(proxy, raw + b"x" * 50_000)
        await eventually(lambda: connection.payload.total_bytes == 50_000)
        assert await looked_at(proxy, connection)
        visitor.writer.write(b"x" * 2000)
        await eventually(lambda: connection.payload.total_bytes == 52_000)
        assert await looked_at(proxy, connection)
        visitor.writer.write(b"x" * 1999)
        await eventually(lambda: connection.payload.total_bytes == 53_999)
        assert not await looked_at(proxy, connection)
        assert (await visitor.reply()).status == 408


@requires("Attack: slow body", "chunk extensions without end are no body")
async def test_chunk_extensions_without_end(start: Start) -> None:
    async with start(PASS, more=SLOW) as proxy:
        raw = b"POST /form HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1;"
        visitor, _ = await arriving(proxy, raw + b"x=y;" * 4000)
        assert (await visitor.reply()).status == 400


@requires("Attack: slow body", "trailers without end get 431")
async def test_trailers_without_end(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/form", page("taken"))
    async with start(PASS, more=SLOW) as proxy:
        raw = b"POST /form HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n"
        visitor, _ = await arriving(proxy, raw)
        await origin.received(1)
        visitor.writer.write(b"X: y\r\n" * 100_000)
        reply = await visitor.reply()
        assert (reply.status, reply.headers["x-cache-reason"]) == (431, "too-many-header-fields")


@requires("Attack: slow body", "a visitor is not blamed for an origin that takes his body slowly")
async def test_an_origin_that_takes_slowly(start: Start, origin: ScriptedOrigin) -> None:
    release = asyncio.Event()

    async def late(exchange: Exchange) -> None:
        await release.wait()
        await exchange.body()
        await exchange.run(page("taken"))

    origin.on("/form", late)
    async with start(PASS, more=SLOW) as proxy:
        raw = b"POST /form HTTP/1.1\r\nHost: a\r\nContent-Length: 20000000\r\n\r\n"
        visitor, connection = await arriving(proxy, raw + b"x" * 20_000_000)
        await eventually(lambda: connection._reading_paused)
        assert await looked_at(proxy, connection)
        assert await looked_at(proxy, connection)
        release.set()
        assert (await visitor.reply()).text == "taken"


@requires("Attack: slow reading", "an answer must be taken at the least rate, not byte by byte")
async def test_a_visitor_who_takes_a_little(start: Start, origin: ScriptedOrigin) -> None:
    async with start("- {match: '/**', revalidate: 10s}", more="limits: {min_rate: 10000}\n") as proxy:
        visitor, connection = await unread(proxy, origin)
        await visitor.reader.readexactly(100_000)  # a sixth of what 60 s ask for
        await proxy.get("/p")
        connection.expire()
        await eventually(lambda: connection not in proxy.worker.front.connections)


@requires("RFC 9112 §9.3", "a connection closes after its last request, and says so")
async def test_the_last_request_of_a_connection(start: Start) -> None:
    async with start(PASS, more="limits: {max_requests: 2}\n") as proxy:
        visitor = await proxy.visitor()
        replies = [await visitor.get("/p") for _ in range(2)]
        assert [reply.headers.get("connection") for reply in replies] == [None, "close"]
        assert await visitor.reader.read() == b""
