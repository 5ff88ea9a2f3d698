"""A connection that knows heads: what came before, byte for byte, is neither parsed nor decided again.

Knows the hot lane's answers, what is passed on again, and the lines that are said again about another page.
Must not know parsing, nor when a request begins: `_known` is the table of heads only while nothing but a
whole head may come.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Mapping
from sys import maxsize
from typing import Any, Final

from aiohttp.http_writer import HttpVersion11
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from isr_proxy.core.arrival import is_in
from isr_proxy.core.http import Request
from isr_proxy.serve.front_parser import PLAIN, Message
from isr_proxy.serve.hot_lane import NO_HEADS, Known
from isr_proxy.serve.known_lines import KnownLines
from isr_proxy.serve.known_passes import KnownPass
from isr_proxy.serve.link import JOIN_BYTES, Link
from isr_proxy.serve.loans import PIECE_BYTES
from isr_proxy.serve.shared import Shared
from isr_proxy.serve.wire import HttpExchange, Manners, Wire

GOES_ON: Final = Manners(is_http11=True, wants_close=False)


class Knowing(Link):
    """One visitor's connection, as far as it knows what he sends."""

    def __init__(self, front: Shared[Any], loop: asyncio.AbstractEventLoop) -> None:
        limits = front.limits
        super().__init__(loop, limits, front.loans)
        self.requests_taken = 0
        self._front = front
        self._message: Message | None = None  # the head of the request that is answered now
        self._heads: Mapping[bytes, Known | KnownPass] = NO_HEADS  # that are known on such a connection
        # The same, while nothing but a whole head may come.
        self._known: Mapping[bytes, Known | KnownPass] = NO_HEADS
        self._lines: KnownLines | None = None  # of such connections
        self._raw: bytes | None = None  # the head that is answered now, if it came by itself
        self._most_known = maxsize if limits.max_requests is None else limits.max_requests - 1
        self._grace = limits.idle_timeout + 1.0  # deadlines are looked at once a second

    def reconfigured(self) -> None:
        """Look for known heads where those of such a connection are; other limits refuse other heads."""
        front = self._front
        self._heads, self._lines = NO_HEADS, None
        if front.hot is not None and not front.is_draining and self.limits == front.limits:
            self._heads = front.hot.heads(self._scheme, is_trusted=is_in(self._peer, front.trusted))
            self._lines = front.lines
        if self._known is not NO_HEADS:
            self._known = self._heads

    def _answer_again(self, known: Known) -> bool:
        """Send what a known head gets; False where it must be decided anew (the hot lane)."""
        front, ready, transport = self._front, known.ready, self.transport
        hot = front.hot
        if hot is None or transport is None or self.requests_taken >= self._most_known:
            return False
        sent_bytes, file = ready.body_bytes, ready.file
        if sent_bytes > PIECE_BYTES and sent_bytes > self.most_at_once:
            return False
        now = front.now()
        is_same = (
            ready.since <= now <= ready.until
            and ready.sequence == hot.epochs[0]
            and ready.stamp == hot.stamps[ready.place]
        )
        if not (is_same or hot.renew(ready, now)):
            return False
        body: bytes | memoryview | None = ready.body if file is None else file.read()
        if body is None:
            hot.forget(ready.entry.key.digest)  # it is another page by now, or must be waited for
            return False
        self.requests_taken += 1
        if self.requests_taken == 1:
            front.idle[self] = 1
        self.deadline = front.looked_at + self._grace
        if sent_bytes <= JOIN_BYTES:
            transport.write(ready.head + body)
        else:
            transport.writelines((ready.head, body))
        ready.hits += 1
        repeats = known.repeats
        repeats.count += 1
        repeats.sent_bytes += sent_bytes
        if known.each is not None:
            known.each(self._client if known.client is None else known.client)
        return True

    def _pass_again(self, known: KnownPass) -> bool:
        """Pass a known request on as it was before; False where it must be looked at anew."""
        if known.peer != self._peer or self.requests_taken >= self._most_known:
            return False
        known.is_used = True
        self._raw = None
        self._begin(PLAIN, EMPTY_PAYLOAD)
        self._answer(HttpExchange(self._wire, known.request, GOES_ON, known.passed))
        return True

    def _hear_again(self, head: bytes) -> bool:
        """Take a request whose lines are known, but for the first; False where it has to be parsed."""
        request = None if self._lines is None else self._lines.find(head, self._scheme, self._peer)
        if request is None:
            return False
        self._raw = head
        self._begin(PLAIN, EMPTY_PAYLOAD)
        self._answer(HttpExchange(self._wire, request, GOES_ON))
        return True

    def _learn_lines(self, request: Request) -> None:
        """Remember which request a head is that came by itself."""
        if self._lines is not None and self._raw is not None:
            self._lines.remember(self._raw, self._scheme, self._peer, request)

    def _learn(self, exchange: HttpExchange) -> None:
        """Remember which answer this head gets."""
        heads, hot, raw, ready = self._heads, self._front.hot, self._raw, exchange.ready
        if hot is not None and isinstance(heads, dict) and raw is not None and ready is not None:
            hot.learn(heads, raw, *ready)

    def _learn_pass(self, exchange: HttpExchange) -> None:
        """Remember what is passed on for this head."""
        heads, hot, raw, passed = self._heads, self._front.hot, self._raw, exchange.passed
        if hot is None or raw is None or passed is None or self._message is None:
            return
        if self._message.version < HttpVersion11:  # whose answers are framed otherwise
            return
        if isinstance(heads, dict) and exchange.may_keep_alive():
            hot.learn_pass(heads, raw, KnownPass(exchange.request, passed, self._peer))

    # --- a request ---

    @abstractmethod
    def _begin(self, message: Message, payload: StreamReader) -> None:
        """Note that a head is whole, and that its request is answered from now on."""

    @abstractmethod
    def _answer(self, exchange: HttpExchange) -> None:
        """Answer one request at once, or have a task do it; then take the next or close."""

    @property
    @abstractmethod
    def _wire(self) -> Wire:
        """Return this connection, as an exchange sees it."""
