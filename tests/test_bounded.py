"""Law 8: disk, memory, connections and waiters are bounded, whatever visitors ask for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from bench.many_urls import MIB, run
from isr_proxy.core.key import PLAIN, Key
from isr_proxy.serve import hit_for_pass
from isr_proxy.serve.hit_for_pass import PASS_SECONDS, Remembered
from tests.engine.conftest import Start, start
from tests.harness import Proxy, config, eventually, running
from tests.scripted_origin import ScriptedOrigin, Wait, page

__all__ = ["start"]  # the fixture of the engine's tests

ROUTE = "- {match: '/**', revalidate: 10s}"


@pytest.mark.slow
def test_law_8_many_urls_fill_neither_disk_nor_memory(tmp_path: Path) -> None:
    result = run(4_000, 8 * MIB, tmp_path, samples=8)
    assert result.problems() == []
    assert result.disk_max > 6 * MIB  # it was full, so something had to go
    assert result.samples[-1].disk_bytes > 6 * MIB  # and it is still used


async def test_law_8_the_origin_sees_no_more_connections_than_allowed(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    release = asyncio.Event()
    paths = [f"/{number}" for number in range(30)]
    for path in paths:
        origin.on(path, [Wait(release), *page(path)])
    text = config(origin.url, tmp_path / "store", ROUTE).replace("origin: {", "origin: {max_connections: 5, ")
    async with running(text) as proxy:
        visitors = [await proxy.visitor() for _ in paths]
        for visitor, path in zip(visitors, paths, strict=True):
            visitor.send(path)
        await origin.received(5)
        await eventually(lambda: len(proxy.worker.engine.flights) == len(paths))
        release.set()
        replies = await asyncio.gather(*(visitor.reply() for visitor in visitors))
        assert [reply.text for reply in replies] == paths
        assert (origin.concurrent_max, origin.connections) == (5, 5)


async def test_law_8_more_waiters_than_allowed_are_told_to_come_back(
    start: Start, origin: ScriptedOrigin
) -> None:
    release = asyncio.Event()
    origin.on("/p", [Wait(release), *page("one")])
    async with start(ROUTE, more="limits: {max_waiters: 3}\n") as proxy:
        visitors = [await proxy.visitor() for _ in range(3)]
        for visitor in visitors:
            visitor.send("/p")
        await eventually(lambda: flying(proxy) == 3)
        busy = await proxy.get("/p")
        assert (busy.status, busy.headers["retry-after"]) == (503, "1")
        release.set()
        replies = await asyncio.gather(*(visitor.reply() for visitor in visitors))
        assert {(reply.status, reply.text) for reply in replies} == {(200, "one")}


def flying(proxy: Proxy) -> int:
    """Return how many visitors wait for /p."""
    key = Key("http", "site.example", "/p", None)
    flight = proxy.worker.engine.flights.find(key.digest + PLAIN.digest)
    return 0 if flight is None else flight.waiters


def test_law_8_hit_for_pass_forgets_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hit_for_pass, "_MAX_KEYS", 100)
    passes = Remembered(PASS_SECONDS)
    for number in range(1000):
        passes.remember(number.to_bytes(4), 0.0, 7)
    held = [number for number in range(1000) if passes.holds(number.to_bytes(4), 1.0) == 7]
    assert held == list(range(900, 1000))
