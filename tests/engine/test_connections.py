"""Visitors' connections: who waits for whom, how much is kept, and how each of them ends."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time

import pytest

from isr_proxy.core.settings import LimitSettings
from isr_proxy.serve import tunnel
from isr_proxy.serve.connection import Connection
from tests.engine.conftest import Start
from tests.harness import Proxy, Visitor, eventually
from tests.scripted_origin import Exchange, ScriptedOrigin, Send, Wait, head, page

ROUTE = "- {match: /pass/**, revalidate: 0}\n- {match: '/**', revalidate: 10s}"
BODY = os.urandom(900_000)
IMAGE = {"Content-Type": "image/png"}
WEBSOCKET = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "x"}
SWITCHED = head(101, {"Upgrade": "websocket", "Connection": "Upgrade"})


async def lazy_visitor(proxy: Proxy) -> tuple[Visitor, Connection]:
    """Connect a visitor who takes no more than he reads; returns also the proxy's side of it."""
    before = set(proxy.worker.front.connections)
    host, port = proxy.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=8192)
    visitor = Visitor(reader, writer)
    proxy.visitors.append(visitor)
    await eventually(lambda: proxy.worker.front.connections - before)
    (connection,) = proxy.worker.front.connections - before
    for transport, option in ((writer.transport, socket.SO_RCVBUF), (connection.transport, socket.SO_SNDBUF)):
        assert transport is not None
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, option, 16384)
    return visitor, connection


async def unread(proxy: Proxy, origin: ScriptedOrigin, *, requests: int = 1) -> tuple[Visitor, Connection]:
    """Have a visitor ask for a large stored page, and leave it on the wire."""
    origin.on("/p", page(BODY, IMAGE))
    for _ in range(2):
        await proxy.get("/p")
        await proxy.settled()
    visitor, connection = await lazy_visitor(proxy)
    for _ in range(requests):
        visitor.send("/p")
    await eventually(lambda: connection.writing_paused)
    for _ in range(5):
        assert (await proxy.get("/p")).x_cache == "HIT"  # time enough to write all that would be written
    return visitor, connection


def break_off(visitor: Visitor) -> None:
    """Hang up with an RST: neither side can be used any more."""
    linger = struct.pack("ii", 1, 0)
    visitor.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    visitor.reset()


def unsent_bytes(connection: Connection) -> int:
    return 0 if connection.transport is None else connection.transport.get_write_buffer_size()


def is_expired(proxy: Proxy, connection: Connection) -> bool:
    connection.expire()
    return connection not in proxy.worker.front.connections


# --- one after the other ---


async def test_law_8_who_asks_and_does_not_read_is_written_one_answer(
    start: Start, origin: ScriptedOrigin
) -> None:
    async with start(ROUTE) as proxy:
        visitor, connection = await unread(proxy, origin, requests=20)
        assert unsent_bytes(connection) <= len(BODY) + 1024
        assert {(await visitor.reply()).body for _ in range(20)} == {BODY}
        await eventually(lambda: proxy.worker.front.loans.lent_bytes == 0)


async def test_law_8_once_much_is_lent_a_large_page_goes_out_in_pieces(
    start: Start, origin: ScriptedOrigin
) -> None:
    async with start(ROUTE) as proxy:
        loans = proxy.worker.front.loans
        _, hung_up = await unread(proxy, origin)
        assert loans.lent_bytes > 256 * 1024
        loans.lent_bytes += 32 * 1024 * 1024
        visitor, connection = await unread(proxy, origin, requests=2)
        assert unsent_bytes(connection) <= 64 * 1024 + 256 * 1024  # what is unsent at most, and one piece
        assert [(await visitor.reply()).body for _ in range(2)] == [BODY, BODY]
        hung_up.abort()
        await eventually(lambda: loans.lent_bytes == 32 * 1024 * 1024)


async def test_a_request_sent_while_another_is_answered_waits_for_its_turn(
    start: Start, origin: ScriptedOrigin
) -> None:
    release = asyncio.Event()
    origin.on("/pass/1", [Wait(release), *page("first")])
    origin.on("/pass/2", page("second"))
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        visitor.send("/pass/1")
        await origin.received(1)
        visitor.send("/pass/2")
        await proxy.get("/pass/3")
        assert origin.hits("/pass/2") == 0
        release.set()
        assert [(await visitor.reply()).text for _ in range(2)] == ["first", "second"]


