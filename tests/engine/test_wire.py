"""What visitors see on the wire: methods, conditions, encodings, keep-alive, passing."""

from __future__ import annotations

import asyncio
import gzip

import brotli
import pytest
import zstandard

from tests.engine.conftest import Start
from tests.harness import FakeClock, Visitor
from tests.scripted_origin import Exchange, ScriptedOrigin, Send, head, page

ROUTE = "- {match: /pass/**, revalidate: 0}\n- {match: '/**', revalidate: 10s}"
HTML = "<p>hello world</p>" * 100


async def test_head_is_answered_from_the_page(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("hello"))
    async with start(ROUTE) as proxy:
        first = await proxy.get("/p", method="HEAD")
        assert first.headers["content-length"] == "5"
        await proxy.settled()
        assert origin.requests[0].method == "GET"
        hit = await proxy.get("/p", method="HEAD")
        assert (hit.x_cache, hit.headers["content-length"]) == ("HIT", "5")
        assert (await proxy.get("/p")).text == "hello"


async def test_a_known_etag_gets_304(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("hello", {"ETag": '"abc"', "Last-Modified": "Fri, 01 Jan 2027 00:00:00 GMT"}))
    async with start(ROUTE) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        for condition in (
            {"If-None-Match": '"x", W/"abc"'},
            {"If-None-Match": "*"},
            {"If-Modified-Since": "Fri, 01 Jan 2027 00:00:00 GMT"},
        ):
            reply = await proxy.get("/p", condition)
            assert (reply.status, reply.body, reply.x_cache) == (304, b"", "HIT")
            assert reply.headers["etag"] == '"abc"'
        both = {"If-None-Match": '"x"', "If-Modified-Since": "Fri, 01 Jan 2027 00:00:00 GMT"}
        assert (await proxy.get("/p", both)).status == 200


async def test_a_page_without_an_etag_gets_one_from_its_body(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("hello"))
    async with start(ROUTE) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        etag = (await proxy.get("/p")).headers["etag"]
        assert (await proxy.get("/p", {"If-None-Match": etag})).status == 304


@pytest.mark.parametrize(
    ("accept", "coding", "decode"),
    [
        ("br, gzip", "br", brotli.decompress),
        ("gzip, zstd", "zstd", lambda body: zstandard.ZstdDecompressor().decompress(body)),
        ("gzip", "gzip", gzip.decompress),
        ("br;q=0.1, gzip;q=0.9", "gzip", gzip.decompress),
        ("br;q=0, identity", None, bytes),
        ("", None, bytes),
    ],
)
async def test_encodings(
    accept: str, coding: str | None, decode: object, start: Start, origin: ScriptedOrigin
) -> None:
    assert callable(decode)
    origin.on("/p", page(HTML, {"ETag": '"abc"'}))
    async with start(ROUTE) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        reply = await proxy.get("/p", {"Accept-Encoding": accept} if accept else {})
        assert reply.headers.get("content-encoding") == coding
        assert decode(reply.body) == HTML.encode()
        assert reply.headers["vary"] == "Accept-Encoding"
        assert reply.headers["etag"] == (f'"abc-{coding}"' if coding else '"abc"')


