"""An origin with a page at /p, and a watched proxy in front of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from tests.harness import FakeClock, config, running
from tests.lanes.watching import ROUTE, Watched
from tests.pem import Authority
from tests.scripted_origin import ScriptedOrigin, page

Write = Callable[..., str]
Start = Callable[..., AbstractAsyncContextManager[Watched]]


@contextmanager
def nothing_raised() -> Iterator[None]:
    """See that no protocol raised into its transport, which would cut the connection and say little."""
    raised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: raised.append(context))
    yield
    assert raised == []


@pytest.fixture
def write(origin: ScriptedOrigin, tmp_path: Path) -> Write:
    """Write the config of a proxy with these routes; options as of `harness.config`."""

    def write(routes: str = ROUTE, **options: str) -> str:
        return config(origin.url, tmp_path / "store", routes, **options)

    return write


@pytest.fixture
def start(write: Write, clock: FakeClock, origin: ScriptedOrigin) -> Start:
    """Start a proxy on such a config."""
    origin.on("/p", page("a page"))

    @asynccontextmanager
    async def start(routes: str = ROUTE, **options: str) -> AsyncIterator[Watched]:
        with nothing_raised():
            async with running(write(routes, **options), clock) as proxy:
                yield Watched(proxy)

    return start


@pytest.fixture
async def lane(start: Start) -> AsyncIterator[Watched]:
    async with start() as watched:
        yield watched


@pytest.fixture(scope="session")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def both(
    ca: Authority, write: Write, clock: FakeClock, origin: ScriptedOrigin
) -> AsyncIterator[Watched]:
    """A watched proxy that speaks plain HTTP at its first address and TLS at its second."""
    origin.on("/p", page("a page"))
    pair = ca.sign("site.example")
    listen = f"listen: ['127.0.0.1:0', {{address: '127.0.0.2:0', tls: {pair.yaml()}}}]"
    with nothing_raised():
        async with running(write().replace("listen: 127.0.0.1:0", listen, 1), clock) as proxy:
            yield Watched(proxy)
