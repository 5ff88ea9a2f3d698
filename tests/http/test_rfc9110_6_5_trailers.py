"""RFC 9110 §6.5 and RFC 9112 §7.1: trailers and chunks on their way through, both ways."""

from __future__ import annotations

import pytest

from tests.http.conftest import Site
from tests.http.requirements import requires
from tests.scripted_origin import Exchange, Headers, Send, Step, head, page

CHUNKED = {"Transfer-Encoding": "chunked"}
POST = b"POST /p HTTP/1.1\r\nHost: site.example\r\nTransfer-Encoding: chunked\r\n"


def answer(trailers: bytes, headers: Headers = ()) -> list[Step]:
    pairs = headers.items() if isinstance(headers, dict) else headers
    start = head(200, [*pairs, ("Transfer-Encoding", "chunked")])
    return [Send(start + b"2\r\nhi\r\n0\r\n" + trailers + b"\r\n")]


@requires("RFC 9110 §6.5", "trailers of a response reach the visitor behind the body, not among its headers")
async def test_response_trailers(passing: Site) -> None:
    passing.on("/p", answer(b"X-Sum: 1\r\nX-Sum2: \r\n", {"Trailer": "X-Sum"}))
    reply = await passing.get("/p", {"TE": "trailers"})
    assert (reply.body, reply.trailers) == (b"hi", {"x-sum": "1", "x-sum2": ""})
    assert "x-sum" not in reply.headers
    assert reply.headers["trailer"] == "X-Sum"


@requires("RFC 9110 §6.5", "trailers of a request reach the origin behind the body, not among its headers")
async def test_request_trailers(passing: Site) -> None:
    passing.on("/p", page("thanks"))
    visitor = await passing.proxy.visitor()
    visitor.writer.write(POST + b"Trailer: X-Sum\r\n\r\n2\r\nhi\r\n0\r\nX-Sum: \xe9 1\r\n\r\n")
    assert (await visitor.reply()).text == "thanks"
    assert (passing.last.body, passing.last.trailers) == (b"hi", [("x-sum", "\xe9 1")])
    assert passing.last.header("x-sum") is None
    assert passing.last.header("trailer") == "X-Sum"


@requires("RFC 9110 §6.5.1", "fields that frame, route, authenticate or describe content are no trailers")
async def test_forbidden_trailers(passing: Site) -> None:
    evil = (
        b"Host: evil\r\nAuthorization: x\r\nSet-Cookie: a=1\r\n"
        b"Content-Type: x\r\nVary: x\r\nX-Forwarded-For: x\r\nX_Forwarded_For: x\r\nConnection: x\r\n"
    )
    passing.on("/p", answer(evil + b"X-Fine: 1\r\n"))
    visitor = await passing.proxy.visitor()
    visitor.writer.write(POST + b"\r\n0\r\n" + evil + b"X-Fine: 1\r\n\r\n")
    assert (await visitor.reply()).trailers == {"x-fine": "1"}
    assert passing.last.trailers == [("x-fine", "1")]


@requires(
    "RFC 9112 §7.1",
    "a body that is not chunked as it should be is refused with 400, and the origin is cut off",
)
@pytest.mark.parametrize(
    "body",
    [
        b"x\r\n",
        b"5\r\nhello!\r\n0\r\n\r\n",
        b"5\nhello\r\n0\r\n\r\n",
        b"0\r\nX : 1\r\n\r\n",
        b"0\r\nContent-Length: 5\r\n\r\n",
        b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
)
async def test_broken_chunks(body: bytes, passing: Site) -> None:
    async def script(exchange: Exchange) -> None:
        assert not (await exchange.reader.read()).endswith(b"0\r\n\r\n")  # it must not look whole
        exchange.close()

    passing.on("/p", script)
    visitor = await passing.proxy.visitor()
    visitor.writer.write(POST + b"\r\n2\r\nhi\r\n" + body + b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n")
    reply = await visitor.reply()
    assert (reply.status, reply.headers["connection"]) == (400, "close")
    assert await visitor.reader.read() == b""
    assert passing.hits("/evil") == 0


@requires("RFC 9110 §6.5.1", "a trailer never becomes a header of the next request on the connection")
async def test_a_trailer_stays_with_its_request(passing: Site) -> None:
    visitor = await passing.proxy.visitor()
    first = POST + b"\r\n0\r\nX-First: 1\r\nX-Last: 1\r\n\r\n"
    visitor.writer.write(first + b"GET /next HTTP/1.1\r\nHost: site.example\r\n\r\n")
    await visitor.reply()
    await visitor.reply()
    assert passing.last.target == "/next"
    assert (passing.last.header("x-last"), passing.last.trailers) == (None, [])


@requires("RFC 9110 §6.5.1", "trailers are never stored with the page nor sent with it later")
async def test_trailers_are_not_stored(site: Site) -> None:
    site.on("/p", answer(b"X-Sum: 1\r\n", {"Cache-Control": "max-age=60", "Trailer": "X-Sum"}))
    await site.get("/p")
    reply = await site.get("/p")
    assert (reply.x_cache, reply.body) == ("HIT", b"hi")
    assert not {"x-sum", "trailer"} & {*reply.headers, *reply.trailers}


@requires("RFC 9110 §10.1.4", "the origin is told that trailers are welcome where they are, for this hop")
@pytest.mark.parametrize(
    ("te", "sent"), [("trailers", "trailers"), ("gzip;q=0.5, Trailers", "trailers"), ("gzip", None)]
)
async def test_te(te: str, sent: str | None, passing: Site) -> None:
    await passing.get("/p", {"TE": te, "Connection": "TE"})
    assert passing.last.header("te") == sent
    assert passing.last.header("connection") == ("TE" if sent else None)


@requires("RFC 9112 §7.1.1", "chunk extensions end at this hop")
async def test_chunk_extensions(passing: Site) -> None:
    start = head(200, CHUNKED)
    passing.on("/p", [Send(start + b'3;name="va;lue"\r\nabc\r\n2 \r\nde\r\n0;last\r\n\r\n')])
    visitor = await passing.proxy.visitor()
    visitor.writer.write(POST + b"\r\n3;a=b;c\r\nabc\r\n0;d\r\n\r\n")
    assert (await visitor.reply()).body == b"abcde"
    assert passing.last.body == b"abc"


@requires("RFC 9112 §7.1", "a body stays chunked however it is cut on the wire, one byte at a time too")
async def test_chunks_byte_by_byte(passing: Site) -> None:
    passing.on("/p", answer(b"X-Sum: 1\r\n"))
    visitor = await passing.proxy.visitor()
    for byte in POST + b"\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n":
        visitor.writer.write(bytes([byte]))
        await visitor.writer.drain()
    assert (await visitor.reply()).trailers == {"x-sum": "1"}
    assert (passing.last.body, passing.last.trailers) == (b"abc", [("x-sum", "1")])


@requires("RFC 9112 §7.1.2", "who speaks HTTP/1.0 gets the body without chunks and trailers")
async def test_http_10_gets_no_chunks(passing: Site) -> None:
    passing.on("/p", answer(b"X-Sum: 1\r\n"))
    visitor = await passing.proxy.visitor()
    visitor.writer.write(b"GET /p HTTP/1.0\r\nHost: site.example\r\nConnection: keep-alive\r\n\r\n")
    raw = await visitor.reader.read()
    assert raw.endswith(b"\r\n\r\nhi")
    assert b"chunked" not in raw