async def test_small_and_compressed_types_are_left_alone(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/small", page("hi"))
    origin.on("/image", page("x" * 5000, {"Content-Type": "image/webp"}))
    async with start(ROUTE) as proxy:
        for path in ("/small", "/image"):
            await proxy.get(path)
            await proxy.settled()
            reply = await proxy.get(path, {"Accept-Encoding": "br, gzip"})
            assert reply.x_cache == "HIT"
            assert "content-encoding" not in reply.headers
            assert "vary" not in reply.headers


async def test_tag_headers_and_hop_by_hop_headers_never_leave(start: Start, origin: ScriptedOrigin) -> None:
    secret = {
        "Cache-Tag": "a",
        "Surrogate-Key": "b",
        "xkey": "c",
        "Surrogate-Control": "max-age=5",
        "Keep-Alive": "timeout=5",
        "Connection": "keep-alive, X-Hop",
        "X-Hop": "1",
    }
    origin.on("/p", page("hello", secret))
    origin.on("/pass/p", page("hello", secret))
    async with start(ROUTE) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        for path in ("/p", "/pass/p"):
            reply = await proxy.get(path)
            assert not {name.lower() for name in secret} - {"connection"} & set(reply.headers)
            assert "x-hop" not in reply.headers.get("connection", "")


async def test_one_connection_carries_many_requests(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("hello"))
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        replies = [await visitor.get("/p") for _ in range(5)]
        assert {reply.text for reply in replies} == {"hello"}


async def test_pipelined_requests_are_answered_in_order(start: Start, origin: ScriptedOrigin) -> None:
    for number in range(5):
        origin.on(f"/{number}", page(f"body {number}"))
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        for number in range(5):
            visitor.send(f"/{number}")
        assert [(await visitor.reply()).text for _ in range(5)] == [f"body {n}" for n in range(5)]


async def test_http_10_without_keep_alive_is_closed(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("hello"))
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        visitor.writer.write(b"GET /p HTTP/1.0\r\n\r\n")
        raw = await visitor.reader.read()
        assert raw.startswith(b"HTTP/1.1 200")
        assert raw.endswith(b"hello")
        assert b"chunked" not in raw


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"GET /p\r\n\r\n", 400),
        (b"GET /p HTTP/1.1\r\n\r\n", 400),
        (b"GET /p HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /a/../b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /a/%2e%2e/b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /a\\b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET http://evil.example/p HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /p HTTP/1.1\r\nHost: a b\r\n\r\n", 400),
        (b"GET /p HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ],
)
async def test_what_cannot_be_trusted_is_refused(
    raw: bytes, status: int, start: Start, origin: ScriptedOrigin
) -> None:
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        visitor.writer.write(raw)
        reply = await visitor.reply()
        assert reply.status == status
        assert reply.headers["cache-control"] == "no-store"
        assert origin.requests == []


async def test_an_unknown_host_is_misdirected(start: Start, origin: ScriptedOrigin) -> None:
    async with start(ROUTE, more="hosts: [site.example]\n") as proxy:
        assert (await proxy.get("/p", {"Host": "other.example"})).status == 421
        assert (await proxy.get("/p")).status == 404


# --- passing ---


async def test_a_post_streams_both_ways(start: Start, origin: ScriptedOrigin) -> None:
    async def echo(exchange: Exchange) -> None:
        body = await exchange.body()
        await exchange.run(page(body))

    origin.on("/p", echo)
    body = b"x" * 3_000_000
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        visitor.send("/p", {"Content-Length": str(len(body))}, method="POST")
        visitor.writer.write(body)
        reply = await visitor.reply()
        assert reply.body == body
        assert reply.cache_status == "isr-proxy; fwd=method; fwd-status=200"


async def test_expect_100_continue(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("thanks"))
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        visitor.send("/p", {"Content-Length": "5", "Expect": "100-continue"}, method="POST")
        assert (await visitor.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100")
        visitor.writer.write(b"hello")
        assert (await visitor.reply()).text == "thanks"
        assert origin.requests[0].body == b"hello"


async def test_early_hints_are_forwarded(start: Start, origin: ScriptedOrigin) -> None:
    hints = head(103, {"Link": "</a.css>; rel=preload"})
    origin.on("/pass/p", [Send(hints), *page("hello")])
    async with start(ROUTE) as proxy:
        reply = await proxy.get("/pass/p")
        assert (reply.interim, reply.text) == ((103,), "hello")


async def test_server_sent_events_are_not_buffered(start: Start, origin: ScriptedOrigin) -> None:
    release = asyncio.Event()

    async def events(exchange: Exchange) -> None:
        await exchange.send(head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}))
        await exchange.send(b"8\r\ndata: 1\n\r\n")
        await release.wait()
        await exchange.send(b"8\r\ndata: 2\n\r\n0\r\n\r\n")

    origin.on("/pass/events", events)
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        visitor.send("/pass/events")
        await visitor.reader.readuntil(b"data: 1\n")
        release.set()
        await visitor.reader.readuntil(b"data: 2\n")


