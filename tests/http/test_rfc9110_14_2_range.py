"""RFC 9110 §14.2: when Range counts, on pages that are stored and on pages that are on their way."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness import Reply
from tests.http.conftest import Site, Start
from tests.http.requirements import requires
from tests.ranging_origin import FRESH, ranged
from tests.scripted_origin import Exchange, ScriptedOrigin, Send, Wait, chunked, head, page

BODY = b"0123456789"
FIRST = {"Range": "bytes=0-1"}
ISR = "- {match: '/**', revalidate: 60s}"
LARGE = bytes(range(256)) * 16_384  # 4 MiB: beyond what a growing body keeps in memory


@requires("RFC 9110 §14.2", "Range counts for GET only")
@pytest.mark.parametrize("is_warm", [False, True])
async def test_head(site: Site, is_warm: bool) -> None:
    site.on("/p", page(BODY, FRESH))
    if is_warm:
        await site.get("/p")
    reply = await site.get("/p", FIRST, method="HEAD")
    assert (reply.status, reply.headers["content-length"]) == (200, "10")
    assert "content-range" not in reply.headers


@requires("RFC 9110 §14.2", "a range unit that is not known is ignored")
async def test_other_unit(site: Site) -> None:
    site.on("/p", page(BODY, FRESH))
    for _ in range(2):
        reply = await site.get("/p", {"Range": "lines=0-1"})
        assert (reply.status, reply.body) == (200, BODY)
    assert site.last.header("range") is None


@requires("RFC 9110 §14.2", "Range counts only where the answer without it would be 200")
@pytest.mark.parametrize("status", [404, 203, 301])
async def test_other_statuses(site: Site, status: int) -> None:
    site.on("/p", page(BODY, FRESH, status))
    for _ in range(2):
        reply = await site.get("/p", FIRST)
        assert (reply.status, reply.body) == (status, BODY)


@requires("RFC 9110 §13.2.2", "conditions are judged before Range")
async def test_conditions_first(site: Site) -> None:
    site.on("/p", page(BODY, FRESH))
    await site.get("/p")
    assert (await site.get("/p", {**FIRST, "If-None-Match": '"v1"'})).status == 304
    assert (await site.get("/p", {**FIRST, "If-None-Match": '"v0"'})).status == 206


@requires("RFC 9110 §14.2", "two Range lines are as if there were none")
async def test_two_lines(site: Site) -> None:
    site.on("/p", page(BODY, FRESH))
    await site.get("/p")
    visitor = await site.proxy.visitor()
    visitor.writer.write(
        b"GET /p HTTP/1.1\r\nHost: site.example\r\nRange: bytes=0-1\r\nRange: bytes=2-3\r\n\r\n"
    )
    assert (await visitor.reply()).status == 200


@requires("RFC 9110 §14.2", "many ranges, or ranges that overlap, are answered with the whole")
@pytest.mark.parametrize("value", ["0-5,3-8", "0-9,0-9", ",".join(f"{place}-{place}" for place in range(17))])
async def test_law_8_many(site: Site, value: str) -> None:
    site.on("/p", page(BODY * 9, FRESH))
    await site.get("/p")
    reply = await site.get("/p", {"Range": f"bytes={value}"})
    assert (reply.status, reply.body) == (200, BODY * 9)


@requires("RFC 9110 §14.2", "the ranges of an encoded page are ranges of its encoded bytes")
async def test_encoded(site: Site) -> None:
    site.on("/p", page(BODY, {**FRESH, "Content-Encoding": "x-own"}))
    for _ in range(2):
        reply = await site.get("/p", {"Range": "bytes=2-3"})
        assert (reply.status, reply.body, reply.headers["content-encoding"]) == (206, b"23", "x-own")
    several = await site.get("/p", {"Range": "bytes=0-1,4-5"})
    assert (several.status, several.body) == (200, BODY)


@requires("RFC 9110 §14.2", "a range of a page with compressed copies is one of the page as it is")
async def test_compressed(site: Site) -> None:
    site.on("/p", page(BODY * 100, {**FRESH, "Content-Type": "text/plain"}))
    await site.get("/p")
    reply = await site.get("/p", {"Range": "bytes=2-3", "Accept-Encoding": "br"})
    assert (reply.status, reply.body, reply.headers["etag"]) == (206, b"23", '"v1"')
    assert "content-encoding" not in reply.headers


# --- on their way, on ISR routes: the origin is asked for all of it, whatever the visitor wants ---


def withheld(body: bytes, at: int, more: asyncio.Event) -> list[Send | Wait]:
    """Return a script that sends a page up to a place, and then waits."""
    said = head(200, {**FRESH, "Content-Length": str(len(body))})
    return [Send(said + body[:at]), Wait(more), Send(body[at:])]


@requires("RFC 9110 §14.2", "a part of a page that is not stored arrives while the origin withholds the rest")
@pytest.mark.parametrize("spec", ["2097152-2097161", "3000000-3000009"])
async def test_while_it_grows(spec: str, start: Start, origin: ScriptedOrigin) -> None:
    more = asyncio.Event()
    origin.on("/p", withheld(LARGE, 3_000_010, more))
    first, last = map(int, spec.split("-"))
    async with start(ISR) as proxy:
        reply = await proxy.get("/p", {"Range": f"bytes={spec}"})
        assert (reply.status, reply.body) == (206, LARGE[first : last + 1])
        assert reply.headers["content-range"] == f"bytes {spec}/{len(LARGE)}"
        assert reply.cache_status == "isr-proxy; fwd=uri-miss; fwd-status=200; stored"
        assert origin.requests[0].header("range") is None
        more.set()
        await proxy.settled()
        whole = await proxy.get("/p")
        assert (whole.body, whole.x_cache, origin.hits("/p")) == (LARGE, "HIT", 1)


@requires("RFC 9110 §14.2", "the last bytes of a page on its way are cut from it, when its length is told")
async def test_suffix_while_it_grows(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page(LARGE, FRESH))
    async with start(ISR) as proxy:
        reply = await proxy.get("/p", {"Range": "bytes=-7"})
        assert (reply.status, reply.body) == (206, LARGE[-7:])


@requires("RFC 9110 §14.2", "a page whose length is not told beforehand is answered whole")
async def test_unknown_length(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", chunked(BODY, BODY, headers=FRESH))
    async with start(ISR) as proxy:
        reply = await proxy.get("/p", FIRST)
        assert (reply.status, reply.body) == (200, BODY + BODY)
        await proxy.settled()
        assert (await proxy.get("/p", FIRST)).status == 206


@requires("RFC 9110 §14.2", "a visitor of a part who leaves does not keep the page from being stored")
async def test_law_3_leaving(start: Start, origin: ScriptedOrigin) -> None:
    more = asyncio.Event()
    origin.on("/p", withheld(BODY, 5, more))
    async with start(ISR) as proxy:
        visitor = await proxy.visitor()
        visitor.send("/p", {"Range": "bytes=4-8"})
        await visitor.reader.readuntil(b"\r\n\r\n")
        visitor.reset()
        more.set()
        await proxy.settled()
        assert (await proxy.get("/p")).x_cache == "HIT"


@requires("RFC 9110 §14.2", "a part that the origin breaks off before is not answered as if it were there")
@pytest.mark.parametrize(("spec", "is_whole"), [("0-3", True), ("3-8", False), ("8-9", False)])
async def test_broken_off(spec: str, is_whole: bool, start: Start, origin: ScriptedOrigin) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.send(head(200, {**FRESH, "Content-Length": "10"}) + BODY[:5])
        exchange.close()

    origin.on("/p", cut)
    async with start(ISR) as proxy:
        assert (await proxy.get("/p", {"Range": f"bytes={spec}"})).is_whole is is_whole


@requires("RFC 9110 §14.2", "a page over max_entry is relayed whole, and then the visitor's own Range passes")
async def test_over_max_entry(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", ranged(LARGE))
    async with start(ISR, max_entry="1KiB") as proxy:
        for status, body in ((200, LARGE), (206, LARGE[:2])):
            reply = await proxy.get("/p", FIRST)
            assert (reply.status, reply.body) == (status, body)
        assert [request.header("range") for request in origin.requests] == [None, "bytes=0-1"]


async def parts_of(start: Start, origin: ScriptedOrigin, *specs: str) -> list[Reply]:
    """Ask for parts of one page at the same time."""
    go = asyncio.Event()
    origin.on("/p", [Wait(go), *page(LARGE, FRESH)])
    async with start(ISR) as proxy:
        visitors = [await proxy.visitor() for _ in specs]
        for visitor, spec in zip(visitors, specs, strict=True):
            visitor.send("/p", {"Range": f"bytes={spec}"})
        await origin.received(1)
        go.set()
        return [await visitor.reply() for visitor in visitors]


@requires("RFC 9110 §14.2", "many who want different parts of one page make one request to the origin")
async def test_law_3_different_parts(start: Start, origin: ScriptedOrigin) -> None:
    replies = await parts_of(start, origin, "0-9", "4000000-4000009", "-10", "5000000-")
    assert [reply.status for reply in replies] == [206, 206, 206, 416]
    assert [reply.body for reply in replies[:3]] == [LARGE[:10], LARGE[4_000_000:4_000_010], LARGE[-10:]]
    assert origin.hits("/p") == 1


@requires("Attack: range poisoning", "what one visitor's Range brings is never another's page")
@pytest.mark.parametrize("value", ["bytes=0-0", "bytes=0-0,2-2", "bytes=-1", "bytes=99-", "x=1"])
async def test_law_4_poisoning(value: str, start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page(BODY, FRESH))
    async with start(ISR) as proxy:
        await proxy.get("/p", {"Range": value, "If-Range": '"v0"'})
        await proxy.settled()
        reply = await proxy.get("/p")
        assert (reply.status, reply.body) == (200, BODY)
        assert [request.header("range") for request in origin.requests] == [None]
