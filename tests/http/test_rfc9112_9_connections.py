"""RFC 9112 §2, §3 and §9: versions, targets, keep-alive, pipelining, closing."""

from __future__ import annotations

import asyncio

import pytest

from tests.http.conftest import Site
from tests.http.requirements import requires
from tests.scripted_origin import Close, Exchange, Send, Step, Wait, head, page

ONE = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"


@requires(
    "RFC 9112 §9.3.2", "pipelined requests are answered in order, though a later one's answer is quicker"
)
async def test_pipelining(passing: Site) -> None:
    slow = asyncio.Event()
    passing.on("/0", [Wait(slow), *page("body 0")])
    passing.on("/1", page("body 1"))
    visitor = await passing.proxy.visitor()
    visitor.writer.write(ONE % 0 + b"\r\n" + ONE % 1 + ONE % 2)
    await passing.origin.received(1)
    slow.set()
    replies = [await visitor.reply() for _ in range(3)]
    assert [reply.text for reply in replies] == ["body 0", "body 1", "no script for this path"]


@requires(
    "RFC 9112 §9.3.2", "bodies among pipelined requests do not run into each other, however they are cut"
)
@pytest.mark.parametrize("step", [1, 7, 64, 1000])
async def test_pipelined_bodies(step: int, passing: Site) -> None:
    length = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 18\r\n\r\nGET /evil HTTP/1.1"
    chunks = b"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX: 1\r\n\r\n"
    raw = length + chunks + ONE % 1 + chunks + length
    visitor = await passing.proxy.visitor()
    for start in range(0, len(raw), step):
        visitor.writer.write(raw[start : start + step])
        await asyncio.sleep(0)
    assert [(await visitor.reply()).status for _ in range(5)] == [404] * 5
    got = [(each.target, each.body) for each in passing.origin.requests]
    a, b = ("/a", b"GET /evil HTTP/1.1"), ("/b", b"abc")
    assert got == [a, b, ("/1", b""), b, a]


@requires("RFC 9112 §9.3.2", "an origin that fails at one pipelined request leaves the others right")
async def test_a_failure_in_the_middle(passing: Site) -> None:
    passing.on("/0", page("body 0"))
    passing.on("/1", [Send(b"nonsense\r\n\r\n")])
    passing.on("/2", page("body 2"))
    visitor = await passing.proxy.visitor()
    visitor.writer.write(b"".join(ONE % number for number in range(3)))
    replies = [await visitor.reply() for _ in range(3)]
    assert [reply.status for reply in replies] == [200, 502, 200]
    assert replies[2].text == "body 2"


@requires("RFC 9112 §9.3", "a request that is refused ends the connection: what follows is not trusted")
async def test_a_bad_request_in_the_middle(passing: Site) -> None:
    visitor = await passing.proxy.visitor()
    visitor.writer.write(ONE % 0 + b"GET /1 HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + ONE % 2)
    assert [(await visitor.reply()).status for _ in range(2)] == [404, 400]
    assert await visitor.reader.read() == b""
    assert [each.target for each in passing.origin.requests] == ["/0"]


@requires("RFC 9112 §9.6", "who says close is answered, and nothing after it is")
async def test_close(passing: Site) -> None:
    visitor = await passing.proxy.visitor()
    visitor.writer.write(b"GET /0 HTTP/1.1\r\nHost: a\r\nConnection: Close\r\n\r\n" + ONE % 1)
    assert (await visitor.reply()).headers["connection"] == "close"
    assert await visitor.reader.read() == b""
    assert passing.hits("/1") == 0


@requires("RFC 9112 §9.6", "who closes his side after asking still gets his answer")
async def test_half_close(passing: Site) -> None:
    passing.on("/p", page("hello"))
    visitor = await passing.proxy.visitor()
    visitor.send("/p")
    visitor.writer.write_eof()
    assert (await visitor.reply()).text == "hello"
    assert await visitor.reader.read() == b""


@requires("RFC 9112 §9.3", "HTTP/1.0 is kept alive only when asked, and only where the end can be told")
@pytest.mark.parametrize(
    ("asked", "length", "kept"),
    [
        (b"", "5", None),
        (b"Connection: keep-alive\r\n", "5", "keep-alive"),
        (b"Connection: keep-alive\r\n", None, "close"),
    ],
)
async def test_http_10_keep_alive(asked: bytes, length: str | None, kept: str | None, passing: Site) -> None:
    unknown: list[Step] = [Send(head(200) + b"hello"), Close()]
    passing.on("/p", page("hello") if length else unknown)
    visitor = await passing.proxy.visitor()
    visitor.writer.write(b"GET /p HTTP/1.0\r\nHost: a\r\n" + asked + b"\r\n")
    reply = await visitor.reply()
    assert (reply.body, reply.headers.get("connection", "close")) == (b"hello", kept or "close")
    assert "transfer-encoding" not in reply.headers
    if kept == "keep-alive":
        assert (await visitor.get("/p")).text == "hello"
    else:
        assert await visitor.reader.read() == b""


@requires("RFC 9112 §2.3", "HTTP/0.9 and HTTP/2 in clear text are refused")
@pytest.mark.parametrize(
    ("line", "status"),
    [(b"GET /p", 400), (b"GET /p HTTP/0.9", 400), (b"GET /p HTTP/2.0", 505), (b"GET /p HTTP/3.1", 400)],
)
async def test_versions(line: bytes, status: int, passing: Site) -> None:
    visitor = await passing.proxy.visitor()
    visitor.writer.write(line + b"\r\nHost: a\r\n\r\n")
    assert (await visitor.reply()).status == status
    assert passing.origin.requests == []


@requires("RFC 9112 §2.3", "the origin is spoken to in our own version, whatever the visitor's is")
async def test_our_own_version(passing: Site) -> None:
    visitor = await passing.proxy.visitor()
    visitor.writer.write(b"GET /p HTTP/1.0\r\nHost: a\r\n\r\n")
    assert (await visitor.reader.read()).startswith(b"HTTP/1.1 ")
    assert passing.last.raw_head.startswith(b"GET /p HTTP/1.1\r\n")


@requires(
    "RFC 9112 §3.2.2", "an absolute target is that of its own host, and reaches the origin in origin form"
)
@pytest.mark.parametrize(
    ("target", "sent"),
    [("http://a/p?q", "/p?q"), ("HTTP://A", "/"), ("http://a?q", "/?q"), ("http://a//p", "//p")],
)
async def test_absolute_form(target: str, sent: str, passing: Site) -> None:
    await passing.get(target, {"Host": "a"})
    assert (passing.last.target, passing.last.header("host")) == (sent, "a")


@requires("RFC 9112 §2.2", "blank lines before a request are skipped")
async def test_blank_lines(passing: Site) -> None:
    visitor = await passing.proxy.visitor()
    visitor.writer.write(b"\r\n\r\n" + ONE % 0 + b"\r\n\r\n" + ONE % 1)
    assert [(await visitor.reply()).status for _ in range(2)] == [404, 404]


@requires("RFC 9112 §9.3", "connections to the origin are used again, and not after it said close")
@pytest.mark.parametrize(("headers", "connections"), [({}, 1), ({"Connection": "close"}, 3)])
async def test_reuse(headers: dict[str, str], connections: int, passing: Site) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.run(page("hello", headers))
        if headers:
            await exchange.hang()

    passing.on("/p", script)
    for _ in range(3):
        await passing.get("/p")
    assert passing.origin.connections == connections
