"""A head that is passed on is parsed and decided once; its answer is the origin's own, each time."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness import eventually
from tests.lanes.conftest import Start, Write
from tests.lanes.watching import Watched, body
from tests.lanes.world import Asked, answer
from tests.scripted_origin import ScriptedOrigin, page

PASSED = Asked("/pass/a", ("Cookie: visitor=1", "Accept: */*"))


def known(lane: Watched) -> int:
    return len(lane.hot._passes)


async def learned(lane: Watched, asked: Asked = PASSED) -> None:
    visitor = await lane.visitor()
    for _ in range(3):
        await lane.ask(visitor, asked)


async def test_the_origin_gets_the_same_request_each_time(lane: Watched, origin: ScriptedOrigin) -> None:
    origin.on("/pass/a", page("passed"))
    visitor = await lane.visitor()
    assert [body(await lane.ask(visitor, PASSED)) for _ in range(6)] == [b"passed"] * 6
    assert known(lane) == 1
    heads = [request.raw_head for request in origin.requests if request.target == "/pass/a"]
    assert len(heads) == 6
    assert len(set(heads)) == 1


async def test_an_answer_is_never_kept(lane: Watched, origin: ScriptedOrigin) -> None:
    await _passed(lane, origin)
    visitor = await lane.visitor()
    for number in range(4):
        origin.on("/pass/a", page(f"number {number}", {"Set-Cookie": f"n={number}"}))
        heard = await lane.ask(visitor, PASSED)
        assert body(heard) == b"number %d" % number
        assert b"n=%d" % number in heard


async def test_a_head_that_comes_once_is_not_kept(lane: Watched, origin: ScriptedOrigin) -> None:
    origin.on("/pass/a", page("passed"))
    visitor = await lane.visitor()
    for number in range(20):
        await lane.ask(visitor, Asked("/pass/a", (f"Cookie: visitor={number}",)))
    assert known(lane) == 0


async def test_who_speaks_http_1_0_is_answered_as_before(lane: Watched, origin: ScriptedOrigin) -> None:
    origin.on("/pass/a", page("passed"))
    asked = Asked("/pass/a", ("Connection: keep-alive",), version="1.0")
    visitor = await lane.visitor()
    for _ in range(5):
        visitor.writer.write(asked.raw)
        head = await visitor.reader.readuntil(b"\r\n\r\n")
        await visitor.reader.readexactly(len(b"passed"))
        assert b"Connection: keep-alive" in head
    assert known(lane) == 0


async def test_a_reload_counts_at_once(lane: Watched, origin: ScriptedOrigin, write: Write) -> None:
    await _passed(lane, origin)
    visitor = await lane.visitor()
    await lane.ask(visitor, PASSED)
    await lane.reload(write("- {match: '/**', revalidate: 10s}"))
    assert known(lane) == 0
    before = origin.hits("/pass/a")
    for _ in range(4):
        await lane.ask(visitor, PASSED)
        await lane.proxy.settled()
    assert origin.hits("/pass/a") == before + 1


async def test_a_known_head_of_another_peer_is_looked_at_anew(start: Start, origin: ScriptedOrigin) -> None:
    async with start() as lane:
        await _passed(lane, origin)
        port = int(lane.proxy.worker.urls[0].rpartition(":")[2].strip("/"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=("127.0.0.2", 0))
        for _ in range(3):
            writer.write(PASSED.raw)
            await reader.readuntil(b"\r\n\r\n")
            await reader.readexactly(len(b"passed"))
        writer.close()
        last = [request for request in origin.requests if request.target == "/pass/a"][-3:]
        assert [request.header("x-forwarded-for") for request in last] == ["127.0.0.2"] * 3


async def test_an_origin_that_dies_is_told_of(lane: Watched, origin: ScriptedOrigin) -> None:
    await _passed(lane, origin)
    visitor = await lane.visitor()
    await lane.ask(visitor, PASSED)
    await origin.stop()
    heard = await lane.ask(visitor, PASSED)
    assert heard.split()[1] == b"502"


@pytest.mark.parametrize("behind", [b"GET /p HTTP/1.1\r\nHost: site.example\r\n\r\n", PASSED.raw])
async def test_what_follows_waits_for_its_turn(lane: Watched, origin: ScriptedOrigin, behind: bytes) -> None:
    await _passed(lane, origin)
    visitor = await lane.visitor()
    await lane.ask(visitor, PASSED)
    await lane.burst(visitor, PASSED.raw, behind)
    assert body(await answer(visitor, PASSED)) == b"passed"
    assert (await answer(visitor, PASSED)).split()[1] == b"200"


async def test_who_hangs_up_ends_his_request(lane: Watched, origin: ScriptedOrigin) -> None:
    await _passed(lane, origin)
    origin.on("/pass/a", page("x" * 10_000_000))
    visitor, connection = await lane.met()
    await lane.ask(visitor, Asked("/p"))
    visitor.writer.write(PASSED.raw)
    await eventually(lambda: connection.task is not None)
    visitor.writer.transport.abort()
    await eventually(lambda: not lane.proxy.worker.client._calls)


async def test_law_8_known_passes_are_bounded(lane: Watched, origin: ScriptedOrigin) -> None:
    origin.on("/pass/a", page("passed"))
    weights = lane.hot._passes._weights
    weights._max_bytes = 64 * 1024
    popular = await lane.visitor()
    await learned(lane)
    visitor = await lane.visitor()
    for number in range(60):
        asked = Asked("/pass/a", (f"Cookie: visitor={number}",))
        for _ in range(2):
            await lane.ask(visitor, asked)
        await lane.ask(popular, PASSED)
        assert weights.size_bytes <= 64 * 1024
    assert 5 < known(lane) < 25
    assert PASSED.raw in lane.hot._passes._tables


async def _passed(lane: Watched, origin: ScriptedOrigin) -> None:
    origin.on("/pass/a", page("passed"))
    await learned(lane)
    assert known(lane) == 1
