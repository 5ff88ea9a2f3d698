"""A scripted origin on a real socket: what it sends, and when, is written in the test.

    async with ScriptedOrigin() as origin:
        origin.on("/page", page("first"), page("second"))    # the last script repeats
        origin.on("/slow", [Send(head(200, {"Content-Length": "5"}) + b"he"), Wait(event), Send(b"llo")])
        origin.on("/cut", [Send(head(200, {"Content-Length": "9"})), Send(b"short"), Close()])

        async def script(exchange: Exchange) -> None:         # anything else
            assert await exchange.body() == b"hello"
            await exchange.send(head(204))
        origin.on("/custom", script)

        ... ask origin.url ...
        assert origin.hits("/page") == 2 and origin.requests[0].header("host") == "example.org"

A script is a list of steps, run once the request's body is in, or a coroutine function, which reads the
body itself when it wants to. Afterwards the connection is kept, unless a step closed it. A path that
has no script gets a 404. Whatever a script raises, the `async with` block raises at its end.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self, assert_never

Headers = Mapping[str, str] | Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Send:
    """Send bytes; waits while the peer does not take them."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Wait:
    """Go on once the test has set the event."""

    event: asyncio.Event


@dataclass(frozen=True, slots=True)
class Close:
    """Close the connection in order (FIN)."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection (RST)."""


@dataclass(frozen=True, slots=True)
class Hang:
    """Do nothing until the peer hangs up."""


Step = Send | Wait | Close | Reset | Hang
Script = Sequence[Step] | Callable[["Exchange"], Awaitable[None]]


def head(status: int, headers: Headers = (), reason: str = "Scripted") -> bytes:
    """Write a response head."""
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    lines = "".join(f"{name}: {value}\r\n" for name, value in pairs)
    return f"HTTP/1.1 {status} {reason}\r\n{lines}\r\n".encode("latin-1")


def page(body: str | bytes, headers: Headers = (), status: int = 200) -> list[Step]:
    """Return the script of a whole response; Content-Length and a Content-Type are added."""
    data = body.encode() if isinstance(body, str) else body
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    if not any(name.lower() == "content-type" for name, _ in pairs):
        pairs.append(("Content-Type", "text/html; charset=utf-8"))
    return [Send(head(status, [*pairs, ("Content-Length", str(len(data)))]) + data)]


def chunked(*chunks: bytes, headers: Headers = (), status: int = 200) -> list[Step]:
    """Return the script of a chunked response, each chunk in a write of its own."""
    pairs = list(headers.items() if isinstance(headers, Mapping) else headers)
    start = Send(head(status, [*pairs, ("Transfer-Encoding", "chunked")]))
    return [start, *(Send(b"%x\r\n%b\r\n" % (len(chunk), chunk)) for chunk in chunks), Send(b"0\r\n\r\n")]


@dataclass(slots=True)
class Recorded:
    """One request as it came. `body` is filled in when it has been read."""

    raw_head: bytes
    method: str
    target: str
    headers: list[tuple[str, str]]  # names in lower case, in wire order
    connection: int  # the how-manieth connection carried it, from 1
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)  # behind a chunked body, as `headers`

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """Return all values of a header, joined by a comma; None without it."""
        values = [value for each, value in self.headers if each == name.lower()]
        return ", ".join(values) if values else None


