"""RFC 9211: what each answer says of how it came about, read back as the structured list that it is."""

from __future__ import annotations

import asyncio
from typing import Any

import http_sf
import pytest

from tests.harness import FakeClock, Reply
from tests.http.conftest import Site, Start
from tests.http.requirements import requires
from tests.scripted_origin import Hang, Script, ScriptedOrigin, Send, Wait, head, page

FRESH = {"Cache-Control": "max-age=60", "ETag": '"abc"'}
STALE_OK = {"Cache-Control": "max-age=60, stale-while-revalidate=600"}


def said(reply: Reply) -> dict[str, Any]:
    """Return the parameters of our member, which is the last."""
    members: Any = http_sf.parse(reply.cache_status.encode(), tltype="list")
    name, parameters = members[-1]
    assert (str(name), isinstance(name, http_sf.Token)) == ("isr-proxy", True)
    return {
        key: str(value) if isinstance(value, http_sf.Token) else value for key, value in parameters.items()
    }


@requires("RFC 9211 §2", "a miss, then a hit with what is left of its lifetime")
async def test_miss_and_hit(site: Site) -> None:
    site.says("/p", FRESH)
    assert said(await site.get("/p")) == {"fwd": "uri-miss", "fwd-status": 200, "stored": True}
    site.clock.advance(50)
    assert said(await site.get("/p")) == {"hit": True, "ttl": 10}


@requires("RFC 9211 §2.4", "ttl is negative once stale")
async def test_stale(site: Site) -> None:
    site.on("/p", page("1", STALE_OK), [Hang()])
    await site.get("/p")
    site.clock.advance(63)
    assert said(await site.proxy.get("/p")) == {"hit": True, "ttl": -3, "detail": "regenerating"}


@requires("RFC 9211 §2.2", "fwd=stale and the origin's own status, when it was validated")
async def test_validated(site: Site) -> None:
    site.on("/p", page("1", FRESH), [Send(head(304))])
    await site.get("/p")
    site.clock.advance(61)
    assert said(await site.get("/p")) == {"fwd": "stale", "fwd-status": 304}


