"""HTTP in: one class for a visitor's connection, over aiohttp's C request parser.

Knows bytes: heads, bodies, keep-alive, pipelining, deadlines, upgrades. Must not know routes, entries or
decisions; a complete head becomes an Exchange and goes to the handler it was given.

One request at a time: what follows it on the wire is kept, unparsed, until it is answered and the answer is
taken; the Intake tells where it ends. Private to aiohttp and used here: its request parser's
`message_consumed`, `LineTooLong`'s limit, and `BaseProtocol`'s flow control.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawRequestMessage
from aiohttp.http_writer import HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from isr_proxy.core.arrival import tunnel_protocols
from isr_proxy.core.chunks import BadChunks
from isr_proxy.core.http import Fields, Request, content_length
from isr_proxy.core.limits import STATUSES
from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import LimitSettings, Network
from isr_proxy.errors import BodyRefused, VisitorGone
from isr_proxy.serve.crowd import Crowd
from isr_proxy.serve.door import Door, Ticket
from isr_proxy.serve.exchange import Exchange, Flow
from isr_proxy.serve.front_parser import new_parser, require_c_parser
from isr_proxy.serve.heard import Heard
from isr_proxy.serve.intake import Intake
from isr_proxy.serve.outcome import Observer
from isr_proxy.serve.pace import Pace
from isr_proxy.serve.refusal import Refusal, limit_broken
from isr_proxy.serve.tunnel import VisitorTunnel
from isr_proxy.serve.wire import HttpExchange, Manners

_log = structlog.get_logger("isr_proxy.front")

_AHEAD_BYTES: Final = 64 * 1024  # of what comes before its turn; more, and reading stops
_UNSENT_BYTES: Final = 64 * 1024
_FOREVER: Final = float("inf")
_DEFAULT_LIMITS: Final = LimitSettings()
HALF_CLOSED_SECONDS: Final = 1.0  # after the visitor closed his side
LINGERING_SECONDS: Final = 2.0  # after we closed ours, with bytes of his still to come
_MAX_LINGERING: Final = 256  # of those who were not let in: a moment each, to take their answer
Handler = Callable[[Exchange], Awaitable[None]]


class Front(Crowd["Connection"]):
    """What all connections of one process share. `handle` answers an Exchange in a task, `begin` without."""

    def __init__(
        self,
        handle: Handler,
        *,
        begin: Callable[[Exchange], Flow | None] = lambda exchange: None,
        limits: LimitSettings = _DEFAULT_LIMITS,
        observer: Observer | None = None,
    ) -> None:
        """`observer` is told of what is refused before anybody could handle it."""
        require_c_parser()
        super().__init__()
        self.handle = handle
        self.begin = begin
        self.limits = limits  # of connections that begin from now on
        self.door = Door()
        self._observer = observer
        self.trusted: tuple[Network, ...] = ()
        self.default_host = "localhost"

    def connection(self, ticket: Ticket | None = None) -> Connection:
        """Make the protocol of a new connection; with a ticket it is counted already."""
        self.watch()
        return Connection(self, asyncio.get_running_loop(), ticket)

    def enter(self, peer: str) -> Ticket | Reason:
        """Let one more connection in, or say why not; where all are taken, the longest idle one gives way."""
        ticket = self.door.enter(peer, self.limits, self.trusted)
        if ticket is Reason.TOO_MANY_CONNECTIONS and self.idle:
            next(iter(self.idle)).give_way()
            ticket = self.door.enter(peer, self.limits, self.trusted)
        return ticket

    def tell(self, refusal: Refusal, scheme: str, peer: str) -> None:
        """Tell of an answer that was given without asking anybody (law 10)."""
        if self._observer is not None:
            self._observer.visited(refusal.outcome(scheme, peer))


class Connection(BaseProtocol):
    """One visitor's connection."""

    def __init__(self, front: Front, loop: asyncio.AbstractEventLoop, ticket: Ticket | None = None) -> None:
        limits = front.limits
        parser = new_parser(self, loop, limits)
        super().__init__(loop, parser)
        self._requests: Any = parser
        self._intake = Intake()
        self._front = front
        self._ticket = ticket
        self.limits = limits
        self.task: asyncio.Task[None] | Flow | None = None
        self._is_serving = False  # the task has begun
        self._tunnel: VisitorTunnel | None = None
        self._ahead = bytearray()  # what came before its turn: behind the request that is answered now
        self._has_eof = False
        self._is_idle = True  # no byte of a request has come
        self._requests_taken = 0
        self._head_bytes = 0  # of the head that is coming in
        self._is_lingering = False
        self._is_broken = False  # where the next request begins cannot be told any more
        self._pace = Pace(limits)
        self._scheme = "http"
        self._peer = ""
        self._protocols: str | None = None  # of an upgrade that is asked for
        self.payload: StreamReader = EMPTY_PAYLOAD
        self.deadline = _FOREVER

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""
        if self.transport is not None and transport.get_extra_info("ssl_object") is not None:
            self._scheme = "https"
            self.transport.set_write_buffer_limits(_UNSENT_BYTES)  # as of TCP alone; of TLS it is more
        ticket = self._ticket or self._front.enter(self._peer)
        if isinstance(ticket, Reason):
            self._turn_away(ticket)
            return
        self._ticket = ticket
        self._front.connections.add(self)
        self.deadline = time.monotonic() + self.limits.head_timeout

    def _turn_away(self, reason: Reason) -> None:
        """Say that there is no room. What he has sent is thrown away for a moment, where that many may."""
        self._answer_error(STATUSES[reason], reason, retry_after=1)
        if len(self._front.turned_away) < _MAX_LINGERING:
            self._front.turned_away.add(self)
            self._is_broken = True
            self._close()
        elif self.transport is not None:
            self.transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        super().connection_lost(exc or ConnectionResetError("the visitor hung up"))
        self._front.forget(self)
        if self._ticket is not None:
            self._ticket.leave()
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
        # TLS ends both ways at once.
        can_answer = self.transport is not None and self.transport.can_write_eof()
        if self._tunnel is not None:
            self._tunnel.feed_eof()
            return can_answer
        self.deadline = time.monotonic() + HALF_CLOSED_SECONDS
        if self.payload is not EMPTY_PAYLOAD and not self.payload.is_eof():
            self.payload.set_exception(VisitorGone("the request body broke off"))
            return False
        return self.task is not None and can_answer

    def data_received(self, data: bytes) -> None:
        if self._is_lingering or self._is_broken:
            return  # nothing behind what was no HTTP can be told to be a request
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
        head, rest = self._intake.head(data)
        messages = self._requests.feed_data(head)[0] if head else ()
        if messages:
            self._begin(*messages[0])
        elif data:
            self._await_head(data)
        return rest

    def _await_head(self, data: bytes) -> None:
        """Note that a part of a head came: it has one deadline, which no further part puts off.

        Line breaks before a head are none of it (RFC 9112 §2.2).
        """
        if self._intake.has_begun:
            self._is_idle = False
            self._front.idle.pop(self, None)
            self.deadline = min(self.deadline, time.monotonic() + self.limits.head_timeout)
        self._head_bytes += len(data)
        if self._head_bytes > self.limits.max_head:
            self._refuse_head(Reason.HEAD_TOO_LARGE)

    def _read_body(self, data: bytes) -> None:
        """Feed the parser what belongs to the body, and set aside what does not."""
        body, rest = self._intake.body(data)
        if not self.payload.is_eof():
            self._requests.feed_data(body)  # empty or not: it may have stopped in the middle
            if self.payload.is_eof():
                self.deadline = self._pace_deadline()
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
        self.deadline = self._pace_deadline()
        if isinstance(self.task, Flow):
            self.task.pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.deadline = self._pace_deadline()
        if isinstance(self.task, Flow):
            self.task.resume()

    def _pace_deadline(self) -> float:
        """Say when to look whether an answer is taken, or a body comes, fast enough: never, if neither is.

        Who is to be closed keeps the deadline that he has.
        """
        if self._is_lingering or self.transport is None or self.transport.is_closing():
            return self.deadline
        if self._paused:
            return self._pace.send_deadline()
        return _FOREVER if self.payload.is_eof() else self._pace.body_deadline(self.payload.total_bytes)

    def _is_taking(self) -> bool:
        return self._pace.is_taking(0 if self.transport is None else self.transport.get_write_buffer_size())

    def expire(self) -> None:
        """Look at who may be too slow. A head, or a body, that did not come in time gets its 408."""
        if self._is_taking():
            self.deadline = self._pace.send_deadline()
            return
        is_body_due = self.task is not None and not self._paused and not self.payload.is_eof()
        if is_body_due and self.payload.exception() is None:
            self._look_at_body()
            return
        is_over = self._is_lingering or self.transport is None or self.transport.is_closing()
        if self.task is None and not self._is_idle and not is_over:
            self._answer_error(408, Reason.HEAD_TIMEOUT)
        self.abort()

    def _look_at_body(self) -> None:
        """Give a body that comes fast enough more time, and whoever reads one that does not an error."""
        if self._reading_paused or self._pace.is_sending(self.payload.total_bytes):
            self.deadline = self._pace_deadline()
            return
        self.deadline = self._pace.send_deadline()  # for the answer that tells him
        error = BodyRefused(Reason.BODY_TIMEOUT.value, f"less than {self.limits.min_rate} bytes a second")
        self.payload.set_exception(error)

    def close_when_idle(self) -> None:
        """Close between requests; who has only just connected may have his first one on the way."""
        if self.task is not None or self.transport is None:
            return
        if self._requests_taken:
            self.transport.close()
        else:
            self.deadline = min(self.deadline, time.monotonic() + HALF_CLOSED_SECONDS)

    def give_way(self) -> None:
        """Close, being idle, so that somebody else can come in at once (RFC 9112 §9.5)."""
        self._front.idle.pop(self, None)
        if self._ticket is not None:
            self._ticket.leave()
        # Whom a goodbye would have to wait for is cut off: his place is taken from now on.
        if self._scheme == "https" or (self.transport is not None and self.transport.get_write_buffer_size()):
            self.abort()
        elif self.transport is not None:
            self.transport.close()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def _begin(self, message: RawRequestMessage, payload: StreamReader) -> None:
        self.payload = payload
        self._is_idle = False
        self._front.idle.pop(self, None)
        self._requests_taken += 1
        self.deadline = _FOREVER if payload.is_eof() else self._pace.body_deadline(0)
        if self._has_eof:
            self.deadline = min(self.deadline, time.monotonic() + HALF_CLOSED_SECONDS)
        if message.chunked:
            self._intake.expect_chunks()
        elif payload is not EMPTY_PAYLOAD:
            self._intake.expect_length(content_length(Fields(message.raw_headers)) or 0)
        elif message.upgrade and message.version >= HttpVersion11:  # RFC 9110 §7.8: not in HTTP/1.0
            # From here on all is raw: nothing more is parsed, whatever comes of it.
            self._protocols = tunnel_protocols(Fields(message.raw_headers))
            self._upgraded = self._protocols is not None
        exchange = self._plain_exchange(message)
        flow = None if exchange is None else self._front.begin(exchange)
        self.task = flow or self._loop.create_task(self._serve(message, exchange))

    def _plain_exchange(self, message: RawRequestMessage) -> HttpExchange | None:
        """Return what may be answered without a task; None: it is looked at in one."""
        if self.payload is not EMPTY_PAYLOAD or message.upgrade or message.method not in ("GET", "HEAD"):
            return None
        request, manners = (
            self._settle(message),
            Manners(message.version >= HttpVersion11, message.should_close),
        )
        return HttpExchange(self, request, manners) if isinstance(request, Request) else None

    async def _serve(self, message: RawRequestMessage, exchange: HttpExchange | None) -> None:
        """Answer one request, then take the next or close."""
        self._is_serving = True
        try:
            request = self._settle(message) if exchange is None else exchange.request
            if not isinstance(request, Request):
                self._answer_error(*request)
                self._end(keep=False)
                return
            # What follows an upgrade that was refused may be in the other protocol already.
            manners = Manners(message.version >= HttpVersion11, message.should_close or message.upgrade)
            exchange = exchange or HttpExchange(self, request, manners)
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

    def _settle(self, message: RawRequestMessage) -> Request | tuple[int, Reason]:
        """Return the request, or what it is refused with."""
        method, lines = self._intake.method or message.method, message.raw_headers
        ours = (self._scheme, self._peer, self.payload is not EMPTY_PAYLOAD, self._protocols)
        heard = Heard(method, message.path, lines, message.version, *ours)
        return heard.settled(self.limits, self._front.trusted, self._front.default_host)

    def _end(self, *, keep: bool) -> None:
        """Finish a request: close, or let the parser take the next."""
        self.task = None
        self._is_serving = False
        if self.transport is None:
            return
        is_over = self._upgraded or self._is_broken or self._front.is_draining
        if not keep or is_over or self.transport.is_closing():
            self._close()
            return
        self.payload = EMPTY_PAYLOAD
        self._is_idle = True
        self._is_taking()
        self.deadline = time.monotonic() + self.limits.idle_timeout
        self._head_bytes = 0
        self._front.idle[self] = None
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
        if self._has_eof or not has_more:
            self.close_tunnel()
            return
        self._is_lingering = True
        self.deadline = time.monotonic() + LINGERING_SECONDS
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self._take_ahead()

    def _refuse(self, error: HttpProcessingError | BadChunks) -> None:
        """Answer what is not HTTP and close: nothing after it can be trusted to be a request."""
        reason = limit_broken(error, self.limits)
        if self._is_serving:
            self._is_broken = True
            why = Reason.BAD_REQUEST if reason is None else reason
            self.payload.set_exception(BodyRefused(why.value, "the body is broken"))
            return
        if self.task is not None:  # broken before anybody has heard of the request
            self.task.cancel()
            self.task = None
        self._refuse_head(reason or Reason.BAD_REQUEST)

    def _refuse_head(self, reason: Reason) -> None:
        self._answer_error(STATUSES.get(reason, 400), reason)
        self._is_broken = True
        self._close()

    def _answer_error(self, status: int, reason: Reason, *, retry_after: int | None = None) -> None:
        if self.transport is not None:
            refusal = Refusal(status, reason, retry_after)
            self._front.tell(refusal, self._scheme, self._peer)
            self.transport.write(refusal.encode())

    # --- what an exchange needs ---

    @property
    def trailers(self) -> Fields:
        return self._intake.trailers

    def write(self, data: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            raise VisitorGone("the visitor hung up")
        self.transport.write(data)

    def done(self, may_keep_alive: Callable[[], bool]) -> None:
        if not self._paused and self.task is not None:
            self._end(keep=may_keep_alive())

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
        most = self.limits.max_requests
        is_last = most is not None and self._requests_taken >= most
        return is_last or self._is_broken or self._front.is_draining

    @property
    def max_body_bytes(self) -> int | None:
        return self._front.limits.max_body

    def write_eof(self) -> bool:
        if self.transport is None or self.transport.is_closing() or not self.transport.can_write_eof():
            return False
        self.transport.write_eof()
        return True

    def close_tunnel(self) -> None:
        """Close once what was written is sent, or has found no taker in time."""
        if self.transport is not None:
            self._is_taking()
            self.deadline = self._pace.send_deadline()
            self.transport.close()

    def hold_reading(self) -> None:
        self._pause_transport_reading()

    def release_reading(self) -> None:
        self._resume_transport_reading()
