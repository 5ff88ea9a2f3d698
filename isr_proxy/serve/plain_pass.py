"""A pass without a task: a plain request goes to the origin, and its answer back, as the bytes come.

Knows what is passed on, piece by piece, and how the visitor's pace holds the origin back. Must not know
bodies of requests, upgrades, or how a connection is found: whatever is not plain is passthrough.py's. What a
visitor gets, and what is told of it, is the same both ways.
"""

from __future__ import annotations

from collections.abc import Callable

import structlog

from isr_proxy.core.chunks import NO_TRAILERS
from isr_proxy.core.http import Fields, Head, content_length
from isr_proxy.core.reason import Reason, XCache
from isr_proxy.errors import OriginError, VisitorGone
from isr_proxy.origin.client import Call, Client, Question
from isr_proxy.serve.deliver import Delivery, failure_status
from isr_proxy.serve.exchange import Exchange, Flow
from isr_proxy.serve.relays import Relays
from isr_proxy.serve.respond import forward_status, relayed_trailers

_log = structlog.get_logger("isr_proxy.pass")


class PlainPass(Flow):
    """One request on its way, from `start` to the one Outcome."""

    __slots__ = (
        "_call",
        "_delivery",
        "_exchange",
        "_head",
        "_is_held",
        "_now",
        "_reason",
        "_relays",
        "_sent_bytes",
    )

    def __init__(
        self,
        exchange: Exchange,
        delivery: Delivery,
        reason: Reason,
        now: Callable[[], float],
        relays: Relays,
    ) -> None:
        self._exchange = exchange
        self._delivery = delivery
        self._reason = reason
        self._now = now
        self._relays = relays
        self._call: Call | None = None  # until the end
        self._head: Head | None = None  # of the answer, once it came
        self._sent_bytes = 0
        self._is_held = False  # the visitor takes no more for now

    def start(self, client: Client, head: bytes) -> bool:
        """Ask at once, where a connection is at hand; False: nothing is done."""
        question = Question(self._exchange.request.method, head, self._exchange.interim)
        self._call = client.call(question, self)
        return self._call is not None

    # --- the origin's side (Taker) ---

    def begin(self, head: Head, body_bytes: int | None) -> None:
        exchange, self._head = self._exchange, head
        if exchange.request.method == "HEAD":
            body_bytes = content_length(head.fields)  # repeated, though no body follows
        status = forward_status(self._reason, status=head.status)
        exchange.hold()  # what came with the head goes with it
        relay = self._relays.of(head, status, self._now())
        exchange.start(relay.head, body_bytes, relay.written)

    def feed(self, chunk: bytes) -> None:
        self._exchange.hold()
        self._exchange.push(chunk)
        self._sent_bytes += len(chunk)

    def flush(self) -> None:
        if self._call is None:
            return
        try:
            self._exchange.release()
        except VisitorGone:
            self.cancel()
        else:
            self._hold_back()

    def finish(self, trailers: Fields = NO_TRAILERS) -> None:
        head = self._head
        if self._call is None or head is None:
            return
        self._call = None
        try:
            self._exchange.finish(relayed_trailers(head, trailers))
        except VisitorGone:
            self._delivery.gone()
        else:
            self._delivery.record(head.status, XCache.PASS, self._reason, self._sent_bytes)
        self._exchange.done()

    def fail(self, error: Exception) -> None:
        if self._call is None:
            return
        self._call = None
        reason = Reason(error.word) if isinstance(error, OriginError) else Reason.INTERNAL
        if reason is Reason.INTERNAL:
            _log.error("pass failed", target=self._exchange.request.target, exc_info=error)
        try:
            self._tell(reason)
        except VisitorGone:
            self._delivery.gone()
        self._exchange.done()

    def _tell(self, reason: Reason) -> None:
        """Say that nothing comes; a body that breaks off cuts the connection, so it never looks whole."""
        if self._head is None:
            self._delivery.error(failure_status(reason), reason)
        else:
            self._exchange.release()
            self._exchange.abort()
            self._delivery.record(self._head.status, XCache.ERROR, reason, self._sent_bytes)

    # --- the visitor's side (Flow) ---

    def cancel(self) -> None:
        call, self._call = self._call, None
        if call is not None:
            call.close()
            self._delivery.gone()

    def pause(self) -> None:
        self._is_held = True
        self._hold_back()

    def resume(self) -> None:
        self._is_held = False
        if self._call is None:
            self._exchange.done()
        elif self._call.line is not None:
            self._call.line.resume()

    def _hold_back(self) -> None:
        if self._is_held and self._call is not None and self._call.line is not None:
            self._call.line.pause()
