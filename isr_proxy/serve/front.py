"""HTTP in: one class for a visitor's connection, over aiohttp's C request parser.

Knows bytes: heads, bodies, keep-alive, pipelining, deadlines, upgrades. Must not know routes, entries or
decisions; a complete head becomes an Exchange and goes to the handler it was given.

One request at a time: what follows it on the wire is kept, unparsed, until it is answered and the answer is
taken; the Intake tells where it ends. Private to aiohttp and used here: `HttpRequestParser` with
`message_consumed`, `max_msg_queue_size` and `auto_decompress`, and `BaseProtocol`'s flow control.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import structlog
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.http_writer import HttpVersion10, HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from isr_proxy.core.arrival import Arrived, settle, tunnel_protocols
from isr_proxy.core.chunks import BadChunks
from isr_proxy.core.http import Fields, Request, content_length
from isr_proxy.core.reason import Reason, XCache
from isr_proxy.core.settings import Network
from isr_proxy.errors import BodyRefused, VisitorGone
from isr_proxy.serve.exchange import Exchange
from isr_proxy.serve.intake import Intake
from isr_proxy.serve.respond import error_head
from isr_proxy.serve.tunnel import VisitorTunnel
from isr_proxy.serve.wire import CLOSE, HttpExchange, Manners, encode_head, framing_refusal

_log = structlog.get_logger("isr_proxy.front")

_READ_BYTES: Final = 64 * 1024
_LINE_BYTES: Final = 8190  # at or below common origins' limits, so no error of theirs is provoked
_MAX_FIELDS: Final = 128
MAX_CONNECTIONS: Final = 10_000  # of visitors, a worker (law 8)
_AHEAD_BYTES: Final = 64 * 1024  # of what comes before its turn; more, and reading stops
_FOREVER: Final = float("inf")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a connection may take, in seconds."""

    idle: float = 75.0  # between requests
    head: float = 30.0  # from a head's first byte to its last
    stalled: float = 60.0  # without a byte of the request's body, or room for the response
    half_closed: float = 1.0  # after the visitor closed his side
    lingering: float = 2.0  # after we closed ours, with bytes of his still to come


def require_c_parser() -> None:
    """Fail at start when aiohttp came without its strict parser. RuntimeError says what to do."""
    if HttpRequestParser.__module__ != "aiohttp._http_parser":
        raise RuntimeError(
            "aiohttp's C request parser is missing: install aiohttp from a wheel, "
            "and do not set AIOHTTP_NO_EXTENSIONS"
        )


Handler = Callable[[Exchange], Awaitable[None]]


class Front:
    """What all connections of one process share. `handle` answers an Exchange."""

    def __init__(self, handle: Handler, *, patience: Patience = Patience()) -> None:
        require_c_parser()
        self.handle = handle
        self.patience = patience
        self.trusted: tuple[Network, ...] = ()
        self.default_host = "localhost"
        self.connections: set[Connection] = set()
        self.is_draining = False
        self._all_closed = asyncio.Event()
        self._sweeper: asyncio.TimerHandle | None = None

    def connection(self) -> Connection:
        """Make the protocol of a new connection."""
        if self._sweeper is None:
            self._sweep()
        return Connection(self, asyncio.get_running_loop())

    def _sweep(self) -> None:
        """Once a second, close whoever is past his deadline: one timer for all connections."""
        now = time.monotonic()
        for connection in [one for one in self.connections if one.deadline < now]:
            connection.expire()
        self._sweeper = asyncio.get_running_loop().call_later(1.0, self._sweep)

    def running(self) -> set[asyncio.Task[None]]:
        """Return the requests being answered now."""
        return {task for connection in self.connections if (task := connection.task) is not None}

    async def drain(self, timeout: float) -> None:
        """Let running requests end, up to `timeout` seconds, then cut what is left."""
        self.is_draining = True
        for connection in list(self.connections):
            connection.close_when_idle()
        if self.connections:
            self._all_closed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_closed.wait(), timeout)
        self.cut()

    def forget(self, connection: Connection) -> None:
        """Note that a connection is closed."""
        self.connections.discard(connection)
        if not self.connections:
            self._all_closed.set()

    def cut(self) -> None:
        """Close every connection now."""
        for connection in list(self.connections):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None


