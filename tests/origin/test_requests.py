"""How requests go out: bodies, early answers, back-pressure both ways, cancelling, tunnels."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator

import pytest

from isr_proxy.core.http import Fields
from isr_proxy.core.reason import Reason
from isr_proxy.errors import OriginReset, VisitorGone
from isr_proxy.origin.client import Client, Outgoing
from isr_proxy.origin.incoming import HIGH_WATER_BYTES
from tests.origin.asking import asking, body_of, failure, get, post, read
from tests.scripted_origin import Close, Exchange, Hang, ScriptedOrigin, Send, chunked, head, page


@pytest.mark.parametrize(("size", "line"), [(None, "chunked"), (8, None)])
async def test_a_body_is_streamed_out(size: int | None, line: str | None) -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/form", page("done"))
        for _ in range(2):
            assert await body_of(client, post("/form", b"a=1&", b"", b"b=22", body_bytes=size)) == b"done"
        assert [each.body for each in origin.requests] == [b"a=1&b=22"] * 2
        assert (origin.requests[0].header("transfer-encoding"), origin.connections) == (line, 1)


async def test_an_empty_post_says_that_it_is_empty() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        await body_of(client, get("/", method="POST"))
        assert origin.requests[0].header("content-length") == "0"


async def test_an_answer_before_the_end_of_the_body_is_delivered() -> None:
    never = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield b"first"
        await never.wait()

    async def refuse(exchange: Exchange) -> None:
        await exchange.run([*page("too large", status=413), Hang()])

    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", refuse)
        answer = await client.fetch(Outgoing("POST", "/", "example.org", Fields(), body=endless()))
        assert (answer.head.status, await read(answer)) == (413, b"too large")
        await origin.until(lambda: not origin.open_now)  # not kept: the rest was never sent


@pytest.mark.parametrize("body_bytes", [None, 100])
async def test_a_body_that_fails_breaks_the_connection(body_bytes: int | None) -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"first"
        raise VisitorGone("hung up")

    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        outgoing = Outgoing("POST", "/", "example.org", Fields(), body=failing(), body_bytes=body_bytes)
        with pytest.raises(VisitorGone, match="hung up"):
            await client.fetch(outgoing)
        await origin.until(lambda: not origin.open_now)


@pytest.mark.parametrize("promised_bytes", [3, 9])
async def test_a_body_of_another_length_than_promised_breaks_the_connection(promised_bytes: int) -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        with pytest.raises(VisitorGone, match=f"5 bytes instead of {promised_bytes}"):
            await client.fetch(post("/", b"fiver", body_bytes=promised_bytes))
        await origin.until(lambda: not origin.open_now)


async def test_law_8_a_slow_origin_slows_the_request_body() -> None:
    produced, taken = 0, asyncio.Event()

    async def produce() -> AsyncIterator[bytes]:
        nonlocal produced
        for _ in range(400):
            produced += 100_000
            yield b"x" * 100_000

    async def slow(exchange: Exchange) -> None:
        await taken.wait()
        assert len(await exchange.body()) == 40_000_000
        await exchange.run(page("all of it"))

    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", slow)
        outgoing = Outgoing("POST", "/", "example.org", Fields(), body=produce(), body_bytes=40_000_000)
        asked = asyncio.get_running_loop().create_task(client.fetch(outgoing))
        before = -1
        while before < produced:
            before = produced
            await asyncio.sleep(0.05)
        assert produced < 20_000_000  # what the two sockets' buffers take
        taken.set()
        assert await read(await asked) == b"all of it"


async def test_law_8_a_slow_reader_stops_the_origin() -> None:
    sent = 0

    async def produce(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.send(head(200, {"Content-Length": "40000000"}))
        for _ in range(400):
            await exchange.send(b"x" * 100_000)
            sent += 100_000

    async with ScriptedOrigin() as origin, asking(origin.url, timeout=0.2) as client:
        origin.on("/", produce)
        answer = await client.fetch(get())
        before = -1
        while before < sent:
            before = sent
            await asyncio.sleep(0.3)  # also longer than the deadline, which is not the reader's
        assert sent < 20_000_000
        assert answer._hold.incoming.buffered_bytes < HIGH_WATER_BYTES + 512 * 1024
        assert len(await read(answer)) == 40_000_000


async def test_cancelling_frees_the_connection() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url, max_connections=1) as client:
        origin.on("/", [Hang()], page("free again"))
        asked = asyncio.get_running_loop().create_task(client.fetch(get()))
        await origin.received(1)
        asked.cancel()
        assert await body_of(client, get()) == b"free again"
        assert asked.cancelled()


async def _begin(client: Client, origin: ScriptedOrigin) -> None:
    """Leave an answer half read."""
    origin.on("/", [Send(head(200, {"Content-Length": "9"}) + b"half"), Hang()], page("free again"))
    answer = await client.fetch(get())
    assert await anext(answer.chunks()) == b"half"
    answer.close()
    answer.close()


async def test_closing_an_unread_answer_frees_the_connection() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url, max_connections=1) as client:
        await _begin(client, origin)
        assert await body_of(client, get()) == b"free again"
        assert origin.connections == 2


async def test_a_forgotten_answer_frees_the_connection() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url, max_connections=1) as client:
        origin.on("/", [Send(head(200, {"Content-Length": "9"}) + b"half"), Hang()], page("free again"))
        await client.fetch(get())
        gc.collect()
        assert await body_of(client, get()) == b"free again"


async def test_chunks_outlive_the_answer_they_belong_to() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", chunked(b"a", b"b" * 300_000, b"c"))
        chunks = (await client.fetch(get())).chunks()
        gc.collect()
        assert len(b"".join([chunk async for chunk in chunks])) == 300_002


async def test_law_1_a_body_that_is_closed_while_read_is_not_whole() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/", [Send(head(200) + b"until the end"), Hang()])
        for close in (lambda answer: answer.close(), lambda _: client.aclose()):
            answer = await client.fetch(get())
            reading = asyncio.get_running_loop().create_task(read(answer))
            await asyncio.sleep(0)
            closing = close(answer)
            if closing is not None:
                await closing
            with pytest.raises(OriginReset):
                await reading


async def test_a_whole_answer_frees_its_connection_before_it_is_read() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url, max_connections=1) as client:
        origin.on("/", page("first"), page("second"))
        first = await client.fetch(get())
        assert await body_of(client, get()) == b"second"
        assert (await read(first), origin.connections) == (b"first", 1)


# --- tunnels ---


def _upgrade() -> Outgoing:
    return Outgoing("GET", "/ws", "example.org", Fields(((b"Sec-WebSocket-Key", b"k"),)), upgrade="websocket")


SWITCH = head(101, {"Upgrade": "websocket", "Connection": "upgrade"})


async def test_a_tunnel_carries_bytes_both_ways() -> None:
    async def echo(exchange: Exchange) -> None:
        await exchange.send(SWITCH + b"hello")
        while data := await exchange.reader.read(100):
            await exchange.send(data.upper())
        exchange.close()

    async with ScriptedOrigin() as origin, asking(origin.url, timeout=0.1) as client:
        origin.on("/ws", echo)
        answer = await client.fetch(_upgrade())
        assert answer.tunnel is not None
        assert await answer.tunnel.read() == b"hello"
        await asyncio.sleep(0.2)  # silence is no failure of a tunnel
        answer.tunnel.write(b"ping")
        await answer.tunnel.drain()
        assert await answer.tunnel.read() == b"PING"
        answer.tunnel.close()
        await origin.until(lambda: not origin.open_now)
    request = origin.requests[0]
    assert (request.header("connection"), request.header("upgrade")) == ("upgrade", "websocket")


async def test_a_tunnel_ends_when_the_origin_closes_it() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url, max_connections=1) as client:
        origin.on("/ws", [Send(SWITCH + b"bye"), Close()])
        answer = await client.fetch(_upgrade())
        assert answer.tunnel is not None
        assert [await answer.tunnel.read(), await answer.tunnel.read()] == [b"bye", b""]
        answer.tunnel.close()
        with pytest.raises(OriginReset):
            answer.tunnel.write(b"anybody there?")
        origin.on("/", page("free again"))
        assert await body_of(client, get()) == b"free again"


async def test_a_refused_upgrade_is_an_ordinary_answer() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url) as client:
        origin.on("/ws", page("no", status=426))
        answer = await client.fetch(_upgrade())
        assert (answer.tunnel, answer.head.status, await read(answer)) == (None, 426, b"no")


# --- deadlines ---


async def test_silence_before_the_head() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url, timeout=0.1) as client:
        origin.on("/", [Hang()])
        assert await failure(client, get()) is Reason.FIRST_BYTE_TIMEOUT
        assert len(origin.requests) == 1


async def test_silence_inside_the_body() -> None:
    async with ScriptedOrigin() as origin, asking(origin.url, timeout=0.1) as client:
        origin.on("/", [Send(head(200, {"Content-Length": "9"}) + b"half"), Hang()])
        assert await failure(client, get()) is Reason.CHUNK_TIMEOUT
        await origin.until(lambda: not origin.open_now)


async def test_a_slow_body_that_keeps_moving_is_no_failure() -> None:
    async def drip(exchange: Exchange) -> None:
        await exchange.send(head(200, {"Content-Length": "6"}))
        for _ in range(6):
            await asyncio.sleep(0.1)
            await exchange.send(b".")

    async with ScriptedOrigin() as origin, asking(origin.url, timeout=0.4) as client:
        origin.on("/", drip)
        assert await body_of(client, get()) == b"......"


async def test_a_slow_visitor_is_not_the_origins_failure() -> None:
    more = asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"first"
        await more.wait()
        yield b" last"

    async with ScriptedOrigin() as origin, asking(origin.url, timeout=0.1) as client:
        asked = asyncio.get_running_loop().create_task(
            client.fetch(Outgoing("POST", "/", "example.org", Fields(), body=slow()))
        )
        done, _ = await asyncio.wait({asked}, timeout=0.4)
        assert not done
        more.set()
        await read(await asked)
        assert origin.requests[0].body == b"first last"
