"""Law 4: a visitor never leaks into a shared page; and what bypasses brings its own request."""

from __future__ import annotations

import pytest

from tests.engine.conftest import Start
from tests.scripted_origin import ScriptedOrigin, page

ROUTE = "- {match: '/**', revalidate: 10s, bypass: {cookies: [session*], query: [preview]}}"

PERSONAL = {
    "Cookie": "theme=dark",
    "Range": "bytes=0-1",
    "If-None-Match": '"x"',
    "X-Forwarded-Host": "evil.example",
    "X-Original-URL": "/admin",
    "X-Custom": "me",
    "User-Agent": "me",
    "Accept-Language": "de-CH",
}


@pytest.mark.parametrize("name", PERSONAL)
async def test_law_4_a_regeneration_carries_nothing_of_the_visitor(
    name: str, start: Start, origin: ScriptedOrigin
) -> None:
    origin.on("/p", page("shared"))
    async with start(ROUTE) as proxy:
        await proxy.get("/p", {name: PERSONAL[name]})
        sent = origin.requests[0]
        assert PERSONAL[name] not in sent.raw_head.decode()
        assert sent.header("x-forwarded-host") == "site.example"


async def test_law_4_authorization_passes_with_the_visitors_own_request(
    start: Start, origin: ScriptedOrigin
) -> None:
    origin.on("/p", page("yours"))
    async with start(ROUTE) as proxy:
        reply = await proxy.get("/p", {"Authorization": "Bearer me", "X-Custom": "me"})
        assert reply.cache_status == "isr-proxy; fwd=bypass; fwd-status=200; detail=bypass-header"
        assert origin.requests[0].header("authorization") == "Bearer me"
        assert origin.requests[0].header("x-custom") == "me"
        await proxy.get("/p")
        assert origin.hits("/p") == 2


@pytest.mark.parametrize(
    ("path", "headers", "detail"),
    [
        ("/p", {"Cookie": "a=1; session_id=7"}, "bypass-cookie"),
        ("/p?preview=1", {}, "bypass-query"),
    ],
)
async def test_bypass(
    path: str, headers: dict[str, str], detail: str, start: Start, origin: ScriptedOrigin
) -> None:
    origin.on("/p", page("yours"))
    async with start(ROUTE) as proxy:
        reply = await proxy.get(path, headers)
        assert reply.x_cache == "PASS"
        assert reply.cache_status.endswith(f"detail={detail}")
        assert origin.requests[0].header("cookie") == headers.get("Cookie")


async def test_law_4_keyed_headers_and_cookies_do_go_along(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("one"), page("two"))
    route = "- {match: '/**', revalidate: 10s, key: {headers: [accept-language], cookies: [theme]}}"
    async with start(route) as proxy:
        await proxy.get("/p", {"Accept-Language": "de", "Cookie": "theme=dark; id=7"})
        await proxy.settled()
        assert origin.requests[0].header("accept-language") == "de"
        assert origin.requests[0].header("cookie") == "theme=dark"
        assert (await proxy.get("/p", {"Accept-Language": "fr"})).x_cache == "MISS"
        same = await proxy.get("/p", {"Accept-Language": "de", "Cookie": "id=8; theme=dark"})
        assert same.x_cache == "HIT"


async def test_law_9_a_response_with_set_cookie_is_not_stored(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("one", {"Set-Cookie": "id=7"}))
    async with start(ROUTE) as proxy:
        assert (await proxy.get("/p")).headers["set-cookie"] == "id=7"
        await proxy.settled()
        await proxy.get("/p")
        assert origin.hits("/p") == 2


async def test_set_cookie_drop_stores_the_page_without_it(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("one", {"Set-Cookie": "id=7"}))
    async with start("- {match: '/**', revalidate: 10s, set_cookie: drop}") as proxy:
        assert "set-cookie" not in (await proxy.get("/p")).headers
        await proxy.settled()
        hit = await proxy.get("/p")
        assert hit.x_cache == "HIT"
        assert "set-cookie" not in hit.headers


async def test_ignored_parameters_are_neither_keyed_nor_forwarded(
    start: Start, origin: ScriptedOrigin
) -> None:
    origin.on("/p", page("one"))
    async with start(ROUTE) as proxy:
        await proxy.get("/p?utm_source=x&id=1&gclid=2")
        await proxy.settled()
        assert origin.requests[0].target == "/p?id=1"
        assert (await proxy.get("/p?id=1&utm_medium=y")).x_cache == "HIT"
