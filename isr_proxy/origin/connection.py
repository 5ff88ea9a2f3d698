"""One HTTP/1.1 connection to an origin: a request out, its answer in, again and again.

Knows the wire: heads, 1xx, bodies, upgrades, deadlines, back-pressure. Must not know other connections,
retries or health: its keeper (the pool) learns only that it is free again, or lost.

    IDLE --begin--> HEAD --> BODY --> IDLE     the answer is whole and the connection may be kept
                     |         `----> CLOSED   anything else
                     `--101--> TUNNEL --> CLOSED

The connection is its keeper's again as soon as the last byte of an answer is in, read or not. One lazy
timer serves all deadlines of all answers: it looks how long ago something moved, and sleeps on.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Protocol, cast

from isr_proxy.core.chunks import NO_TRAILERS, encode_chunk, encode_end
from isr_proxy.core.http import Head
from isr_proxy.core.reason import Reason
from isr_proxy.errors import OriginError, OriginProtocol, OriginReset, OriginTimeout, VisitorGone
from isr_proxy.origin.incoming import Incoming, Receiver
from isr_proxy.origin.outgoing import BODY_EXPECTED, Deadlines, Outgoing
from isr_proxy.origin.parser import (
    END_OF_HEAD,
    HEAD_BYTES_MAX,
    Framing,
    HeadParser,
    Parsed,
    bad_response,
    framing_of,
    keeps_alive,
    require_c_parser,
)

__all__ = ["Connection", "Keeper", "Phase", "require_c_parser"]

IDLE_LIMIT: Final = 15.0  # below the keep-alive of common origins, so that they rarely close first
CONTINUE_LIMIT: Final = 1.0  # many origins know no 100-continue and wait for the body, as curl knows
INTERIMS_MAX: Final = 64  # an endless row of 1xx is no answer
_READ_BYTES: Final = 64 * 1024
TIMER_SLACK: Final = 0.002  # a loop may wake a timer this much early


class Phase(Enum):
    """Where a connection stands."""

    IDLE = "idle"  # nothing is asked
    HEAD = "head"  # asked; the final head is not in
    BODY = "body"  # the head is in, the body is not
    TUNNEL = "tunnel"  # switched protocols: bytes both ways
    CLOSED = "closed"


class Keeper(Protocol):
    """Who owns the connection while it is idle."""

    def give_back(self, connection: Connection) -> None:
        """It may carry the next request."""

    def lost(self, connection: Connection) -> None:
        """It is closed; called once."""


@dataclass(slots=True, eq=False)
class Exchange:
    """One request and its answer, as long as the connection works on them."""

    method: str
    deadlines: Deadlines
    receiver: Receiver
    on_interim: Callable[[Head], None] | None = None  # gets each 1xx but 101
    has_body: bool = False
    upgrade: str | None = None  # the protocol asked for
    framing: Framing | None = None  # once the final head is in
    interims: int = 0
    is_kept: bool = False  # the origin will take another request after this one

    @property
    def ends_with_connection(self) -> bool:
        return self.framing is not None and self.framing.ends_with_connection


class Connection(asyncio.Protocol):
    """Made by the pool; `begin` sends a request, everything else happens when bytes come."""

    def __init__(self, keeper: Keeper, loop: asyncio.AbstractEventLoop) -> None:
        self.phase = Phase.IDLE
        self.is_reused = False
        self.transport: asyncio.Transport | None = None
        self._keeper = keeper
        self._loop = loop
        self._heads = HeadParser(loop)
        self._partial = b""  # of a head
        self._exchange: Exchange | None = None  # set in HEAD, BODY and TUNNEL
        self._sender: asyncio.Task[None] | None = None
        self._permission: asyncio.Event | None = None  # the sender waits for it
        self._drained: asyncio.Future[None] | None = None
        self._is_write_paused = False
        self._is_read_paused = False
        self._is_awaiting_visitor = False  # for more of the request's body
        self._limit = IDLE_LIMIT
        self._active_at = 0.0  # loop time
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Connection {self.phase.value}{' reused' if self.is_reused else ''}>"

    @property
    def is_usable(self) -> bool:
        """Tell whether a request may be sent now."""
        return self.phase is Phase.IDLE and self.transport is not None and not self.transport.is_closing()

    # --- a request ---

    def begin(self, head: bytes, outgoing: Outgoing, deadlines: Deadlines) -> Incoming:
        """Send a request whose head is `head`; the answer arrives in what is returned."""
        incoming, body = Incoming(), outgoing.body
        method, interim, upgrade = outgoing.method, outgoing.on_interim, outgoing.upgrade
        self.ask(head, Exchange(method, deadlines, incoming, interim, body is not None, upgrade))
        if body is not None:
            self._sender = self._loop.create_task(self._send_body(outgoing, body))
        return incoming

    def ask(self, head: bytes, exchange: Exchange) -> None:
        """Send a request's head. OriginReset when the connection is gone; then the receiver hears nothing."""
        transport = self.transport
        if self.phase is not Phase.IDLE or transport is None or transport.is_closing():
            raise OriginReset(Reason.RESET.value, "the connection closed before it was used")
        exchange.receiver.line = self
        self._exchange = exchange
        self._partial = b""
        self.phase = Phase.HEAD
        self._watch(exchange.deadlines.first_byte)
        transport.write(head)

    async def _send_body(self, outgoing: Outgoing, body: AsyncIterator[bytes]) -> None:
        try:
            if outgoing.expects_continue:
                await self._permitted()
            if outgoing.body_bytes is None:
                await self._send_chunked(body, outgoing)
            else:
                await self._send_plain(body, outgoing.body_bytes)
        except OriginReset:
            pass  # an answer may still be on its way in; `connection_lost` tells what became of it
        except Exception as error:
            self._sender = None
            self._fail(error)
        finally:
            self._sender = None
            self._is_awaiting_visitor = False
            self._active_at = self._loop.time()

    async def _permitted(self) -> None:
        """Wait until the origin wants the body, or seems not to know that it is asked (RFC 9110 §10.1.1)."""
        permission = self._permission = asyncio.Event()
        try:
            async with asyncio.timeout(CONTINUE_LIMIT):
                await permission.wait()
        except TimeoutError:
            pass
        finally:
            self._permission = None

    async def _send_chunked(self, body: AsyncIterator[bytes], outgoing: Outgoing) -> None:
        while chunk := await self._next_chunk(body):
            await self._send(encode_chunk(chunk))
        await self._send(encode_end(NO_TRAILERS if outgoing.trailers is None else outgoing.trailers()))

    async def _send_plain(self, body: AsyncIterator[bytes], promised_bytes: int) -> None:
        sent_bytes = 0
        while chunk := await self._next_chunk(body):
            sent_bytes += len(chunk)
            if sent_bytes <= promised_bytes:
                await self._send(chunk)
        if sent_bytes != promised_bytes:
            raise VisitorGone(f"the request's body has {sent_bytes} bytes instead of {promised_bytes}")

    async def _next_chunk(self, body: AsyncIterator[bytes]) -> bytes:
        """Return the visitor's next non-empty chunk, b"" at the end; the origin's clock stands still."""
        self._is_awaiting_visitor = True
        async for chunk in body:
            if chunk:
                self._is_awaiting_visitor = False
                self._active_at = self._loop.time()
                return chunk
        return b""

    async def _send(self, data: bytes) -> None:
        """Write, then wait while the origin does not take more. OriginReset when it is gone."""
        if self.transport is None or self.transport.is_closing():
            raise OriginReset(Reason.RESET.value, "the connection closed while sending")
        self.transport.write(data)
        await self.drain()

    async def drain(self) -> None:
        """Wait while the origin does not take more."""
        while self._is_write_paused:
            self._drained = self._drained or self._loop.create_future()
            await asyncio.shield(self._drained)

    def pause_writing(self) -> None:
        self._is_write_paused = True

    def resume_writing(self) -> None:
        self._is_write_paused = False
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # --- an answer ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._watch(IDLE_LIMIT)

    def data_received(self, data: bytes) -> None:
        self._active_at = self._loop.time()
        exchange = self._exchange
        if exchange is None:
            self.close()  # nobody asked: whatever it is, it must not become the next answer
            return
        try:
            match self.phase:
                case Phase.BODY if exchange.framing is not None:
                    self._read_body(exchange, exchange.framing, data)
                case Phase.TUNNEL:
                    exchange.receiver.feed(data)
                case _:
                    self._read_heads(exchange, data)
            if self._exchange is exchange and self.phase is not Phase.HEAD:
                exchange.receiver.flush()
        except Exception as error:
            self._fail(error)

    def _read_heads(self, exchange: Exchange, data: bytes) -> None:
        """Take heads off the front until the final one is in; what follows belongs to its body.

        Whoever hears the end of a body may ask the next request here at once.
        """
        start = max(0, len(self._partial) - 3)
        data = self._partial + data if self._partial else data
        while self.phase is Phase.HEAD and self._exchange is exchange:
            end = END_OF_HEAD.search(data, start)
            size = len(data) if end is None else end.end()
            if size > HEAD_BYTES_MAX:
                raise bad_response(f"the head is larger than {HEAD_BYTES_MAX} bytes")
            if end is None:
                self._partial = data
                return
            parsed = self._heads.feed(data[:size])
            data, start = data[size:], 0
            if parsed is not None:
                self._take(exchange, parsed, data)

    def _take(self, exchange: Exchange, parsed: Parsed, rest: bytes) -> None:
        """Act on one head; `rest` is what came behind it."""
        message, head = parsed
        if message.code == 101:
            self._switch(exchange, parsed, rest)
        elif message.code >= 200:
            self._start_body(exchange, parsed, rest)
        else:
            exchange.interims += 1
            if exchange.interims > INTERIMS_MAX:
                raise bad_response("too many interim responses")
            if message.code == 100 and self._permission is not None:
                self._permission.set()
            if exchange.on_interim is not None:
                exchange.on_interim(head)

    def _start_body(self, exchange: Exchange, parsed: Parsed, rest: bytes) -> None:
        method, (message, head) = exchange.method, parsed
        framing = exchange.framing = framing_of(method, head)
        # An origin that answers before it has read the request may never read the rest of it, nor may one
        # that expects no body: it would take the body for the next request (CL.0).
        is_read = self._sender is None and (not exchange.has_body or method in BODY_EXPECTED)
        exchange.is_kept = is_read and keeps_alive(method, message)
        if self._sender is not None and self._permission is not None:
            self._sender.cancel()  # it answered without wanting the body
        self.phase = Phase.BODY
        exchange.receiver.begin(head, framing.body_bytes)
        if framing.is_complete:
            self._complete(exchange, is_kept=exchange.is_kept and not rest)
        elif rest:
            self._read_body(exchange, framing, rest)
        if self.phase is Phase.BODY:
            self._watch(exchange.deadlines.between_chunks)

    def _read_body(self, exchange: Exchange, framing: Framing, data: bytes) -> None:
        chunk = framing.feed(data)
        if chunk:
            exchange.receiver.feed(chunk)
        if framing.is_complete:
            self._complete(exchange, is_kept=exchange.is_kept and not framing.has_extra)

    def pause(self) -> None:
        """Read no more of an answer that nobody takes."""
        if not self._is_read_paused and self.transport is not None:
            self._is_read_paused = True
            self.transport.pause_reading()

    def _complete(self, exchange: Exchange, *, is_kept: bool) -> None:
        """The answer is whole: let go of it, and be free or closed."""
        self._detach()
        if is_kept and self.transport is not None and not self.transport.is_closing():
            self.resume()
            self.phase, self.is_reused = Phase.IDLE, True
            self._watch(IDLE_LIMIT)
            self._keeper.give_back(self)
        else:
            self.close()
        exchange.receiver.finish(NO_TRAILERS if exchange.framing is None else exchange.framing.trailers)

    def _detach(self) -> Receiver | None:
        """Part with the exchange; returns its answer, which is whole or failed now."""
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return None
        exchange.receiver.line = None
        return exchange.receiver

    def resume(self) -> None:
        """Read on after a pause."""
        if self._is_read_paused and self.transport is not None:
            self._is_read_paused = False
            self._active_at = self._loop.time()
            self.transport.resume_reading()

    # --- a tunnel ---

    def _switch(self, exchange: Exchange, parsed: Parsed, rest: bytes) -> None:
        if exchange.upgrade is None or "Upgrade" not in parsed.message.headers:
            raise bad_response("it switched protocols without being asked")
        self.phase = Phase.TUNNEL
        if self._timer is not None:  # a tunnel may be silent for as long as it likes
            self._timer.cancel()
            self._timer = None
        exchange.receiver.begin(parsed.head, None)
        if rest:
            exchange.receiver.feed(rest)

    def eof_received(self) -> bool:
        """Keep a tunnel open for writing; anything else closes."""
        if self.phase is not Phase.TUNNEL or self._exchange is None or self.transport is None:
            return False
        self._exchange.receiver.finish()
        return self.transport.get_extra_info("sslcontext") is None

    def hang_up(self) -> None:
        """Close a tunnel once what was written is sent, or has found no taker in time."""
        if self.phase is Phase.TUNNEL and self.transport is not None and self._timer is None:
            self.transport.close()
            self._timer = self._loop.call_later(self._limit, self.close)

    # --- the end ---

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None and self._exchange is not None:
            self._read_rest()
        exchange = self._exchange
        if exchange is None:
            self.close()
        elif exc is None and (self.phase is Phase.TUNNEL or exchange.ends_with_connection):
            self._complete(exchange, is_kept=False)
        else:
            self._fail(self._cut_off(exchange, exc))

    def _read_rest(self) -> None:
        """Take what came before the connection broke.

        An origin that answers early and closes resets the connection on the rest of our request. Writing
        finds that out before reading does, and its answer lies in the socket (RFC 9112 §9.5), which the loop
        closes after it has told us.
        """
        transport = self.transport
        if transport is None or transport.get_extra_info("sslcontext") is not None:
            return
        sock = transport.get_extra_info("socket")
        self._is_read_paused = True  # there is nothing left to pause
        try:
            while self._exchange is not None and (data := os.read(sock.fileno(), _READ_BYTES)):
                self.data_received(data)
        except OSError:
            pass  # nothing more, or nothing to read from

    def _cut_off(self, exchange: Exchange, exc: Exception | None) -> OriginError:
        """Name what the loss of the connection means for the answer."""
        if self.phase is Phase.BODY and exc is None:
            return OriginProtocol(Reason.TRUNCATED.value, "the body ended early", answered=True)
        detail = str(exc or "closed before an answer")
        return OriginReset(Reason.RESET.value, detail, answered=self._has_answered(exchange))

    def _has_answered(self, exchange: Exchange) -> bool:
        """Tell whether a single byte of an answer came."""
        return self.phase is not Phase.HEAD or bool(self._partial or exchange.interims)

    def _fail(self, error: Exception) -> None:
        receiver = self._detach()
        self.close()
        if receiver is not None:
            receiver.fail(error)

    def drop(self) -> None:
        """Nobody wants the rest of the answer, so the connection is of no more use."""
        self._detach()
        self.close()

    def close(self) -> None:
        """Close at once; nothing that matters is left to be sent. Safe to call twice."""
        if self.phase is Phase.CLOSED:
            return
        self.phase = Phase.CLOSED
        receiver = self._detach()
        if receiver is not None:  # not even a body that ends with its connection is whole now
            receiver.fail(OriginReset(Reason.RESET.value, "closed on this side", answered=True))
        for handle in (self._timer, self._sender):
            if handle is not None:
                handle.cancel()
        self._timer = self._sender = None
        self.resume_writing()
        if self.transport is not None:
            self.transport.abort()
        self._keeper.lost(self)

    # --- deadlines ---

    def _watch(self, limit: float) -> None:
        """From now on silence of `limit` seconds is too long."""
        self._limit = limit
        now = self._active_at = self._loop.time()
        if self._timer is not None:
            if self._timer.when() <= now + limit:
                return
            self._timer.cancel()
        self._timer = self._loop.call_at(now + limit, self._look)

    def _look(self) -> None:
        """The timer rang: too long a silence, or sleep on."""
        self._timer = None
        now = self._loop.time()
        is_ours = self._is_read_paused or (self._is_awaiting_visitor and self.phase is Phase.HEAD)
        due_at = now + self._limit if is_ours else self._active_at + self._limit
        if due_at - now > TIMER_SLACK:
            self._timer = self._loop.call_at(due_at, self._look)
        elif self._exchange is None:
            self.close()
        else:
            self._fail(self._too_late(self._exchange))

    def _too_late(self, exchange: Exchange) -> OriginTimeout:
        """Name the deadline that passed."""
        if self.phase is Phase.BODY:
            word, what = Reason.CHUNK_TIMEOUT.value, "no more of the body"
        else:
            word, what = Reason.FIRST_BYTE_TIMEOUT.value, "no answer"
        detail = f"{what} within {self._limit:g} s"
        return OriginTimeout(word, detail, answered=self._has_answered(exchange))