class Exchange:
    """One request in the hands of a script."""

    def __init__(self, request: Recorded, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.request = request
        self.reader = reader
        self.writer = writer
        self.is_closed = False
        self._is_body_read = False

    async def body(self) -> bytes:
        """Read the request's body."""
        if not self._is_body_read:
            self._is_body_read = True
            self.request.body = await _read_body(self.request, self.reader)
        return self.request.body

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hang(self) -> None:
        """Wait until the peer hangs up; what it sends meanwhile is thrown away."""
        while await self.reader.read(65536):
            pass
        self.close()

    def close(self) -> None:
        self.is_closed = True
        self.writer.close()

    def reset(self) -> None:
        """Break the connection, so that the peer gets an RST."""
        self.is_closed = True
        sock = self.writer.get_extra_info("socket")
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def run(self, steps: Sequence[Step]) -> None:
        for step in steps:
            match step:
                case Send(data):
                    await self.send(data)
                case Wait(event):
                    await event.wait()
                case Close():
                    self.close()
                case Reset():
                    self.reset()
                case Hang():
                    await self.hang()
                case _:
                    assert_never(step)


@dataclass(slots=True)
class _Path:
    """The scripts of one path, and how often it was asked for."""

    scripts: tuple[Script, ...] = ()
    hits: int = 0

    def next(self) -> Script:
        self.hits += 1
        if not self.scripts:
            return page("no script for this path", status=404)
        return self.scripts[min(self.hits, len(self.scripts)) - 1]


@dataclass(slots=True)
class ScriptedOrigin:
    """See the module's docstring. With `unix_path` it listens there, with `tls` over TLS."""

    tls: ssl.SSLContext | None = None
    unix_path: str | None = None
    requests: list[Recorded] = field(default_factory=list)
    connections: int = 0  # accepted so far
    open_now: int = 0  # connections
    concurrent_max: int = 0  # requests in progress at once
    port: int = 0
    _paths: dict[str, _Path] = field(default_factory=dict)
    _in_progress: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _errors: list[Exception] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        if self.unix_path is not None:
            return f"unix:{self.unix_path}"
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def on(self, target: str, *scripts: Script) -> None:
        """Script a path, or a path with one exact query; replaces its scripts and starts anew."""
        self._paths[target] = _Path(scripts)

    def hits(self, target: str) -> int:
        """Return how many requests this path (or exact target) has had."""
        return self._paths[target].hits if target in self._paths else 0

    async def received(self, count: int) -> Recorded:
        """Wait until `count` requests have come in all; returns the last of them."""
        await self.until(lambda: len(self.requests) >= count)
        return self.requests[count - 1]

    async def until(self, is_so: Callable[[], bool]) -> None:
        """Wait until something about this origin is so (looked at whenever anything happens here)."""
        while not is_so():
            self._changed.clear()
            await self._changed.wait()

    async def __aenter__(self) -> Self:
        if self.unix_path is not None:
            self._server = await asyncio.start_unix_server(self._accept, self.unix_path)
        else:
            # The port is kept over a stop and start, so that an origin can come back.
            self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, ssl=self.tls)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()
        if self._errors and error is None:
            raise self._errors[0]

    async def stop(self) -> None:
        """Stop listening and break all connections; enter it again to come back on the same port."""
        if self._server is not None:
            self._server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.open_now += 1
        try:
            await self._serve(reader, writer, self.connections)
        except asyncio.CancelledError:
            pass  # stopped; asyncio's own callback would log it
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # the peer is gone: its own business
        except Exception as error:
            self._errors.append(error)
        finally:
            self._tasks.discard(task)
            self.open_now -= 1
            self._changed.set()
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        while not reader.at_eof():
            try:
                raw_head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            exchange = Exchange(_record(raw_head, number), reader, writer)
            with self._counted(exchange.request):
                await self._run(exchange)
            if exchange.is_closed:
                return

    @contextlib.contextmanager
    def _counted(self, request: Recorded) -> Iterator[None]:
        self.requests.append(request)
        self._in_progress += 1
        self.concurrent_max = max(self.concurrent_max, self._in_progress)
        self._changed.set()
        try:
            yield
        finally:
            self._in_progress -= 1
            self._changed.set()

    async def _run(self, exchange: Exchange) -> None:
        request = exchange.request
        key = request.target if request.target in self._paths else request.path
        script = self._paths.setdefault(key, _Path()).next()
        if callable(script):
            await script(exchange)
        else:
            await exchange.body()
            await exchange.run(script)
        if not exchange.is_closed:
            await exchange.body()


def _record(raw_head: bytes, connection: int) -> Recorded:
    line, *rest = raw_head.decode("latin-1").split("\r\n")
    method, target, _ = line.split(" ", 2)
    pairs = (each.partition(":") for each in rest if each)
    return Recorded(
        raw_head, method, target, [(name.lower(), value.strip()) for name, _, value in pairs], connection
    )


async def _read_body(request: Recorded, reader: asyncio.StreamReader) -> bytes:
    if request.header("transfer-encoding") != "chunked":
        return await reader.readexactly(int(request.header("content-length") or 0))
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    while line := (await reader.readuntil(b"\r\n"))[:-2].decode("latin-1"):
        name, _, value = line.partition(":")
        request.trailers.append((name.lower(), value.strip()))
    return body
