"""A pass without a task equals a pass in one, whatever the origin does and however its bytes are cut.

The same bytes for the visitor, the same for the origin, the same Outcome.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from isr_proxy.serve.outcome import Outcome
from isr_proxy.serve.passthrough import Passthrough
from tests.harness import Proxy, Visitor, config, eventually, running
from tests.scripted_origin import Close, Hang, Reset, ScriptedOrigin, Send, Step, chunked, head, page

ROUTES = "- {match: /**, revalidate: 0}"
TRAILED = b"5\r\nhello\r\n0\r\nX-Sum: 7\r\nServer-Timing: a\r\nContent-Length: 3\r\n\r\n"
HINTS = head(103, {"Link": "</a.css>; rel=preload", "X-Cache": "no"})
LONG = bytes(range(256)) * 2048  # more than any buffer on the way

SCRIPTS: dict[str, list[Step]] = {
    "whole": page("hello"),
    "empty": page(""),
    "no content": [Send(head(204, {"X-A": "b"}))],
    "not modified": [Send(head(304, {"ETag": '"a"', "Content-Length": "5"}))],
    "error": page("sorry", status=503),
    "private fields": page(
        "x", {"Surrogate-Key": "a", "X-Cache": "HIT", "Cache-Status": "far; hit", "Age": "3"}
    ),
    "hop by hop": page(
        "x", {"Connection": "X-Gone", "X-Gone": "1", "Keep-Alive": "timeout=5", "X-Kept": "2"}
    ),
    "date nominated": page("x", {"Connection": "Date", "Date": "Thu, 01 Jan 1970 00:00:00 GMT"}),
    "chunked": chunked(b"hel", b"lo", b"!" * 70_000),
    "trailers": [Send(head(200, {"Transfer-Encoding": "chunked", "Trailer": "X-Sum"}) + TRAILED)],
    "until the end": [Send(head(200) + b"all there is"), Close()],
    "long": page(LONG),
    "hints": [Send(HINTS), Send(HINTS + head(200, {"Content-Length": "2"}) + b"ok")],
    "cut": [Send(head(200, {"Content-Length": "9"}) + b"short"), Close()],
    "cut in a chunk": [Send(head(200, {"Transfer-Encoding": "chunked"}) + b"9\r\nshort"), Close()],
    "bad chunk": [Send(head(200, {"Transfer-Encoding": "chunked"}) + b"3\r\nabc\r\nnine\r\n")],
    "reset in the body": [Send(head(200, {"Content-Length": "9"}) + b"short"), Reset()],
    "cut in the head": [Send(b"HTTP/1.1 200 OK\r\nContent-"), Close()],
    "closed unasked": [Close()],
    "reset unasked": [Reset()],
    "no HTTP": [Send(b"220 smtp ready\r\n\r\n"), Close()],
    "switched unasked": [Send(head(101, {"Upgrade": "websocket", "Connection": "upgrade"})), Close()],
    "too much": [Send(head(200, {"Content-Length": "2"}) + b"okHTTP/1.1 200 Smuggled\r\n\r\n")],
    "426": page("x", {"Upgrade": "h2c", "Connection": "upgrade"}, status=426),
    "twice": page("x", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Name", "caf\xe9")]),
}


@dataclass
class Seen:
    """What one way did."""

    to_visitor: list[bytes] = field(default_factory=list)
    to_origin: list[bytes] = field(default_factory=list)
    outcomes: list[tuple[object, ...]] = field(default_factory=list)
    errors: dict[str, int] = field(default_factory=dict)


@pytest.fixture
async def origin() -> AsyncIterator[ScriptedOrigin]:
    async with ScriptedOrigin() as scripted:
        yield scripted


@contextmanager
def only_in_tasks() -> Iterator[None]:
    """Let every request go the long way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Passthrough, "start", lambda *_: None)
        yield


@contextmanager
def counted() -> Iterator[list[bool]]:
    """Tell of each request whether it went without a task."""
    told: list[bool] = []
    start = Passthrough.start
    with pytest.MonkeyPatch.context() as patch:

        def counting(self: Passthrough, *asked: object) -> object:
            flow = start(self, *asked)  # type: ignore[arg-type]
            told.append(flow is not None)
            return flow

        patch.setattr(Passthrough, "start", counting)
        yield told


@asynccontextmanager
async def warmed(origin: ScriptedOrigin, tmp_path: Path, **more: str) -> AsyncIterator[Proxy]:
    """Run a proxy that keeps a connection to the origin already."""
    origin.on("/first", page("x"))
    async with running(config(origin.url, tmp_path, ROUTES, **more)) as proxy:
        assert (await proxy.get("/first")).status == 200
        yield proxy


