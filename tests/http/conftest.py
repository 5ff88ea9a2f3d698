"""A site for the tests of the standards: a scripted origin, a proxy that obeys it, a clock standing still."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import FakeClock, Proxy, Reply, config, running
from tests.http.attacking import ROUTES, Gullible, Scene
from tests.scripted_origin import Headers, Recorded, Script, ScriptedOrigin, page

# What the safe defaults keep back; everything here is a documented key of a route.
BY_THE_BOOK = """\
- match: /**
  revalidate: origin
  heuristic: all
  client_directives: honor
  request_cookie: store
  set_cookie: store
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

    async def is_reused(self, path: str, *, after: float = 0.0, headers: Mapping[str, str] = {}) -> bool:
        """Tell whether a second request is answered without asking the origin."""
        self.clock.advance(after)
        before = len(self.origin.requests)
        await self.get(path, headers)
        return len(self.origin.requests) == before

    async def keeps(self, headers: Headers, *, status: int = 200, after: float = 0.0) -> bool:
        """Tell whether a response with these headers is reused, so many seconds later."""
        path = f"/{len(self.origin.requests)}"
        self.on(path, page("kept", headers, status))
        await self.get(path)
        return await self.is_reused(path, after=after)

    def hits(self, path: str) -> int:
        """Return how often the origin was asked for a path."""
        return self.origin.hits(path)

    @property
    def last(self) -> Recorded:
        """The last request that the origin got."""
        return self.origin.requests[-1]


@pytest.fixture
def start(origin: ScriptedOrigin, tmp_path: Path, clock: FakeClock) -> Start:
    """Start a proxy on these routes; options as of `harness.config`."""

    def start(routes: str = BY_THE_BOOK, **options: str) -> AbstractAsyncContextManager[Proxy]:
        return running(config(origin.url, tmp_path / "store", routes, **options), clock)

    return start


# As above, but with the defaults that keep cookies apart.
COOKIES_APART = "- {match: /**, revalidate: origin, bypass: {headers: []}}"


@pytest.fixture
async def careful(start: Start, origin: ScriptedOrigin, clock: FakeClock) -> AsyncIterator[Site]:
    """A proxy whose defaults decide about cookies."""
    async with start(COOKIES_APART) as proxy:
        yield Site(origin, proxy, clock)


@pytest.fixture
async def site(start: Start, origin: ScriptedOrigin, clock: FakeClock) -> AsyncIterator[Site]:
    """A proxy that does what the standards allow at most."""
    async with start() as proxy:
        yield Site(origin, proxy, clock)


@pytest.fixture
async def scene(tmp_path: Path, clock: FakeClock) -> AsyncIterator[Scene]:
    """A proxy under attack, in front of an origin that believes everything."""
    async with (
        Gullible() as origin,
        running(config(origin.url, tmp_path / "store", ROUTES), clock) as proxy,
    ):
        yield Scene(origin, proxy)


@pytest.fixture
async def passing(start: Start, origin: ScriptedOrigin, clock: FakeClock) -> AsyncIterator[Site]:
    """A proxy that passes everything."""
    async with start(PASSING) as proxy:
        yield Site(origin, proxy, clock)
