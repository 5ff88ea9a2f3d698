"""RFC 9111 §3.4: parts of one representation are put together, and the last makes it whole."""

from __future__ import annotations

import asyncio

import pytest

from isr_proxy.core.http import Fields
from isr_proxy.core.key import Key
from isr_proxy.core.purges import Strength
from isr_proxy.serve.selection import Selection
from isr_proxy.store.base import Entry
from tests.harness import Proxy, eventually
from tests.http.conftest import Site, Start
from tests.http.requirements import requires
from tests.http.test_rfc9111_3_3_incomplete_responses import ALL, BODY, asking, is_part
from tests.ranging_origin import FRESH, ranged
from tests.scripted_origin import Exchange, ScriptedOrigin, Send, Wait, head, page


async def statuses(proxy: Proxy) -> list[tuple[int, int]]:
    """Return what is listed as stored: status and size."""
    listed, _ = await proxy.worker.operations.inventory.entries("", None, None, 10, None)
    return [(each.status, each.body_bytes) for each in listed]


async def ask_for(site: Site, *specs: str) -> None:
    """Ask for parts, and check that each is right."""
    for spec in specs:
        first, _, last = spec.partition("-")
        assert is_part(await site.get("/p", asking(spec)), int(first), int(last) + 1 if last else ALL)


@requires("RFC 9111 §3.4", "parts that overlap or touch are combined, in whatever order they come")
@pytest.mark.parametrize(
    "specs",
    [
        ("0-99", "100-199"),
        ("100-199", "0-99"),
        ("0-149", "50-199"),
        ("50-199", "0-149"),
        ("0-49", "150-199", "50-149"),
        ("50-149", "0-199"),
    ],
)
async def test_combined(site: Site, specs: tuple[str, ...]) -> None:
    site.on("/p", ranged(BODY))
    await ask_for(site, *specs)
    assert await statuses(site.proxy) == [(206, 200)]
    assert is_part(await site.get("/p", asking("0-199")), 0, 200)
    assert site.hits("/p") == len(specs)


@requires("RFC 9111 §3.4", "parts that do not touch are kept beside each other")
async def test_apart(site: Site) -> None:
    site.on("/p", ranged(BODY))
    await ask_for(site, "900-999", "0-99", "500-509")
    await ask_for(site, "950-960", "10-20", "500-509")
    assert site.hits("/p") == 3
    await ask_for(site, "90-110")
    assert site.last.header("range") == "bytes=100-110"


@requires("RFC 9111 §3.4", "of a range that is stored in part only the rest is asked for")
async def test_only_the_rest(site: Site) -> None:
    site.on("/p", ranged(BODY))
    await ask_for(site, "0-99")
    reply = await site.get("/p", asking("50-149"))
    assert is_part(reply, 50, 150)
    assert reply.cache_status == "isr-proxy; fwd=partial; fwd-status=206; stored"
    assert (site.last.header("range"), site.last.header("if-range")) == ("bytes=100-149", '"v1"')


@requires("RFC 9111 §3.4", "the newest header fields count for all of it, and those it lacks are kept")
async def test_fields(site: Site) -> None:
    site.on(
        "/p", ranged(BODY, {**FRESH, "X-Old": "1", "X-Both": "1"}), ranged(BODY, {**FRESH, "X-Both": "2"})
    )
    await ask_for(site, "0-99")
    site.clock.advance(30)
    await ask_for(site, "100-199")
    reply = await site.get("/p", asking("0-9"))
    assert (reply.headers["x-old"], reply.headers["x-both"]) == ("1", "2")
    assert (reply.headers["age"], reply.x_cache) == ("0", "HIT")


@requires("RFC 9111 §3.4", "when nothing is missing any more it is the page")
@pytest.mark.parametrize("specs", [("0-",), ("0-511", "512-"), ("512-", "0-511"), ("100-900", "0-")])
async def test_complete(site: Site, specs: tuple[str, ...]) -> None:
    site.on("/p", ranged(BODY))
    await ask_for(site, *specs)
    assert await statuses(site.proxy) == [(200, ALL)]
    reply = await site.get("/p")
    assert (reply.status, reply.body, reply.headers["etag"], reply.x_cache) == (200, BODY, '"v1"', "HIT")
    assert site.hits("/p") == len(specs)


@requires("RFC 9111 §3.4", "the age of parts that become a page is that of the last answer")
async def test_complete_with_age(site: Site) -> None:
    site.on("/p", ranged(BODY, {**FRESH, "Age": "20"}))
    await ask_for(site, "0-")
    assert (await site.get("/p")).headers["age"] == "20"