async def test_a_hang_up_is_noticed_behind_a_pipelined_request(start: Start, origin: ScriptedOrigin) -> None:
    gone = asyncio.Event()

    async def hang(exchange: Exchange) -> None:
        await exchange.hang()
        gone.set()

    origin.on("/pass/p", hang)
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        visitor.send("/pass/p")
        await origin.received(1)
        visitor.send("/pass/next")
        await proxy.get("/pass/other")
        break_off(visitor)
        await asyncio.wait_for(gone.wait(), 3)  # before the origin's own timeout


async def test_law_8_what_comes_before_its_turn_is_bounded(start: Start, origin: ScriptedOrigin) -> None:
    release = asyncio.Event()
    flood = os.urandom(8_000_000)

    async def upgrade(exchange: Exchange) -> None:
        await release.wait()
        await exchange.send(SWITCHED)
        assert await exchange.reader.readexactly(len(flood)) == flood
        await exchange.send(b"all of it")
        await exchange.hang()

    origin.on("/ws", upgrade)
    async with start(ROUTE) as proxy:
        visitor, connection = await lazy_visitor(proxy)
        visitor.send("/ws", WEBSOCKET)
        await origin.received(1)
        visitor.writer.write(flood)
        await eventually(lambda: len(connection._ahead) > 64 * 1024)
        await proxy.get("/other")
        assert len(connection._ahead) < 64 * 1024 + 256 * 1024  # the bound, and one read
        release.set()
        assert (await visitor.reply()).status == 101
        assert await visitor.reader.readexactly(9) == b"all of it"


# --- how long ---


async def test_an_answer_that_is_not_taken_yet_is_not_idle(start: Start, origin: ScriptedOrigin) -> None:
    async with start(ROUTE) as proxy:
        proxy.worker.front.limits = LimitSettings(idle_timeout=1.0)
        _, connection = await unread(proxy, origin)
        assert connection.deadline > time.monotonic() + 30


async def test_a_slow_reader_is_not_a_stalled_one(start: Start, origin: ScriptedOrigin) -> None:
    async with start(ROUTE) as proxy:
        visitor, connection = await unread(proxy, origin)
        before_bytes = unsent_bytes(connection)
        await visitor.reader.readexactly(200_000)
        await eventually(lambda: unsent_bytes(connection) < before_bytes)
        connection.expire()
        await proxy.get("/p")
        assert connection in proxy.worker.front.connections
        await eventually(lambda: is_expired(proxy, connection))


async def test_law_8_connections_of_visitors_are_limited(start: Start, origin: ScriptedOrigin) -> None:
    async with start(ROUTE, more="limits: {max_connections: 2}\n") as proxy:
        visitors = [await proxy.visitor() for _ in range(2)]
        await eventually(lambda: len(proxy.worker.front.connections) == 2)
        refused = await (await proxy.visitor()).reply()
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        await visitors[0].close()
        await eventually(lambda: len(proxy.worker.front.connections) == 1)
        assert (await proxy.get("/p")).status == 404


# --- what is refused ---


@pytest.mark.parametrize(
    ("version", "coding", "status"),
    [("1.1", "gzip, chunked", 501), ("1.1", "identity, chunked", 501), ("1.0", "chunked", 400)],
)
async def test_a_body_framed_in_doubt_is_refused(
    version: str, coding: str, status: int, start: Start, origin: ScriptedOrigin
) -> None:
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        asked = f"POST /p HTTP/{version}\r\nHost: a\r\nTransfer-Encoding: {coding}\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        visitor.writer.write(asked.encode())
        reply = await visitor.reply()
        assert (reply.status, reply.headers["connection"]) == (status, "close")
        assert await visitor.reader.read() == b""
        assert origin.requests == []


