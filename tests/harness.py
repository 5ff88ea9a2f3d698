"""The proxy under test: the real worker, on real sockets, with a clock that only tests move.

`Proxy` starts a Worker from YAML, as an operator would write it; `Visitor` speaks raw HTTP/1.1, so that a
test sees the bytes a browser would.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import indent
from urllib.parse import urlsplit

from isr_proxy.run.config import parse
from isr_proxy.run.worker import Worker

START = 1_800_000_000.0  # a Friday in 2027


class FakeClock:
    """Unix time that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


@dataclass(frozen=True)
class Reply:
    """One response as it came; header names in lower case, repeated lines joined by a comma."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    is_whole: bool = True
    interim: tuple[int, ...] = ()
    trailers: Mapping[str, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def x_cache(self) -> str:
        return self.headers.get("x-cache", "")

    @property
    def cache_status(self) -> str:
        return self.headers.get("cache-status", "")


@dataclass
class Visitor:
    """One connection to the proxy."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    host: str = "site.example"

    @classmethod
    async def connect(cls, url: str) -> Visitor:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**20)
        return cls(reader, writer)

    async def get(self, path: str, headers: Mapping[str, str] = {}, *, method: str = "GET") -> Reply:
        self.send(path, headers, method=method)
        return await self.reply(method=method)

    def send(self, path: str, headers: Mapping[str, str] = {}, *, method: str = "GET") -> None:
        lines = {"Host": self.host, **headers}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        self.writer.write(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode())

    async def reply(self, *, method: str = "GET") -> Reply:
        interim: list[int] = []
        while True:
            status, headers = await self._head()
            if status == 101 or status >= 200:
                break
            interim.append(status)
        if method == "HEAD" or status in (101, 204, 304):
            return Reply(status, headers, b"", interim=tuple(interim))
        trailers: dict[str, str] = {}
        body, is_whole = await self._body(headers, trailers)
        return Reply(status, headers, body, is_whole, tuple(interim), trailers)

    async def _head(self) -> tuple[int, dict[str, str]]:
        raw = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = raw.split("\r\n")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            if colon:
                name = name.lower()
                headers[name] = f"{headers[name]}, {value.strip()}" if name in headers else value.strip()
        return int(first.split(" ")[1]), headers

    async def _body(self, headers: Mapping[str, str], trailers: dict[str, str]) -> tuple[bytes, bool]:
        try:
            if headers.get("transfer-encoding") == "chunked":
                return await self._chunked(trailers)
            if "content-length" in headers:
                return await self.reader.readexactly(int(headers["content-length"])), True
            return await self.reader.read(), True
        except asyncio.IncompleteReadError as error:
            return error.partial, False
        except ConnectionError:
            return b"", False

    async def _chunked(self, trailers: dict[str, str]) -> tuple[bytes, bool]:
        body = b""
        try:
            while size := int(await self.reader.readuntil(b"\r\n"), 16):
                body += await self.reader.readexactly(size)
                await self.reader.readexactly(2)
            while line := (await self.reader.readuntil(b"\r\n"))[:-2].decode("latin-1"):
                name, _, value = line.partition(":")
                trailers[name.lower()] = value.strip()
        except (asyncio.IncompleteReadError, ConnectionError):
            return body, False
        return body, True

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass

    def reset(self) -> None:
        """Hang up without a goodbye."""
        self.writer.transport.abort()


@dataclass
class Proxy:
    """A running worker and what tests do to it."""

    worker: Worker
    clock: FakeClock
    visitors: list[Visitor] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.worker.urls[0]

    async def visitor(self) -> Visitor:
        visitor = await Visitor.connect(self.url)
        self.visitors.append(visitor)
        return visitor

    async def get(self, path: str, headers: Mapping[str, str] = {}, *, method: str = "GET") -> Reply:
        """Ask on a connection of its own."""
        visitor = await self.visitor()
        try:
            return await visitor.get(path, headers, method=method)
        finally:
            await visitor.close()
            self.visitors.remove(visitor)

    async def waiting(self, count: int) -> None:
        """Wait until so many visitors wait for fetches, leaders included."""
        flights = self.worker.engine.flights
        await eventually(lambda: sum(flight.waiters for flight in flights.in_flight()) == count)

    async def settled(self) -> None:
        """Wait until no regeneration is under way."""
        while tasks := self.worker.engine.flights.tasks():
            await asyncio.wait(tasks)


def config(
    origin: str,
    store: Path,
    routes: str,
    *,
    timeout: str = "5s",
    regenerate_timeout: str = "20s",
    max_entry: str = "64MiB",
    origin_more: str = "",
    more: str = "",
) -> str:
    """Write the YAML of a test's proxy; `routes` is the list, `more` further top-level keys."""
    return (
        "listen: 127.0.0.1:0\nadmin: {listen: 127.0.0.1:0}\nlog: {access: false, level: error}\n"
        f"origin: {{url: '{origin}', timeout: {timeout}, regenerate_timeout: {regenerate_timeout},"
        f" {origin_more}}}\n"
        f"store: {{path: '{store}', fsync: false, max_entry: {max_entry}}}\n{more}"
        f"routes:\n{indent(routes, '  ')}\n"
    )


@asynccontextmanager
async def running(text: str, clock: FakeClock | None = None) -> AsyncIterator[Proxy]:
    """Run a worker on this config."""
    moved = clock or FakeClock()
    settings = parse(text, file="test.yaml", environ={})
    proxy = Proxy(await Worker.start(settings, now=moved), moved)
    try:
        yield proxy
    finally:
        for visitor in proxy.visitors:
            visitor.writer.close()
        await proxy.worker.stop(drain=1.0)


async def eventually(condition: object, *, within: float = 5.0) -> None:
    """Wait until a callable is true; for what another process or thread does."""
    assert callable(condition)
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)
