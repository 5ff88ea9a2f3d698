"""RFC 9112 §6: where a message ends, whatever the two ends make of it."""

from __future__ import annotations

import pytest

from tests.harness import Reply
from tests.http.conftest import Site
from tests.http.requirements import requires
from tests.scripted_origin import Close, Reset, Send, Step, head, page

LENGTH = head(200, {"Content-Length": "5"}) + b"hello"
CHUNKED = head(200, {"Transfer-Encoding": "chunked"})
UNTIL_CLOSE = head(200)
OLD = b"HTTP/1.0 200 OK\r\n"


async def twice(passing: Site, *steps: Step, method: str = "GET") -> tuple[Reply, Reply]:
    """Ask for a scripted answer, then for an honest one, on one connection of the visitor's."""
    passing.on("/p", steps)
    passing.on("/next", page("next"))
    visitor = await passing.proxy.visitor()
    return await visitor.get("/p", method=method), await visitor.get("/next")


@requires("RFC 9112 §6.3", "a body of each framing is passed whole, and the visitor's connection goes on")
@pytest.mark.parametrize(
    "steps",
    [
        [Send(LENGTH)],
        [Send(head(200, {"content-LENGTH": " 5 "}) + b"he"), Send(b"llo")],
        [Send(CHUNKED + b"5\r\nhello\r\n0\r\n\r\n")],
        [Send(CHUNKED + b"00005\r\nhello\r\n000\r\n\r\n")],
        [Send(UNTIL_CLOSE + b"hello"), Close()],
        [Send(OLD + b"\r\nhello"), Close()],
        [Send(OLD + b"Content-Length: 5\r\n\r\nhello"), Close()],
        [Send(OLD + b"Connection: keep-alive\r\nContent-Length: 5\r\n\r\nhello")],
    ],
)
async def test_framings(steps: list[Step], passing: Site) -> None:
    first, second = await twice(passing, *steps)
    assert (first.body, first.is_whole, second.text) == (b"hello", True, "next")


@requires(
    "RFC 9112 §6.3",
    "what has no body has none, whatever its framing says, and nothing of it is the next answer",
)
@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize(
    "more",
    [
        b"Content-Length: 5\r\n\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n",
        b"\r\n",
        b"Content-Length: 5\r\n\r\nhello",
    ],
)
async def test_bodiless_answers(status: int, more: bytes, passing: Site) -> None:
    first, second = await twice(passing, Send(b"HTTP/1.1 %d X\r\n" % status + more))
    assert (first.status, second.text) == (status, "next")
    assert "transfer-encoding" not in first.headers
    assert status == 304 or "content-length" not in first.headers


@requires("RFC 9112 §6.3", "an answer to HEAD has no body, whatever its framing says")
@pytest.mark.parametrize(
    "answer",
    [head(200, {"Content-Length": "5"}), CHUNKED, LENGTH, CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", UNTIL_CLOSE],
)
async def test_head(answer: bytes, passing: Site) -> None:
    first, second = await twice(passing, Send(answer), method="HEAD")
    assert (first.status, second.text) == (200, "next")


@requires("RFC 9112 §8", "a body cut short never looks whole to the visitor")
@pytest.mark.parametrize(
    "steps",
    [
        [Send(head(200, {"Content-Length": "9"}) + b"hello"), Close()],
        [Send(head(200, {"Content-Length": "9"}) + b"hello"), Reset()],
        [Send(CHUNKED + b"5\r\nhello\r\n"), Close()],
        [Send(CHUNKED + b"9\r\nhello"), Close()],
        [Send(CHUNKED + b"5\r\nhello\r\n0\r\nX: 1\r\n"), Close()],
        [Send(CHUNKED + b"5\r\nhello\r\nhello"), Close()],
        [Send(CHUNKED + b"5\r\nhello\r\n0\r\nX : 1\r\n\r\n")],
    ],
)
async def test_cut_short(steps: list[Step], passing: Site) -> None:
    passing.on("/p", steps)
    assert not (await passing.get("/p")).is_whole


@requires("RFC 9112 §6.1", "a response framed as nobody should believe is a 502")
@pytest.mark.parametrize(
    "answer",
    [
        head(200, {"Content-Length": "5", "Transfer-Encoding": "chunked"}) + b"0\r\n\r\n",
        head(200, {"Transfer-Encoding": "gzip, chunked"}) + b"0\r\n\r\n",
        head(200, {"Transfer-Encoding": "identity"}) + b"hello",
        head(200, [("Content-Length", "5"), ("Content-Length", "6")]) + b"hello",
        head(200, {"Content-Length": "+5"}) + b"hello",
        head(200, {"Content-Length": "-5"}) + b"hello",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 99 No\r\n\r\n",
        b"hello\r\n\r\n",
    ],
)
async def test_bad_framing(answer: bytes, passing: Site) -> None:
    passing.on("/p", [Send(answer), Close()])
    assert (await passing.get("/p")).status == 502


@requires("RFC 9112 §6.1", "chunks from HTTP/1.0 are read, and the connection is not trusted any further")
async def test_chunks_of_http_10(passing: Site) -> None:
    old = OLD + b"Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    first, second = await twice(passing, Send(old))
    assert (first.body, second.text, passing.origin.connections) == (b"hello", "next", 2)


@requires("RFC 9112 §5.2", "a folded header line of an origin's is unfolded, never passed on")
async def test_obs_fold(passing: Site) -> None:
    passing.on("/p", [Send(b"HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\nContent-Length: 0\r\n\r\n")])
    visitor = await passing.proxy.visitor()
    visitor.send("/p")
    raw = await visitor.reader.readuntil(b"\r\n\r\n")
    assert raw.startswith(b"HTTP/1.1 502 ") or b"X-Folded: a b\r\n" in raw


# --- requests ---


@requires("RFC 9112 §6.3", "a request body passes in the framing it has")
@pytest.mark.parametrize(
    ("framing", "body", "sent"),
    [
        (b"Content-Length: 5\r\n", b"hello", "content-length"),
        (b"Transfer-Encoding: chunked\r\n", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", "transfer-encoding"),
    ],
)
@pytest.mark.parametrize("method", [b"GET", b"POST", b"HEAD", b"DELETE", b"OPTIONS", b"QUERY"])
async def test_request_bodies(method: bytes, framing: bytes, body: bytes, sent: str, passing: Site) -> None:
    visitor = await passing.proxy.visitor()
    visitor.writer.write(method + b" /p HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n" + body)
    assert (await visitor.reply(method=method.decode())).status == 404
    assert passing.last.body == b"hello"
    assert {"content-length", "transfer-encoding"} & {name for name, _ in passing.last.headers} == {sent}


@requires(
    "RFC 9112 §6.3", "a length that is none, or too long to be one, is refused; nothing behind it is read"
)
@pytest.mark.parametrize("length", ["9" * 18 + "9", "0" * 20 + "5", "+5", "5, 5", "0x5", "5 5", "\xb2"])
async def test_bad_lengths(length: str, passing: Site) -> None:
    visitor = await passing.proxy.visitor()
    raw = f"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nhello"
    visitor.writer.write(raw.encode("latin-1") + b"GET /evil HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await visitor.reply()).status == 400
    assert await visitor.reader.read() == b""
    assert passing.origin.requests == []


@requires("RFC 9112 §6.1", "a request in a coding that nobody knows is refused with 501")
async def test_unknown_coding(passing: Site) -> None:
    visitor = await passing.proxy.visitor()
    visitor.writer.write(b"POST /p HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n")
    assert (await visitor.reply()).status == 501
    assert passing.origin.requests == []