def watched(proxy: Proxy, seen: Seen) -> None:
    observation = proxy.worker.observation
    visited = observation.visited

    def note(outcome: Outcome) -> None:
        what = (outcome.route, outcome.status, outcome.x_cache, outcome.reason, outcome.sent_bytes)
        seen.outcomes.append((outcome.request.target, *what))
        visited(outcome)

    observation.visited = note  # type: ignore[method-assign]


async def seen_of(proxy: Proxy, origin: ScriptedOrigin, raw: bytes) -> Seen:
    """Send these requests on one connection, and note everything that comes of them."""
    seen = Seen()
    watched(proxy, seen)
    origin.requests.clear()
    visitor = await proxy.visitor()
    visitor.writer.write(raw)
    visitor.writer.write_eof()
    seen.to_visitor.append(await _rest(visitor))
    await eventually(lambda: not proxy.worker.front.running())
    own_port = str(proxy.url.rpartition(":")[2]).encode()
    seen.to_origin = [each.raw_head.replace(own_port, b"PORT") for each in origin.requests]
    seen.errors = dict(proxy.worker.observation.snapshot().origin_errors)
    return seen


async def _rest(visitor: Visitor) -> bytes:
    pieces: list[bytes] = []
    try:
        while piece := await visitor.reader.read(2**16):
            pieces.append(piece)
    except ConnectionError:
        pieces.append(b"<reset>")
    return b"".join(pieces)


def asked(target: str, method: str = "GET", *lines: str) -> bytes:
    said = "".join(f"{line}\r\n" for line in ("Host: site.example", *lines))
    return f"{method} {target} HTTP/1.1\r\n{said}\r\n".encode()


def cut_up(steps: list[Step], random: Random) -> list[Step]:
    """Send the same bytes in other pieces."""
    found: list[Step] = []
    for step in steps:
        if isinstance(step, Send) and len(step.data) < 1000:
            places = sorted(random.sample(range(len(step.data)), min(3, len(step.data))))
            pieces = [
                step.data[start:stop] for start, stop in zip([0, *places], [*places, None], strict=True)
            ]
            found += [Send(piece) for piece in pieces if piece]
        else:
            found.append(step)
    return found


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("name", SCRIPTS)
async def test_both_ways_say_the_same(origin: ScriptedOrigin, tmp_path: Path, name: str, method: str) -> None:
    random = Random(f"{name} {method}")
    for steps in (SCRIPTS[name], cut_up(SCRIPTS[name], random)):
        origin.on("/asked", steps)
        lines = ("Accept: */*", "TE: trailers", "Connection: TE, close")
        async with warmed(origin, tmp_path / "at-once") as proxy:
            with counted() as told:
                at_once = await seen_of(proxy, origin, asked("/asked", method, *lines))
        with only_in_tasks():
            async with warmed(origin, tmp_path / "in-a-task") as proxy:
                in_a_task = await seen_of(proxy, origin, asked("/asked", method, *lines))
        assert told == [True]
        assert at_once == in_a_task


async def test_a_row_of_requests_is_answered_in_its_order(origin: ScriptedOrigin, tmp_path: Path) -> None:
    kept = [
        name
        for name in SCRIPTS
        if name in ("whole", "chunked", "hints", "no content", "426", "empty", "long")
    ]
    for number, name in enumerate(kept):
        origin.on(f"/{number}", SCRIPTS[name])
    row = b"".join(asked(f"/{number}", "HEAD" if number == 2 else "GET") for number in range(len(kept)))
    async with warmed(origin, tmp_path / "at-once") as proxy:
        with counted() as told:
            at_once = await seen_of(proxy, origin, row)
    with only_in_tasks():
        async with warmed(origin, tmp_path / "in-a-task") as proxy:
            in_a_task = await seen_of(proxy, origin, row)
    assert told == [True] * len(kept)
    assert at_once == in_a_task
    assert [outcome[0] for outcome in at_once.outcomes] == [f"/{number}" for number in range(len(kept))]


