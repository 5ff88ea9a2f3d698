"""Ranges and whole pages in any order, with purges, restarts, new versions: always exactly the right bytes.

The worker, its sockets, its store and the origin are real; only the clock is not. Each version of a page has
its own random bytes, length and ETag, so an answer that mixes two, or is off by one, cannot look right.
"""

from __future__ import annotations

import asyncio
import random
import re
import shutil
import tempfile
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule

from isr_proxy.core.purges import Scope, Selector, Strength
from tests.harness import FakeClock, Proxy, Reply, config, running
from tests.ranging_origin import answer
from tests.scripted_origin import Exchange, ScriptedOrigin, chunked, head, page

T = TypeVar("T")
TTL = 60.0
MAX_ENTRY = 220
ROUTES = """\
- {match: /isr, revalidate: 60s}
- {match: /obeyed, revalidate: origin}
"""
PATHS = ("/isr", "/obeyed")


class Mood(Enum):
    """How the origin answers."""

    RANGING = "gives parts"
    WHOLE = "gives all of it, whatever the range"
    UNKNOWN_LENGTH = "gives all of it in chunks"
    CARELESS = "gives parts, whatever If-Range says"
    CUT = "breaks off in the middle"


@dataclass
class Site:
    """One page at the origin, and what visitors may still see of it."""

    versions: list[bytes] = field(default_factory=list)
    replaced_at: list[float] = field(default_factory=list)  # of each version but the last
    oldest: int = 0  # a purge said: nothing older than this

    def publish(self, body: bytes, now: float) -> None:
        if self.versions:
            self.replaced_at.append(now)
        self.versions.append(body)

    def allowed(self, now: float, *, is_stale_served: bool) -> set[int]:
        """Return the versions that may be seen: what was replaced may be fresh for as long as the ttl."""
        latest = len(self.versions) - 1
        kept = {place for place, at in enumerate(self.replaced_at) if is_stale_served or now < at + TTL}
        return {place for place in {*kept, latest} if place >= self.oldest}


@dataclass(frozen=True)
class Ask:
    """A request: `spec` None is one for all of it."""

    spec: str | None
    if_range: int | None = None  # the version that the visitor says he has

    def headers(self) -> dict[str, str]:
        said = {} if self.spec is None else {"Range": f"bytes={self.spec}"}
        return said if self.if_range is None else {**said, "If-Range": f'"{self.if_range}"'}

    def slice_of(self, body: bytes) -> tuple[int, int]:
        """Return start and stop; an empty slice where nothing is there."""
        first, _, last = (self.spec or "0-").partition("-")
        if not first:
            return max(0, len(body) - int(last)), len(body)
        return int(first), min(int(last) + 1, len(body)) if last else len(body)


PLACES = st.integers(0, 330)
SPECS = st.one_of(
    st.none(),
    st.builds(lambda first, size: f"{first}-{first + size}", PLACES, st.integers(0, 150)),
    st.builds(lambda first: f"{first}-", PLACES),
    st.builds(lambda size: f"-{size}", PLACES),
)
ASKS = st.builds(Ask, SPECS, st.one_of(st.none(), st.none(), st.none(), st.integers(0, 3)))
VISITS = st.lists(st.tuples(st.sampled_from(PATHS), ASKS), min_size=1, max_size=4)


