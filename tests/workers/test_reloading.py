"""A new config for all workers at once, and numbers that are of all of them."""

from __future__ import annotations

import asyncio
import re
import signal
from pathlib import Path

from tests.harness import Visitor, eventually
from tests.scripted_origin import ScriptedOrigin, page
from tests.workers.hosting import Hosted, hosted, text_of
from tests.workers.test_replacing import asks_anew, reads


async def ttls(visitors: list[Visitor]) -> set[str]:
    return {(await visitor.get("/p")).headers["cache-control"] for visitor in visitors}


def with_ttl(text: str, word: str) -> str:
    route = "- {match: '/**', revalidate: 10s, client_cache_control: '%s'}"
    return text.replace("- {match: '/**', revalidate: 10s}", route % word)


async def test_a_reload_reaches_every_worker_and_fails_nobody(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.on("/p", page("one"))
    text = text_of(origin.url, tmp_path / "store")
    async with hosted(text, tmp_path) as host:
        visitors = await host.visitors(40)
        until = asyncio.Event()
        working = [asyncio.ensure_future(reads(one, until)) for one in visitors[:20]]
        working += [asyncio.ensure_future(asks_anew(host, until)) for _ in range(4)]
        for number in range(5):
            host.config.write_text(with_ttl(text, f"max-age={number}"))
            assert (await host.call("POST", "/v1/reload"))[0] == 200
            assert await ttls(visitors[20:]) == {f"max-age={number}"}
        until.set()
        assert min(await asyncio.gather(*working)) > 0


async def test_a_signal_reloads_all(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.on("/p", page("one"))
    text = text_of(origin.url, tmp_path / "store")
    async with hosted(text, tmp_path) as host:
        visitors = await host.visitors(40)
        host.config.write_text(with_ttl(text, "max-age=7"))
        host.process.send_signal(signal.SIGHUP)
        await eventually(lambda: len(host.lines("config reloaded")) == 4)
        assert await ttls(visitors) == {"max-age=7"}


async def test_a_bad_config_changes_nothing_anywhere_and_is_told_once(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.on("/p", page("one"))
    text = with_ttl(text_of(origin.url, tmp_path / "store"), "max-age=1")
    async with hosted(text, tmp_path) as host:
        visitors = await host.visitors(40)
        host.config.write_text(
            with_ttl(text_of(origin.url, tmp_path / "store"), "max-age=2") + "nonsense: 1\n"
        )
        status, said = await host.call("POST", "/v1/reload")
        assert status == 422
        assert "nonsense" in str(said["errors"])
        assert len(host.lines("config not reloaded, the old one stays")) == 1
        host.kill(host.pids[-1])
        await host.all_ready(1)  # and whoever is started now has the old one too
        visitors = await host.visitors(40)
        assert await ttls(visitors) == {"max-age=1"}


async def test_a_successor_has_the_config_of_the_last_reload(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.on("/p", page("one"))
    text = text_of(origin.url, tmp_path / "store")
    async with hosted(text, tmp_path) as host:
        host.config.write_text(with_ttl(text, "max-age=3"))
        status, said = await host.call("POST", "/v1/reload")
        assert (status, said["needs_restart"]) == (200, [])
        host.kill(host.pids[-1])
        await host.all_ready(1)
        assert await ttls(await host.visitors(40)) == {"max-age=3"}


async def test_what_needs_a_restart_does_not_keep_a_successor_from_starting(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.on("/p", page("one"))
    text = text_of(origin.url, tmp_path / "store")
    async with hosted(text, tmp_path) as host:
        more = text.replace("listen: 127.0.0.1:0\n", "listen: ['127.0.0.1:1', '127.0.0.1:2']\n", 1)
        more = with_ttl(more.replace(str(tmp_path / "store"), str(tmp_path / "elsewhere")), "max-age=5")
        host.config.write_text(more)
        status, said = await host.call("POST", "/v1/reload")
        assert (status, len(said["needs_restart"])) == (200, 2)
        host.kill(host.pids[-1])
        await host.all_ready(1)
        assert await ttls(await host.visitors(40)) == {"max-age=5"}


async def test_what_needs_a_restart_is_said(origin: ScriptedOrigin, tmp_path: Path) -> None:
    text = text_of(origin.url, tmp_path / "store")
    async with hosted(text, tmp_path) as host:
        host.config.write_text(text.replace("workers: 4", "workers: 2"))
        assert (await host.call("POST", "/v1/reload"))[1]["needs_restart"] == [
            "workers: 4 -> 2 needs a restart"
        ]


# --- numbers ---


async def totals(host: Hosted) -> dict[str, float]:
    """Return everything that must only grow."""
    _, text = await host.call("GET", "/metrics")
    lines = [line.rsplit(" ", 1) for line in str(text).splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines if re.search(r"_(total|count|sum|bucket)\b", name)}


async def test_numbers_are_of_all_workers_and_never_go_back(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.on("/p", page("one"))
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        visitors = await host.visitors(40)
        await visitors[0].get("/p")
        await host.is_flying(0)  # it is stored, so the others hit
        for visitor in visitors[1:]:
            await visitor.get("/p")
        before = await totals(host)
        answered = 'isr_proxy_request_duration_seconds_count{result="HIT"}'
        assert before[answered] == 39
        assert before['isr_proxy_regenerations_total{outcome="stored",route="/**"}'] == 1
        for replaced, pid in enumerate(host.pids, start=1):
            host.kill(pid)
            await host.all_ready(replaced)
            now = await totals(host)
            assert {name: (value, now.get(name)) for name, value in before.items() if now[name] < value} == {}
            before = now
        for visitor in await host.visitors(40):
            await visitor.get("/p")
        after = await totals(host)
        assert after[answered] >= before[answered] + 39
        assert after["isr_proxy_worker_restarts_total"] == 4
        status = await host.status()
        assert (status["workers"], status["workers_alive"], status["worker_restarts"]) == (4, 4, 4)


async def test_events_are_of_all_workers(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.on("/p", page("one"))
    async with hosted(text_of(origin.url, tmp_path / "store"), tmp_path) as host:
        visitors = await host.visitors(40)
        watcher = await Visitor.connect(host.admin)
        watcher.send("/v1/events", {"Host": "localhost"})
        await watcher.reader.readuntil(b"\r\n\r\n")
        for visitor in visitors:
            await visitor.get("/p")
        seen = 0
        async with asyncio.timeout(10):
            while seen < 40:
                seen += (await watcher.reader.readuntil(b"\n\n")).count(b"event: visit")
        await watcher.close()