@pytest.mark.parametrize(
    "unreadable",
    [b"not HTTP at all\r\n\r\n", b"POST /p HTTP/1.1\r\nHost: a b\r\nContent-Length: 9000000\r\n\r\n"],
)
async def test_what_follows_an_unreadable_head_does_not_take_the_answer(
    unreadable: bytes, start: Start, origin: ScriptedOrigin
) -> None:
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        (connection,) = proxy.worker.front.connections
        visitor.writer.write(unreadable + b"x" * 2_000_000)
        assert (await visitor.reply()).status == 400
        assert await visitor.reader.read() == b""
        connection.expire()  # there is nothing left to say
        await eventually(lambda: not proxy.worker.front.connections)


async def test_twins_of_fields_that_end_here_do_not_reach_the_origin(
    start: Start, origin: ScriptedOrigin
) -> None:
    async with start(ROUTE) as proxy:
        twins = {"Transfer_Encoding": "chunked", "Content_Length": "5", "Keep_Alive": "1", "X_Own": "kept"}
        await proxy.get("/pass/p", {**twins, "Proxy": "http://evil.example"})
        names = {name for name, _ in origin.requests[0].headers}
        assert names & {"transfer_encoding", "content_length", "keep_alive", "x_own", "proxy"} == {"x_own"}


# --- what is said ---


async def test_an_interim_head_is_for_the_visitor_only_as_far_as_it_is_his(
    start: Start, origin: ScriptedOrigin
) -> None:
    hints = {"Link": "</a.css>", "Connection": "X-Hop", "X-Hop": "1", "Keep-Alive": "5", "Cache-Tag": "a"}
    origin.on("/pass/p", [Send(head(103, hints)), *page("hello")])
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        visitor.send("/pass/p")
        raw = await visitor.reader.readuntil(b"\r\n\r\n")
        assert raw.split(b"\r\n")[1:] == [b"Link: </a.css>", b"", b""]


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
async def test_a_refused_upgrade_closes_and_says_so(
    protocol: str, start: Start, origin: ScriptedOrigin
) -> None:
    origin.on("/ws", page("no", status=400))
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        reply = await visitor.get("/ws", {**WEBSOCKET, "Upgrade": protocol})
        assert (reply.status, reply.headers["connection"]) == (400, "close")
        assert await visitor.reader.read() == b""


# --- tunnels ---


async def test_a_visitor_who_ends_his_side_still_hears_the_origin(
    start: Start, origin: ScriptedOrigin
) -> None:
    async def upgrade(exchange: Exchange) -> None:
        await exchange.send(SWITCHED)
        await exchange.send(b"you said " + await exchange.reader.read())
        exchange.close()

    origin.on("/ws", upgrade)
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        await visitor.get("/ws", WEBSOCKET)
        visitor.writer.write(b"hi")
        visitor.writer.write_eof()
        assert await visitor.reader.read() == b"you said hi"


async def test_an_origin_that_ends_its_side_still_hears_the_visitor(
    start: Start, origin: ScriptedOrigin
) -> None:
    heard: list[bytes] = []

    async def upgrade(exchange: Exchange) -> None:
        await exchange.send(SWITCHED + b"bye")
        exchange.writer.write_eof()
        heard.append(await exchange.reader.read())
        exchange.close()

    origin.on("/ws", upgrade)
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        await visitor.get("/ws", WEBSOCKET)
        assert await visitor.reader.read() == b"bye"
        visitor.writer.write(b"last words")
        visitor.writer.write_eof()
        await eventually(lambda: heard == [b"last words"])


async def test_law_8_half_a_tunnel_ends_when_nothing_moves(
    start: Start, origin: ScriptedOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnel, "HALF_CLOSED_SECONDS", 0.05)
    release = asyncio.Event()
    origin.on("/ws", [Send(SWITCHED), Wait(release)])
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        await visitor.get("/ws", WEBSOCKET)
        visitor.writer.write_eof()
        assert await asyncio.wait_for(visitor.reader.read(), 5) == b""
        release.set()


async def test_a_visitor_whose_connection_broke_ends_his_tunnel(start: Start, origin: ScriptedOrigin) -> None:
    release = asyncio.Event()
    origin.on("/ws", [Send(SWITCHED), Wait(release)])
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        await visitor.get("/ws", WEBSOCKET)
        (answering,) = proxy.worker.front.running()
        break_off(visitor)
        await asyncio.wait_for(asyncio.wait([answering]), 5)
        release.set()
