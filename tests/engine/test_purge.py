"""Law 2: a purge that has returned has happened. Law 7: a restart forgets nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from isr_proxy.core.purges import Scope, Selector, Strength
from tests.engine.conftest import Start
from tests.harness import FakeClock, Proxy, config, running
from tests.scripted_origin import ScriptedOrigin, Step, Wait, page

ROUTE = "- {match: '/**', revalidate: 1h, tags: [site]}"
HARD = {
    "all": Selector(Scope.ALL),
    "host": Selector(Scope.HOST, "site.example"),
    "path": Selector(Scope.PATH, "/p"),
    "prefix": Selector(Scope.PREFIX, "/"),
    "route tag": Selector(Scope.TAG, "site"),
    "origin tag": Selector(Scope.TAG, "post-1"),
}
TAGGED = {"Cache-Tag": "Post-1, other"}


async def purge(proxy: Proxy, selector: Selector) -> None:
    await proxy.worker.purges.append((selector,), now=proxy.clock())


@pytest.mark.parametrize("name", HARD)
async def test_law_2_a_purged_page_is_fetched_anew(name: str, start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("old", TAGGED), page("new", TAGGED))
    async with start(ROUTE) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        await purge(proxy, HARD[name])
        reply = await proxy.get("/p")
        assert (reply.text, reply.x_cache) == ("new", "MISS")
        await proxy.settled()
        assert (await proxy.get("/p")).x_cache == "HIT"


@pytest.mark.parametrize("name", HARD)
async def test_law_2_a_fetch_that_began_before_cannot_bring_the_old_page_back(
    name: str, start: Start, origin: ScriptedOrigin
) -> None:
    release = asyncio.Event()
    origin.on("/p", [Wait(release), *page("old", TAGGED)], page("new", TAGGED))
    async with start(ROUTE) as proxy:
        early = await proxy.visitor()
        early.send("/p")
        await origin.received(1)
        await purge(proxy, HARD[name])
        late = await proxy.visitor()
        late.send("/p")
        if name != "origin tag":  # that is known only when the old answer comes
            assert (await late.reply()).text == "new"
        release.set()
        assert (await early.reply()).text == "old"
        if name == "origin tag":
            assert (await late.reply()).text == "new"
        await proxy.settled()
        assert (await proxy.get("/p")).text == "new"


@pytest.mark.parametrize("name", ["path", "route tag"])
async def test_a_soft_purge_serves_stale_and_regenerates(
    name: str, start: Start, origin: ScriptedOrigin, clock: FakeClock
) -> None:
    origin.on("/p", page("old"), page("new"))
    async with start(ROUTE) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        selector = HARD[name]
        await purge(proxy, Selector(selector.scope, selector.value, None, Strength.SOFT))
        clock.advance(1)
        stale = await proxy.get("/p")
        assert (stale.text, stale.x_cache) == ("old", "STALE")
        await proxy.settled()
        assert (await proxy.get("/p")).text == "new"


async def test_a_purge_of_something_else_changes_nothing(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("old"), page("new"))
    async with start(ROUTE) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        for selector in (Selector(Scope.PATH, "/q"), Selector(Scope.TAG, "x"), Selector(Scope.PREFIX, "/pp")):
            await purge(proxy, selector)
        assert (await proxy.get("/p")).x_cache == "HIT"


async def test_law_7_a_restart_forgets_nothing(
    origin: ScriptedOrigin, tmp_path: Path, clock: FakeClock
) -> None:
    for path in ("/fresh", "/stale", "/purged"):
        origin.on(path, page("old"), page("new"))
    routes = "- {match: /stale, revalidate: 10s}\n- {match: '/**', revalidate: 1h}"
    text = config(origin.url, tmp_path / "store", routes)
    async with running(text, clock) as proxy:
        for path in ("/fresh", "/stale", "/purged"):
            await proxy.get(path)
        await proxy.settled()
        await purge(proxy, HARD["path"])
        await purge(proxy, Selector(Scope.PATH, "/purged"))
        clock.advance(11)
    async with running(text, clock) as proxy:
        replies = [await proxy.get(path) for path in ("/fresh", "/stale", "/purged")]
        assert [reply.x_cache for reply in replies] == ["HIT", "STALE", "MISS"]
        assert replies[0].headers["age"] == "11"


async def test_law_7_a_lost_purge_log_counts_as_all_purged(
    origin: ScriptedOrigin, tmp_path: Path, clock: FakeClock
) -> None:
    origin.on("/p", page("old"), page("new"))
    text = config(origin.url, tmp_path / "store", ROUTE)
    async with running(text, clock) as proxy:
        await proxy.get("/p")
        await proxy.settled()
    for file in (tmp_path / "store").glob("purges.sqlite*"):
        file.write_bytes(b"not a database" * 100)
    clock.advance(1)
    async with running(text, clock) as proxy:
        assert (await proxy.get("/p")).text == "new"


@pytest.mark.parametrize("second", [page("new"), page("boom", status=500)], ids=["answers", "fails"])
async def test_law_2_a_purge_while_a_visitor_waits_takes_the_old_page_from_him_too(
    second: list[Step], start: Start, origin: ScriptedOrigin, clock: FakeClock
) -> None:
    release = asyncio.Event()
    origin.on("/p", page("old"), [Wait(release), *second])
    async with start("- {match: '/**', revalidate: 10s, stale_while_revalidate: 5s}") as proxy:
        await proxy.get("/p")
        await proxy.settled()
        clock.advance(60)
        visitor = await proxy.visitor()
        visitor.send("/p")
        await origin.received(2)
        await purge(proxy, HARD["path"])
        release.set()
        assert (await visitor.reply()).text != "old"
