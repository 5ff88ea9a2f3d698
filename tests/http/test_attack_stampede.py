"""Attack: stampede. Many visitors at once, of whom each is sent to the origin.

Law 3: one regeneration per key at a time. Where an answer is not for all of them, none waits for nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from isr_proxy.core.purges import Scope, Selector
from tests.harness import FakeClock, Proxy, Reply
from tests.http.conftest import Site, Start
from tests.http.requirements import requires
from tests.scripted_origin import Script, ScriptedOrigin, Send, Wait, head, page


def crowd(proxy: Proxy, size: int, headers: Mapping[str, str] = {}) -> list[asyncio.Task[Reply]]:
    return [asyncio.ensure_future(proxy.get("/p", headers)) for _ in range(size)]


@requires("Attack: stampede", "an ISR page beyond its stale windows is fetched once, though it says no-cache")
async def test_isr_no_cache(start: Start, origin: ScriptedOrigin, clock: FakeClock) -> None:
    gate = asyncio.Event()
    said = {"Cache-Control": "no-cache"}
    origin.on("/p", page("1", said), [Wait(gate), *page("2", said)])
    async with start(
        "- {match: /**, revalidate: 60s, stale_while_revalidate: 9s, stale_if_error: 9s}"
    ) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        clock.advance(600)
        asked = crowd(proxy, 10)
        await proxy.waiting(10)
        gate.set()
        assert {reply.text for reply in await asyncio.gather(*asked)} == {"2"}
        assert origin.hits("/p") == 2


@requires(
    "Attack: stampede", "a purged page that was served for its language is fetched once, and waited for"
)
async def test_language_after_a_purge(start: Start, origin: ScriptedOrigin, clock: FakeClock) -> None:
    gate = asyncio.Event()
    said = {"Vary": "Accept-Language", "Content-Language": "en"}
    opened: Script = [Send(head(200, {**said, "Content-Length": "1"})), Wait(gate), Send(b"2")]
    origin.on("/p", page("1", said), opened)
    english = {"Accept-Language": "en"}
    async with start("- {match: /**, revalidate: 60s}") as proxy:
        await proxy.get("/p")
        await proxy.settled()
        assert (await proxy.get("/p", english)).x_cache == "HIT"
        await proxy.worker.engine.purges.append((Selector(Scope.ALL),), now=clock())
        asked = crowd(proxy, 8, english)
        await origin.received(2)
        gate.set()
        assert {reply.text for reply in await asyncio.gather(*asked)} == {"2"}
        assert origin.hits("/p") == 2


@requires("Attack: stampede", "a stale page whose origin says 403 behind it is not asked for at every hit")
async def test_refused_behind(site: Site) -> None:
    stale_ok = {"Cache-Control": "max-age=60, stale-while-revalidate=1000"}
    site.on("/p", page("1", stale_ok), page("no", {}, 403))
    await site.get("/p")
    site.clock.advance(61)
    assert {(await site.get("/p")).x_cache for _ in range(6)} == {"STALE"}
    assert site.hits("/p") == 2


@requires("RFC 9110 §9.3.2", "a HEAD of what was found uncacheable is asked as HEAD, without its body")
async def test_head_of_the_uncacheable(site: Site) -> None:
    site.on("/p", page("1", {"Cache-Control": "no-store"}))
    await site.get("/p")
    reply = await site.get("/p", method="HEAD")
    assert (site.last.method, reply.status) == ("HEAD", 200)


@requires(
    "Attack: stampede", "who learns while he waits that the answer varies asks once for his own variant"
)
async def test_begins_to_vary(site: Site) -> None:
    gate = asyncio.Event()
    varies = {"Cache-Control": "max-age=60", "Vary": "Foo"}
    opened: Script = [Send(head(200, {**varies, "Content-Length": "1"})), Wait(gate), Send(b"2")]
    site.on("/p", page("1", {"Cache-Control": "max-age=60, stale-if-error=0"}), opened, page("3", varies))
    await site.get("/p")
    site.clock.advance(61)
    first = crowd(site.proxy, 1, {"Foo": "a"})
    await site.origin.received(2)
    others = crowd(site.proxy, 4, {"Foo": "b"})
    replies = await asyncio.gather(*others)
    gate.set()
    assert {(reply.text, reply.x_cache) for reply in replies} <= {("3", "MISS"), ("3", "HIT")}
    assert ((await first[0]).text, site.hits("/p")) == ("2", 3)
