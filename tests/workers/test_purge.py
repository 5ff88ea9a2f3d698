"""A purge that has returned has happened, in every worker (law 2)."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path

from tests.harness import Visitor
from tests.scripted_origin import Exchange, ScriptedOrigin, Wait, head, page
from tests.workers.hosting import Hosted, hosted, text_of


class Versions:
    """An origin whose page says how often it was changed."""

    def __init__(self, headers: dict[str, str] | None = None) -> None:
        self.number = 0
        self._headers = headers or {}

    async def __call__(self, exchange: Exchange) -> None:
        body = str(self.number).encode()
        await exchange.send(head(200, {**self._headers, "Content-Length": str(len(body))}) + body)


async def reads(visitor: Visitor, since: list[int], old: list[int], until: asyncio.Event) -> int:
    """Read again and again; notes what is older than what was purged before it was asked for."""
    count = 0
    while not until.is_set():
        least = since[0]
        number = int((await visitor.get("/p")).text)
        if number < least:
            old.append(number)
        count += 1
    return count


async def purge_under_load(host: Hosted, versions: Versions, purge: object, *, times: int = 15) -> None:
    visitors = await host.visitors(40)
    since, old, until = [0], list[int](), asyncio.Event()
    readers = [asyncio.ensure_future(reads(visitor, since, old, until)) for visitor in visitors]
    for _ in range(times):
        versions.number += 1
        status, said = await host.call("POST", "/v1/purge", purge)
        assert status == 200, said
        since[0] = versions.number
        await asyncio.sleep(0.05)
    until.set()
    counts = await asyncio.gather(*readers)
    assert old == []
    assert min(counts) > 0


async def test_law_2_no_worker_serves_what_was_purged_before_it_was_asked(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    versions = Versions()
    origin.on("/p", versions)
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        await purge_under_load(host, versions, {"paths": ["/p"]})
        assert origin.hits("/p") <= 32  # one for each purge, or two where it flew already


async def test_law_2_a_purge_by_tag_reaches_every_worker(origin: ScriptedOrigin, tmp_path: Path) -> None:
    versions = Versions({"Cache-Tag": "news"})
    origin.on("/p", versions)
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        await purge_under_load(host, versions, {"tags": ["news"]})


async def test_law_2_an_older_fetch_of_another_worker_does_not_hold_up_a_younger_one(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    never = asyncio.Event()
    origin.on("/p", [Wait(never), *page("old")], page("new"))
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        visitors = await host.visitors(40)
        visitors[0].send("/p")
        await host.is_flying(1)
        assert (await host.call("POST", "/v1/purge", {"paths": ["/p"]}))[0] == 200
        async with asyncio.timeout(10):
            assert {(await visitor.get("/p")).text for visitor in visitors[1:]} == {"new"}
        assert origin.hits("/p") == 2
        never.set()
        assert (await visitors[0].reply()).text == "old"  # who asked before the purge
        assert {(await visitor.get("/p")).text for visitor in visitors} == {"new"}
        assert origin.hits("/p") == 2


async def test_law_2_a_worker_that_slept_through_a_purge_goes_by_it_when_it_wakes(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    versions = Versions()
    origin.on("/p", versions)
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        visitors = await host.visitors(40)
        assert {(await visitor.get("/p")).text for visitor in visitors} == {"0"}
        speaker = await host.speaker()
        sleeper, mine = next((pid, mine) for pid, mine in host.serving(visitors).items() if pid != speaker)
        host.kill(sleeper, signal.SIGSTOP)
        try:
            versions.number = 1
            began_at = time.monotonic()
            assert (await host.call("POST", "/v1/purge", {"all": True}))[0] == 200
            assert time.monotonic() - began_at < 15
            mine[0].send("/p")
        finally:
            os.kill(sleeper, signal.SIGCONT)
        assert (await mine[0].reply()).text == "1"


async def test_law_2_a_worker_that_is_replaced_knows_what_was_purged(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    versions = Versions()
    origin.on("/p", versions)
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        visitors = await host.visitors(40)
        assert {(await visitor.get("/p")).text for visitor in visitors} == {"0"}
        versions.number = 1
        for round_ in range(1, 3):
            speaker = await host.speaker()
            host.kill(next(pid for pid in host.pids if pid != speaker))
            assert (await host.call("POST", "/v1/purge", {"paths": ["/p"]}))[0] == 200
            await host.all_ready(round_)
        again = await host.visitors(40)
        assert {(await visitor.get("/p")).text for visitor in again} == {"1"}


async def test_purge_on_the_main_port_counts_what_all_workers_stored(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    token = "t" * 32
    origin.on("/p", page("one"))
    text = text_of(origin.url, tmp_path / "store").replace(
        "admin: {listen: 127.0.0.1:0}",
        f"admin: {{listen: 127.0.0.1:0, token: {token}, purge_method: true}}",
    )
    async with hosted(text, tmp_path) as host:
        async with asyncio.timeout(20):
            for visitor, *_ in host.serving(await host.visitors(40)).values():
                await visitor.get("/p")
                await host.is_flying(0, token)  # it is stored
                reply = await visitor.get("/p", {"Authorization": f"Bearer {token}"}, method="PURGE")
                assert (reply.status, '"matched": 1' in reply.text) == (200, True), reply.text
        assert origin.hits("/p") == 4


async def reads_through_deaths(host: Hosted, since: list[int], old: list[int], until: asyncio.Event) -> int:
    """Read again and again, on a new connection whenever the worker of this one has died."""
    count, visitor = 0, await Visitor.connect(host.url)
    while not until.is_set():
        least = since[0]
        try:
            number = int((await visitor.get("/p")).text)
        except (ConnectionError, asyncio.IncompleteReadError):
            await visitor.close()
            visitor = await Visitor.connect(host.url)
            continue
        if number < least:
            old.append(number)
        count += 1
    await visitor.close()
    return count


async def test_law_2_holds_while_workers_die(origin: ScriptedOrigin, tmp_path: Path) -> None:
    versions = Versions()
    origin.on("/p", versions)
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        since, old, until = [0], list[int](), asyncio.Event()
        readers = [asyncio.ensure_future(reads_through_deaths(host, since, old, until)) for _ in range(24)]
        speaker = await host.speaker()
        for number in range(1, 13):
            if number % 4 == 0:
                host.kill(next(pid for pid in host.pids if pid != speaker))
            versions.number = number
            assert (await host.call("POST", "/v1/purge", {"paths": ["/p"]}))[0] == 200
            since[0] = number
            await asyncio.sleep(0.05)
        until.set()
        assert min(await asyncio.gather(*readers)) > 0
        assert old == []
        assert (await host.status())["worker_restarts"] == 3