@requires("RFC 9211 §2.2", "fwd=vary-miss, request, method and bypass")
async def test_forwarding(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/v", page("1", {**FRESH, "Vary": "Foo"}))
    origin.on("/p", page("1", FRESH))
    routes = "- {match: /**, revalidate: origin, client_directives: honor, bypass: {cookies: [s]}}"
    async with start(routes) as proxy:
        for path in ("/v", "/p"):
            await proxy.get(path)
        await proxy.settled()
        assert said(await proxy.get("/v", {"Foo": "1"}))["fwd"] == "vary-miss"
        assert said(await proxy.get("/p", {"Cache-Control": "no-cache"}))["fwd"] == "request"
        assert said(await proxy.get("/p", method="OPTIONS")) == {"fwd": "method", "fwd-status": 200}
        passed = said(await proxy.get("/p", {"Cookie": "s=1"}))
        assert passed == {"fwd": "bypass", "fwd-status": 200, "detail": "bypass-cookie"}


@requires("RFC 9211 §2.2", "fwd=miss for what a purge made unusable")
async def test_purged(site: Site) -> None:
    site.says("/p", FRESH)
    await site.get("/p")
    await site.get("/p", method="POST")
    assert said(await site.get("/p"))["fwd"] in ("miss", "uri-miss")


@requires("RFC 9211 §2.6", "collapsed, for who waited for another's fetch")
async def test_collapsed(site: Site) -> None:
    release = asyncio.Event()
    site.on("/p", [Wait(release), *page("1", FRESH)])
    one, other = await site.proxy.visitor(), await site.proxy.visitor()
    one.send("/p")
    await site.origin.received(1)
    other.send("/p")
    await _waiting(site, 2)
    release.set()
    assert said(await one.reply()) == {"fwd": "uri-miss", "fwd-status": 200, "stored": True}
    assert said(await other.reply()) == {"fwd": "uri-miss", "collapsed": True}


async def _waiting(site: Site, count: int) -> None:
    """Wait until so many visitors wait for the one fetch."""
    flights = site.proxy.worker.engine.flights
    while not any(flight.waiters == count for flight in flights.in_flight()):  # noqa: ASYNC110  nobody tells
        await asyncio.sleep(0)


@requires("RFC 9211 §2.5", "not stored, and why")
@pytest.mark.parametrize(
    ("headers", "why"),
    [({"Cache-Control": "no-store"}, "no-store"), ({"Cache-Control": "private"}, "private")],
)
async def test_not_stored(site: Site, headers: dict[str, str], why: str) -> None:
    site.says("/p", headers)
    assert said(await site.get("/p")) == {"fwd": "uri-miss", "fwd-status": 200, "detail": why}


@requires("RFC 9211 §2", "ours comes after what caches before us said, also out of the store")
async def test_appended(site: Site) -> None:
    site.says(
        "/p",
        [("Cache-Control", "max-age=60"), ("Cache-Status", "inner; hit"), ("Cache-Status", '"b"; fwd=miss')],
    )
    for _ in range(2):
        members: Any = http_sf.parse((await site.get("/p")).cache_status.encode(), tltype="list")
        assert [str(name) for name, _ in members] == ["inner", "b", "isr-proxy"]


@requires("RFC 9211 §2", "not on answers made here")
async def test_not_on_errors(site: Site, clock: FakeClock) -> None:
    await site.origin.stop()
    reply = await site.get("/p")
    assert (reply.status, reply.cache_status) == (502, "")


@requires("RFC 9211 §2", "whatever happens it is a list that parses, with hit or fwd and never both")
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
async def test_hit_or_forwarded(site: Site, method: str) -> None:
    site.says("/p", FRESH, STALE_OK, {"Cache-Control": "no-store"})
    for seconds in (0, 1, 100, 1, 1000):
        site.clock.advance(seconds)
        parameters = said(await site.get("/p", method=method))
        assert ("hit" in parameters) is not ("fwd" in parameters)


@requires(
    "RFC 9211 §2.2", "what must be validated, and may not be stored any more, was stale and is no bypass"
)
async def test_no_longer_storable(site: Site) -> None:
    kept = {"Cache-Control": "no-cache", "ETag": '"a"'}
    site.on("/p", page("1", kept), page("2", {"Cache-Control": "no-store"}))
    await site.get("/p")
    reply = await site.get("/p")
    assert said(reply) == {"fwd": "stale", "fwd-status": 200, "detail": "no-store"}
    assert reply.x_cache == "MISS"


@requires("RFC 9211 §2.2", "who waited for an answer that was not for him asked because nothing was stored")
async def test_waited_in_vain(site: Site) -> None:
    gate = asyncio.Event()
    kept = {"Cache-Control": "no-cache", "ETag": '"a"'}
    opened: Script = [Send(head(200, {**kept, "Content-Length": "2"})), Wait(gate), Send(b"ok")]
    site.on("/p", opened, page("22", kept))
    first = asyncio.ensure_future(site.proxy.get("/p"))
    await site.origin.received(1)
    second = await site.proxy.get("/p")
    gate.set()
    await first
    assert said(second) == {"fwd": "uri-miss", "fwd-status": 200, "stored": True}


@requires("RFC 9211 §2.6", "collapsed, for who waited though a stale page was at hand")
async def test_collapsed_with_a_fallback(site: Site) -> None:
    gate = asyncio.Event()
    site.on(
        "/p", page("1", {"Cache-Control": "max-age=60, stale-if-error=99"}), [Wait(gate), *page("2", FRESH)]
    )
    await site.get("/p")
    site.clock.advance(61)
    asked = [asyncio.ensure_future(site.proxy.get("/p")) for _ in range(2)]
    await site.proxy.waiting(2)
    gate.set()
    told = [said(each) for each in await asyncio.gather(*asked)]
    assert sum(each.get("collapsed", False) for each in told) == 1
    assert site.hits("/p") == 2
