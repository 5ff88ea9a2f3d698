"""Workers that die, supervisors that die, and the end of both."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from pathlib import Path
from urllib.parse import urlsplit

from tests.harness import Visitor, eventually
from tests.scripted_origin import ScriptedOrigin, Wait, page
from tests.workers.hosting import Hosted, hosted, text_of


async def reads(visitor: Visitor, until: asyncio.Event) -> int:
    count = 0
    while not until.is_set():
        assert (await visitor.get("/p")).text == "one"
        count += 1
    return count


async def asks_anew(host: Hosted, until: asyncio.Event) -> int:
    """Ask again and again, each time on a connection of its own."""
    count = 0
    while not until.is_set():
        visitor = await Visitor.connect(host.url)
        assert (await visitor.get("/p", {"Connection": "close"})).text == "one"
        await visitor.close()
        count += 1
    return count


async def test_a_worker_that_is_killed_is_replaced_and_the_others_do_not_notice(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.on("/p", page("one"))
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        visitors = await host.visitors(40)
        for replaced in range(1, 3):
            serving = host.serving(visitors)
            victim = next(iter(serving))
            visitors = [one for pid, mine in serving.items() if pid != victim for one in mine]
            until = asyncio.Event()
            readers = [asyncio.ensure_future(reads(one, until)) for one in visitors]
            host.kill(victim)
            await host.all_ready(replaced)
            until.set()
            assert min(await asyncio.gather(*readers)) > 0
            await asyncio.gather(*(reads_once(host) for _ in range(40)))
        (first, second) = host.lines("a worker ended and is replaced")
        assert (first["code"], second["code"]) == (-9, -9)
        assert origin.hits("/p") <= 2


async def reads_once(host: Hosted) -> None:
    assert (await (await host.visitor()).get("/p")).text == "one"


async def test_who_connects_while_a_seat_is_empty_is_served_by_the_successor(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.on("/p", page("one"))
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        for pid in host.pids:
            host.kill(pid)
        await eventually(lambda: len(host.lines("a worker ended and is replaced")) == 4)
        async with asyncio.timeout(10):
            await asyncio.gather(*(reads_once(host) for _ in range(40)))


async def test_the_one_that_speaks_for_all_is_replaced_too(origin: ScriptedOrigin, tmp_path: Path) -> None:
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        before = await host.speaker()
        host.kill(before)
        await host.all_ready(1)
        assert await host.speaker() not in (before, 0)
        assert (await host.status())["store"]["is_writable"] is True


async def test_a_worker_that_cannot_live_is_replaced_ever_later(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    async with hosted(text_of(origin.url, tmp_path / "store", workers=2), tmp_path) as host:
        speaker = await host.speaker()
        for replaced in range(1, 4):
            (victim,) = [pid for pid in host.pids if pid != speaker]
            host.kill(victim)
            await host.all_ready(replaced)
        pauses = [line["pause"] for line in host.lines("a worker ended and is replaced")]
        assert pauses == [0.0, 0.5, 1.0]


async def test_while_a_seat_stays_empty_another_worker_serves_who_comes_there(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.on("/p", page("one"))
    async with hosted(text_of(origin.url, tmp_path / "store", workers=2), tmp_path) as host:
        speaker = await host.speaker()
        for replaced in range(1, 5):
            (victim,) = [pid for pid in host.pids if pid != speaker]
            host.kill(victim)
            if replaced < 4:
                await host.all_ready(replaced)
        await eventually(lambda: len(host.lines("a worker ended and is replaced")) == 4)
        await asyncio.gather(*(reads_once(host) for _ in range(40)))
        assert host.pids == [speaker], "the seat was still empty, for two seconds"
        await host.all_ready(4)
        assert len(host.serving(await host.visitors(40))) == 2


async def test_a_worker_that_is_told_to_end_is_replaced_without_a_failure(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.on("/p", page("one"))
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        until = asyncio.Event()
        await reads_once(host)
        askers = [asyncio.ensure_future(asks_anew(host, until)) for _ in range(8)]
        for replaced, pid in enumerate(host.pids, start=1):
            host.kill(pid, signal.SIGTERM)
            await host.all_ready(replaced)
        until.set()
        assert min(await asyncio.gather(*askers)) > 0
        assert {line["code"] for line in host.lines("a worker ended and is replaced")} == {0}


async def test_what_a_killed_worker_has_stored_is_found_listed_and_swept(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.on("/p", page("one"))
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        await reads_once(host)
        await host.is_flying(0)
        for pid in host.pids:  # whoever has stored it may not have written it down yet
            host.kill(pid)
        await host.all_ready(4)
        async with asyncio.timeout(10):
            while not (await host.status())["store"]["is_complete"]:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        _, said = await host.call("GET", "/v1/entries")
        assert [entry["url"] for entry in said["entries"]] == ["http://site.example/p"]
        assert (await host.call("POST", "/v1/purge", {"all": True}))[1]["matched"] == 1
        assert origin.hits("/p") == 1


async def test_workers_end_with_a_supervisor_that_is_killed(origin: ScriptedOrigin, tmp_path: Path) -> None:
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        workers = host.pids
        assert len(workers) == 4
        host.process.kill()
        await host.ended()
        await eventually(lambda: are_gone(workers), within=10.0)


async def test_term_answers_what_is_asked_and_ends_all(origin: ScriptedOrigin, tmp_path: Path) -> None:
    release = asyncio.Event()
    origin.on("/p", [Wait(release), *page("one")])
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        visitors = await host.visitors(40)
        workers = host.pids
        for visitor in visitors:
            visitor.send("/p")
        await host.is_flying(4)
        host.process.terminate()
        await eventually(lambda: is_refused(host.url))
        release.set()
        replies = await asyncio.gather(*(visitor.reply() for visitor in visitors))
        assert {(reply.text, reply.headers["connection"]) for reply in replies} == {("one", "close")}
        assert await host.ended() == 0
        assert are_gone(workers)


def are_gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def is_refused(url: str) -> bool:
    try:
        socket.create_connection((urlsplit(url).hostname, urlsplit(url).port), 1.0).close()
    except ConnectionRefusedError:
        return True
    return False


async def test_a_second_signal_ends_all_now(origin: ScriptedOrigin, tmp_path: Path) -> None:
    never = asyncio.Event()
    origin.on("/p", [Wait(never), *page("one")])
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        visitor = await host.visitor()
        visitor.send("/p")
        await host.is_flying(1)
        host.process.terminate()
        await eventually(lambda: is_refused(host.url))
        host.process.send_signal(signal.SIGINT)
        await host.ended(within=10.0)
        never.set()


async def test_an_end_in_order_leaves_a_catalog_that_is_believed(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.on("/p", page("one"))
    text = text_of(origin.url, tmp_path / "store")
    async with hosted(text, tmp_path) as host:
        await reads_once(host)
    async with hosted(text, tmp_path) as host:
        store = (await host.status())["store"]
        assert (store["is_complete"], store["entries"]) == (True, 1)
        await reads_once(host)
        assert origin.hits("/p") == 1


async def test_a_port_that_somebody_has_is_an_error(origin: ScriptedOrigin, tmp_path: Path) -> None:
    text = text_of(origin.url, tmp_path / "store")
    async with hosted(text, tmp_path) as host:
        (other := tmp_path / "other").mkdir()
        port = host.url.rsplit(":", 1)[1]
        taken = text_of(origin.url, other / "store").replace(
            "listen: 127.0.0.1:0\n", f"listen: 127.0.0.1:{port}\n", 1
        )
        assert "already in use" in await failing(taken, other)
        assert "is used by process" in await failing(text, other)
        os.kill(host.process.pid, 0)


async def failing(text: str, folder: Path) -> str:
    """Start what cannot start; returns its log."""
    try:
        async with hosted(text, folder):
            pass
    except AssertionError:
        pass
    return (folder / "hosted.log").read_text()
