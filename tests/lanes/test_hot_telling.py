"""Metrics, access log and events of hot answers: the same as of those that were decided."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from isr_proxy.core.settings import LogFormat, LogSettings
from isr_proxy.serve.selection import Selection
from isr_proxy.serve.watchers import Watchers
from tests.lanes.conftest import Start
from tests.lanes.test_hot_answers import STRANGER, TRUSTED, visitor_from
from tests.lanes.watching import PAGE, Watched
from tests.lanes.world import Asked
from tests.scripted_origin import ScriptedOrigin, page

BROWSER = Asked("/p?x=1", ("User-Agent: a browser",))


class LogFile:
    """Where the access log of a watched proxy goes."""

    def __init__(self, lane: Watched, path: Path, *, name: str = "log") -> None:
        self._path = path / name
        self._observation = lane.proxy.worker.observation
        self._observation._fd = os.open(self._path, os.O_CREAT | os.O_WRONLY)
        self._observation.reconfigure(LogSettings(access=True, format=LogFormat.JSON))
        lane.hot.clear()

    def lines(self) -> list[dict[str, Any]]:
        """Close the log; returns its lines."""
        self._observation.reconfigure(LogSettings(access=False))
        os.close(self._observation._fd)
        return [json.loads(line) for line in self._path.read_text().splitlines()]


@pytest.fixture
def log(lane: Watched, tmp_path: Path) -> LogFile:
    return LogFile(lane, tmp_path)


def counts(lane: Watched) -> list[str]:
    """Return what Prometheus is told of hits."""
    of = ("requests_total", "answers_total", "response_bytes_total", "request_duration_seconds_count")
    rendered = lane.proxy.worker.observation.render().decode().splitlines()
    wanted = tuple(f"isr_proxy_{name}" for name in of)
    return sorted(line for line in rendered if line.startswith(wanted) and 'result="HIT"' in line)


async def traffic(lane: Watched) -> None:
    """Ask for answers of all kinds, most of them hot; a scrape in between takes nothing away."""
    visitor = await lane.visitor()
    for asked in (PAGE, Asked("/p", method="HEAD"), Asked("/missing"), Asked("/p", ('If-None-Match: "1"',))):
        for _ in range(6):
            await lane.ask(visitor, asked)
            await lane.proxy.settled()
            counts(lane)


async def test_law_10_hot_answers_are_counted_as_the_others_are(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/missing", page("nothing here", status=404))
    told = []
    for are_open in (True, False):
        async with start() as lane:
            origin.on("/p", page("a page", {"ETag": '"1"'}))
            await lane.purge(Selection(is_all=True))
            if not are_open:
                lane.close_lanes()
            await traffic(lane)
            told.append(counts(lane))
    assert told[0]
    assert told[0] == told[1]


async def test_law_10_each_hot_answer_counts_once(lane: Watched) -> None:
    visitor = await lane.learned()
    observation = lane.proxy.worker.observation
    before = observation.snapshot()
    for _ in range(7):
        assert await lane.is_hot(visitor)
    after = observation.snapshot()
    assert after.requests["HIT"] - before.requests["HIT"] == 7
    assert after.sent_bytes - before.sent_bytes == 7 * len("a page")
    assert observation.snapshot() == after


async def test_law_10_the_bodies_of_heads_and_304s_are_not_counted(
    lane: Watched, origin: ScriptedOrigin
) -> None:
    origin.on("/p", page("a page", {"ETag": '"1"'}))
    for asked in (Asked("/p", method="HEAD"), Asked("/p", ('If-None-Match: "1"',))):
        visitor = await lane.learned(asked)
        before = lane.proxy.worker.observation.snapshot().sent_bytes
        assert await lane.is_hot(visitor, asked)
        assert lane.proxy.worker.observation.snapshot().sent_bytes == before


async def test_each_hot_answer_has_its_line_in_the_access_log(lane: Watched, log: LogFile) -> None:
    visitor = await lane.learned(BROWSER)
    for _ in range(3):
        assert await lane.is_hot(visitor, BROWSER)
    lines = log.lines()
    assert len(lines) == 7
    hot = {name: value for name, value in lines[-1].items() if name != "timestamp"}
    assert hot == {
        "level": "info",
        "event": "request",
        "method": "GET",
        "host": "site.example",
        "path": "/p?x=1",
        "route": "/**",
        "status": 200,
        "x_cache": "HIT",
        "reason": "fresh",
        "bytes": 6,
        "ms": 0.0,
        "client": "127.0.0.1",
        "user_agent": "a browser",
    }
    stamps = [line["timestamp"] for line in lines]
    assert stamps == sorted(stamps)


async def test_the_log_names_each_visitor_by_his_own_address(lane: Watched, log: LogFile) -> None:
    asked = Asked("/p", ("User-Agent: the same",))
    await lane.learned(asked)
    for address in ("127.0.0.2", "127.0.0.3"):
        assert await lane.is_hot(await visitor_from(lane.proxy, address), asked)
    assert [line["client"] for line in log.lines()][-2:] == ["127.0.0.2", "127.0.0.3"]


FOR = Asked("/p", ("X-Forwarded-For: 192.0.2.7",))


async def test_law_4_the_log_believes_trusted_proxies_alone(start: Start, tmp_path: Path) -> None:
    async with start(more="trusted_proxies: [127.0.0.1/32]\n") as lane:
        log = LogFile(lane, tmp_path)
        visitors = [await visitor_from(lane.proxy, one) for one in (TRUSTED, STRANGER, "127.0.0.3")]
        for visitor in visitors[:2]:
            await lane.learned(FOR, visitor)
        for visitor in visitors:
            assert await lane.is_hot(visitor, FOR)
        assert [line["client"] for line in log.lines()][-3:] == ["192.0.2.7", STRANGER, "127.0.0.3"]


@pytest.mark.parametrize("said", ["127.0.0.4", "", ","])
async def test_law_4_a_proxy_that_names_nobody_is_the_client(said: str, start: Start, tmp_path: Path) -> None:
    async with start(more="trusted_proxies: [127.0.0.0/29]\n") as lane:
        log, asked = LogFile(lane, tmp_path), Asked("/p", (f"X-Forwarded-For: {said}",))
        await lane.learned(asked, await visitor_from(lane.proxy, "127.0.0.1"))
        before = len(lane.decided)
        other = await visitor_from(lane.proxy, "127.0.0.2")
        await lane.ask(other, asked)
        lane.hot.clear()
        await lane.ask(other, asked)
        hot, decided = [line["client"] for line in log.lines()][-2:]
        assert len(lane.decided) > before
        assert hot == decided


async def test_whoever_watches_sees_each_hot_answer(lane: Watched) -> None:
    visitor = await lane.learned()
    watchers: Watchers = lane.proxy.worker.operations.watchers
    with watchers.watching() as queue:
        await lane.learned(visitor=visitor)
        for _ in range(3):
            assert await lane.is_hot(visitor)
        seen = [queue.get_nowait() for _ in range(queue.qsize())]
    told = [(event["type"], event["url"], event["x_cache"]) for event in seen if event is not None]
    assert told == [("visit", "http://site.example/p", "HIT")] * 7
    await lane.learned(visitor=visitor)
    assert queue.empty()


async def test_who_begins_to_watch_misses_none(lane: Watched) -> None:
    visitor = await lane.learned()
    with lane.proxy.worker.operations.watchers.watching() as queue:
        await lane.ask(visitor)
        assert queue.qsize() == 1
        with lane.proxy.worker.operations.watchers.watching() as second:
            await lane.ask(visitor)
            assert (queue.qsize(), second.qsize()) == (2, 1)
        await lane.ask(visitor)
        assert queue.qsize() == 3
