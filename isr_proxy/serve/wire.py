"""What goes back over a visitor's connection: heads, bodies, interim responses.

Knows how a response is framed (RFC 9112 §6) and what of the connection it needs, as the Wire. Must not know
how requests are parsed or when a connection ends: that is front.py's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any, Final, Protocol

from aiohttp.streams import StreamReader

from isr_proxy.core.admission import PRIVATE_FIELDS
from isr_proxy.core.chunks import NO_TRAILERS, encode_chunk, encode_end
from isr_proxy.core.http import OWS, REASON_PHRASES, Fields, Head, Request, content_length, end_to_end, tokens
from isr_proxy.core.reason import Reason
from isr_proxy.core.value import Value
from isr_proxy.errors import BodyRefused, VisitorGone
from isr_proxy.serve.exchange import Tunnel
from isr_proxy.serve.known_passes import PassedOn
from isr_proxy.serve.outcome import Outcome
from isr_proxy.serve.ready import Ready
from isr_proxy.serve.relays import Written
from isr_proxy.serve.tunnel import Raw, VisitorTunnel


class Wire(Raw, Protocol):
    """What an exchange needs of its connection."""

    payload: StreamReader

    @property
    def max_body_bytes(self) -> int | None:
        """Return the limit of a request's body, None for none."""

    @property
    def most_at_once(self) -> int:
        """Return how large a body may be that is written whole."""

    @property
    def trailers(self) -> Fields:
        """Return the trailer fields of a request body that is in."""

    @property
    def is_ending(self) -> bool:
        """Tell whether no further request is taken, whatever this one is answered."""

    def abort(self) -> None:
        """Cut the connection."""

    def write_whole(self, head: bytes, body: bytes) -> None:
        """Send a head, and a body if there is one."""

    def open_tunnel(self) -> VisitorTunnel:
        """Leave HTTP."""

    def carry_on(self, exchange: HttpExchange, rest: Coroutine[Any, Any, None]) -> None:
        """Have a task answer after all; VisitorGone when there is nobody to answer."""

    def done(self, may_keep_alive: Callable[[], bool]) -> None:
        """End a request that no task answers, where the visitor has taken the answer."""


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


def _length_of(head: Head, body: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"Content-Length", b"%d" % len(body))] if head.has_body else []


def encode_whole(head: Head, body: bytes) -> bytes:
    """Write the head of a whole response, as HTTP/1.1 gets it on a connection that goes on."""
    return encode_head(head, _length_of(head, body))


def framing_refusal(fields: Fields, *, is_http11: bool) -> int | None:
    """Return the status for a body framed as nobody should believe (RFC 9112 §6.1), None for any other."""
    coding = fields.get(b"transfer-encoding")
    if coding is None:
        # The parser takes 2^64-1 for "no length", and servers differ on what overflows.
        return 400 if b"content-length" in fields and content_length(fields) is None else None
    if not is_http11:
        return 400
    return None if coding.strip(OWS).lower() == "chunked" else 501


class Manners(Value, frozen=True):
    """How this visitor speaks HTTP."""

    is_http11: bool  # knows chunks and interim responses
    wants_close: bool  # after this request


# RFC 9110 §8.6: a length in a 1xx would be believed by somebody.
_NOT_IN_INTERIM: Final = PRIVATE_FIELDS | {b"content-length", b"x-cache", b"cache-status"}