class PartsMachine(RuleBasedStateMachine):
    """One proxy, one origin, a page on each kind of route."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.random = random.Random(0)
        self.directory = Path(tempfile.mkdtemp(prefix="isr-parts-"))
        self.clock = FakeClock()
        self.mood = Mood.RANGING
        self.sites = {path: Site() for path in PATHS}
        for path in PATHS:
            self._publish(path, 150)
        self.run(self._start())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    async def _start(self) -> None:
        self.origin = ScriptedOrigin()
        await self.origin.__aenter__()
        for path in PATHS:
            self.origin.on(path, self._script)
        await self._start_proxy()

    async def _start_proxy(self) -> None:
        text = config(self.origin.url, self.directory, ROUTES, max_entry=str(MAX_ENTRY))
        self.context = running(text, self.clock)
        self.proxy: Proxy = await self.context.__aenter__()

    async def _script(self, exchange: Exchange) -> None:
        request, site = exchange.request, self.sites[exchange.request.path]
        body, etag = site.versions[-1], f'"{len(site.versions) - 1}"'
        said = {"ETag": etag, "Cache-Control": "max-age=60, must-revalidate", "Content-Type": "video/mp4"}
        if self.mood is Mood.CARELESS:
            request.headers = [pair for pair in request.headers if pair[0] != "if-range"]
        if self.mood in (Mood.WHOLE, Mood.UNKNOWN_LENGTH):
            await exchange.run(page(body, said) if self.mood is Mood.WHOLE else chunked(body, headers=said))
            return
        status, extra, content = answer(request, body, said)
        length: Mapping[str, str] = {} if status == 304 else {"Content-Length": str(len(content))}
        whole = head(status, {**said, **extra, **length}) + content
        is_cut = self.mood is Mood.CUT and len(content) > 1
        await exchange.send(whole[: -len(content) // 2] if is_cut else whole)
        if is_cut:
            exchange.close()

    def teardown(self) -> None:
        try:
            self.run(self._stop())
        finally:
            self.runner.close()
            shutil.rmtree(self.directory)

    async def _stop(self) -> None:
        await self.context.__aexit__(None, None, None)
        await self.origin.__aexit__(None, None, None)

    def _publish(self, path: str, size: int) -> None:
        self.sites[path].publish(self.random.randbytes(size), self.clock())

    # --- what happens ---

    @rule(visits=VISITS)
    def visit(self, visits: list[tuple[str, Ask]]) -> None:
        """Ask, all at the same time."""
        self.run(self._visit(visits))

    @rule(path=st.sampled_from(PATHS), size=st.integers(1, 320), visits=VISITS)
    def publish(self, path: str, size: int, visits: list[tuple[str, Ask]]) -> None:
        self.clock.advance(0.001)
        self._publish(path, size)
        self.run(self._visit(visits))

    @rule(seconds=st.sampled_from([1.0, 30.0, 61.0]), visits=VISITS)
    def time_passes(self, seconds: float, visits: list[tuple[str, Ask]]) -> None:
        self.clock.advance(seconds)
        self.run(self._visit(visits))

    @rule(path=st.sampled_from(PATHS), strength=st.sampled_from(Strength), visits=VISITS)
    def purge(self, path: str, strength: Strength, visits: list[tuple[str, Ask]]) -> None:
        self.clock.advance(0.001)
        selector = Selector(Scope.PATH, path, None, strength)
        self.run(self.proxy.worker.purges.append((selector,), now=self.clock()))
        site = self.sites[path]
        if strength is Strength.HARD or path == "/obeyed":
            site.oldest = len(site.versions) - 1
        self.run(self._visit(visits))

    @rule(visits=VISITS)
    def restart(self, visits: list[tuple[str, Ask]]) -> None:
        self.run(self._restart())
        self.run(self._visit(visits))

    async def _restart(self) -> None:
        await self.proxy.settled()
        await self.context.__aexit__(None, None, None)
        await self._start_proxy()

    @rule(mood=st.sampled_from([Mood.RANGING, *Mood]))
    def origin_changes(self, mood: Mood) -> None:
        self.mood = mood

    # --- what must be so ---

    async def _visit(self, visits: list[tuple[str, Ask]]) -> None:
        replies = await asyncio.gather(*(self.proxy.get(path, ask.headers()) for path, ask in visits))
        await self.proxy.settled()
        for (path, ask), reply in zip(visits, replies, strict=True):
            self._check(path, ask, reply)

    def _check(self, path: str, ask: Ask, reply: Reply) -> None:
        site = self.sites[path]
        allowed = site.allowed(self.clock(), is_stale_served=path == "/isr")
        match reply.status:
            case 200:
                body = site.versions[_version(reply, allowed)]
                self._check_bytes(reply, body)
            case 206:
                version = _version(reply, allowed)
                start, stop = ask.slice_of(site.versions[version])
                assert ask.spec is not None
                is_careless = self.mood is Mood.CARELESS and reply.x_cache == "PASS"
                assert is_careless or ask.if_range in (None, version)
                whole = len(site.versions[version])
                assert reply.headers["content-range"] == f"bytes {start}-{stop - 1}/{whole}"
                self._check_bytes(reply, site.versions[version][start:stop])
            case 416:
                said = re.fullmatch(r"bytes \*/(\d+)", reply.headers["content-range"])
                assert said is not None
                sizes = {len(site.versions[place]) for place in allowed}
                assert int(said.group(1)) in sizes
                start, stop = ask.slice_of(bytes(int(said.group(1))))
                assert start >= stop
            case status:  # too large to replace a stored page that may not be served stale
                is_too_large = reply.headers["x-cache-reason"] == "too-large"
                assert is_too_large or (self.mood is Mood.CUT and status in (502, 503))

    def _check_bytes(self, reply: Reply, expected: bytes) -> None:
        if reply.is_whole:
            assert reply.body == expected
        else:
            assert self.mood is Mood.CUT
            assert expected.startswith(reply.body)
            assert reply.body != expected


def _version(reply: Reply, allowed: set[int]) -> int:
    """Read which version an answer is of; it must be one that may still be seen."""
    version = int(reply.headers["etag"].strip('"'))
    assert version in allowed
    return version


PartsMachine.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestEveryByteIsRight = PartsMachine.TestCase
