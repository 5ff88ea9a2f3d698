"""One visitor's connection, over aiohttp's C request parser.

Knows bytes: heads, bodies, keep-alive, pipelining, deadlines, upgrades. Must not know routes, entries or
decisions; a complete head becomes an Exchange and goes to the handler it was given.

One request at a time: what follows it on the wire is kept, unparsed, until it is answered and the answer is
taken; the Intake tells where it ends. Three lanes answer it, and all of them say the same bytes: a head that
is known gets what is ready for it (hot: knowing.py), what takes no waiting is answered where it is parsed
(warm), a task does the rest (cold). Private to aiohttp and used here: its request parser's
`message_consumed`, and `BaseProtocol`'s flow control.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_writer import HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from isr_proxy.core.arrival import tunnel_protocols
from isr_proxy.core.chunks import BadChunks
from isr_proxy.core.http import Fields, Request, content_length
from isr_proxy.core.limits import STATUSES
from isr_proxy.core.reason import Reason
from isr_proxy.errors import BodyRefused, VisitorGone
from isr_proxy.serve.door import Ticket
from isr_proxy.serve.exchange import Flow
from isr_proxy.serve.front_parser import Message, new_parser
from isr_proxy.serve.heard import Heard
from isr_proxy.serve.hot_lane import NO_HEADS, Known
from isr_proxy.serve.intake import Intake
from isr_proxy.serve.knowing import GOES_ON, Knowing
from isr_proxy.serve.link import FOREVER
from isr_proxy.serve.refusal import Refusal, limit_broken
from isr_proxy.serve.shared import Shared
from isr_proxy.serve.tunnel import VisitorTunnel
from isr_proxy.serve.wire import HttpExchange, Manners

_log = structlog.get_logger("isr_proxy.front")

HALF_CLOSED_SECONDS: Final = 1.0  # after the visitor closed his side
_MAX_LINGERING: Final = 256  # of those who were not let in: a moment each, to take their answer
_AT_ONCE: Final = 16  # requests in a row, before others have their turn


class Connection(Knowing):
    """One visitor's connection."""

    def __init__(
        self, front: Shared[Connection], loop: asyncio.AbstractEventLoop, ticket: Ticket | None = None
    ) -> None:
        super().__init__(front, loop)
        self._requests: Any = new_parser(self, loop, front.limits)
        self._parser = self._requests
        self._intake = Intake()
        self._ticket = ticket
        self._is_serving = False  # somebody has heard of it
        self._tunnel: VisitorTunnel | None = None
        self._has_eof = False
        self._is_idle = True  # no byte of a request has come
        self._head_bytes = 0  # of the head that is coming in
        self._is_broken = False  # where the next request begins cannot be told any more
        self._protocols: str | None = None  # of an upgrade that is asked for

    # --- the transport's side ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        ticket = self._ticket or self._front.enter(self._peer)
        if isinstance(ticket, Reason):
            self._turn_away(ticket)
            return
        self._ticket = ticket
        self._front.connections.add(self)
        self.deadline = time.monotonic() + self.limits.head_timeout
        self.reconfigured()
        self._known = self._heads

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
        self._loan.is_now(0)
        if self._ticket is not None:
            self._ticket.leave()
        self.deadline = FOREVER
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
        return (self._message is not None or bool(self._ahead)) and can_answer

    def data_received(self, data: bytes) -> None:
        known = self._known.get(data)
        if known is not None and (
            self._answer_again(known) if isinstance(known, Known) else self._pass_again(known)
        ):
            return
        if self._is_lingering or self._is_broken:
            return  # nothing behind what was no HTTP can be told to be a request
        if self._tunnel is not None:
            self._tunnel.feed(data)
            return
        if self._upgraded or (self._ahead and self._message is None):
            self._keep(data)
            return
        self._read(data)
        self._go_on()

    def _read(self, data: bytes) -> None:
        """Take what came of the request that is answered now, or of the one that comes."""
        try:
            if self._message is not None:
                self._read_body(data)
                return
            if not self._intake.has_begun and self._hear_again(data):
                return
            message, rest = self._read_head(data)
            if message is not None:
                self._read_body(rest)
                self._serve(message)
        except (HttpProcessingError, BadChunks) as error:
            self._refuse(error)

    def _read_head(self, data: bytes) -> tuple[Message | None, bytes]:
        """Feed the parser what belongs to the head; returns it once it is whole, and what follows it."""
        is_all = not self._intake.has_begun
        head, rest = self._intake.head(data)
        messages = self._requests.feed_data(head)[0] if head else ()
        if not messages:
            if data:
                self._await_head(data)
            return None, rest
        message, payload = messages[0]
        self._head_bytes += len(head)
        self._begin(message, payload)
        self._raw = data if is_all and not rest and payload is EMPTY_PAYLOAD else None
        return message, rest

    def _go_on(self) -> None:
        """Answer what came meanwhile, a few requests at a time: others must have their turn."""
        for _ in range(_AT_ONCE):
            if not (self._ahead and self._is_idle):
                break
            self._read(self._take_ahead())
        else:
            if self._ahead and self._is_idle:
                self.task = self._loop.create_task(self._go_on_later())
            return
        if self._has_eof and self._message is None and not self._is_over:
            self.close_tunnel()

    async def _go_on_later(self) -> None:
        self.task = None
        self._go_on()

    def _await_head(self, data: bytes) -> None:
        """Note that a part of a head came: it has one deadline, which no further part puts off.

        Line breaks before a head are none of it (RFC 9112 §2.2).
        """
        self._known = NO_HEADS
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

    def pause_writing(self) -> None:
        super().pause_writing()
        self._known = NO_HEADS
        self._front.idle.pop(self, None)
        self._is_taking()
        self.deadline = self._pace_deadline()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._loan.is_now(0)
        self.deadline = self._pace_deadline()
        if self._is_idle and not self._ahead and not self._is_over:
            self._known = self._heads
            self._front.idle[self] = self.requests_taken
            self.deadline = time.monotonic() + self.limits.idle_timeout

    def expire(self) -> None:
        """Look at who may be too slow. A head, or a body, that did not come in time gets its 408."""
        if self._is_taking():
            self.deadline = self._pace.send_deadline()
            return
        is_body_due = self._message is not None and not self._paused and not self.payload.is_eof()
        if is_body_due and self.payload.exception() is None:
            self._look_at_body()
            return
        if self._message is None and not self._is_idle and not self._is_over:
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
        self._known = self._heads = NO_HEADS
        if self._message is not None or self.task is not None or self.transport is None:
            return
        if self.requests_taken:
            self.transport.close()
        else:
            self.deadline = min(self.deadline, time.monotonic() + HALF_CLOSED_SECONDS)

    def give_way(self) -> None:
        """Close, being idle, so that somebody else can come in at once (RFC 9112 §9.5)."""
        self._known = NO_HEADS
        self._front.idle.pop(self, None)
        if self._ticket is not None:
            self._ticket.leave()
        # Whom a goodbye would have to wait for is cut off: his place is taken from now on.
        if self._scheme == "https" or (self.transport is not None and self.transport.get_write_buffer_size()):
            self.abort()
        elif self.transport is not None:
            self.transport.close()

    # --- requests ---

    def _begin(self, message: Message, payload: StreamReader) -> None:
        self.payload = payload
        self._message = message
        self._is_idle = False
        self._known = NO_HEADS
        self._front.idle.pop(self, None)
        self.requests_taken += 1
        self.deadline = FOREVER if payload.is_eof() else self._pace.body_deadline(0)
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

    def _serve(self, message: Message) -> None:
        """Answer one request at once, or have a task do it; then take the next or close."""
        request = self._settle(message)
        if not isinstance(request, Request):
            self._answer_error(*request)
            self._end(keep=False)
            return
        # What follows an upgrade that was refused may be in the other protocol already.
        wants_close = message.should_close or message.upgrade
        manners = GOES_ON
        if wants_close or message.version < HttpVersion11:
            manners = Manners(message.version >= HttpVersion11, wants_close)
        else:
            self._learn_lines(request)
        self._answer(HttpExchange(self, request, manners))

    def _answer(self, exchange: HttpExchange) -> None:
        self._is_serving = True
        try:
            rest = self._front.handle(exchange)
        except Exception as error:
            self._fail(exchange, error)
            return
        if rest is None and not self._paused:
            self._learn(exchange)
            self._end(keep=exchange.may_keep_alive())
        elif isinstance(rest, Flow):
            self.task = rest
            self._learn_pass(exchange)
        else:
            self.task = self._loop.create_task(self._finish(exchange, rest))

    def carry_on(self, exchange: HttpExchange, rest: Coroutine[Any, Any, None]) -> None:
        if self.transport is None or self.transport.is_closing():
            rest.close()  # a task would be cancelled before it begins
            raise VisitorGone("the visitor hung up")
        self.task = self._loop.create_task(self._finish(exchange, rest))

    async def _finish(self, exchange: HttpExchange, rest: Coroutine[Any, Any, None] | None) -> None:
        """Do what has to be waited for, and wait until the visitor has taken his answer (the cold lane)."""
        try:
            if rest is not None:
                await rest
            await self.drained()
        except Exception as error:
            self._fail(exchange, error)
        else:
            self._end(keep=exchange.may_keep_alive())
        self._go_on()

    def done(self, may_keep_alive: Callable[[], bool]) -> None:
        if not self._paused and self._message is not None:
            self._end(keep=may_keep_alive())
            self._go_on()

    def _fail(self, exchange: HttpExchange, error: Exception) -> None:
        """End what could not be answered, or not to its end."""
        if not isinstance(error, VisitorGone | ConnectionError):
            _log.error("request failed", target=exchange.request.target, exc_info=error)
            if not exchange.has_started:
                self._answer_error(500, Reason.INTERNAL)
        self._end(keep=False)

    def _settle(self, message: Message) -> Request | tuple[int, Reason]:
        """Return the request, or what it is refused with."""
        heard = Heard(
            self._intake.method or message.method,
            message.path,
            message.raw_headers,
            message.version,
            self._scheme,
            self._peer,
            self.payload is not EMPTY_PAYLOAD,
            self._protocols if self._upgraded else None,
            self._head_bytes,
        )
        return heard.settled(self.limits, self._front.trusted, self._front.default_host)

    def _end(self, *, keep: bool) -> None:
        """Finish a request: close, or let the parser take the next."""
        self.task = None
        self._message = None
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
        self._front.idle[self] = self.requests_taken
        self._requests.message_consumed()
        self._intake.begin()
        if not self._ahead:
            self._known = self._heads
            self._take_ahead()

    def _close(self) -> None:
        """Close; what the visitor is still sending is thrown away for a moment, as closing on it would reset
        the connection and could take the answer from him (RFC 9112 §9.6)."""
        if self.transport is None or self.transport.is_closing():
            return
        has_more = self._ahead or self._is_broken or not self.payload.is_eof()
        if self._has_eof or not has_more:
            self.close_tunnel()
            return
        self._linger()

    def _refuse(self, error: HttpProcessingError | BadChunks) -> None:
        """Answer what is not HTTP and close: nothing after it can be trusted to be a request."""
        reason = limit_broken(error, self.limits)
        if self._is_serving:
            self._is_broken = True
            why = Reason.BAD_REQUEST if reason is None else reason
            self.payload.set_exception(BodyRefused(why.value, "the body is broken"))
            return
        self._message = None  # broken before anybody has heard of the request
        self._refuse_head(reason or Reason.BAD_REQUEST)

    def _refuse_head(self, reason: Reason) -> None:
        self._known = NO_HEADS
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
    def _wire(self) -> Connection:
        return self

    @property
    def trailers(self) -> Fields:
        return self._intake.trailers

    def open_tunnel(self) -> VisitorTunnel:
        self._tunnel = VisitorTunnel(self)
        self.deadline = FOREVER
        if ahead := self._take_ahead():
            self._tunnel.feed(ahead)
        if self._has_eof:
            self._tunnel.feed_eof()
        return self._tunnel

    @property
    def is_ending(self) -> bool:
        most = self.limits.max_requests
        is_last = most is not None and self.requests_taken >= most
        return is_last or self._is_broken or self._front.is_draining

    @property
    def max_body_bytes(self) -> int | None:
        return self._front.limits.max_body
