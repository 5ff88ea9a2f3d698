"""The world of one input: the real worker, a visitor who sends it, and others who are honest.

A secret is in an honest exchange of another visitor, on the same worker and the same connections to the
origin. It must not be in anything that the hostile visitor gets, nor anything of his in what others get.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

import structlog

from isr_proxy.origin import pool
from isr_proxy.run.config import parse
from isr_proxy.run.worker import Worker
from isr_proxy.serve.connection import Connection
from tests.fuzz.memory import Finding, MemoryOrigin, MemoryTransport, honest_page
from tests.harness import FakeClock, config
from tests.http.attacking import FIELD_LINE

ROUTES: Final = """\
- {match: /isr/**, revalidate: 60s, stale_while_revalidate: 0, stale_if_error: 0}
- {match: /shared/**, revalidate: origin, client_directives: honor, stale_if_error: 0}
- {match: /pass/**, revalidate: 0}
- {match: /**, revalidate: origin, stale_if_error: 0}
"""
WAYS: Final = ("isr", "shared", "pass")
SECRET: Final = b"the-secret-of-somebody-else"
OUTPUT_BYTES_MAX: Final = 1024 * 1024
_ROUNDS: Final = 400  # of the loop, before real time is waited for
_SECONDS: Final = 5.0  # whatever takes longer hangs
_EPOCH: Final = 10_000.0  # more than is remembered of a failure, and the year 9999 stays far away


class World:
    """One worker for many inputs; what one of them left behind is too old for the next."""

    def __init__(self, worker: Worker, clock: FakeClock, origin: MemoryOrigin) -> None:
        self.worker = worker
        self.clock = clock
        self.origin = origin
        self.troubles: list[str] = []

    def renew(self) -> None:
        """Begin the next input."""
        self.clock.advance(_EPOCH)
        self.origin.scripts.clear()
        self.origin.seen.clear()
        self.origin.pages["/pass/secret"] = SECRET

    # --- who asks ---

    async def hostile(self, pieces: Iterable[bytes]) -> bytes:
        """Send these pieces, hang up, and return all that came back."""
        connection, got = self._connect()
        transport = connection.transport
        assert isinstance(transport, MemoryTransport)
        for piece in pieces:
            if transport.is_closed:
                break
            connection.data_received(piece)
            await asyncio.sleep(0)
        await self._until(lambda: transport.is_closed or connection.task is None or _is_starved(connection))
        await self._hang_up(connection, transport)
        await self.settled()
        if len(got) > OUTPUT_BYTES_MAX:
            raise Finding(f"{len(got)} bytes of output")
        return bytes(got)

    async def honest(self, target: str, *, body: bytes | None = None) -> None:
        """Ask as anybody does; the answer must be that of this target, to the byte."""
        connection, got = self._connect()
        transport = connection.transport
        assert isinstance(transport, MemoryTransport)
        connection.data_received(f"GET {target} HTTP/1.1\r\nHost: site.example\r\n\r\n".encode())
        await self._until(lambda: transport.is_closed or connection.task is None)
        await self._hang_up(connection, transport)
        await self.settled()
        head, _, said = bytes(got).partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200 ") or said != (body or honest_page(target)):
            raise Finding(f"an honest visitor of {target} got {bytes(got)[:500]!r}")

    async def secret(self) -> None:
        """Leave the secret in the memory of the worker and in a connection to the origin."""
        await self.honest("/pass/secret", body=SECRET)

    def _connect(self) -> tuple[Connection, bytearray]:
        got = bytearray()
        connection = self.worker.front.connection()
        transport = MemoryTransport(asyncio.get_running_loop(), connection, got.extend)
        connection.connection_made(transport)
        return connection, got

    async def _hang_up(self, connection: Connection, transport: MemoryTransport) -> None:
        """Close the visitor's side, then let pass whatever time the connection gives itself."""
        if not transport.is_closed and not connection.eof_received():
            transport.close()
        await self._until(lambda: transport.is_closed or connection.task is None or _is_starved(connection))
        while not transport.is_closed:
            if connection.deadline == float("inf"):
                raise Finding("a connection without a deadline")
            connection.expire()
            await asyncio.sleep(0)
        await self._until(lambda: not isinstance(connection.task, asyncio.Task) or connection.task.done())

    async def settled(self) -> None:
        """Wait until nothing is under way."""
        await self._until(lambda: not self.worker.engine.flights.tasks() and not self.origin.is_sending)
        if self.troubles:
            raise Finding("; ".join(self.troubles))

    async def _until(self, is_so: Callable[[], bool]) -> None:
        """Let the loop run until it is so; what never will be, the origin's end may bring about."""
        for number in range(_ROUNDS):
            if is_so():
                return
            await asyncio.sleep(0)
            if number % 50 == 49:
                self.origin.hang_up()
        try:
            async with asyncio.timeout(_SECONDS):
                while not is_so():
                    self.origin.hang_up()
                    await asyncio.sleep(0.001)
        except TimeoutError:
            raise Finding("it hangs") from None

    # --- what must hold of an output ---

    def check(self, got: bytes) -> None:
        """It is answers and nothing else, none of them a 500 or another visitor's."""
        if SECRET in got and not any("secret" in seen.target for seen in self.origin.seen[1:]):
            raise Finding(f"another visitor's answer: {got!r}")
        if got and not got.startswith(b"HTTP/1.1 "):
            raise Finding(f"not an answer: {got[:200]!r}")
        if got and (problem := _head_problem(got.partition(b"\r\n\r\n")[0])) is not None:
            raise Finding(f"an answer with {problem}: {got!r}")
        if re.search(rb"HTTP/1\.1 500 .{0,300}X-Cache-Reason: internal", got, re.DOTALL):
            raise Finding("a 500 of ours")


_STATUS_LINE: Final = re.compile(rb"HTTP/1\.1 [1-9][0-9]{2} [\t\x20-\x7e\x80-\xff]*")


def _head_problem(head: bytes) -> str | None:
    """Say what two visitors could read differently in an answer's head."""
    first, *rest = head.split(b"\r\n")
    if not _STATUS_LINE.fullmatch(first):
        return "a doubtful status line"
    if not all(FIELD_LINE.fullmatch(line) for line in rest):
        return "a doubtful line"
    names = [line.partition(b":")[0].lower() for line in rest]
    framings = names.count(b"content-length") + names.count(b"transfer-encoding")
    return "two lengths" if framings > 1 else None


def _is_starved(connection: Connection) -> bool:
    """Tell whether it waits for more of a request body."""
    return connection.task is not None and not connection.payload.is_eof()


@asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    """Run a worker whose origin is in memory."""
    origin, clock = MemoryOrigin(), FakeClock()
    text = config("http://origin.example", directory / "store", ROUTES, timeout="60s")
    text = text.replace("fsync: false", "fsync: false, max_size: 16MiB, memory: 1MiB", 1)
    text = text.replace("max_entry: 64MiB", "max_entry: 1MiB", 1)
    with patch.object(pool, "dial", origin.dial):
        worker = await Worker.start(parse(text, file="fuzz.yaml", environ={}), now=clock)
        made = World(worker, clock, origin)
        with _troubles_of(made):
            try:
                yield made
            finally:
                await worker.stop(drain=0.1)


def _troubles_of(made: World) -> Any:
    """Note whatever is logged as an error, or raised where nobody catches it."""

    def note(_: Any, method: str, event: Any) -> Any:
        if method in ("error", "exception", "critical"):
            made.troubles.append(f"{event.get('event')}: {sys.exc_info()[1] or event!r}")
        raise structlog.DropEvent

    def uncaught(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        made.troubles.append(f"uncaught: {context.get('exception') or context.get('message')!r}")

    asyncio.get_running_loop().set_exception_handler(uncaught)
    structlog.configure(processors=[note], cache_logger_on_first_use=False)
    return _Reset()


class _Reset:
    """Give logging back."""

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        structlog.reset_defaults()
