"""RFC 9111 §3: which responses are stored, and what of them."""

from __future__ import annotations

import asyncio

import pytest

from isr_proxy.core.http import format_date
from tests.harness import START, Reply
from tests.http.conftest import Site, Start
from tests.http.requirements import requires
from tests.scripted_origin import Script, ScriptedOrigin, Send, Wait, head, page

FRESH = {"Cache-Control": "max-age=60"}
STATUSES = [
    200,
    203,
    204,
    299,
    300,
    301,
    302,
    303,
    307,
    308,
    400,
    403,
    404,
    405,
    410,
    414,
    418,
    451,
    499,
    500,
]


@requires("RFC 9111 §3", "whatever the status, a response of explicit freshness is reused")
@pytest.mark.parametrize("status", [*STATUSES, 501, 502, 503, 504, 599])
async def test_any_status_with_explicit_freshness(site: Site, status: int) -> None:
    assert await site.keeps(FRESH, status=status)


@requires("RFC 9111 §3", "once stale, it is not reused without validation, whatever the status")
@pytest.mark.parametrize("status", [*STATUSES, 502, 504, 599])
async def test_any_status_once_stale(site: Site, status: int) -> None:
    assert not await site.keeps(FRESH, status=status, after=61)


@requires("RFC 9111 §3", "a method other than GET neither finds nor leaves a stored response")
@pytest.mark.parametrize("method", ["POST", "PUT", "OPTIONS", "QUERY"])
async def test_only_get_is_stored(site: Site, method: str) -> None:
    site.says("/p", FRESH)
    await site.get("/p", method=method)
    assert not await site.is_reused("/p")


@requires("RFC 6585 §6", "428, 429, 431 and 511 are never stored")
@pytest.mark.parametrize("status", [428, 429, 431, 511])
async def test_statuses_that_forbid_storing(site: Site, status: int) -> None:
    assert not await site.keeps(FRESH, status=status)


@requires("RFC 9111 §3.1", "header fields that nobody knows are stored and sent on")
async def test_unknown_fields_are_stored(site: Site) -> None:
    site.says("/p", [("Cache-Control", "max-age=60"), ("X-New", "a"), ("x-NEW", "b"), ("Content-Foo", "")])
    await site.get("/p")
    reply = await site.get("/p")
    assert (reply.x_cache, reply.headers["x-new"], reply.headers["content-foo"]) == ("HIT", "a, b", "")


HOP_BY_HOP = [
    ("Connection", "x-mine"),
    ("X-Mine", "1"),
    ("Keep-Alive", "timeout=5"),
    ("Proxy-Authenticate", "Basic"),
    ("Proxy-Authentication-Info", "x"),
    ("Proxy-Connection", "keep-alive"),
    ("TE", "trailers"),
    ("Upgrade", "h2c"),
]


@requires("RFC 9111 §3.1", "Connection, what it names, and fields of one proxy are not stored")
async def test_hop_by_hop_fields_are_not_stored(site: Site) -> None:
    site.says("/p", [("Cache-Control", "max-age=60"), *HOP_BY_HOP])
    await site.get("/p")
    reply = await site.get("/p")
    assert reply.x_cache == "HIT"
    assert not {name.lower() for name, _ in HOP_BY_HOP} & set(reply.headers)


async def second(site: Site, headers: list[tuple[str, str]]) -> Reply:
    site.says("/p", headers)
    await site.get("/p")
    return await site.get("/p")


@requires("RFC 9111 §5.2.2.7", "fields that private names are the first visitor's alone; the rest is shared")
async def test_private_fields(site: Site) -> None:
    site.says(
        "/p", [("Cache-Control", 'max-age=60, private="X-User, X-Cart"'), ("X-User", "u"), ("X-Page", "p")]
    )
    assert (await site.get("/p")).headers["x-user"] == "u"
    reply = await site.get("/p")
    assert (reply.x_cache, reply.headers.get("x-user"), reply.headers["x-page"]) == ("HIT", None, "p")


