"""The bytes of a known head where no request begins: they are never answered as one."""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass

import pytest

from tests.engine.test_connections import lazy_visitor
from tests.harness import Visitor, eventually
from tests.lanes.conftest import Start, Write
from tests.lanes.test_hot_answers import KINDS
from tests.lanes.watching import PAGE, Watched, body
from tests.lanes.world import Asked
from tests.pem import Authority
from tests.scripted_origin import Exchange, ScriptedOrigin, Send, Wait, head, page

K = PAGE.raw
TO = b"Host: site.example\r\n"
POST = b"POST /pass/echo HTTP/1.1\r\n" + TO
_DATE = re.compile(rb"\r\nDate: [^\r]*")  # of a refusal it is the wall clock's
UPGRADE = b"GET /pass/ws HTTP/1.1\r\n" + TO + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


@dataclass(frozen=True)
class Case:
    """Packets, what the visitor is answered, and what the origin is asked."""

    packets: tuple[bytes, ...]
    statuses: tuple[int, ...]
    asked: tuple[tuple[str, str, bytes], ...] = ()
    perhaps: tuple[tuple[str, str, bytes], ...] = ()  # or this, if the request was on its way


ECHOED = ("POST", "/pass/echo", K)
CASES = {
    "nothing before it": Case((K,), (200,)),
    "twice": Case((K, K), (200, 200)),
    "after a line break": Case((b"\r\n", K), (200,)),
    "after a line break that is none": Case((b"\n", K), (200,)),
    "as a body": Case((POST + b"Content-Length: %d\r\n\r\n" % len(K), K), (200,), (ECHOED,)),
    "as a body, and behind it": Case(
        (POST + b"Content-Length: %d\r\n\r\n" % len(K), K, K), (200, 200), (ECHOED,)
    ),
    "as a part of a body": Case(
        (POST + b"Content-Length: %d\r\n\r\nxx" % (len(K) + 4), K, b"yy"),
        (200,),
        (("POST", "/pass/echo", b"xx" + K + b"yy"),),
    ),
    "as a chunk": Case(
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"%x\r\n" % len(K), K, b"\r\n0\r\n\r\n"),
        (200,),
        (ECHOED,),
    ),
    "as a chunk of a GET": Case(
        (
            b"GET /pass/echo HTTP/1.1\r\n" + TO + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(K),
            K,
            b"\r\n0\r\n\r\n",
        ),
        (200,),
        (("GET", "/pass/echo", K),),
    ),
    "as trailers": Case(
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", K), (400,), (), (("POST", "/pass/echo", b""),)
    ),
    "as a chunk's size": Case(
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", K), (400,), (), (("POST", "/pass/echo", b""),)
    ),
    "after another method": Case((b"FET" + K[3:], K), (200, 200), (("FET", "/p", b""),)),
    "as a body that is announced": Case(
        (POST + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(K), K), (200,), (ECHOED,)
    ),
    "as a header's value": Case(
        (b"GET /pass/echo HTTP/1.1\r\nX-Value: ", K), (200,), (("GET", "/pass/echo", b""),)
    ),
    "as a header's value, with a second Host": Case(
        (b"GET /pass/echo HTTP/1.1\r\n" + TO + b"X: ", K), (400,)
    ),
    "as a header's name": Case((b"GET /pass/echo HTTP/1.1\r\n", K), (400,)),
    "as the rest of a target": Case((b"GET /pass/", K), (400,)),
    "after a method": Case((b"GET ", K), (400,)),
    "after half a method": Case((b"GE", K), (200,), (("GEGET", "/p", b""),)),
    "after a method without a blank": Case((b"GET", K), (200,), (("GETGET", "/p", b""),)),
    "after what is no HTTP": Case((b"\x00\r\n\r\n", K), (400,)),
    "after a request line that is none": Case((b"GET /p HTTP/9\r\n" + TO + b"\r\n", K), (400,)),
    "after two Hosts": Case((b"GET /p HTTP/1.1\r\n" + TO + TO + b"\r\n", K), (400,)),
    "after a field that is too large": Case(
        (b"GET /p HTTP/1.1\r\n" + TO + b"X: " + b"x" * 40_000 + b"\r\n\r\n", K), (431,)
    ),
    "after a half field that is too large": Case(
        (b"GET /p HTTP/1.1\r\n" + TO + b"X: " + b"x" * 40_000, K), (431,)
    ),
    "after many fields": Case((b"GET /p HTTP/1.1\r\n" + TO + b"X: y\r\n" * 500 + b"\r\n", K), (431,)),
    "after a close": Case((b"GET /p HTTP/1.1\r\n" + TO + b"Connection: close\r\n\r\n", K), (200,)),
    "after HTTP/1.0": Case((b"GET /p HTTP/1.0\r\n" + TO + b"\r\n", K), (200,)),
    "after a broken body": Case((POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", K), (400,)),
    "after a body framed twice": Case(
        (POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", K), (400,)
    ),
    "after an upgrade that is refused": Case((UPGRADE, K), (200,), (("GET", "/pass/ws", b""),)),
    "after a refused method": Case((b"CONNECT a:1 HTTP/1.1\r\n" + TO + b"\r\n", K), (501,)),
    "its first half, and it": Case((K[:10], K), (400,)),
    "all but its end, and it": Case((K[:-2], K), (400,)),
}


async def echo(exchange: Exchange) -> None:
    await exchange.run(page(await exchange.body()))


@pytest.fixture
async def known(lane: Watched, origin: ScriptedOrigin) -> Watched:
    """A proxy that knows K."""
    for path in ("/pass/echo", "/pass/ws"):
        origin.on(path, echo)
    await lane.learned()
    return lane


def statuses(heard: bytes) -> tuple[int, ...]:
    found = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", heard)]
    return tuple(status for status in found if status >= 200)


async def everything(lane: Watched, packets: tuple[bytes, ...], answers: int = 1) -> bytes:
    """Write packets, close that side once so many answers came, and read all that comes."""
    visitor, heard = await lane.visitor(), bytearray()
    reading = asyncio.ensure_future(read_into(heard, visitor))
    await lane.burst(visitor, *packets)
    await eventually(lambda: reading.done() or len(statuses(bytes(heard))) >= answers)
    with suppress(OSError):  # closed already
        visitor.writer.write_eof()
    await reading
    return _DATE.sub(b"", bytes(heard))


async def read_into(heard: bytearray, visitor: Visitor) -> None:
    """Read all that comes; who writes to whom has closed is told so by a reset."""
    with suppress(ConnectionError):
        while some := await visitor.reader.read(65536):
            heard += some


@pytest.mark.parametrize("name", CASES)
async def test_law_6_a_known_head(name: str, known: Watched, origin: ScriptedOrigin) -> None:
    case, before = CASES[name], len(origin.requests)
    fast = await everything(known, case.packets, len(case.statuses))
    asked = tuple((one.method, one.target, one.body) for one in origin.requests[before:])
    known.close_lanes()
    assert fast == await everything(known, case.packets, len(case.statuses))
    assert statuses(fast) == case.statuses
    assert asked in (case.asked, case.perhaps or case.asked)


async def test_a_known_head_behind_a_known_head_is_answered_behind_it(
    known: Watched, origin: ScriptedOrigin
) -> None:
    origin.on("/other", page("other"))
    other = Asked("/other")
    await known.learned(other)
    visitor = await known.visitor()
    await known.burst(visitor, K, other.raw, K, K + other.raw, K)
    told = [(await visitor.reply()).text for _ in range(6)]
    assert told == ["a page", "other", "a page", "a page", "other", "a page"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_behind_an_answer_that_is_running(method: str, known: Watched, origin: ScriptedOrigin) -> None:
    release, visitor = asyncio.Event(), await known.visitor()
    origin.on("/pass/slow", [Wait(release), *page("slow" if method == "GET" else "")])
    visitor.send("/pass/slow", method=method)
    await eventually(lambda: origin.hits("/pass/slow") == 1)
    await known.burst(visitor, K, K)
    assert known.hits == 3  # those of the learning
    release.set()
    assert (await visitor.reply(method=method)).x_cache == "PASS"
    assert [(await visitor.reply()).text for _ in range(2)] == ["a page", "a page"]


async def test_in_a_tunnel(known: Watched, origin: ScriptedOrigin) -> None:
    got: list[bytes] = []

    async def switch(exchange: Exchange) -> None:
        await exchange.send(head(101, {"Upgrade": "websocket", "Connection": "Upgrade"}))
        got.append(await exchange.reader.readexactly(len(K)))
        await exchange.send(b"in the tunnel")
        exchange.close()

    origin.on("/pass/ws", switch)
    visitor = await known.visitor()
    visitor.writer.write(UPGRADE)
    assert (await visitor.reply()).status == 101
    await known.burst(visitor, K)
    assert (await visitor.reader.read(), got) == (b"in the tunnel", [K])


async def test_before_a_tunnel_is_open(known: Watched, origin: ScriptedOrigin) -> None:
    release = asyncio.Event()

    async def switch(exchange: Exchange) -> None:
        await release.wait()
        await exchange.send(head(101, {"Upgrade": "websocket", "Connection": "Upgrade"}))
        await exchange.send(await exchange.reader.readexactly(len(K)))
        exchange.close()

    origin.on("/pass/ws", switch)
    visitor = await known.visitor()
    await known.burst(visitor, UPGRADE, K)
    release.set()
    assert (await visitor.reply()).status == 101
    assert await visitor.reader.read() == K


async def test_behind_a_head_that_took_too_long(known: Watched) -> None:
    visitor, connection = await known.met()
    heard = bytearray()
    reading = asyncio.ensure_future(read_into(heard, visitor))
    await known.burst(visitor, b"GET /pass/x HT")
    connection.expire()
    await known.burst(visitor, K)
    await reading
    assert statuses(bytes(heard)) == (408,)


async def test_of_who_was_turned_away(start: Start, origin: ScriptedOrigin) -> None:
    release = asyncio.Event()
    origin.on("/pass/slow", [Wait(release), *page("slow")])
    async with start(more="limits: {max_connections: 1}\n") as lane:
        first, hits = await lane.learned(), lane.hits
        first.send("/pass/slow")
        await eventually(lambda: origin.hits("/pass/slow") == 1)
        assert statuses(await everything(lane, (K, K))) == (503,)
        release.set()
        assert lane.hits == hits


NO_HTTP = {
    "no HTTP": b"\x00\r\n\r\n",
    "two Hosts": b"GET /p HTTP/1.1\r\n" + TO + TO + b"\r\n",
    "a broken end": K[:-2] + b"\x00",
}


@pytest.mark.parametrize("name", NO_HTTP)
async def test_over_tls_behind_what_is_no_http(name: str, both: Watched, ca: Authority) -> None:
    """There is no way to end our side alone, so what he sends is read for a moment longer."""
    visitor = await both.learned(visitor=await both.secure_visitor(ca.trusting()))
    hits = both.hits
    visitor.writer.write(NO_HTTP[name])
    assert (await visitor.reply()).status == 400
    await both.burst(visitor, K, K)
    assert both.hits == hits


async def test_a_reload_between_two_packets_of_a_head(known: Watched, write: Write) -> None:
    visitor = await known.visitor()
    await known.burst(visitor, K[:20])
    await known.reload(write("- {match: '/**', revalidate: 10s, client_cache_control: 'max-age=7'}"))
    await known.learned()
    before = len(known.decided)
    await known.burst(visitor, K[20:])
    reply = await visitor.reply()
    assert (reply.headers["cache-control"], len(known.decided)) == ("max-age=7", before + 1)


async def test_as_a_body_after_a_reload_behind_its_head(known: Watched, write: Write) -> None:
    visitor = await known.visitor()
    await known.burst(visitor, POST + b"Content-Length: %d\r\n\r\n" % len(K))
    await known.reload(write())
    await known.learned()
    await known.burst(visitor, K)
    assert (await visitor.reply()).body == K


async def test_in_the_middle_of_an_answer_that_goes_on(known: Watched, origin: ScriptedOrigin) -> None:
    """He did not take it, then did: that makes nobody idle whose answer is not whole."""
    release, half = asyncio.Event(), b"x" * 600_000
    origin.on(
        "/pass/large", [Send(head(200, {"Content-Length": "1200000"}) + half), Wait(release), Send(half)]
    )
    visitor, connection = await lazy_visitor(known.proxy)
    visitor.send("/pass/large")
    await eventually(lambda: connection.writing_paused)
    await visitor.reader.readuntil(b"\r\n\r\n")
    assert await visitor.reader.readexactly(len(half)) == half
    await eventually(lambda: not connection.writing_paused)
    await known.burst(visitor, K)
    release.set()
    assert await visitor.reader.readexactly(len(half)) == half
    assert (await visitor.reply()).text == "a page"


async def test_behind_many_that_wait_for_their_turn(known: Watched, origin: ScriptedOrigin) -> None:
    origin.on("/other", page("other"))
    await known.learned(Asked("/other"))
    visitor = await known.visitor()
    visitor.writer.write(Asked("/other").raw * 500)
    for _ in range(10):
        await known.burst(visitor, K)
    told = [(await visitor.reply()).text for _ in range(510)]
    assert told == ["other"] * 500 + ["a page"] * 10


# --- heads that are nearly known ---


async def test_law_6_a_head_cut_anywhere(known: Watched) -> None:
    whole = await everything(known, (K,))
    for place in range(1, len(K)):
        before = len(known.decided)
        assert await everything(known, (K[:place], K[place:])) == whole
        assert len(known.decided) == before + 1


def nearly(raw: bytes) -> list[bytes]:
    """Return heads that differ a little from this one."""
    flipped = [
        raw[:place] + bytes([raw[place] ^ bit]) + raw[place + 1 :]
        for place in range(4, len(raw))
        for bit in (1, 32)
    ]
    respelled = [
        raw.replace(b"Host", b"host"),
        raw.replace(b"Host", b"HOST"),
        raw.replace(b"Host: ", b"Host:"),
        raw.replace(b"Host: ", b"Host:  "),
        raw.replace(b"Host: ", b"Host:\t"),
        raw.replace(b"Host:", b"Host :"),
        raw.replace(b"example\r\n", b"example \r\n"),
        raw.replace(b"GET /p", b"GET  /p"),
        raw.replace(b"/p HTTP", b"/p  HTTP"),
        raw.replace(b"\r\n", b"\n"),
        raw.replace(b"site.example", b"SITE.example"),
        raw.replace(b"/p ", b"/p# "),
        raw.replace(b"/p ", b"/%70 "),
        raw.replace(b"/p ", b"http://site.example/p "),
        raw + b"\r\n",
        b"\r\n" + raw,
        b" " + raw,
    ]
    return [*flipped, *respelled]


async def test_law_6_a_head_that_differs_in_one_byte(known: Watched) -> None:
    whole = [raw for raw in nearly(K) if b"\r\n\r\n" in raw]

    async def each() -> list[bytes]:
        return [await everything(known, (raw,)) for raw in whole]

    for _ in range(2):
        await each()
        await known.proxy.settled()
    fast = await each()  # what can be known is known by now
    known.close_lanes()
    assert fast == await each()


async def test_a_head_whose_end_differs_in_one_byte_has_not_ended(known: Watched) -> None:
    hits = known.hits
    for raw in nearly(K):
        if b"\r\n\r\n" not in raw and b"\n\n" not in raw:
            await known.burst(await known.visitor(), raw)
    assert (known.hits, len(known.hot)) == (hits, 1)


NEVER = {
    "two Hosts": K[:-2] + TO + b"\r\n",
    "no Host": b"GET /p HTTP/1.1\r\n\r\n",
    "a body": K[:-2] + b"Content-Length: 3\r\n\r\n",
    "chunks": K[:-2] + b"Transfer-Encoding: chunked\r\n\r\n",
    "a length twice": K[:-2] + b"Content-Length: 0\r\nContent-Length: 3\r\n\r\n",
    "an upgrade": K[:-2] + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "a folded line": K[:-2] + b"X: a\r\n b\r\n\r\n",
    "a NUL": K[:-2] + b"X: a\x00b\r\n\r\n",
}


@pytest.mark.parametrize("name", NEVER)
async def test_a_head_with_something_odd_never_becomes_known(name: str, known: Watched) -> None:
    for _ in range(4):
        visitor: Visitor = await known.visitor()
        await known.burst(visitor, NEVER[name])
        visitor.writer.write_eof()
        await visitor.reader.read()
    assert len(known.hot) == 1


async def test_heads_of_other_kinds_are_answered_as_their_own(known: Watched) -> None:
    """A HEAD has no body, so what follows it is no body either."""
    visitor = await known.visitor()
    asked = KINDS["a head alone"][0]
    await known.learned(asked, visitor)
    await known.burst(visitor, asked.raw, K, asked.raw, K)
    for method in ("HEAD", "GET", "HEAD", "GET"):
        reply = await visitor.reply(method=method)
        assert reply.text == ("a page" if method == "GET" else "")
    assert body(await known.ask(visitor)) == b"a page"