async def test_a_kept_connection_that_died_is_replaced_once(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.on("/asked", [Close()], page("again"))
    async with warmed(origin, tmp_path) as proxy:
        with counted() as told:
            reply = await proxy.get("/asked")
        assert (reply.status, reply.body, told) == (200, b"again", [True])
        assert origin.hits("/asked") == 2


async def test_a_new_connection_that_dies_too_is_the_end(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.on("/asked", [Close()])
    async with warmed(origin, tmp_path) as proxy:
        reply = await proxy.get("/asked")
        assert (reply.status, reply.headers["x-cache-reason"]) == (502, "reset")
        assert origin.hits("/asked") == 2
        assert proxy.worker.client.health[0].failures == 1
        assert (await proxy.get("/first")).status == 200


async def test_who_hangs_up_gives_the_origin_up_too(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.on("/asked", [Send(head(200, {"Content-Length": "9"}) + b"half"), Hang()])
    async with warmed(origin, tmp_path) as proxy:
        seen = Seen()
        watched(proxy, seen)
        visitor = await proxy.visitor()
        visitor.send("/asked")
        await visitor.reader.readuntil(b"half")
        visitor.reset()
        await origin.until(lambda: not origin.open_now)
        await eventually(lambda: bool(seen.outcomes))
        assert [(outcome[2], getattr(outcome[4], "value", "")) for outcome in seen.outcomes] == [
            (499, "visitor-gone")
        ]


async def test_who_hangs_up_before_the_retry_is_not_asked_for(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.on("/asked", [Hang()])
    async with warmed(origin, tmp_path) as proxy:
        visitor = await proxy.visitor()
        visitor.send("/asked")
        await origin.received(2)
        visitor.reset()
        await origin.until(lambda: not origin.open_now)
        await proxy.worker.client.called()
        assert origin.hits("/asked") == 1


async def test_an_origin_that_is_silent_is_given_up_in_time(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.on("/asked", [Hang()])
    origin.on("/slow", [Send(head(200, {"Content-Length": "9"}) + b"half"), Hang()])
    async with warmed(origin, tmp_path, timeout="100ms") as proxy:
        reply = await proxy.get("/asked")
        assert (reply.status, reply.headers["x-cache-reason"]) == (504, "first-byte-timeout")
        reply = await proxy.get("/slow")
        assert (reply.status, reply.body, reply.is_whole) == (200, b"half", False)
        errors = proxy.worker.observation.snapshot().origin_errors
        assert errors == {"first-byte-timeout": 1, "chunk-timeout": 1}


async def test_a_slow_visitor_stops_the_origin(origin: ScriptedOrigin, tmp_path: Path) -> None:
    sent_bytes, whole = 0, 64 * 1024 * 1024

    async def endless(exchange: object) -> None:
        nonlocal sent_bytes
        await exchange.send(head(200, {"Content-Length": str(whole)}))  # type: ignore[attr-defined]
        while sent_bytes < whole:
            await exchange.send(b"x" * 65536)  # type: ignore[attr-defined]
            sent_bytes += 65536

    origin.on("/asked", endless)
    async with warmed(origin, tmp_path) as proxy:
        visitor = await proxy.visitor()
        visitor.writer.transport.pause_reading()  # type: ignore[attr-defined]
        with counted() as told:
            visitor.send("/asked")
            await origin.received(2)
            held = -1
            while held != sent_bytes:  # until nothing moves any more
                held = sent_bytes
                await asyncio.sleep(0.2)
        assert told == [True]
        assert held < 24 * 1024 * 1024  # what the kernel's buffers take, and no more
        visitor.writer.transport.resume_reading()  # type: ignore[attr-defined]
        reply = await visitor.reply()
        assert len(reply.body) == whole


async def test_a_reload_waits_for_what_passes_without_a_task(origin: ScriptedOrigin, tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def slow(exchange: object) -> None:
        await exchange.send(head(200, {"Content-Length": "8"}) + b"half")  # type: ignore[attr-defined]
        await go_on.wait()
        await exchange.send(b"rest")  # type: ignore[attr-defined]

    origin.on("/asked", slow)
    async with warmed(origin, tmp_path) as proxy:
        visitor = await proxy.visitor()
        visitor.send("/asked")
        await visitor.reader.readuntil(b"half")
        await proxy.worker.reload()
        assert (await proxy.get("/first")).status == 200
        go_on.set()
        assert await visitor.reader.readexactly(4) == b"rest"


async def test_a_body_that_is_said_to_be_empty_is_said_so_to_the_origin(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.on("/asked", page("hello"))
    async with warmed(origin, tmp_path) as proxy:
        with counted() as told:
            seen = await seen_of(proxy, origin, asked("/asked", "GET", "Content-Length: 0"))
    assert told == [False]
    assert b"\r\nContent-Length: 0\r\n" in seen.to_origin[0]
