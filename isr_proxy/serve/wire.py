"""What goes back over a visitor's connection: heads, bodies, interim responses, raw bytes after an upgrade.

Knows how a response is framed (RFC 9112 §6) and what of the connection it needs, as the Wire. Must not know
how requests are parsed or when a connection ends: that is front.py's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp.streams import StreamReader

from isr_proxy.core.http import REASON_PHRASES, Head, Request, content_length, tokens
from isr_proxy.serve.exchange import Tunnel

_TUNNEL_BYTES: Final = 256 * 1024
_JOIN_BYTES: Final = 64 * 1024  # a body up to this is sent in one write with its head


class Wire(Protocol):
    """What an exchange needs of its connection."""

    payload: StreamReader

    def write(self, data: bytes) -> None:
        """Send; VisitorGone when nobody is there."""

    async def drained(self) -> None:
        """Wait until the visitor has taken what was written."""

    def abort(self) -> None:
        """Cut the connection."""

    def close_tunnel(self) -> None:
        """Close once what was written is sent."""

    def open_tunnel(self) -> VisitorTunnel:
        """Leave HTTP."""

    def hold_reading(self) -> None: ...

    def release_reading(self) -> None: ...


CLOSE: Final = (b"Connection", b"close")
_KEEP_ALIVE: Final = (b"Connection", b"keep-alive")
_CHUNKED: Final = (b"Transfer-Encoding", b"chunked")


def encode_head(head: Head, more: list[tuple[bytes, bytes]]) -> bytes:
    """Write a response head, `more` after its own fields."""
    phrase = head.reason or REASON_PHRASES.get(head.status, "")
    parts = [b"HTTP/1.1 %d %s\r\n" % (head.status, phrase.encode("latin-1", "replace"))]
    parts += [b"%s: %s\r\n" % line for line in head.fields.lines]
    parts += [b"%s: %s\r\n" % line for line in more]
    parts.append(b"\r\n")
    return b"".join(parts)


@dataclass(frozen=True, slots=True)
class Manners:
    """How this visitor speaks HTTP."""

    is_http11: bool  # knows chunks and interim responses
    wants_close: bool  # after this request


class HttpExchange:
    """One request of a connection, and its response (serve/exchange.py)."""

    def __init__(self, wire: Wire, request: Request, manners: Manners) -> None:
        self.request = request
        self._wire = wire
        self._is_http11 = manners.is_http11
        self._wants_close = manners.wants_close
        self._expects_continue = "100-continue" in tokens(request.fields.get(b"expect"))
        self._is_chunked = False
        self._has_framing = True  # the response's end can be told without closing
        self.has_started = False

    @property
    def body_bytes(self) -> int | None:
        return content_length(self.request.fields)

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the request body; who expects it is told to go on first (RFC 9110 §10.1.1)."""
        if self._expects_continue and not self.has_started:
            self._wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._expects_continue = False
        while chunk := await self._wire.payload.readany():
            yield chunk

    def interim(self, head: Head) -> None:
        if self._is_http11 and not self.has_started and head.status != 100:
            self._wire.write(encode_head(head, []))

    def send(self, head: Head, body: bytes = b"") -> None:
        more: list[tuple[bytes, bytes]] = []
        if head.has_body:
            more.append((b"Content-Length", b"%d" % len(body)))
        raw = self._encode(head, more)
        if self.request.method == "HEAD" or not head.has_body:
            self._wire.write(raw)
        elif len(body) <= _JOIN_BYTES:
            self._wire.write(raw + body)
        else:
            self._wire.write(raw)
            self._wire.write(body)

    def start(self, head: Head, length: int | None) -> None:
        more: list[tuple[bytes, bytes]] = []
        if length is not None and head.has_body:
            more.append((b"Content-Length", b"%d" % length))
        elif self.request.method == "HEAD":
            pass  # what GET would be told of its framing is not known, and need not be said
        elif head.has_body and self._is_http11:
            more.append(_CHUNKED)
            self._is_chunked = True
        elif head.has_body:
            self._has_framing = False
        self._wire.write(self._encode(head, more))

    def _encode(self, head: Head, more: list[tuple[bytes, bytes]]) -> bytes:
        self.has_started = True
        if not self.may_keep_alive():
            more.append(CLOSE)
        elif not self._is_http11:
            more.append(_KEEP_ALIVE)
        return encode_head(head, more)

    async def write(self, chunk: bytes) -> None:
        if self._is_chunked:
            chunk = b"%x\r\n%b\r\n" % (len(chunk), chunk)
        self._wire.write(chunk)
        await self._wire.drained()

    def finish(self) -> None:
        if self._is_chunked:
            self._wire.write(b"0\r\n\r\n")

    def abort(self) -> None:
        self._wire.abort()

    def may_keep_alive(self) -> bool:
        """Tell whether another request may follow: all of this one was read, and both ends can see where
        its answer stops."""
        return not self._wants_close and self._has_framing and self._wire.payload.is_eof()

    def upgrade(self, head: Head) -> Tunnel:
        self.has_started = True
        upgraded = (b"Upgrade", (self.request.upgrade or "").encode("latin-1"))
        self._wire.write(encode_head(head, [upgraded, (b"Connection", b"upgrade")]))
        return self._wire.open_tunnel()


class VisitorTunnel:
    """The visitor's side after a 101."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._buffer = bytearray()
        self._has_eof = False
        self._more = asyncio.Event()

    def feed(self, data: bytes) -> None:
        self._buffer += data
        self._more.set()
        if len(self._buffer) > _TUNNEL_BYTES:
            self._wire.hold_reading()

    def feed_eof(self) -> None:
        self._has_eof = True
        self._more.set()

    async def read(self) -> bytes:
        while not self._buffer and not self._has_eof:
            self._more.clear()
            await self._more.wait()
        data = bytes(self._buffer)
        self._buffer.clear()
        self._wire.release_reading()
        return data

    def write(self, data: bytes) -> None:
        self._wire.write(data)

    async def drain(self) -> None:
        await self._wire.drained()

    def close(self) -> None:
        self._wire.close_tunnel()