@requires("RFC 9111 §3.4", "a request for all of it asks for what is missing only")
@pytest.mark.parametrize(
    ("stored", "asked"),
    [
        (("0-99",), "bytes=100-1023"),
        (("900-",), "bytes=0-899"),
        (("0-99", "900-"), "bytes=100-899"),
        (("100-199",), "bytes=0-1023"),
    ],
)
async def test_completed_for_a_whole_request(site: Site, stored: tuple[str, ...], asked: str) -> None:
    site.on("/p", ranged(BODY))
    await ask_for(site, *stored)
    reply = await site.get("/p")
    assert (reply.status, reply.body) == (200, BODY)
    assert "content-range" not in reply.headers
    assert reply.cache_status == "isr-proxy; fwd=partial; fwd-status=206; stored"
    assert (site.last.header("range"), site.last.header("if-range")) == (asked, '"v1"')
    assert await statuses(site.proxy) == [(200, ALL)]


@requires("RFC 9111 §3.4", "parts of different representations are never combined")
async def test_changed(site: Site) -> None:
    new = bytes(ALL)
    site.on("/p", ranged(BODY), ranged(new, {**FRESH, "ETag": '"v2"'}))
    await ask_for(site, "0-99")
    reply = await site.get("/p", asking("50-149"))
    assert (reply.status, reply.body) == (206, bytes(100))
    assert (await site.get("/p")).body == new
    assert await statuses(site.proxy) == [(200, ALL)]


@requires("RFC 9111 §3.4", "parts are not combined where the origin ignores that they are of another version")
@pytest.mark.parametrize("spec", ["50-149", None])
async def test_changed_and_if_range_ignored(site: Site, spec: str | None) -> None:
    async def careless(exchange: Exchange) -> None:
        exchange.request.headers = [pair for pair in exchange.request.headers if pair[0] != "if-range"]
        await ranged(bytes(ALL), {**FRESH, "ETag": '"v2"'})(exchange)

    site.on("/p", ranged(BODY), careless)
    await ask_for(site, "0-99")
    reply = await site.get("/p", {} if spec is None else asking(spec))
    assert set(reply.body) == {0}
    assert reply.headers["etag"] == '"v2"'
    assert len(reply.body) == (ALL if spec is None else 100)


@requires("RFC 9111 §3.4", "parts of what may not be stored any more are used once more, and forgotten")
@pytest.mark.parametrize("spec", ["50-149", None])
async def test_not_to_be_stored_any_more(site: Site, spec: str | None) -> None:
    site.on("/p", ranged(BODY), ranged(BODY, {**FRESH, "Cache-Control": "no-store"}))
    await ask_for(site, "0-99")
    reply = await site.get("/p", {} if spec is None else asking(spec))
    assert reply.body == (BODY if spec is None else BODY[50:150])
    assert await statuses(site.proxy) == []


@requires("RFC 9111 §3.4", "a weak validator combines nothing")
async def test_weak(site: Site) -> None:
    site.on("/p", ranged(BODY), ranged(BODY, {**FRESH, "ETag": 'W/"v1"'}))
    await ask_for(site, "0-99")
    await ask_for(site, "100-199")
    await ask_for(site, "0-199")
    assert site.origin.requests[-1].header("range") in ("bytes=0-199", "bytes=100-199")
    assert "stored" not in (await site.get("/p", asking("0-199"))).cache_status


@requires("RFC 9111 §3.4", "stale parts are used for what they are still right for, which If-Range asks")
async def test_stale(site: Site) -> None:
    site.on("/p", ranged(BODY))
    await ask_for(site, "0-99")
    site.clock.advance(61)
    await ask_for(site, "50-149")
    assert site.last.header("if-range") == '"v1"'
    await ask_for(site, "0-149")
    assert site.hits("/p") == 2


@requires("RFC 9111 §3.4", "the beginning of a page that is stored in part arrives before its end is fetched")
async def test_streamed(start: Start, origin: ScriptedOrigin) -> None:
    more = asyncio.Event()
    said = {**FRESH, "Content-Range": f"bytes 100-{ALL - 1}/{ALL}", "Content-Length": str(ALL - 100)}
    origin.on("/p", ranged(BODY), [Send(head(206, said)), Wait(more), Send(BODY[100:])])
    async with start() as proxy:
        await proxy.get("/p", asking("0-99"))
        await proxy.settled()
        visitor = await proxy.visitor()
        visitor.send("/p")
        await visitor.reader.readuntil(b"\r\n\r\n")
        assert await visitor.reader.readexactly(100) == BODY[:100]
        more.set()
        assert await visitor.reader.readexactly(ALL - 100) == BODY[100:]