class Connection(BaseProtocol):
    """One visitor's connection."""

    def __init__(self, front: Front, loop: asyncio.AbstractEventLoop) -> None:
        parser = HttpRequestParser(
            self,
            loop,
            _READ_BYTES,
            max_line_size=_LINE_BYTES,
            max_field_size=_LINE_BYTES,
            max_headers=_MAX_FIELDS,
            payload_exception=VisitorGone,
            auto_decompress=False,
            max_msg_queue_size=1,
        )
        super().__init__(loop, parser)
        self._requests: Any = parser
        self._intake = Intake()
        self._front = front
        self.task: asyncio.Task[None] | None = None
        self._is_serving = False  # the task has begun
        self._tunnel: VisitorTunnel | None = None
        self._ahead = bytearray()  # what came before its turn: behind the request that is answered now
        self._has_eof = False
        self._is_idle = True  # no byte of a request has come
        self._has_served = False  # any request yet
        self._is_lingering = False
        self._is_broken = False  # where the next request begins cannot be told any more
        self._unsent_bytes = 0  # when last looked at
        self._scheme = "http"
        self._peer = ""
        self._protocols: str | None = None  # of an upgrade that is asked for
        self.payload: StreamReader = EMPTY_PAYLOAD
        self.deadline = _FOREVER

    # --- the transport's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if len(self._front.connections) >= MAX_CONNECTIONS:
            self._answer_error(503, Reason.BUSY, retry_after=1)
            transport.close()
            return
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""
        self._scheme = "https" if transport.get_extra_info("ssl_object") is not None else "http"
        self._front.connections.add(self)
        self.deadline = time.monotonic() + self._front.patience.head

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc or ConnectionResetError("the visitor hung up"))
        self._front.forget(self)
        self.deadline = _FOREVER
        if self.payload is not EMPTY_PAYLOAD and not self.payload.is_eof():
            self.payload.set_exception(VisitorGone("the visitor hung up"))
        if self._tunnel is not None:
            self._tunnel.lose()
        elif self.task is not None:
            self.task.cancel()

    def eof_received(self) -> bool:
        """Keep the way out open for a moment.

        A visitor may close his side and wait for the answer; most who close have hung up, and what they
        asked for must not hold the origin (nginx's `proxy_ignore_client_abort off`).
        """
        self._has_eof = True
        if self._tunnel is not None:
            self._tunnel.feed_eof()
            return True
        self.deadline = time.monotonic() + self._front.patience.half_closed
        if self.payload is not EMPTY_PAYLOAD and not self.payload.is_eof():
            self.payload.set_exception(VisitorGone("the request body broke off"))
            return False
        return self.task is not None

    def data_received(self, data: bytes) -> None:
        if self._is_lingering:
            return
        if self._tunnel is not None:
            self._tunnel.feed(data)
            return
        if self._upgraded:
            self._keep(data)
            return
        try:
            if self.task is None:
                data = self._read_head(data)
            if self.task is not None:
                self._read_body(data)
        except (HttpProcessingError, BadChunks) as error:
            self._refuse(error)

    def _read_head(self, data: bytes) -> bytes:
        """Feed the parser what belongs to the head, and begin once it is whole; returns what follows it."""
        if data:
            self._is_idle = False
            self.deadline = min(self.deadline, time.monotonic() + self._front.patience.head)
        head, rest = self._intake.head(data)
        messages = self._requests.feed_data(head)[0] if head else ()
        if messages:
            self._begin(*messages[0])
        return rest

    def _read_body(self, data: bytes) -> None:
        """Feed the parser what belongs to the body, and set aside what does not."""
        body, rest = self._intake.body(data)
        if not self.payload.is_eof():
            self._requests.feed_data(body)  # empty or not: it may have stopped in the middle
            self.deadline = self._stall_deadline()
        if rest:
            self._keep(rest)

    def _keep(self, data: bytes) -> None:
        """Set aside what comes before its turn. Reading goes on as long as there is room, for a visitor who
        hangs up is noticed by reading only."""
        self._ahead += data
        if len(self._ahead) > _AHEAD_BYTES:
            self._pause_reading_for_buffer()

    def _take_ahead(self) -> bytes:
        """Return what was set aside, and read on."""
        ahead = bytes(self._ahead)
        self._ahead.clear()
        self._reading_paused = False
        self._resume_reading_for_buffer()
        return ahead

    def pause_writing(self) -> None:
        super().pause_writing()
        self._is_taking()
        self.deadline = self._stall_deadline()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.deadline = self._stall_deadline()

    def _stall_deadline(self) -> float:
        """A body that does not come, or an answer that is not taken, ends the connection."""
        is_waiting = self._paused or not self.payload.is_eof()
        return time.monotonic() + self._front.patience.stalled if is_waiting else _FOREVER

    def _is_taking(self) -> bool:
        """Tell whether the visitor took some of what is unsent since the last look: slow, not stalled."""
        before_bytes = self._unsent_bytes
        self._unsent_bytes = 0 if self.transport is None else self.transport.get_write_buffer_size()
        return 0 < self._unsent_bytes < before_bytes

    def expire(self) -> None:
        """Close: the visitor took too long. A head begun and not ended gets its 408."""
        if self._is_taking():
            self.deadline = time.monotonic() + self._front.patience.stalled
            return
        if self.task is None and not self._is_idle and not self._is_over:
            self._answer_error(408, Reason.BAD_REQUEST)
        self.abort()

    @property
    def _is_over(self) -> bool:
        """Tell whether nothing may be written any more."""
        return self._is_lingering or self.transport is None or self.transport.is_closing()

    def close_when_idle(self) -> None:
        """Close between requests; who has only just connected may have his first one on the way."""
        if self.task is not None or self.transport is None:
            return
        if self._has_served:
            self.transport.close()
        else:
            self.deadline = min(self.deadline, time.monotonic() + self._front.patience.half_closed)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    # --- requests ---

    def _begin(self, message: RawRequestMessage, payload: StreamReader) -> None:
        self.payload = payload
        self._is_idle = False
        self._has_served = True
        self.deadline = self._stall_deadline()
        if self._has_eof:
            self.deadline = min(self.deadline, time.monotonic() + self._front.patience.half_closed)
        if message.chunked:
            self._intake.expect_chunks()
        elif payload is not EMPTY_PAYLOAD:
            self._intake.expect_length(content_length(Fields(message.raw_headers)) or 0)
        elif message.upgrade and message.version >= HttpVersion11:  # RFC 9110 §7.8: not in HTTP/1.0
            # From here on all is raw: nothing more is parsed, whatever comes of it.
            self._protocols = tunnel_protocols(Fields(message.raw_headers))
            self._upgraded = self._protocols is not None
        self.task = self._loop.create_task(self._serve(message))

    async def _serve(self, message: RawRequestMessage) -> None:
        """Answer one request, then take the next or close."""
        exchange: HttpExchange | None = None
        self._is_serving = True
        try:
            request = self._settle(message)
            if isinstance(request, int):
                self._answer_error(request, Reason.BAD_REQUEST)
                self._end(keep=False)
                return
            # What follows an upgrade that was refused may be in the other protocol already.
            wants_close = message.should_close or message.upgrade
            exchange = HttpExchange(self, request, Manners(message.version >= HttpVersion11, wants_close))
            await self._front.handle(exchange)
            await self.drained()
            self._end(keep=exchange.may_keep_alive())
        except (VisitorGone, ConnectionError):
            self._end(keep=False)
        except Exception:
            _log.exception("request failed", target=message.path)
            if exchange is None or not exchange.has_started:
                self._answer_error(500, Reason.INTERNAL)
            self._end(keep=False)

    def _settle(self, message: RawRequestMessage) -> Request | int:
        """Return the request, or the status it is refused with."""
        if message.version < HttpVersion10:
            return 400  # HTTP/0.9 has no Host
        if message.version > HttpVersion11:
            return 505
        method = self._intake.method or message.method
        if method == "CONNECT":
            return 501  # RFC 9110 §9.3.6: to tunnel to anywhere is not for a gateway
        fields = Fields(message.raw_headers)
        refusal = framing_refusal(fields, is_http11=message.version >= HttpVersion11)
        if refusal is not None:
            return refusal
        arrived = Arrived(
            method,
            message.path,
            fields,
            self._scheme,
            self._peer,
            self.payload is not EMPTY_PAYLOAD,
            self._protocols if self._upgraded else None,
            f"{message.version.major}.{message.version.minor}",
        )
        request = settle(arrived, self._front.trusted, self._front.default_host)
        return 400 if isinstance(request, str) else request

    def _end(self, *, keep: bool) -> None:
        """Finish a request: close, or let the parser take the next."""
        self.task = None
        self._is_serving = False
        if self.transport is None:
            return
        if not keep or self._upgraded or self._front.is_draining or self.transport.is_closing():
            self._close()
            return
        self.payload = EMPTY_PAYLOAD
        self._is_idle = True
        self._is_taking()
        self.deadline = time.monotonic() + self._front.patience.idle
        self._requests.message_consumed()
        self._intake.begin()
        self.data_received(self._take_ahead())
        if self._has_eof and self.task is None and self.transport is not None:
            self.transport.close()

    def _close(self) -> None:
        """Close; what the visitor is still sending is thrown away for a moment, as closing on it would reset
        the connection and could take the answer from him (RFC 9112 §9.6)."""
        if self.transport is None or self.transport.is_closing():
            return
        has_more = self._ahead or self._is_broken or not self.payload.is_eof()
        if self._has_eof or not has_more or not self.transport.can_write_eof():
            self.close_tunnel()
            return
        self._is_lingering = True
        self.deadline = time.monotonic() + self._front.patience.lingering
        self.transport.write_eof()
        self._take_ahead()

    def _refuse(self, error: HttpProcessingError | BadChunks) -> None:
        """Answer what is not HTTP and close: nothing after it can be trusted to be a request."""
        if self._is_serving:
            self._is_broken = True
            self.payload.set_exception(BodyRefused(Reason.BAD_REQUEST.value, "the body is broken"))
            return
        too_long = isinstance(error, LineTooLong) or "Too many headers" in str(error)
        if self.task is not None:  # broken before anybody has heard of the request
            self.task.cancel()
            self.task = None
        self._answer_error(
            431 if too_long else 400, Reason.HEAD_TOO_LARGE if too_long else Reason.BAD_REQUEST
        )
        self._is_broken = True
        self._close()

    def _answer_error(self, status: int, reason: Reason, *, retry_after: int | None = None) -> None:
        if self.transport is not None:
            now = time.time()  # noqa: TID251  Date only
            head, body = error_head(status, reason, XCache.ERROR, now, retry_after)
            self.transport.write(encode_head(head, [(b"Content-Length", b"%d" % len(body)), CLOSE]) + body)

    # --- what an exchange needs ---

    @property
    def trailers(self) -> Fields:
        return self._intake.trailers

    def write(self, data: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            raise VisitorGone("the visitor hung up")
        self.transport.write(data)

    async def drained(self) -> None:
        """Wait until the visitor has taken what was written."""
        if self.transport is None:
            raise VisitorGone("the visitor hung up")
        if self._paused:
            await self._drain_helper()

    def open_tunnel(self) -> VisitorTunnel:
        self._tunnel = VisitorTunnel(self)
        self.deadline = _FOREVER
        if ahead := self._take_ahead():
            self._tunnel.feed(ahead)
        if self._has_eof:
            self._tunnel.feed_eof()
        return self._tunnel

    @property
    def is_ending(self) -> bool:
        return self._front.is_draining

    def write_eof(self) -> bool:
        if self.transport is None or self.transport.is_closing() or not self.transport.can_write_eof():
            return False
        self.transport.write_eof()
        return True

    def close_tunnel(self) -> None:
        """Close once what was written is sent, or has found no taker in time."""
        if self.transport is not None:
            self._is_taking()
            self.deadline = time.monotonic() + self._front.patience.stalled
            self.transport.close()

    def hold_reading(self) -> None:
        self._pause_transport_reading()

    def release_reading(self) -> None:
        self._resume_transport_reading()