async def test_a_websocket_passes(start: Start, origin: ScriptedOrigin) -> None:
    async def upgrade(exchange: Exchange) -> None:
        await exchange.send(head(101, {"Upgrade": "websocket", "Connection": "Upgrade"}))
        await exchange.send(b"hello " + await exchange.reader.readexactly(4))
        await exchange.hang()

    origin.on("/ws", upgrade)
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        asked = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "x"}
        visitor.send("/ws", asked)
        assert (await visitor.reply()).status == 101
        visitor.writer.write(b"anna")
        assert await visitor.reader.readexactly(10) == b"hello anna"
        assert origin.requests[0].header("sec-websocket-key") == "x"


async def test_a_visitor_who_hangs_up_frees_the_origin(start: Start, origin: ScriptedOrigin) -> None:
    gone = asyncio.Event()

    async def hang(exchange: Exchange) -> None:
        await exchange.hang()
        gone.set()

    origin.on("/pass/p", hang)
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        visitor.send("/pass/p")
        await origin.received(1)
        visitor.reset()
        await asyncio.wait_for(gone.wait(), 5)


async def test_the_origin_is_told_who_asked(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/pass/p", page("hello"))
    async with start(ROUTE) as proxy:
        await proxy.get("/pass/p", {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https"})
        sent = origin.requests[0]
        assert sent.header("x-forwarded-for") == "127.0.0.1"
        assert sent.header("x-forwarded-proto") == "http"
        assert sent.header("host") == "site.example"


async def test_a_trusted_proxy_is_believed(start: Start, origin: ScriptedOrigin, clock: FakeClock) -> None:
    origin.on("/pass/p", page("hello"))
    async with start(ROUTE, more="trusted_proxies: [127.0.0.0/8]\n") as proxy:
        await proxy.get("/pass/p", {"X-Forwarded-For": "6.6.6.6", "X-Forwarded-Proto": "https"})
        sent = origin.requests[0]
        assert sent.header("x-forwarded-for") == "6.6.6.6, 127.0.0.1"
        assert sent.header("x-forwarded-proto") == "https"


async def test_slow_heads_are_given_up(start: Start, origin: ScriptedOrigin) -> None:
    async with start(ROUTE) as proxy:
        visitor: Visitor = await proxy.visitor()
        visitor.writer.write(b"GET /p HTTP/1.1\r\n")
        await asyncio.sleep(0.05)
        for connection in proxy.worker.front.connections:
            connection.expire()
        assert (await visitor.reply()).status == 408


async def test_an_early_answer_to_a_large_upload_is_not_lost(start: Start, origin: ScriptedOrigin) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.send(head(413, {"Content-Length": "4", "Connection": "close"}) + b"nope")
        await exchange.hang()

    origin.on("/upload", refuse)
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        visitor.send("/upload", {"Content-Length": "50000000"}, method="POST")
        visitor.writer.write(b"x" * 2_000_000)
        reply = await visitor.reply()
        assert (reply.status, reply.text) == (413, "nope")
        assert await visitor.reader.read() == b""


async def test_server_sent_events_of_an_isr_route_are_relayed_not_stored(
    start: Start, origin: ScriptedOrigin
) -> None:
    release = asyncio.Event()

    async def events(exchange: Exchange) -> None:
        await exchange.send(head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}))
        await exchange.send(b"8\r\ndata: 1\n\r\n")
        await release.wait()
        await exchange.send(b"8\r\ndata: 2\n\r\n0\r\n\r\n")

    origin.on("/events", events)
    async with start(ROUTE) as proxy:
        visitor = await proxy.visitor()
        visitor.send("/events")
        await visitor.reader.readuntil(b"data: 1\n")
        release.set()
        await visitor.reader.readuntil(b"data: 2\n")
        assert (await proxy.get("/events")).x_cache == "PASS"
