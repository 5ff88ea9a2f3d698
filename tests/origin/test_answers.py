"""What comes back: heads, bodies, interim answers, and every way a body ends."""

from __future__ import annotations

import asyncio

import pytest

from isr_proxy.core.http import Head
from isr_proxy.core.reason import Reason
from isr_proxy.errors import OriginError
from isr_proxy.origin.client import Outgoing
from isr_proxy.origin.parser import HEAD_BYTES_MAX, LINE_BYTES_MAX
from tests.origin.asking import asking, body_of, failure, get, hinted, read
from tests.scripted_origin import (
    Close,
    Exchange,
    Reset,
    ScriptedOrigin,
    Send,
    Step,
    Wait,
    chunked,
    head,
    page,
)


async def test_the_head_keeps_its_raw_lines_in_order() -> None:
    lines = [("X-B", "1"), ("x-a", "caf\u00e9"), ("X-B", "2"), ("Content-Encoding", "gzip")]
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", page(b"not really gzip", lines, status=203))
        answer = await client.fetch(get())
        assert (answer.head.status, answer.head.reason) == (203, "Scripted")
        assert answer.head.fields.lines[:4] == (
            (b"X-B", b"1"),
            (b"x-a", "caf\u00e9".encode("latin-1")),
            (b"X-B", b"2"),
            (b"Content-Encoding", b"gzip"),
        )
        assert (answer.body_bytes, answer.origin, await read(answer)) == (15, origin.url, b"not really gzip")


async def test_the_target_and_the_lines_are_sent_as_they_are() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        await body_of(client, get("/a%2Fb/%7e/..?q=[x]&e=%C3%A9", (b"Accept", b"*/*"), (b"X-Raw", b"\xe9")))
        assert origin.requests[0].raw_head == (
            b"GET /a%2Fb/%7e/..?q=[x]&e=%C3%A9 HTTP/1.1\r\nHost: example.org\r\n"
            b"Accept: */*\r\nX-Raw: \xe9\r\n\r\n"
        )


@pytest.mark.parametrize(
    "outgoing",
    [get("/a b"), get("/a\r\nX: 1"), get("/", (b"X", b"a\nY: b")), get("/", (b"X", b"a\rb"))],
    ids=["blank", "target", "field", "bare-cr"],
)
async def test_a_request_that_would_change_its_framing_is_not_sent(outgoing: Outgoing) -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        assert await failure(client, outgoing) is Reason.BAD_REQUEST
        assert not origin.requests


async def test_interim_answers_are_handed_over_before_the_final_one() -> None:
    seen: list[Head] = []
    early = b"HTTP/1.1 100 Continue\r\n\r\n" + head(103, {"Link": "</a.css>; rel=preload"})
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", [Send(early), *page("late")])
        assert await body_of(client, hinted("/", seen)) == b"late"
    assert [each.status for each in seen] == [100, 103]
    assert seen[1].fields.first(b"link") == "</a.css>; rel=preload"


async def test_a_chunked_body_arrives_without_its_framing() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", chunked(b"one", b"two", b"x" * 100_000))
        answer = await client.fetch(get())
        assert answer.body_bytes is None
        assert await read(answer) == b"onetwo" + b"x" * 100_000


async def test_trailers_and_chunk_extensions_are_dropped() -> None:
    data = head(200, {"Transfer-Encoding": "chunked"}) + b"2;a=b\r\nhi\r\n0\r\nX-Sum: 1\r\n\r\n"
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", [Send(data)])
        assert [await body_of(client, get()), await body_of(client, get())] == [b"hi", b"hi"]
        assert origin.connections == 1


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_body_without_a_length_ends_with_its_connection(version: str) -> None:
    start = f"HTTP/{version} 200 OK\r\n\r\nfirst".encode()
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", [Send(start), Send(b" last"), Close()])
        assert await body_of(client, get()) == b"first last"


@pytest.mark.parametrize(
    ("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)], ids=["HEAD", "204", "304"]
)
async def test_an_answer_that_has_no_body_keeps_the_connection(method: str, status: int) -> None:
    headers = {} if status == 204 else {"Content-Length": "500"}
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", [Send(head(status, headers))], page("next"))
        answer = await client.fetch(get(method=method))
        assert (answer.body_bytes, await read(answer)) == (0, b"")
        assert await body_of(client, get()) == b"next"
        assert origin.connections == 1


async def test_a_head_answer_without_a_length_keeps_the_connection() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", [Send(head(200))], page("next"))
        assert await body_of(client, get(method="HEAD")) == b""
        assert await body_of(client, get()) == b"next"
        assert origin.connections == 1


async def test_a_head_that_comes_byte_by_byte_is_read() -> None:
    data = b"\r\n" + head(200, {"Content-Length": "2"}) + b"hi"
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", [Send(data[at : at + 1]) for at in range(len(data))])
        assert await body_of(client, get()) == b"hi"


async def test_bare_line_feeds_end_lines_too() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", [Send(b"HTTP/1.1 200 OK\nContent-Length: 2\nX: 1\n\nhi")])
        assert await body_of(client, get()) == b"hi"


async def test_a_folded_line_becomes_one() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", [Send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: a\r\n b\r\n\r\n")])
        assert (await client.fetch(get())).head.fields.first(b"x") == "a b"


