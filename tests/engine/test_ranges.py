"""Parts of stored pages (RFC 9110 §14, §15.3.7, §15.5.17)."""

from __future__ import annotations

import pytest

from tests.engine.conftest import Start
from tests.harness import Proxy
from tests.scripted_origin import ScriptedOrigin, page

ROUTE = "- {match: '/**', revalidate: 10s}"
BODY = bytes(range(256)) * 40_000  # 10 MB: streamed from the file
SMALL = b"0123456789" * 30  # compressible, and in memory


async def stored(proxy: Proxy, origin: ScriptedOrigin, body: bytes) -> None:
    origin.on("/p", page(body, {"ETag": '"abc"'}))
    await proxy.get("/p")
    await proxy.settled()


@pytest.mark.parametrize("body", [SMALL, BODY], ids=["small", "large"])
@pytest.mark.parametrize(("asked", "low", "high"), [("0-9", 0, 10), ("7-", 7, None), ("-5", -5, None)])
async def test_one_part(
    asked: str, low: int, high: int | None, body: bytes, start: Start, origin: ScriptedOrigin
) -> None:
    async with start(ROUTE) as proxy:
        await stored(proxy, origin, body)
        reply = await proxy.get("/p", {"Range": f"bytes={asked}", "Accept-Encoding": "br"})
        part = body[low:high]
        first = low if low >= 0 else len(body) + low
        assert (reply.status, reply.body) == (206, part)
        assert reply.headers["content-range"] == f"bytes {first}-{first + len(part) - 1}/{len(body)}"
        assert reply.headers["etag"] == '"abc"'
        assert reply.x_cache == "HIT"


async def test_several_parts(start: Start, origin: ScriptedOrigin) -> None:
    async with start(ROUTE) as proxy:
        await stored(proxy, origin, SMALL)
        reply = await proxy.get("/p", {"Range": "bytes=0-1,5-6"})
        kind, _, boundary = reply.headers["content-type"].partition("; boundary=")
        assert (reply.status, kind) == (206, "multipart/byteranges")
        parts = reply.body.split(f"\r\n--{boundary}".encode())
        assert [part.partition(b"\r\n\r\n")[2] for part in parts[1:-1]] == [b"01", b"56"]
        assert parts[-1] == b"--\r\n"


async def test_a_part_beyond_the_end_is_refused(start: Start, origin: ScriptedOrigin) -> None:
    async with start(ROUTE) as proxy:
        await stored(proxy, origin, SMALL)
        reply = await proxy.get("/p", {"Range": "bytes=9999-"})
        assert (reply.status, reply.headers["content-range"]) == (416, f"bytes */{len(SMALL)}")


async def test_a_changed_page_is_sent_whole(start: Start, origin: ScriptedOrigin) -> None:
    async with start(ROUTE) as proxy:
        await stored(proxy, origin, SMALL)
        for condition in ({"If-Range": '"old"'}, {"If-None-Match": '"old"', "If-Range": '"old"'}):
            reply = await proxy.get("/p", {"Range": "bytes=0-1", **condition})
            assert (reply.status, reply.body) == (200, SMALL)
        assert (await proxy.get("/p", {"Range": "bytes=0-1", "If-None-Match": '"abc"'})).status == 304


async def test_a_part_of_a_page_not_stored_yet_is_cut_from_what_comes(
    start: Start, origin: ScriptedOrigin
) -> None:
    origin.on("/p", page(SMALL))
    async with start(ROUTE) as proxy:
        reply = await proxy.get("/p", {"Range": "bytes=0-1"})
        assert (reply.status, reply.body, reply.x_cache) == (206, b"01", "MISS")
        assert origin.requests[0].header("range") is None
        await proxy.settled()
        assert (await proxy.get("/p")).body == SMALL
        assert origin.hits("/p") == 1