@requires("RFC 9111 §5.2.2.4", "fields that no-cache names are not reused; the rest is")
async def test_no_cache_fields(site: Site) -> None:
    reply = await second(site, [("Cache-Control", 'max-age=60, no-cache="X-User"'), ("X-User", "u")])
    assert (reply.x_cache, reply.headers.get("x-user")) == ("HIT", None)


@requires("RFC 9111 §3.3", "a response that breaks off is never stored")
@pytest.mark.parametrize("headers", [{"Content-Length": "9"}, {"Transfer-Encoding": "chunked"}])
async def test_incomplete_responses(site: Site, headers: dict[str, str]) -> None:
    from tests.scripted_origin import Close, Send, head

    site.on("/p", [Send(head(200, {**FRESH, **headers}) + b"4\r\nhal"), Close()], page("whole", FRESH))
    assert not (await site.get("/p")).is_whole
    assert (await site.get("/p")).text == "whole"


AUTHORIZED = {"Authorization": "Basic eDp5"}


@requires("RFC 9111 §3.5", "the answer to a request with Authorization is not stored")
async def test_authorization(site: Site) -> None:
    site.says("/p", FRESH)
    await site.get("/p", AUTHORIZED)
    assert not await site.is_reused("/p", headers=AUTHORIZED)
    assert not await site.is_reused("/p", after=0)


@requires("RFC 9111 §3.5", "unless public, must-revalidate or s-maxage says that it may be")
@pytest.mark.parametrize("directive", ["max-age=60, public", "max-age=60, must-revalidate", "s-maxage=60"])
async def test_authorization_that_is_shared(site: Site, directive: str) -> None:
    site.says("/p", {"Cache-Control": directive})
    await site.get("/p", AUTHORIZED)
    assert await site.is_reused("/p", headers=AUTHORIZED)
    assert await site.is_reused("/p")


@requires("RFC 9111 §3.5", "by default such a request passes")
async def test_authorization_passes_by_default(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("1", {"Cache-Control": "public, max-age=60"}))
    async with start("- {match: /**, revalidate: origin}") as proxy:
        assert (await proxy.get("/p", AUTHORIZED)).x_cache == "PASS"
        assert (await proxy.get("/p", AUTHORIZED)).x_cache == "PASS"


@requires(
    "RFC 9111 §7.3",
    "a response with Set-Cookie, or to a request with cookies, is stored where a route says so",
)
async def test_cookies(site: Site) -> None:
    site.says("/p", {**FRESH, "Set-Cookie": "a=1"})
    await site.get("/p", {"Cookie": "b=2"})
    assert await site.is_reused("/p")


@requires("RFC 9111 §7.3", "by default neither is stored")
@pytest.mark.parametrize(("sent", "said"), [({}, {"Set-Cookie": "a=1"}), ({"Cookie": "b=2"}, {})])
async def test_cookies_by_default(
    start: Start, origin: ScriptedOrigin, sent: dict[str, str], said: dict[str, str]
) -> None:
    origin.on("/p", page("1", {**FRESH, **said}), page("2", FRESH))
    async with start("- {match: /**, revalidate: origin}") as proxy:
        await proxy.get("/p", sent)
        assert (await proxy.get("/p")).text == "2"


@requires("RFC 9111 §4", "an older answer that comes later does not replace a newer one")
async def test_overtaken(site: Site) -> None:
    gate = asyncio.Event()
    old, new = ({**FRESH, "Date": format_date(START + second)} for second in (0, 5))
    slow: Script = [Send(head(200, {**old, "Content-Length": "3"})), Wait(gate), Send(b"old")]
    site.on("/p", page("no", {"Cache-Control": "no-store"}), slow, page("new", new))
    await site.get("/p")
    site.clock.advance(5)
    first = asyncio.ensure_future(site.proxy.get("/p"))
    await site.origin.received(2)
    await eventually_hit(site)
    gate.set()
    assert (await first).text == "old"
    await site.proxy.settled()
    assert (await site.get("/p")).text == "new"


async def eventually_hit(site: Site) -> None:
    while (await site.proxy.get("/p")).x_cache != "HIT":
        pass
