"""The network, in memory: transports for both sides of the proxy, and an origin that trusts nobody.

The origin parses what it is sent by a parser of its own, to the letter. Whatever it finds doubtful in a
request that the proxy forwarded is a finding.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from isr_proxy.origin.endpoint import Endpoint
from tests.http.attacking import problem_of

SPLIT = b"~~"  # where an input is cut into pieces that arrive one by one


class Finding(AssertionError):
    """Something that must not happen."""


class MemoryTransport(asyncio.Transport):
    """One side of a connection; `taker` gets what is written."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, protocol: asyncio.BaseProtocol, taker: Callable[[bytes], None]
    ) -> None:
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._taker = taker
        self.is_closed = False
        self.has_written_eof = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 50_000) if name == "peername" else default

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_closed and not self.has_written_eof:
            self._taker(bytes(data))

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.has_written_eof = True

    def is_closing(self) -> bool:
        return self.is_closed

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            self._loop.call_soon(self._protocol.connection_lost, None)

    def abort(self) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class Seen:
    """One request as the origin got it."""

    method: str
    target: str
    head: bytes
    body: bytes


def honest_page(target: str) -> bytes:
    """Return the body that belongs to a target."""
    return b"page of " + target.encode("latin-1", "replace")


def answer(body: bytes, *lines: bytes) -> bytes:
    fields = b"".join(line + b"\r\n" for line in (b"Cache-Control: max-age=60", *lines))
    return b"HTTP/1.1 200 OK\r\n%bContent-Length: %d\r\n\r\n%b" % (fields, len(body), body)


@dataclass
class MemoryOrigin:
    """Answers with the page of the target; a path in `scripts` gets these pieces, and nothing more."""

    pages: dict[str, bytes] = field(default_factory=dict)
    scripts: dict[str, list[bytes]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)

    async def dial(self, endpoint: Endpoint, protocol: asyncio.Protocol, timeout: float) -> None:
        """Stand in for `origin.endpoint.dial`."""
        session = Session(self, protocol)
        self.sessions = [one for one in self.sessions if not one.transport.is_closed]
        self.sessions.append(session)
        protocol.connection_made(session.transport)

    @property
    def is_sending(self) -> bool:
        """Tell whether more of a script is coming on any connection.

        What still comes once the connection is in use again is the next answer: nobody could tell.
        """
        return any(session.is_sending and not session.transport.is_closed for session in self.sessions)

    def hang_up(self) -> None:
        """Close every connection on which nothing more is coming."""
        for session in self.sessions:
            if session.is_over:
                session.transport.close()


class Session:
    """One connection to the origin."""

    def __init__(self, origin: MemoryOrigin, protocol: asyncio.Protocol) -> None:
        self._origin = origin
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._requests = requests()
        next(self._requests)
        self.is_over = False  # its script is
        self.is_sending = False
        self.transport = MemoryTransport(self._loop, protocol, self._take)

    def _take(self, data: bytes) -> None:
        found = self._requests.send(data)
        while found is not None:
            self._origin.seen.append(found)
            self._answer(found)
            found = self._requests.send(b"")

    def _answer(self, request: Seen) -> None:
        path = request.target.partition("?")[0]
        pieces = self._origin.scripts.get(path)
        if pieces is not None:
            pieces = [*pieces, b""]
        else:
            body = self._origin.pages.get(path, honest_page(request.target))
            whole = answer(body)
            pieces = [whole[: len(whole) - len(body)] if request.method == "HEAD" else whole]
        self._deliver(pieces)

    def _deliver(self, pieces: list[bytes]) -> None:
        self.is_sending = bool(pieces)
        if pieces and not self.transport.is_closed:
            self._loop.call_soon(self._arrive, pieces)

    def _arrive(self, pieces: list[bytes]) -> None:
        if self.transport.is_closed:
            return
        if pieces[0]:
            self._protocol.data_received(pieces[0])
        else:
            self.is_over = True
        self._deliver(pieces[1:])


Parsing = Generator[Seen | None, bytes, None]


def requests() -> Parsing:
    """Parse requests to the letter: send bytes, get the next whole request, or None.

    Finding where anything is doubtful.
    """
    data = yield None
    while True:
        while b"\r\n\r\n" not in data:
            data += yield None
        head, _, data = data.partition(b"\r\n\r\n")
        head += b"\r\n\r\n"
        if (problem := problem_of(head)) is not None:
            raise Finding(f"forwarded with {problem}: {head!r}")
        method, target, _ = head.split(b" ", 2)
        body, data = yield from (_chunked(data) if _CHUNKED.search(head) else _plain(data, head))
        data += yield Seen(method.decode(), target.decode("latin-1"), head, body)


Body = Generator[Seen | None, bytes, tuple[bytes, bytes]]  # what belongs to it, and what follows
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: chunked\r\n", re.IGNORECASE)


def _plain(data: bytes, head: bytes) -> Body:
    found = _LENGTH.search(head)
    length = int(found[1]) if found else 0
    while len(data) < length:
        data += yield None
    return data[:length], data[length:]


def _chunked(data: bytes) -> Body:
    body = b""
    while True:
        while b"\r\n" not in data:
            data += yield None
        line, _, data = data.partition(b"\r\n")
        if not re.fullmatch(rb"[0-9a-f]+", line):
            raise Finding(f"forwarded a chunk size {line!r}")
        size = int(line, 16)
        if not size:
            return body, (yield from _behind_trailers(data))
        while len(data) < size + 2:
            data += yield None
        if data[size : size + 2] != b"\r\n":
            raise Finding("forwarded a chunk without its end")
        body, data = body + data[:size], data[size + 2 :]


def _behind_trailers(data: bytes) -> Generator[None, bytes, bytes]:
    while True:
        while b"\r\n" not in data:
            data += yield None
        line, _, data = data.partition(b"\r\n")
        if not line:
            return data
        if not _FIELD_LINE.fullmatch(line):
            raise Finding(f"forwarded a trailer {line!r}")


_FIELD_LINE = re.compile(rb"[!#-'*+\-.0-9A-Z^-z|~]+:[^\x00-\x08\x0a-\x1f\x7f]*")
