"""Passing is streaming: bodies of any size in constant memory, each end as slow as it likes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import Visitor, config
from tests.http.conftest import PASSING, Site
from tests.http.requirements import requires
from tests.scripted_origin import Exchange, ScriptedOrigin, Send, Wait, head
from tests.serving_process import Serving

PIECE = b"x" * 1_000_000
PIECES = 300
ALLOWED_BYTES = 24_000_000  # what a process may grow by, whatever passes through it


@dataclass
class Process:
    """A proxy in a process of its own, with what it may not do: grow."""

    serving: Serving
    origin: ScriptedOrigin

    def peak_bytes(self) -> int:
        status = Path(f"/proc/{self.serving.process.pid}/status").read_text()
        found = re.search(r"VmHWM:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024


@pytest.fixture
async def process(origin: ScriptedOrigin, tmp_path: Path) -> AsyncIterator[Process]:
    serving = await Serving.start(config(origin.url, tmp_path / "store", PASSING, timeout="30s"), tmp_path)
    try:
        yield Process(serving, origin)
    finally:
        await serving.kill()


def framed(piece: bytes, *, is_chunked: bool) -> bytes:
    return b"%x\r\n%b\r\n" % (len(piece), piece) if is_chunked else piece


def framing(*, is_chunked: bool) -> dict[str, str]:
    if is_chunked:
        return {"Transfer-Encoding": "chunked"}
    return {"Content-Length": str(len(PIECE) * PIECES)}


async def send_all(writer: asyncio.StreamWriter, *, is_chunked: bool) -> None:
    for _ in range(PIECES):
        writer.write(framed(PIECE, is_chunked=is_chunked))
        await writer.drain()
    writer.write(b"0\r\n\r\n" if is_chunked else b"")


async def read_all(reader: asyncio.StreamReader, *, is_chunked: bool) -> int:
    """Read a body of either framing, and keep none of it; returns its length."""
    total, left = 0, 0 if is_chunked else len(PIECE) * PIECES
    while True:
        if is_chunked and not left:
            left = int(await reader.readuntil(b"\r\n"), 16)
            if not left:
                break
        data = await reader.read(min(left, 2**20))
        total, left = total + len(data), left - len(data)
        if not left and not is_chunked:
            break
        if not left:
            await reader.readexactly(2)
    return total


@requires("RFC 9110 §7.3.3", "a response of any size takes no more memory than a small one")
@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
async def test_a_large_response(is_chunked: bool, process: Process) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(head(200, framing(is_chunked=is_chunked)))
        await send_all(exchange.writer, is_chunked=is_chunked)

    process.origin.on("/p", script)
    visitor = await Visitor.connect(process.serving.url)
    before = process.peak_bytes()
    visitor.send("/p")
    await visitor.reader.readuntil(b"\r\n\r\n")
    assert await read_all(visitor.reader, is_chunked=is_chunked) == len(PIECE) * PIECES
    assert process.peak_bytes() - before < ALLOWED_BYTES
    await visitor.close()


@requires("RFC 9110 §7.3.3", "a request body of any size takes no more memory than a small one")
@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
async def test_a_large_request(is_chunked: bool, process: Process) -> None:
    got = 0

    async def script(exchange: Exchange) -> None:
        nonlocal got
        got = await read_all(exchange.reader, is_chunked=is_chunked)
        await exchange.send(head(204, {"Connection": "close"}))
        exchange.close()

    process.origin.on("/p", script)
    visitor = await Visitor.connect(process.serving.url)
    before = process.peak_bytes()
    visitor.send("/p", framing(is_chunked=is_chunked), method="POST")
    await send_all(visitor.writer, is_chunked=is_chunked)
    assert (await visitor.reply()).status == 204
    assert got == len(PIECE) * PIECES
    assert process.peak_bytes() - before < ALLOWED_BYTES
    await visitor.close()


@requires("RFC 9110 §7.3.3", "a visitor who does not read stops the origin, and loses nothing by it")
async def test_back_pressure_on_the_origin(process: Process) -> None:
    is_sent = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.send(head(200, framing(is_chunked=False)))
        await send_all(exchange.writer, is_chunked=False)
        is_sent.set()

    process.origin.on("/p", script)
    visitor = await Visitor.connect(process.serving.url)
    before = process.peak_bytes()
    visitor.send("/p")
    await visitor.reader.readuntil(b"\r\n\r\n")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(is_sent.wait(), 0.5)
    assert process.peak_bytes() - before < ALLOWED_BYTES
    assert await read_all(visitor.reader, is_chunked=False) == len(PIECE) * PIECES
    await visitor.close()


@requires("RFC 9110 §7.3.3", "an origin that does not read stops the visitor, and misses nothing by it")
async def test_back_pressure_on_the_visitor(process: Process) -> None:
    go_on = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go_on.wait()
        got = await read_all(exchange.reader, is_chunked=True)
        await exchange.send(head(200, {"X-Got": str(got), "Content-Length": "0"}))
        exchange.is_closed = True

    process.origin.on("/p", script)
    visitor = await Visitor.connect(process.serving.url)
    before = process.peak_bytes()
    visitor.send("/p", framing(is_chunked=True), method="POST")
    sending = asyncio.ensure_future(send_all(visitor.writer, is_chunked=True))
    done, _ = await asyncio.wait([sending], timeout=0.5)
    assert not done
    assert process.peak_bytes() - before < ALLOWED_BYTES
    go_on.set()
    await sending
    assert (await visitor.reply()).headers["x-got"] == str(len(PIECE) * PIECES)
    await visitor.close()


@requires("RFC 9112 §7", "what the origin sends reaches the visitor at once: server-sent events, long polls")
@pytest.mark.parametrize("is_chunked", [False, True], ids=["until-close", "chunked"])
async def test_nothing_is_held_back(is_chunked: bool, passing: Site) -> None:
    first, second = asyncio.Event(), asyncio.Event()
    headers = {
        "Content-Type": "text/event-stream",
        **({"Transfer-Encoding": "chunked"} if is_chunked else {}),
    }
    events = [Send(framed(b"data: %d\n\n" % number, is_chunked=is_chunked)) for number in range(2)]
    passing.on("/p", [Send(head(200, headers)), Wait(first), events[0], Wait(second), events[1]])
    visitor = await passing.proxy.visitor()
    visitor.send("/p")
    assert b"text/event-stream" in await visitor.reader.readuntil(b"\r\n\r\n")
    first.set()
    await visitor.reader.readuntil(b"data: 0\n\n")
    second.set()
    await visitor.reader.readuntil(b"data: 1\n\n")


@requires("RFC 9112 §7", "what the visitor sends reaches the origin at once")
async def test_an_upload_piece_by_piece(passing: Site) -> None:
    got = asyncio.Queue[bytes]()

    async def script(exchange: Exchange) -> None:
        for _ in range(2):
            got.put_nowait(await exchange.reader.readexactly(2))
        await exchange.send(head(204))

    passing.on("/p", script)
    visitor = await passing.proxy.visitor()
    visitor.send("/p", {"Content-Length": "4"}, method="PUT")
    visitor.writer.write(b"ab")
    assert await got.get() == b"ab"
    visitor.writer.write(b"cd")
    assert await got.get() == b"cd"


@requires("RFC 9112 §9.5", "both ends may talk at once: an echo of what is still being sent")
async def test_both_ways_at_once(passing: Site) -> None:
    async def echo(exchange: Exchange) -> None:
        await exchange.send(head(200, {"Transfer-Encoding": "chunked"}))
        while size := int(await exchange.reader.readuntil(b"\r\n"), 16):
            data = await exchange.reader.readexactly(size + 2)
            await exchange.send(b"%x\r\n%b" % (size, data))
        await exchange.send(b"0\r\n\r\n")
        exchange.close()

    passing.on("/p", echo)
    visitor = await passing.proxy.visitor()
    visitor.send("/p", {"Transfer-Encoding": "chunked"}, method="POST")
    for word in (b"one", b"two", b"three"):
        visitor.writer.write(framed(word, is_chunked=True))
        await visitor.reader.readuntil(word + b"\r\n")
    visitor.writer.write(b"0\r\n\r\n")
    assert await visitor.reader.readuntil(b"0\r\n\r\n")
