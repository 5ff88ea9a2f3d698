"""Passing: the visitor's own request to the origin, and its answer back, streamed both ways.

Knows bodies, trailers, interim responses and upgrades. Must not know the store: nothing that passes is kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from isr_proxy.core.chunks import forwardable
from isr_proxy.core.decision import Pass
from isr_proxy.core.forward import accepts_trailers, forwards_left, visitor_fields
from isr_proxy.core.http import SAFE_METHODS, Fields, Head, Request
from isr_proxy.core.limits import STATUSES
from isr_proxy.core.reason import Reason, XCache
from isr_proxy.core.settings import Settings
from isr_proxy.errors import BodyRefused, OriginError
from isr_proxy.origin.client import Answer, Client, Outgoing
from isr_proxy.origin.outgoing import TAKES_TRAILERS, write_head
from isr_proxy.serve.deliver import Delivery, failure_status
from isr_proxy.serve.exchange import Exchange, Flow
from isr_proxy.serve.known_passes import PassedOn
from isr_proxy.serve.plain_pass import PlainPass
from isr_proxy.serve.relays import Relays
from isr_proxy.serve.respond import forward_status
from isr_proxy.serve.tunnel import join


class Passthrough:
    """Passes requests, as one config says."""

    def __init__(
        self,
        settings: Settings,
        client: Client,
        after: Callable[[Request, Head], Coroutine[Any, Any, None]],
        now: Callable[[], float],
    ) -> None:
        """`after` hears of each answer to a request that may change something, before its visitor does."""
        self._settings = settings
        self._client = client
        self._after = after
        self._now = now
        self._relays = Relays()
        self._telling: set[asyncio.Task[None]] = set()

    def start(self, exchange: Exchange, delivery: Delivery, plan: Pass) -> Flow | None:
        """Pass a plain request without a task, where a connection is at hand; None: `handle` does it."""
        if (again := exchange.passed) is not None:
            return self._begin(exchange, delivery, again)
        request = exchange.request
        is_plain = request.method in ("GET", "HEAD") and not request.has_body and request.upgrade is None
        if not is_plain or b"content-length" in request.fields:  # a body that is said to be empty goes along
            return None
        lines = visitor_fields(request).lines
        hops = TAKES_TRAILERS if accepts_trailers(request) else ()
        host = self._settings.origin.host or request.host
        try:
            head = write_head(request.method, request.target, host, lines, hops)
        except OriginError:
            return None
        exchange.passed = PassedOn(plan, head)
        return self._begin(exchange, delivery, exchange.passed)

    def _begin(self, exchange: Exchange, delivery: Delivery, passed: PassedOn) -> Flow | None:
        plan = passed.plan
        delivery.route = None if plan.match is None else plan.match.route
        flow = PlainPass(exchange, delivery, plan.reason, self._now, self._relays)
        return flow if flow.start(self._client, passed.head) else None

    async def handle(self, exchange: Exchange, delivery: Delivery, reason: Reason) -> Head | None:
        """Pass one request; returns the head of the origin's answer, None where there was none."""
        if forwards_left(exchange.request) == 0:
            delivery.reflect()
            return None
        try:
            answer = await self._client.fetch(self._outgoing(exchange))
        except OriginError as error:
            failed = Reason(error.word)
            delivery.error(failure_status(failed), failed)
            return None
        except BodyRefused as error:
            refused = Reason(error.word)
            delivery.error(STATUSES.get(refused, 400), refused)
            return None
        if exchange.request.method not in SAFE_METHODS:
            await self._tell(exchange.request, answer)
        status = forward_status(reason, status=answer.head.status)
        if answer.head.status == 101:
            await _tunnel(exchange, answer, delivery, status)
        else:
            await delivery.relay(answer, status, XCache.PASS, reason)
        return answer.head

    async def _tell(self, request: Request, answer: Answer) -> None:
        """Have the answer heard to the end, also when its visitor hangs up meanwhile (RFC 9111 §4.4)."""
        task = asyncio.get_running_loop().create_task(self._after(request, answer.head))
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
        try:
            await asyncio.shield(task)
        except BaseException:
            await answer.aclose()
            raise

    def _outgoing(self, exchange: Exchange) -> Outgoing:
        request = exchange.request

        def trailers() -> Fields:
            return forwardable(exchange.trailers(), frozenset())

        return Outgoing(
            request.method,
            request.target,
            self._settings.origin.host or request.host,
            visitor_fields(request),
            exchange.body() if request.has_body else None,
            exchange.body_bytes,
            request.upgrade,
            exchange.interim,
            trailers,
            expects_continue=exchange.expects_continue,
            accepts_trailers=accepts_trailers(request),
        )


async def _tunnel(exchange: Exchange, answer: Answer, delivery: Delivery, status: str) -> None:
    """Join the two raw connections until both have ended, or one broke."""
    origin = answer.tunnel
    assert origin is not None, "a 101 comes with its tunnel"
    try:
        protocol = answer.head.fields.get(b"upgrade") or ""
        visitor = exchange.upgrade(delivery.switched(answer.head, status), protocol)
        try:
            await join(visitor, origin)
        finally:
            visitor.close()
            delivery.record(101, XCache.PASS, Reason.UPGRADE)
    finally:
        origin.close()
        await answer.aclose()
