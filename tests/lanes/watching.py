"""A proxy of which one can tell what its hot lane did not answer.

Knows how a head becomes known: it is asked for until nobody decides about it. Must not know what is
proved with that.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Coroutine
from typing import Any
from urllib.parse import urlsplit

from isr_proxy.core.purges import Strength
from isr_proxy.run.config import parse
from isr_proxy.serve.connection import Connection
from isr_proxy.serve.exchange import Exchange
from isr_proxy.serve.hot_lane import HotLane
from isr_proxy.serve.selection import Selection
from tests.harness import Proxy, Visitor, eventually
from tests.lanes.world import Asked, answer

PAGE = Asked("/p")
ROUTE = (
    "- {match: /pass/**, revalidate: 0}\n"
    "- {match: '/**', revalidate: 10s, stale_while_revalidate: 0, tags: [every]}"
)


class Watched:
    """`decided` has the target of every request that the hot lane did not answer."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.clock = proxy.clock
        self.decided: list[str] = []
        self._handle = proxy.worker.front.handle
        proxy.worker.front.handle = self._decide

    def _decide(self, exchange: Exchange) -> Coroutine[Any, Any, None] | None:
        self.decided.append(exchange.request.target)
        return self._handle(exchange)

    @property
    def hot(self) -> HotLane:
        assert self.proxy.worker.engine.hot is not None
        return self.proxy.worker.engine.hot

    @property
    def hits(self) -> int:
        """Return how many hits were counted, whichever lane answered."""
        return self.proxy.worker.observation.snapshot().requests["HIT"]

    def close_lanes(self) -> None:
        """Have all be answered by a task, on connections that begin from now on."""
        front = self.proxy.worker.front
        front.handle, front.hot = self.proxy.worker.engine.handle, None

    # --- visitors ---

    async def visitor(self) -> Visitor:
        return await self.proxy.visitor()

    async def secure_visitor(self, context: ssl.SSLContext) -> Visitor:
        """Connect to the second address, which speaks TLS."""
        parts = urlsplit(self.proxy.worker.urls[1])
        reader, writer = await asyncio.open_connection(
            parts.hostname, parts.port, ssl=context, server_hostname="site.example"
        )
        visitor = Visitor(reader, writer)
        self.proxy.visitors.append(visitor)
        return visitor

    async def met(self) -> tuple[Visitor, Connection]:
        """Connect a visitor; returns also the proxy's side of it."""
        before = set(self.proxy.worker.front.connections)
        visitor = await self.visitor()
        await eventually(lambda: self.proxy.worker.front.connections - before)
        (connection,) = self.proxy.worker.front.connections - before
        return visitor, connection

    async def ask(self, visitor: Visitor, asked: Asked = PAGE) -> bytes:
        """Write one head in one packet; returns the answer."""
        visitor.writer.write(asked.raw)
        return await answer(visitor, asked)

    async def learned(self, asked: Asked = PAGE, visitor: Visitor | None = None) -> Visitor:
        """Ask until the head is known; returns who asked."""
        visitor = visitor or await self.visitor()
        for _ in range(3):
            await self.ask(visitor, asked)
            await self.proxy.settled()
        assert await self.is_hot(visitor, asked)
        return visitor

    async def is_hot(self, visitor: Visitor, asked: Asked = PAGE) -> bool:
        """Ask, and tell whether nobody was asked to decide."""
        return (await self.told(visitor, asked))[1]

    async def told(self, visitor: Visitor, asked: Asked = PAGE) -> tuple[bytes, bool]:
        """Ask; returns the answer, and whether it was the hot lane's."""
        before = len(self.decided)
        heard = await self.ask(visitor, asked)
        await self.proxy.settled()
        return heard, heard != b"" and len(self.decided) == before

    async def burst(self, visitor: Visitor, *parts: bytes) -> None:
        """Write packets that the proxy reads one by one."""
        for part in parts:
            visitor.writer.write(part)
            await self.read()

    async def read(self) -> None:
        """Let the proxy read what was written."""
        for _ in range(5):
            await asyncio.sleep(0)

    # --- what changes an answer ---

    async def purge(self, selection: Selection, strength: Strength = Strength.HARD) -> None:
        await self.proxy.worker.operations.purge(selection, strength)

    async def regenerate(self, path: str) -> None:
        """Have a page fetched again, and wait until that has ended."""
        _, batch = await self.proxy.worker.operations.revalidate(Selection(paths=(path,)))
        await batch.ended()

    async def reload(self, text: str) -> None:
        self.proxy.worker._load = lambda: parse(text, file="test.yaml", environ={})
        await self.proxy.worker.reload()


def field(heard: bytes, name: bytes) -> bytes:
    """Return the one value of a response's header."""
    (value,) = (
        line.partition(b":")[2].strip()
        for line in heard.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
        if line.partition(b":")[0].lower() == name
    )
    return value


def body(heard: bytes) -> bytes:
    return heard.partition(b"\r\n\r\n")[2]
