"""RFC 9111 §3.3: parts that are stored without the rest, and what they may answer."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from isr_proxy.core.http import Fields
from isr_proxy.core.purges import Strength
from isr_proxy.serve.selection import Selection
from tests.harness import FakeClock, Reply, config, eventually, running
from tests.http.conftest import BY_THE_BOOK, Site, Start
from tests.http.requirements import requires
from tests.ranging_origin import FRESH, ranged
from tests.scripted_origin import Exchange, ScriptedOrigin, Send, Wait, head, page

BODY = bytes(range(256)) * 4
ALL = len(BODY)


def asking(spec: str, **more: str) -> dict[str, str]:
    return {"Range": f"bytes={spec}", **{name.replace("_", "-"): value for name, value in more.items()}}


def is_part(reply: Reply, start: int, stop: int) -> bool:
    """Tell whether a reply is exactly these bytes of BODY, and says so."""
    said = reply.headers.get("content-range")
    return (reply.status, reply.body, said) == (206, BODY[start:stop], f"bytes {start}-{stop - 1}/{ALL}")


@requires("RFC 9111 §3.3", "a part is asked for alone, stored, and reused")
async def test_stored_and_reused(site: Site) -> None:
    site.on("/p", ranged(BODY))
    first = await site.get("/p", asking("100-199"))
    assert is_part(first, 100, 200)
    assert first.cache_status == "isr-proxy; fwd=uri-miss; fwd-status=206; stored"
    assert site.last.header("range") == "bytes=100-199"
    site.clock.advance(10)
    second = await site.get("/p", asking("100-199"))
    assert is_part(second, 100, 200)
    assert (second.cache_status, second.headers["age"]) == ("isr-proxy; hit; ttl=50", "10")
    assert site.hits("/p") == 1


@requires("RFC 9111 §3.3", "what lies within a stored part is answered from it, however it is asked for")
@pytest.mark.parametrize(
    ("stored", "asked", "first", "stop"),
    [
        ("100-199", "120-130", 120, 131),
        ("900-", "950-", 950, ALL),
        ("900-", "-10", ALL - 10, ALL),
        ("-100", "-100", ALL - 100, ALL),
        ("900-", "1000-9999", 1000, ALL),
    ],
)
async def test_within(site: Site, stored: str, asked: str, first: int, stop: int) -> None:
    site.on("/p", ranged(BODY))
    await site.get("/p", asking(stored))
    assert is_part(await site.get("/p", asking(asked)), first, stop)
    assert site.hits("/p") == 1


@requires("RFC 9111 §3.3", "a request without Range is never answered with a stored part")
async def test_never_as_the_whole(site: Site) -> None:
    site.on("/p", ranged(BODY))
    await site.get("/p", asking("0-99"))
    whole = await site.get("/p")
    assert (whole.status, whole.body) == (200, BODY)
    assert "content-range" not in whole.headers
    several = await site.get("/p", asking("0-9,20-29"))
    assert several.status == 206
    assert several.x_cache == "HIT"


@requires("RFC 9111 §3.3", "HEAD is not answered with a stored part")
async def test_head(site: Site) -> None:
    site.on("/p", ranged(BODY), page(BODY, FRESH))
    await site.get("/p", asking("0-99"))
    reply = await site.get("/p", asking("0-99"), method="HEAD")
    assert (reply.status, reply.headers["content-length"]) == (200, str(ALL))


NOT_STORED = [
    {"Cache-Control": "no-store"},
    {"Cache-Control": "private, max-age=60"},
    {"Cache-Control": "max-age=60", "Set-Cookie": "a=1"},
    {"Cache-Control": "max-age=60", "Vary": "*"},
    {"Cache-Control": "max-age=60", "ETag": 'W/"v1"'},
    {"Cache-Control": "max-age=60", "ETag": ""},
    {"X-Nothing": "said"},
]


@requires("RFC 9111 §3", "a part is stored only where the page might be, and only with a strong validator")
@pytest.mark.parametrize("headers", NOT_STORED)
async def test_not_stored(careful: Site, headers: dict[str, str]) -> None:
    careful.on("/p", ranged(BODY, {"ETag": '"v1"', **headers}))
    for count in (1, 2):
        reply = await careful.get("/p", asking("100-199"))
        assert is_part(reply, 100, 200)
        assert "stored" not in reply.cache_status
        assert careful.hits("/p") == count


@requires("RFC 9111 §3.5", "a part that Authorization or a cookie brought is stored only where it may be")
@pytest.mark.parametrize("header", ["Authorization", "Cookie"])
async def test_personal(careful: Site, header: str) -> None:
    careful.on(
        "/p", ranged(BODY), ranged(BODY), ranged(BODY, {**FRESH, "Cache-Control": "public, max-age=60"})
    )
    for _ in range(3):
        assert is_part(await careful.get("/p", {**asking("0-9"), header: "secret"}), 0, 10)
    assert is_part(await careful.get("/p", asking("0-9")), 0, 10)
    assert careful.hits("/p") == 3


@requires("RFC 9111 §3.3", "a part without an ETag is told by a date, if that is strong")
async def test_strong_date(site: Site) -> None:
    dated = {"Last-Modified": "Thu, 14 Jan 2027 08:00:00 GMT", "Cache-Control": "max-age=60"}
    later, same = "Fri, 15 Jan 2027 08:00:00 GMT", "Thu, 14 Jan 2027 08:00:00 GMT"
    site.on("/strong", ranged(BODY, {**dated, "Date": later}))
    site.on("/weak", ranged(BODY, {**dated, "Date": same}))
    for path, hits in (("/strong", 1), ("/weak", 2)):
        for _ in range(2):
            assert is_part(await site.get(path, asking("0-9")), 0, 10)
        assert site.hits(path) == hits


ODD = [
    (206, {"Content-Range": "bytes 0-9/*"}, BODY[:10]),
    (206, {"Content-Range": f"bytes 5-14/{ALL}"}, BODY[5:15]),
    (
        206,
        {"Content-Range": f"bytes 0-9/{ALL}", "Content-Type": "multipart/byteranges; boundary=x"},
        BODY[:10],
    ),
    (206, {}, BODY[:10]),
    (416, {"Content-Range": f"bytes */{ALL}"}, b""),
]


@requires("RFC 9111 §3.3", "a part of unknown place or length, and a 416, are relayed and not stored")
@pytest.mark.parametrize(("status", "headers", "body"), ODD)
async def test_odd(site: Site, status: int, headers: dict[str, str], body: bytes) -> None:
    site.on("/p", page(body, {**FRESH, **headers}, status), ranged(BODY))
    odd = await site.get("/p", asking("0-9"))
    assert (odd.status, odd.body, odd.headers.get("content-range")) == (
        status,
        body,
        headers.get("Content-Range"),
    )
    assert is_part(await site.get("/p", asking("0-9")), 0, 10)
    assert site.hits("/p") == 2


@requires("RFC 9111 §3.3", "a part shorter or longer than it says is not stored, and does not look whole")
@pytest.mark.parametrize("sent", [BODY[:5], BODY[:15]])
async def test_broken(site: Site, sent: bytes) -> None:
    said = {**FRESH, "Content-Range": f"bytes 0-9/{ALL}", "Transfer-Encoding": "chunked"}
    chunk = b"%x\r\n%b\r\n0\r\n\r\n" % (len(sent), sent)
    site.on("/p", [Send(head(206, said) + chunk)], ranged(BODY))
    assert not (await site.get("/p", asking("0-9"))).is_whole
    assert is_part(await site.get("/p", asking("0-9")), 0, 10)
    assert site.hits("/p") == 2


@requires("RFC 9111 §4.2.4", "a stale part is validated before it is used")
async def test_stale(site: Site) -> None:
    site.on("/p", ranged(BODY))
    await site.get("/p", asking("0-9"))
    site.clock.advance(61)
    reply = await site.get("/p", asking("0-9"))
    assert is_part(reply, 0, 10)
    assert site.last.header("if-none-match") == '"v1"'
    assert reply.cache_status == "isr-proxy; fwd=stale; fwd-status=304; stored"
    assert (await site.get("/p", asking("0-9"))).x_cache == "HIT"
    assert site.hits("/p") == 2


@requires("RFC 9111 §4.2.4", "a stale part is not served when the origin fails")
async def test_stale_and_down(site: Site) -> None:
    site.on("/p", ranged(BODY), page("down", status=503))
    await site.get("/p", asking("0-9"))
    site.clock.advance(61)
    assert (await site.get("/p", asking("0-9"))).status == 503


@requires("RFC 9111 §4.3.3", "of a changed page the new part replaces the stored one")
async def test_changed(site: Site) -> None:
    new = bytes(ALL)
    site.on("/p", ranged(BODY), ranged(new, {**FRESH, "ETag": '"v2"'}))
    await site.get("/p", asking("0-9"))
    site.clock.advance(61)
    for _ in range(2):
        reply = await site.get("/p", asking("0-9"))
        assert (reply.status, reply.body, reply.headers["etag"]) == (206, bytes(10), '"v2"')
    assert site.hits("/p") == 2


@requires("RFC 9111 §5.2.2.4", "a part that says no-cache is validated every time")
async def test_no_cache(site: Site) -> None:
    site.on("/p", ranged(BODY, {**FRESH, "Cache-Control": "no-cache, max-age=60"}))
    for count in (1, 2, 3):
        assert is_part(await site.get("/p", asking("0-9")), 0, 10)
        assert site.hits("/p") == count
    assert site.last.header("if-none-match") == '"v1"'


@requires("RFC 9111 §5.2.1.4", "no-cache of a request validates a stored part")
async def test_request_no_cache(site: Site) -> None:
    site.on("/p", ranged(BODY))
    await site.get("/p", asking("0-9"))
    reply = await site.get("/p", asking("0-9", Cache_Control="no-cache"))
    assert is_part(reply, 0, 10)
    assert (site.hits("/p"), site.last.header("if-none-match")) == (2, '"v1"')


@requires("RFC 9111 §5.2.1.7", "only-if-cached is answered with a stored part, or with 504")
async def test_only_if_cached(site: Site) -> None:
    site.on("/p", ranged(BODY))
    await site.get("/p", asking("0-9"))
    only = {"Cache-Control": "only-if-cached"}
    assert is_part(await site.get("/p", {**asking("0-5"), **only}), 0, 6)
    assert (await site.get("/p", {**asking("5-15"), **only})).status == 504
    assert (await site.get("/p", only)).status == 504


@requires("RFC 9111 §4.1", "a part answers only requests with the same values of what it varies on")
async def test_vary(site: Site) -> None:
    site.on("/p", ranged(BODY, {**FRESH, "Vary": "X-Kind"}))
    for kind, hits in (("a", 1), ("b", 2), ("a", 2), ("b", 2)):
        assert is_part(await site.get("/p", asking("0-9", X_Kind=kind)), 0, 10)
        assert site.hits("/p") == hits


@requires("RFC 9110 §13.2.2", "conditions are judged before the range, also with parts only")
async def test_conditions_first(site: Site) -> None:
    site.on("/p", ranged(BODY))
    cold = await site.get("/p", asking("0-9", If_None_Match='"v1"'))
    warm = await site.get("/p", asking("0-9", If_None_Match='"v1"'))
    assert (cold.status, warm.status, site.hits("/p")) == (304, 304, 1)


@requires("RFC 9110 §13.1.5", "If-Range is judged here, by the part that is stored or that comes")
@pytest.mark.parametrize("is_warm", [False, True])
async def test_if_range(site: Site, is_warm: bool) -> None:
    site.on("/p", ranged(BODY))
    if is_warm:
        await site.get("/p", asking("0-9"))
    assert is_part(await site.get("/p", asking("0-9", If_Range='"v1"')), 0, 10)
    reply = await site.get("/p", asking("0-9", If_Range='"v0"'))
    assert (reply.status, reply.body) == (200, BODY)
    assert '"v0"' not in [request.header("if-range") for request in site.origin.requests]


@requires("RFC 9110 §15.5.17", "a range outside of a page whose length a stored part tells gets 416")
async def test_outside(site: Site) -> None:
    site.on("/p", ranged(BODY))
    await site.get("/p", asking("0-9"))
    reply = await site.get("/p", asking(f"{ALL}-"))
    assert (reply.status, reply.headers["content-range"]) == (416, f"bytes */{ALL}")
    assert site.hits("/p") == 1


@requires("RFC 9111 §3.3", "an origin that gives all of it instead has all of it stored")
async def test_whole_instead(site: Site) -> None:
    site.on("/p", page(BODY, FRESH))
    reply = await site.get("/p", asking("100-199"))
    assert is_part(reply, 100, 200)
    assert reply.cache_status == "isr-proxy; fwd=uri-miss; fwd-status=200; stored"
    assert (await site.get("/p")).body == BODY
    assert site.hits("/p") == 1


@requires("RFC 9111 §3.3", "a part at the end of a large page does not wait for the rest")
async def test_far_inside(start: Start, origin: ScriptedOrigin) -> None:
    never = asyncio.Event()
    large = 10**12

    async def script(exchange: Exchange) -> None:
        if exchange.request.header("range") != f"bytes={large - 10}-":
            await never.wait()
        said = {**FRESH, "Content-Range": f"bytes {large - 10}-{large - 1}/{large}", "Content-Length": "10"}
        await exchange.send(head(206, said) + b"0123456789")

    origin.on("/p", script)
    async with start() as proxy:
        for _ in range(2):
            reply = await proxy.get("/p", asking(f"{large - 10}-"))
            assert (reply.status, reply.body) == (206, b"0123456789")
        assert origin.hits("/p") == 1


@requires("RFC 9110 §14.2", "the first bytes of a part arrive while the origin withholds the others")
async def test_streamed(start: Start, origin: ScriptedOrigin) -> None:
    more = asyncio.Event()
    said = {**FRESH, "Content-Range": f"bytes 10-29/{ALL}", "Content-Length": "20"}
    origin.on("/p", [Send(head(206, said) + BODY[10:20]), Wait(more), Send(BODY[20:30])])
    async with start() as proxy:
        visitor = await proxy.visitor()
        visitor.send("/p", asking("10-29"))
        await visitor.reader.readuntil(b"\r\n\r\n")
        assert await visitor.reader.readexactly(10) == BODY[10:20]
        more.set()
        assert await visitor.reader.readexactly(10) == BODY[20:30]


@requires("RFC 9111 §4", "many who ask for one part make one request; who leaves changes nothing for them")
async def test_law_3_collapsed(start: Start, origin: ScriptedOrigin) -> None:
    go = asyncio.Event()
    said = {**FRESH, "Content-Range": f"bytes 10-29/{ALL}", "Content-Length": "20"}
    origin.on("/p", [Wait(go), Send(head(206, said) + BODY[10:30])])
    async with start() as proxy:
        first = await proxy.visitor()
        first.send("/p", asking("10-29"))
        await origin.received(1)
        others = [await proxy.visitor() for _ in range(5)]
        for visitor in others:
            visitor.send("/p", asking("10-29"))
        flight = next(iter(proxy.worker.engine.flights._flights.values()))
        await eventually(lambda: flight.waiters == 6)
        first.reset()
        go.set()
        for visitor in others:
            reply = await visitor.reply()
            assert is_part(reply, 10, 30)
            assert reply.cache_status == "isr-proxy; fwd=uri-miss; collapsed"
        assert origin.hits("/p") == 1


@requires("RFC 9111 §4.4", "a purge of the page hides its parts; a soft one has them validated")
async def test_law_2_purged(site: Site) -> None:
    operations = site.proxy.worker.operations
    site.on("/p", ranged(BODY, {**FRESH, "Cache-Tag": "films"}))
    await site.get("/p", asking("0-9"))
    for count, selection in enumerate((Selection(paths=("/p",)), Selection(tags=("films",))), 2):
        assert (await operations.purge(selection, Strength.HARD)).matched == 1
        assert is_part(await site.get("/p", asking("0-9")), 0, 10)
        assert (site.hits("/p"), site.last.header("if-none-match")) == (count, None)
    await operations.purge(Selection(tags=("films",)), Strength.SOFT)
    assert is_part(await site.get("/p", asking("0-9")), 0, 10)
    assert (site.hits("/p"), site.last.header("if-none-match")) == (4, '"v1"')


@requires("RFC 9111 §4.4", "a part that was on its way when its page was purged is not reused")
async def test_law_2_purged_on_its_way(start: Start, origin: ScriptedOrigin) -> None:
    go = asyncio.Event()
    said = {**FRESH, "Content-Range": f"bytes 0-9/{ALL}", "Content-Length": "10"}
    origin.on("/p", [Send(head(206, said)), Wait(go), Send(BODY[:10])], ranged(BODY))
    async with start() as proxy:
        visitor = await proxy.visitor()
        visitor.send("/p", asking("0-9"))
        await origin.received(1)
        await proxy.worker.operations.purge(Selection(paths=("/p",)), Strength.HARD)
        go.set()
        assert is_part(await visitor.reply(), 0, 10)
        await proxy.settled()
        assert is_part(await proxy.get("/p", asking("0-9")), 0, 10)
        assert origin.hits("/p") == 2


@requires("RFC 9111 §4.4", "who comes after a purge does not get a part that was on its way before")
async def test_law_2_not_joined_after_a_purge(start: Start, origin: ScriptedOrigin) -> None:
    go = asyncio.Event()
    said = {**FRESH, "Content-Range": f"bytes 0-9/{ALL}", "Content-Length": "10"}
    origin.on("/p", [Send(head(206, said)), Wait(go), Send(b"purged!!!!")], ranged(BODY))
    async with start() as proxy:
        before = await proxy.visitor()
        before.send("/p", asking("0-9"))
        await origin.received(1)
        await proxy.worker.operations.purge(Selection(paths=("/p",)), Strength.HARD)
        assert is_part(await proxy.get("/p", asking("0-9")), 0, 10)
        go.set()
        assert (await before.reply()).body == b"purged!!!!"
        await proxy.settled()
        after = await proxy.get("/p", asking("0-9"))
        assert is_part(after, 0, 10)
        assert (after.x_cache, origin.hits("/p")) == ("HIT", 2)


@requires("RFC 9111 §3.3", "a restart forgets no part")
async def test_law_7_restart(origin: ScriptedOrigin, tmp_path: Path, clock: FakeClock) -> None:
    origin.on("/p", ranged(BODY))
    for _ in range(2):
        async with running(config(origin.url, tmp_path / "store", BY_THE_BOOK), clock) as proxy:
            assert is_part(await proxy.get("/p", asking("0-9")), 0, 10)
            await proxy.settled()
            listed, _ = await proxy.worker.operations.inventory.entries("", None, None, 10, None)
            assert [(each.status, each.body_bytes) for each in listed] == [(206, 10)]
    assert origin.hits("/p") == 1


@requires("RFC 9211 §2.1", "explain says of a stored part what a request for it would get")
async def test_law_10_explained(site: Site) -> None:
    site.on("/p", ranged(BODY))
    await site.get("/p", asking("0-9"))
    explain = site.proxy.worker.operations.explainer.explain
    said = [
        (await explain("/p", Fields(((b"Range", spec),)))).x_cache for spec in (b"bytes=5-9", b"bytes=5-10")
    ]
    assert said == ["HIT", "MISS"]
    assert site.hits("/p") == 1


@requires("RFC 9111 §3.3", "a part larger than max_entry is relayed, and never more than it is fetched")
async def test_law_8_too_large(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", ranged(BODY))
    async with start(max_entry="500") as proxy:
        for _ in range(2):
            reply = await proxy.get("/p", asking("0-599"))
            assert is_part(reply, 0, 600)
            assert reply.cache_status == "isr-proxy; fwd=uri-miss; fwd-status=206; detail=too-large"
        for _ in range(2):
            assert is_part(await proxy.get("/p", asking("0-399")), 0, 400)
        assert [request.header("range") for request in origin.requests] == ["bytes=0-599"] * 2 + [
            "bytes=0-399"
        ]


@requires("RFC 9111 §3.3", "parts of one page that are fetched at once are limited; beyond, requests pass")
async def test_law_8_crowded(start: Start, origin: ScriptedOrigin) -> None:
    go = asyncio.Event()
    said = {**FRESH, "Content-Length": "1"}

    async def script(exchange: Exchange) -> None:
        await go.wait()
        first = (exchange.request.header("range") or "").removeprefix("bytes=").partition("-")[0]
        at = int(first)
        await exchange.send(
            head(206, {**said, "Content-Range": f"bytes {at}-{at}/{ALL}"}) + BODY[at : at + 1]
        )

    origin.on("/p", script)
    async with start() as proxy:
        visitors = [await proxy.visitor() for _ in range(10)]
        for place, visitor in enumerate(visitors):
            visitor.send("/p", asking(f"{place}-{place}"))
            await origin.received(place + 1)
        go.set()
        replies = [await visitor.reply() for visitor in visitors]
        assert all(is_part(reply, place, place + 1) for place, reply in enumerate(replies))
        passed = [reply.cache_status for reply in replies if reply.x_cache == "PASS"]
        assert passed == ["isr-proxy; fwd=bypass; fwd-status=206; detail=saturated"] * 2
