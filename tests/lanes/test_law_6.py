"""The property: any stream of requests, cut anywhere, gets the same bytes with the lanes and without."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from isr_proxy.core.purges import Strength
from isr_proxy.serve.selection import Selection
from tests.harness import Visitor
from tests.lanes.world import CONFIGS, PATHS, Asked, World, world


class Step(Protocol):
    """Something that happens to a world."""

    async def run(self, talk: Talk) -> None: ...


_SETTLED = frozenset(PATHS) - {"/swr/a", "/private", "/headers"}
LINES = (
    (),
    ("Accept-Encoding: gzip",),
    ("Accept-Encoding: br, gzip;q=0.5", "Accept-Language: de"),
    ('If-None-Match: "0"',),
    ('If-None-Match: "1", "0-gzip"', "Accept-Encoding: gzip"),
    ("If-Modified-Since: Fri, 15 Jan 2027 08:00:05 GMT",),
    ("Accept-Language: en", "Cookie: visitor=1"),
    ("Range: bytes=0-9",),
    ("Cache-Control: no-cache",),
    ("Cache-Control: max-age=1",),
    ("Connection: close",),
    ("Content-Length: 0",),
)

requests = st.builds(
    Asked,
    st.sampled_from((*PATHS, "/honor")),
    st.sampled_from(LINES),
    st.sampled_from(("GET", "GET", "GET", "HEAD", "POST", "OPTIONS")),
    st.sampled_from(("1.1", "1.1", "1.1", "1.0")),
    st.sampled_from(("", "", "\r\n")),
)


class Talk:
    """One world, the connections to it, and every byte that came."""

    def __init__(self, of: World) -> None:
        self.world = of
        self.heard: list[bytes] = []
        self._visitors: dict[int, Visitor] = {}

    async def ask(self, connection: int, asked: Sequence[Asked], cuts: Sequence[int] = ()) -> None:
        """Ask over one of the connections, which is opened anew where it had ended."""
        visitor = self._visitors.get(connection) or await self.world.proxy.visitor()
        self._visitors[connection] = visitor
        self.heard.append(await self.world.ask(visitor, asked, cuts))
        if any(one.is_last for one in asked):
            del self._visitors[connection]
        await self.world.proxy.settled()


@dataclass(frozen=True)
class InTurn:
    """Ask the same again and again: the third answer is the hot lane's."""

    connection: int
    asked: Asked
    times: int
    cuts: Sequence[int] = ()

    async def run(self, talk: Talk) -> None:
        for _ in range(self.times):
            await talk.ask(self.connection, [self.asked], self.cuts)


@dataclass(frozen=True)
class Pipelined:
    """Ask without waiting for answers. What is fetched or stored meanwhile would be a matter of luck, so
    each was asked before, and what is fetched for every request is not."""

    connection: int
    asked: Sequence[Asked]
    cuts: Sequence[int]

    async def run(self, talk: Talk) -> None:
        kept = [one for one in self.asked if one.path in _SETTLED and not one.is_last]
        for one in kept:
            await talk.ask(self.connection, [one])
        if kept:
            await talk.ask(self.connection, kept, self.cuts)


@dataclass(frozen=True)
class Wait:
    seconds: float

    async def run(self, talk: Talk) -> None:
        talk.world.clock.advance(self.seconds)


@dataclass(frozen=True)
class Purge:
    """Purge, and sweep: whether a purged page is still there must not be a matter of luck."""

    selection: Selection
    strength: Strength

    async def run(self, talk: Talk) -> None:
        operations = talk.world.proxy.worker.operations
        await operations.purge(self.selection, self.strength)
        await operations.sweeper.caught_up(10.0)


@dataclass(frozen=True)
class Change:
    path: str

    async def run(self, talk: Talk) -> None:
        talk.world.change(self.path)


@dataclass(frozen=True)
class Reload:
    number: int

    async def run(self, talk: Talk) -> None:
        await talk.world.reload(self.number)


connections, cuts = st.integers(0, 1), st.lists(st.integers(1, 10_000), max_size=3)
selections = st.sampled_from(
    [*(Selection(paths=(path,)) for path in PATHS), Selection(tags=("of/a",)), Selection(is_all=True)]
)
steps = st.lists(
    st.one_of(
        st.builds(InTurn, connections, requests, st.integers(1, 5), st.just(()) | cuts),
        st.builds(Pipelined, connections, st.lists(requests, min_size=1, max_size=25), cuts),
        st.builds(Wait, st.sampled_from((0.25, 0.5, 1.0, 3.0, 9.5, 30.0))),
        st.builds(Purge, selections, st.sampled_from(Strength)),
        st.builds(Change, st.sampled_from(PATHS)),
        st.builds(Reload, st.integers(0, len(CONFIGS) - 1)),
    ),
    min_size=3,
    max_size=14,
)


MEMORIES = ("128MiB", "0")  # pages in the hot tier, and none: their bodies are read from files


async def heard(script: Sequence[Step], memory: str, *, lanes: bool) -> tuple[list[bytes], object]:
    """Run a script; returns every byte that came, and what was counted of it."""
    with TemporaryDirectory() as directory:
        async with world(Path(directory), lanes=lanes, memory=memory) as made:
            talk = Talk(made)
            for step in script:
                await step.run(talk)
            return talk.heard, made.proxy.worker.observation.snapshot()


@pytest.mark.slow
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps, st.sampled_from(MEMORIES))
def test_law_6_the_fast_paths_equal_the_slow_path(script: list[Step], memory: str) -> None:
    fast = asyncio.run(heard(script, memory, lanes=True))
    slow = asyncio.run(heard(script, memory, lanes=False))
    assert fast == slow


@pytest.mark.parametrize("lines", LINES, ids=str)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("memory", MEMORIES)
async def test_law_6_each_kind_of_request_on_each_page(
    lines: tuple[str, ...], method: str, memory: str
) -> None:
    script = [
        step
        for path in (*PATHS, "/honor")
        for step in (
            InTurn(0, Asked(path, lines, method), 4, ()),
            Wait(0.5),
            InTurn(0, Asked(path, lines), 2, ()),
        )
    ]
    assert await heard(script, memory, lanes=True) == await heard(script, memory, lanes=False)
