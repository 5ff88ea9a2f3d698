"""Attack: range and conditional poisoning. A part of a page, or none of it, is stored as the page.

FIELD.md section 4.10: ranges and conditions are stripped on fills, and a 206 is never stored as a 200.
"""

from __future__ import annotations

import pytest

from tests.harness import FakeClock
from tests.http.attacking import CACHED, WAYS, Attack, Scene, get, owed, table
from tests.http.requirements import requires
from tests.scripted_origin import Exchange, Headers, Send, head, page

PARTIAL = [
    b"Range: bytes=0-0",
    b"Range: bytes=-1",
    b"Range: bytes=0-0,-1",
    b"Range: bytes=99999-",
    b"Range: lines=0-0",
    b'If-None-Match: "v"',
    b"If-None-Match: *",
    b'If-Match: "other"',
    b"If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT",
    b"If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT",
    b'If-Range: "v"\r\nRange: bytes=0-0',
    b"Accept-Encoding: br",
    b"A-IM: vcdiff",
]
FRESH = {"Cache-Control": "max-age=60", "ETag": '"v"'}


async def obliging(exchange: Exchange) -> None:
    """Do what the request asks: answer a part, a 304 or a 412; else the whole page."""
    request = exchange.request
    body = owed(request.target)
    if request.header("if-match") or request.header("if-unmodified-since"):
        await exchange.run(page("failed", FRESH, 412))
    elif request.header("if-none-match") or request.header("if-modified-since"):
        await exchange.send(head(304, FRESH))
    elif request.header("range"):
        await exchange.run(page(body[:1], {**FRESH, "Content-Range": f"bytes 0-0/{len(body)}"}, 206))
    elif request.method == "HEAD":
        await exchange.send(head(200, {**FRESH, "Content-Length": str(len(body))}))
    else:
        await exchange.run(page(body, FRESH))


@requires(
    "Attack: partial poisoning",
    "a range or a condition of one visitor leaves nothing for the next but the page",
)
@table(
    *(Attack(line.decode(), get(line)) for line in PARTIAL),
    Attack("HEAD", get(method=b"HEAD")),
    Attack("HEAD with a range", get(b"Range: bytes=0-0", method=b"HEAD")),
    Attack("HEAD with a condition", get(b'If-None-Match: "v"', method=b"HEAD")),
)
async def test_what_one_visitor_asks(scene: Scene, attack: Attack) -> None:
    scene.origin.otherwise = obliging
    for way in attack.ways:
        visitor = await scene.send(attack.on(f"/{way}/target"))
        reply = await visitor.reply(method="HEAD" if b"HEAD" in attack.raw else "GET")
        assert reply.status < 500
        visitor.reset()
    await scene.nobody_else_is_hit()


@requires(
    "Attack: partial poisoning",
    "what fills the store is asked for whole, without a condition of the visitor's",
)
@pytest.mark.parametrize("line", PARTIAL)
@pytest.mark.parametrize("way", CACHED)
async def test_fills_are_whole(scene: Scene, way: str, line: bytes) -> None:
    scene.origin.otherwise = obliging
    await scene.ask(get(line, target=f"/{way}/target".encode()))
    await scene.proxy.settled()
    if way == "shared" and line.startswith((b"If-Match", b"If-Unmodified-Since")):
        scene.origin.requests.clear()  # it passed (RFC 9110 §13.1.1), so the next request is what fills
        await scene.ask(get(target=f"/{way}/target".encode()))
    fill = next(request for request in scene.origin.requests if request.method == "GET")
    partial = {"if-range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since"}
    if way != "shared":  # where the origin decides, a part is asked for and kept as a part
        partial.add("range")
    assert partial.isdisjoint(name for name, _ in fill.headers)
    assert fill.header("accept-encoding") == "identity"


UNASKED: list[tuple[int, Headers]] = [
    (206, {**FRESH, "Content-Range": "bytes 0-3/9999"}),
    (206, FRESH),
    (304, FRESH),
    (416, {**FRESH, "Content-Range": "bytes */9999"}),
    (412, FRESH),
]


@requires("Attack: partial poisoning", "a 206 or 304 that nobody asked for is an error, and not stored")
@pytest.mark.parametrize(("status", "headers"), UNASKED)
@pytest.mark.parametrize("way", CACHED)
async def test_unasked(scene: Scene, way: str, status: int, headers: Headers) -> None:
    target = f"/{way}/target"
    answer = [Send(head(status, headers))] if status == 304 else page("part", headers, status)
    scene.origin.on(target, answer, page(owed(target), FRESH))
    await scene.ask(get(target=target.encode()))
    await scene.proxy.settled()
    if status in (206, 304):
        await scene.honest(target)
    else:
        assert (await scene.proxy.get(target)).status in (status, 200)


@requires("Attack: partial poisoning", "a 206 or 304 never replaces a page that is stored")
@pytest.mark.parametrize(("status", "headers"), UNASKED)
@pytest.mark.parametrize("way", CACHED)
async def test_stored_pages_stay(
    scene: Scene, clock: FakeClock, way: str, status: int, headers: Headers
) -> None:
    target = f"/{way}/target"
    good = page(owed(target), {"Cache-Control": "max-age=60, stale-if-error=999"})
    answer = [Send(head(status, headers))] if status == 304 else page("part", headers, status)
    scene.origin.on(target, good, answer, good)
    await scene.honest(target)
    clock.advance(61)
    await scene.ask(get(target=target.encode()))
    await scene.proxy.settled()
    await scene.honest(target)


@requires("Attack: partial poisoning", "a body shorter than was said is not stored, nor looks whole")
@pytest.mark.parametrize("way", WAYS)
async def test_cut_off(scene: Scene, way: str) -> None:
    async def cut(exchange: Exchange) -> None:
        await exchange.send(head(200, {**FRESH, "Content-Length": "9999"}) + b"part")
        exchange.close()

    target = f"/{way}/target"
    scene.origin.on(target, cut, page(owed(target), FRESH))
    reply = await scene.ask(get(target=target.encode()))
    assert reply.status == 502 or not reply.is_whole
    await scene.honest(target)