class HttpExchange:
    """One request of a connection, and its response (serve/exchange.py)."""

    def __init__(
        self, wire: Wire, request: Request, manners: Manners, passed: PassedOn | None = None
    ) -> None:
        """`passed` is what became of this very request before."""
        self.request = request
        self.passed = passed
        self._wire = wire
        self._is_http11 = manners.is_http11
        self._wants_close = manners.wants_close
        self._expects_continue = self._is_waiting()
        self._has_continued = False
        self._is_chunked = False
        self._has_framing = True  # the response's end can be told without closing
        self.has_started = False
        self.ready: tuple[Ready, Outcome] | None = None  # what this very request gets again
        self._held: list[bytes] | None = None  # what is sent with the next release

    def _is_waiting(self) -> bool:
        """Tell whether the visitor holds his body back until he is told to go on (RFC 9110 §10.1.1)."""
        if not (self._is_http11 and self.request.has_body and b"expect" in self.request.fields):
            return False
        has_begun = self._wire.payload.total_bytes > 0 or self._wire.payload.is_eof()
        return not has_begun and "100-continue" in tokens(self.request.fields.get(b"expect"))

    @property
    def expects_continue(self) -> bool:
        return self._expects_continue

    @property
    def body_bytes(self) -> int | None:
        return content_length(self.request.fields)

    @property
    def most_at_once(self) -> int:
        return self._wire.most_at_once

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the request body; who waits for it is told to go on first."""
        if self._expects_continue and not self.has_started:
            self._wire.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._has_continued = True
        self._expects_continue = False
        most, taken_bytes = self._wire.max_body_bytes, 0
        while chunk := await self._wire.payload.readany():
            taken_bytes += len(chunk)
            if most is not None and taken_bytes > most:
                raise BodyRefused(Reason.BODY_TOO_LARGE.value, f"the body has more than {most} bytes")
            yield chunk

    def trailers(self) -> Fields:
        return self._wire.trailers

    def interim(self, head: Head) -> None:
        """Send a 1xx, less what is not the visitor's; that nobody takes it is found out by the answer.

        A 100 that was asked for is said by `body`, when the body is wanted, and once (RFC 9110 §15.2).
        """
        is_ours = head.status == 100 and (self._expects_continue or self._has_continued)
        if self._is_http11 and not self.has_started and not is_ours:
            fields = end_to_end(head.fields).without(_NOT_IN_INTERIM)
            with suppress(VisitorGone):
                self._wire.write(encode_head(Head(head.status, head.reason, fields), []))

    def send(self, head: Head, body: bytes = b"") -> None:
        raw = self._encode(head, _length_of(head, body))
        is_bodiless = self.request.method == "HEAD" or not head.has_body
        self._wire.write_whole(raw, b"" if is_bodiless else body)

    def repeat(self, head: bytes, body: bytes) -> bool:
        if not self._is_http11 or not self.may_keep_alive():
            return False
        self.has_started = True
        self._wire.write_whole(head, body)
        return True

    def answered(self, ready: Ready, outcome: Outcome) -> None:
        self.ready = (ready, outcome)

    def start(self, head: Head, length: int | None, written: Written | None = None) -> None:
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
        self._put(self._encode(head, more, written))

    def _encode(self, head: Head, more: list[tuple[bytes, bytes]], written: Written | None = None) -> bytes:
        self.has_started = True
        if not self.may_keep_alive():
            self._wants_close = True  # what was said holds, though the rest of the body may come yet
            more.append(CLOSE)
        elif not self._is_http11:
            more.append(_KEEP_ALIVE)
        if written is None:
            return encode_head(head, more)
        framing = tuple(more)
        raw = written.get(framing)
        if raw is None:
            raw = written[framing] = encode_head(head, more)
        return raw

    async def write(self, chunk: bytes) -> None:
        self.push(chunk)
        self.release()
        await self._wire.drained()

    def push(self, chunk: bytes) -> None:
        self._put(encode_chunk(chunk) if self._is_chunked else chunk)

    def hold(self) -> None:
        if self._held is None:
            self._held = []

    def release(self) -> None:
        held, self._held = self._held, None
        if held:
            self._wire.write(held[0] if len(held) == 1 else b"".join(held))

    def _put(self, data: bytes) -> None:
        if self._held is None:
            self._wire.write(data)
        else:
            self._held.append(data)

    def finish(self, trailers: Fields = NO_TRAILERS) -> None:
        if self._is_chunked:
            self._put(encode_end(trailers))
        self.release()

    def carry_on(self, rest: Coroutine[Any, Any, None]) -> None:
        self._wire.carry_on(self, rest)

    def done(self) -> None:
        self._wire.done(self.may_keep_alive)

    def abort(self) -> None:
        self._wire.abort()

    def may_keep_alive(self) -> bool:
        """Tell whether another request may follow: all of this one was read, and both ends can see where
        its answer stops."""
        is_over = self._wants_close or self._wire.is_ending
        return not is_over and self._has_framing and self._wire.payload.is_eof()

    def upgrade(self, head: Head, protocol: str) -> Tunnel:
        self.has_started = True
        upgraded = (b"Upgrade", protocol.encode("latin-1"))
        self._wire.write(encode_head(head, [upgraded, (b"Connection", b"upgrade")]))
        return self._wire.open_tunnel()