@requires("RFC 9111 §3.4", "parts that come at the same time are both kept")
async def test_law_3_at_once(start: Start, origin: ScriptedOrigin) -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await go.wait()
        await ranged(BODY)(exchange)

    origin.on("/p", script)
    async with start() as proxy:
        visitors = [await proxy.visitor() for _ in range(4)]
        for place, visitor in enumerate(visitors):
            visitor.send("/p", asking(f"{place * 256}-{place * 256 + 255}"))
        await origin.received(4)
        go.set()
        for place, visitor in enumerate(visitors):
            assert is_part(await visitor.reply(), place * 256, place * 256 + 256)
        await proxy.settled()
        assert await statuses(proxy) == [(200, ALL)]


@requires("RFC 9111 §3.4", "a part that comes after all of the page is not kept beside it")
async def test_page_came_first(start: Start, origin: ScriptedOrigin) -> None:
    go = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        if exchange.request.header("range") is not None:
            await go.wait()
        await ranged(BODY)(exchange)

    origin.on("/p", script)
    async with start() as proxy:
        visitor = await proxy.visitor()
        visitor.send("/p", asking("0-99"))
        await origin.received(1)
        assert (await proxy.get("/p")).body == BODY
        key = Key("http", "site.example", "/p")
        await eventually(lambda: isinstance(proxy.worker.store.peek(key, Fields()), Entry))
        go.set()
        assert is_part(await visitor.reply(), 0, 100)
        await proxy.settled()
        assert await statuses(proxy) == [(200, ALL)]


@requires("RFC 9111 §3.4", "a purged part is not combined with one that is fetched later")
async def test_law_2_purged(site: Site) -> None:
    site.on("/p", ranged(BODY))
    await ask_for(site, "0-99")
    await site.proxy.worker.operations.purge(Selection(paths=("/p",)), Strength.HARD)
    await ask_for(site, "100-199")
    assert site.last.header("if-range") is None
    assert await statuses(site.proxy) == [(206, 100)]


@requires("RFC 9111 §3.4", "a page that is completed while it is purged is not reused")
async def test_law_2_purged_while_completed(start: Start, origin: ScriptedOrigin) -> None:
    go = asyncio.Event()
    said = {**FRESH, "Content-Range": f"bytes 100-{ALL - 1}/{ALL}", "Content-Length": str(ALL - 100)}
    origin.on("/p", ranged(BODY), [Send(head(206, said)), Wait(go), Send(BODY[100:])], page("new", FRESH))
    async with start() as proxy:
        await proxy.get("/p", asking("0-99"))
        await proxy.settled()
        visitor = await proxy.visitor()
        visitor.send("/p")
        await origin.received(2)
        await proxy.worker.operations.purge(Selection(paths=("/p",)), Strength.HARD)
        go.set()
        assert (await visitor.reply()).body == BODY
        await proxy.settled()
        assert (await proxy.get("/p")).body == b"new"


@requires("RFC 9111 §3.4", "what is complete must still be a page that the route's guard lets pass")
async def test_law_1_guard(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", ranged(BODY))
    route = "- {match: '/**', revalidate: origin, guard: {contains: [never]}}"
    async with start(route) as proxy:
        assert is_part(await proxy.get("/p", asking("0-")), 0, ALL)
        await proxy.settled()
        assert await statuses(proxy) == []


@requires("RFC 9111 §3.4", "parts together over max_entry are not kept together, nor is the page")
async def test_law_8_max_entry(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", ranged(BODY))
    async with start(max_entry="500") as proxy:
        for spec, size in (("0-299", 300), ("300-599", 300), ("100-399", 400)):
            await proxy.get("/p", asking(spec))
            await proxy.settled()
            assert await statuses(proxy) == [(206, size)]
        whole = await proxy.get("/p")
        assert (whole.status, whole.body) == (200, BODY)
        assert is_part(await proxy.get("/p", asking("0-399")), 0, 400)


@requires("RFC 9111 §3.4", "a page that breaks off leaves the parts that are stored")
async def test_law_1_broken_off(site: Site) -> None:
    said = {**FRESH, "Content-Range": f"bytes 100-{ALL - 1}/{ALL}", "Content-Length": str(ALL - 100)}
    cut = [Send(head(206, said) + BODY[100:200])]

    async def broken(exchange: Exchange) -> None:
        await exchange.run(cut)
        exchange.close()

    site.on("/p", ranged(BODY), broken, ranged(BODY))
    await ask_for(site, "0-99")
    assert not (await site.get("/p")).is_whole
    await ask_for(site, "0-99")
    assert site.hits("/p") == 2
    assert (await site.get("/p")).body == BODY
