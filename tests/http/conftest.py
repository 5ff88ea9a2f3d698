"""A site for the tests of the standards: a scripted origin, a proxy that obeys it, a clock standing still."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import FakeClock, Proxy, Reply, config, running
from tests.scripted_origin import Headers, Recorded, Script, ScriptedOrigin, page

# What the safe defaults keep back; everything here is a documented key of a route.
BY_THE_BOOK = """\
- match: /**
  revalidate: origin
  client_directives: honor
  bypass: {headers: []}
"""

# Nothing is looked up or stored: the visitor's own request, and the origin's own answer.
PASSING = "- {match: /**, revalidate: 0}\n"

Start = Callable[..., AbstractAsyncContextManager[Proxy]]


@dataclass
class Site:
    """What a test does: script the origin, ask the proxy, look at both."""

    origin: ScriptedOrigin
    proxy: Proxy
    clock: FakeClock

    def on(self, path: str, *scripts: Script) -> None:
        """Script a path; the last script repeats."""
        self.origin.on(path, *scripts)

    def says(self, path: str, *headers: Headers, status: int = 200) -> None:
        """Have the origin answer with these headers in turn; bodies are `1`, `2`, ..."""
        scripts = [page(str(place), each, status) for place, each in enumerate(headers, 1)]
        self.origin.on(path, *scripts)

    async def get(self, path: str, headers: Mapping[str, str] = {}, *, method: str = "GET") -> Reply:
        """Ask on a connection of its own, and wait until all that this set going has ended."""
        reply = await self.proxy.get(path, headers, method=method)
        await self.proxy.settled()
        return reply

    def hits(self, path: str) -> int:
        """Return how often the origin was asked for a path."""
        return self.origin.hits(path)

    @property
    def last(self) -> Recorded:
        """The last request that the origin got."""
        return self.origin.requests[-1]


@pytest.fixture
async def origin() -> AsyncIterator[ScriptedOrigin]:
    async with ScriptedOrigin() as origin:
        yield origin


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def start(origin: ScriptedOrigin, tmp_path: Path, clock: FakeClock) -> Start:
    """Start a proxy on these routes; options as of `harness.config`."""

    def start(routes: str = BY_THE_BOOK, **options: str) -> AbstractAsyncContextManager[Proxy]:
        return running(config(origin.url, tmp_path / "store", routes, **options), clock)

    return start


@pytest.fixture
async def site(start: Start, origin: ScriptedOrigin, clock: FakeClock) -> AsyncIterator[Site]:
    """A proxy that does what the standards allow at most."""
    async with start() as proxy:
        yield Site(origin, proxy, clock)


@pytest.fixture
async def passing(start: Start, origin: ScriptedOrigin, clock: FakeClock) -> AsyncIterator[Site]:
    """A proxy that passes everything."""
    async with start(PASSING) as proxy:
        yield Site(origin, proxy, clock)
