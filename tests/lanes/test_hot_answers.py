"""Which answers the hot lane gives, and that what means another request is never given the same."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest

from isr_proxy.serve.selection import Selection
from tests.harness import Proxy, Visitor
from tests.lanes.conftest import Start, Write
from tests.lanes.watching import ROUTE, Watched, body, field
from tests.lanes.world import LONG, Asked
from tests.pem import Authority
from tests.scripted_origin import Exchange, ScriptedOrigin, page

# --- kinds ---

KINDS = {
    "a page": (Asked("/p"), 200),
    "one that is not there": (Asked("/missing"), 404),
    "a redirect": (Asked("/moved"), 301),
    "a head alone": (Asked("/p", method="HEAD"), 200),
    "a head alone of one that is not there": (Asked("/missing", method="HEAD"), 404),
    "unchanged by tag": (Asked("/p", ('If-None-Match: "1"',)), 304),
    "unchanged by date": (Asked("/p", ("If-Modified-Since: Fri, 15 Jan 2027 08:00:00 GMT",)), 304),
    "changed": (Asked("/p", ('If-None-Match: "2"',)), 200),
    "br": (Asked("/p", ("Accept-Encoding: br",)), 200),
    "zstd": (Asked("/p", ("Accept-Encoding: zstd",)), 200),
    "gzip": (Asked("/p", ("Accept-Encoding: gzip",)), 200),
    "gzip, unchanged": (Asked("/p", ("Accept-Encoding: gzip", 'If-None-Match: "1-gzip"')), 304),
    "gzip, a head alone": (Asked("/p", ("Accept-Encoding: gzip",), "HEAD"), 200),
}


@pytest.fixture
def several(origin: ScriptedOrigin) -> None:
    origin.on("/p", page(LONG, {"ETag": '"1"', "Last-Modified": "Fri, 15 Jan 2027 08:00:00 GMT"}))
    origin.on("/missing", page("nothing here", status=404))
    origin.on("/moved", page("", {"Location": "/p"}, status=301))


@pytest.mark.parametrize("name", KINDS)
async def test_law_6_each_kind_of_answer(name: str, lane: Watched, several: None) -> None:
    asked, status = KINDS[name]
    visitor = await lane.learned(asked)
    hot, is_hot = await lane.told(visitor, asked)
    lane.hot.clear()
    warm, is_warm = await lane.told(visitor, asked)
    assert (is_hot, is_warm, hot.split(b" ")[1]) == (True, False, b"%d" % status)
    assert hot == warm


async def test_all_kinds_of_one_page_are_known_at_once(lane: Watched, several: None) -> None:
    visitor = await lane.visitor()
    for asked, _ in KINDS.values():
        await lane.learned(asked, visitor)
    for asked, status in KINDS.values():
        heard, is_hot = await lane.told(visitor, asked)
        assert (is_hot, heard.split(b" ")[1]) == (True, b"%d" % status)
        assert bool(body(heard)) == (asked.method == "GET" and status not in (301, 304))


async def test_each_encoding_is_told_of_as_it_is(lane: Watched, several: None) -> None:
    visitor = await lane.visitor()
    for coding in ("br", "zstd", "gzip"):
        asked = Asked("/p", (f"Accept-Encoding: {coding}",))
        heard, _ = await lane.told(await lane.learned(asked, visitor), asked)
        assert field(heard, b"content-encoding") == coding.encode()
        assert field(heard, b"etag") == f'"1-{coding}"'.encode()


# --- what means another request ---


async def echo_host(exchange: Exchange) -> None:
    asked = exchange.request
    await exchange.run(page(f"{asked.header('x-forwarded-proto')} {asked.header('host')} {asked.target}"))


async def visitor_from(proxy: Proxy, address: str) -> Visitor:
    """Connect from one of this machine's own addresses."""
    parts = urlsplit(proxy.url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, local_addr=(address, 0))
    visitor = Visitor(reader, writer)
    proxy.visitors.append(visitor)
    return visitor


FORWARDED = [
    "X-Forwarded-Host: other.example",
    "X-Forwarded-Proto: https",
]
TRUSTED, STRANGER = "127.0.0.1", "127.0.0.2"
BELIEVED = {"more": "trusted_proxies: [127.0.0.1/32]\n"}


@pytest.mark.parametrize("line", FORWARDED)
@pytest.mark.parametrize("first", [TRUSTED, STRANGER])
async def test_law_4_what_a_trusted_proxy_says_is_no_strangers(
    line: str, first: str, start: Start, origin: ScriptedOrigin
) -> None:
    origin.on("/host", echo_host)
    asked = Asked("/host", (line,))
    async with start(**BELIEVED) as lane:
        order = sorted((TRUSTED, STRANGER), key=lambda address: address != first)
        visitors = {address: await visitor_from(lane.proxy, address) for address in order}
        for visitor in visitors.values():
            await lane.learned(asked, visitor)
        told = {address: await lane.told(visitor, asked) for address, visitor in visitors.items()}
        assert all(is_hot for _, is_hot in told.values())
        assert body(told[STRANGER][0]) == b"http site.example /host"
        assert body(told[TRUSTED][0]) != body(told[STRANGER][0])


async def test_what_one_means_drops_out_without_the_other(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/host", echo_host)
    asked = Asked("/host", (FORWARDED[0],))
    async with start(**BELIEVED) as lane:
        trusted = await lane.learned(asked, await visitor_from(lane.proxy, TRUSTED))
        stranger = await lane.learned(asked, await visitor_from(lane.proxy, STRANGER))
        await lane.purge(Selection(hosts=("other.example",)))
        assert not await lane.is_hot(trusted, asked)
        assert await lane.is_hot(stranger, asked)


async def test_a_page_of_two_tables_drops_out_of_both(start: Start, origin: ScriptedOrigin) -> None:
    async with start(**BELIEVED) as lane:
        visitors = [
            await lane.learned(visitor=await visitor_from(lane.proxy, one)) for one in (TRUSTED, STRANGER)
        ]
        assert len(lane.hot) == 2
        origin.on("/p", page("another"))
        await lane.regenerate("/p")
        assert len(lane.hot) == 0
        for visitor in visitors:
            assert body(await lane.ask(visitor)) == b"another"


async def test_trust_that_a_reload_takes_away_is_gone(
    start: Start, origin: ScriptedOrigin, write: Write
) -> None:
    origin.on("/host", echo_host)
    asked = Asked("/host", (FORWARDED[0],))
    async with start(**BELIEVED) as lane:
        trusted = await lane.learned(asked, await visitor_from(lane.proxy, TRUSTED))
        await lane.reload(write(ROUTE))
        for _ in range(4):
            assert body(await lane.ask(trusted, asked)) == b"http site.example /host"
            await lane.proxy.settled()


@pytest.mark.parametrize("first", ["http", "https"])
async def test_tls_and_plain_are_apart(
    first: str, both: Watched, ca: Authority, origin: ScriptedOrigin
) -> None:
    origin.on("/host", echo_host)
    asked = Asked("/host")
    visitors = {"http": await both.visitor(), "https": await both.secure_visitor(ca.trusting())}
    for scheme in sorted(visitors, key=lambda scheme: scheme != first):
        await both.learned(asked, visitors[scheme])
    for scheme, visitor in visitors.items():
        heard, is_hot = await both.told(visitor, asked)
        assert (is_hot, body(heard)) == (True, f"{scheme} site.example /host".encode())
