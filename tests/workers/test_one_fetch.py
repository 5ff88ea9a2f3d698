"""Many visitors, several workers, one fetch (law 3), whatever happens to whoever fetches."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from tests.harness import Reply, Visitor
from tests.scripted_origin import Close, ScriptedOrigin, Send, Wait, head, page
from tests.workers.hosting import hosted, text_of

VISITORS = 2000


async def ask_all(visitors: list[Visitor], path: str) -> list[asyncio.Future[Reply]]:
    """Send everybody's request; returns the replies to come."""
    for visitor in visitors:
        visitor.send(path)
    return [asyncio.ensure_future(visitor.reply()) for visitor in visitors]


async def test_law_3_two_thousand_visitors_of_a_cold_path_make_one_fetch(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    release = asyncio.Event()
    origin.on("/p", [Wait(release), *page("one")])
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        visitors = await host.visitors(VISITORS)
        replies = await ask_all(visitors, "/p")
        await host.is_flying(4)  # in every worker, of which one has the lease
        release.set()
        assert {(reply.status, reply.text) for reply in await asyncio.gather(*replies)} == {(200, "one")}
        assert origin.hits("/p") == 1


async def test_law_3_two_thousand_visitors_of_a_stale_path_make_one_fetch_and_none_waits(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    release = asyncio.Event()
    origin.on("/p", page("one"), [Wait(release), *page("two")])
    route = "- {match: '/**', revalidate: 2s}"
    async with hosted(text_of(origin.url, tmp_path / "store", route), tmp_path) as host:
        visitors = await host.visitors(VISITORS)
        await visitors[0].get("/p")
        await asyncio.sleep(2.1)  # the processes have their own clocks
        replies = await asyncio.gather(*await ask_all(visitors, "/p"))
        assert {(reply.text, reply.x_cache) for reply in replies} == {("one", "STALE")}
        await host.is_flying(4)
        release.set()
        await host.is_flying(0)
        assert origin.hits("/p") == 2
        assert {(await visitor.get("/p")).text for visitor in visitors[:100]} == {"two"}


async def test_law_3_what_failed_for_one_worker_is_not_asked_again_by_the_others(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    release = asyncio.Event()
    origin.on("/p", [Wait(release), Send(head(503, {"Content-Length": "0"}))])
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        replies = await ask_all(await host.visitors(100), "/p")
        await host.is_flying(4)
        release.set()
        assert all(reply.status >= 500 for reply in await asyncio.gather(*replies))
        assert origin.hits("/p") == 1


async def test_what_may_not_be_stored_is_asked_for_by_each_at_once(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    release = asyncio.Event()
    own = page("own", headers={"Cache-Control": "private"})
    origin.on("/p", [Wait(release), *own], own)
    route = "- {match: '/**', revalidate: origin}"
    async with hosted(text_of(origin.url, tmp_path / "store", route), tmp_path) as host:
        replies = await ask_all(await host.visitors(40), "/p")
        await host.is_flying(4)
        release.set()
        assert {reply.text for reply in await asyncio.gather(*replies)} == {"own"}
        assert origin.hits("/p") == 40


async def test_law_3_a_leader_that_is_killed_costs_one_more_fetch(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    never = asyncio.Event()
    origin.on("/p", [Wait(never), *page("lost")], page("two"))
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        visitors = await host.visitors(200)
        serving = host.serving(visitors)
        asked = await ask_all(visitors, "/p")
        replies = {id(visitor): reply for visitor, reply in zip(visitors, asked, strict=True)}
        await host.is_flying(4)
        (leader,) = host.asking(origin.url)
        lost = serving.pop(leader)
        host.kill(leader)
        answered = [replies[id(visitor)] for mine in serving.values() for visitor in mine]
        async with asyncio.timeout(10):
            assert {(await reply).text for reply in answered} == {"two"}
        assert origin.hits("/p") == 2
        cut_off = await asyncio.gather(*(replies[id(one)] for one in lost), return_exceptions=True)
        assert all(isinstance(reply, ConnectionError | asyncio.IncompleteReadError) for reply in cut_off)
        again = await asyncio.gather(*[(await host.visitor()).get("/p") for _ in lost])
        assert {reply.text for reply in again} == {"two"}
        assert origin.hits("/p") == 2
        never.set()


async def test_law_8_a_leader_that_is_stopped_holds_nobody_up_for_ever(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    never = asyncio.Event()
    origin.on("/p", [Wait(never), *page("lost")], page("two"))
    text = text_of(origin.url, tmp_path / "store").replace(
        "regenerate_timeout: 20s", "regenerate_timeout: 2s"
    )
    async with hosted(text, tmp_path) as host:
        visitors = await host.visitors(40)
        visitors[0].send("/p")
        await host.is_flying(1)
        (leader,) = host.asking(origin.url)
        serving = host.serving(visitors)
        host.kill(leader, signal.SIGSTOP)
        try:
            async with asyncio.timeout(10):
                asking = [one for pid, mine in serving.items() if pid != leader for one in mine]
                assert {reply.text for reply in await asyncio.gather(*await ask_all(asking, "/p"))} == {"two"}
            assert origin.hits("/p") <= 4  # each of the others
        finally:
            os.kill(leader, signal.SIGCONT)
        never.set()


async def test_what_is_too_large_is_asked_for_by_others_before_it_has_all_gone_out(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    never, large = asyncio.Event(), b"x" * 300_000
    start = Send(head(200, {"Content-Type": "text/html", "Transfer-Encoding": "chunked"}))
    piece = Send(b"%x\r\n" % len(large) + large + b"\r\n")
    origin.on("/p", [start, piece, Wait(never), Close()], page("small"))
    text = text_of(origin.url, tmp_path / "store").replace("max_entry: 64MiB", "max_entry: 256KiB")
    async with hosted(text, tmp_path) as host:
        visitors = await host.visitors(40)
        leader, *others = visitors
        leader.send("/p")
        await leader.reader.readexactly(200_000)
        mine = next(mine for mine in host.serving(visitors).values() if leader in mine)
        async with asyncio.timeout(10):
            replies = [(await one.get("/p")).text for one in others if one not in mine]
        assert set(replies) == {"small"}
        never.set()