BAD_HEADS = {
    "not-http": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "http-0.9": b"<html>\n\n",
    "http-2": b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
    "status-99": b"HTTP/1.1 099 X\r\nContent-Length: 0\r\n\r\n",
    "two-lengths": head(200, [("Content-Length", "2"), ("Content-Length", "3")]) + b"abc",
    "length-list": head(200, {"Content-Length": "2, 3"}) + b"abc",
    "length-negative": head(200, {"Content-Length": "-1"}),
    "length-and-chunked": head(200, {"Content-Length": "2", "Transfer-Encoding": "chunked"}) + b"0\r\n\r\n",
    "chunked-and-length": head(200, {"Transfer-Encoding": "chunked", "Content-Length": "2"}) + b"0\r\n\r\n",
    "other-coding": head(200, {"Transfer-Encoding": "gzip"}) + b"abc",
    "blank-before-colon": b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "nul": b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
    "bare-cr": b"HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n",
    "long-line": head(200, {"X": "x" * LINE_BYTES_MAX, "Content-Length": "0"}),
    "long-head": head(200, [(f"X-{n}", "x" * 1000) for n in range(HEAD_BYTES_MAX // 1000 + 1)]),
    "endless-head": b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * HEAD_BYTES_MAX,
    "endless-interims": head(103) * 100,
    "unasked-101": head(101, {"Upgrade": "websocket", "Connection": "upgrade"}),
    "bad-chunk": head(200, {"Transfer-Encoding": "chunked"}) + b"zz\r\nhi\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("data", BAD_HEADS.values(), ids=BAD_HEADS.keys())
async def test_what_is_not_http_is_a_bad_response(data: bytes) -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", [Send(data)])
        assert await failure(client, get()) is Reason.BAD_RESPONSE
        await origin.until(lambda: not origin.open_now)


CUT = {
    "length": (head(200, {"Content-Length": "9"}) + b"short", Close(), Reason.TRUNCATED),
    "length-reset": (head(200, {"Content-Length": "9"}) + b"short", Reset(), Reason.RESET),
    "chunked": (head(200, {"Transfer-Encoding": "chunked"}) + b"5\r\nsho", Close(), Reason.TRUNCATED),
    "last-chunk": (
        head(200, {"Transfer-Encoding": "chunked"}) + b"5\r\nshort\r\n0\r\n",
        Close(),
        Reason.TRUNCATED,
    ),
    "until-eof-reset": (head(200) + b"short", Reset(), Reason.RESET),
}


@pytest.mark.parametrize(("start", "end", "reason"), CUT.values(), ids=CUT.keys())
async def test_law_1_a_body_that_is_cut_short_is_a_failure(
    start: bytes, end: Close | Reset, reason: Reason
) -> None:
    counted: list[Reason] = []
    async with ScriptedOrigin() as origin, asking(origin.url, on_error=counted.append) as client:

        async def script(exchange: Exchange) -> None:
            await exchange.send(start)
            await begun.wait()
            await exchange.run([end])

        begun = asyncio.Event()
        origin.on("/", script)
        answer = await client.fetch(get())
        begun.set()
        with pytest.raises(OriginError) as caught:
            await read(answer)
        assert [Reason(caught.value.word)] == counted == [reason]


@pytest.mark.parametrize("extra", [b"x", b"HTTP", head(200, {"Content-Length": "0"})])
@pytest.mark.parametrize("body", [page("whole"), chunked(b"whole")], ids=["length", "chunked"])
async def test_bytes_behind_an_answer_are_never_the_next_one(body: list[Step], extra: bytes) -> None:
    data = b"".join(step.data for step in body if isinstance(step, Send))
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", [Send(data + extra)])
        assert [await body_of(client, get()) for _ in range(2)] == [b"whole", b"whole"]
        assert origin.connections == 2


async def test_bytes_that_come_while_idle_close_the_connection() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        late = asyncio.Event()
        origin.on("/", [*page("first"), Wait(late), Send(b"junk")], page("second"))
        assert await body_of(client, get()) == b"first"
        late.set()
        await origin.until(lambda: not origin.open_now)
        assert await body_of(client, get()) == b"second"
        assert origin.connections == 2
