"""What is answered at once: a page that can be sent as it is, fresh or stale, with no task and no waiting.

Knows which decisions need no I/O, and how a hit becomes ready for the hot lane. Must not know connections,
nor what is done where this is not enough: that is the engine's loop, which decides the same again.
"""

from __future__ import annotations

from collections.abc import Callable

from isr_proxy.core.decision import LookUp, Serve, ServeAndRegenerate, ServeStale, Stored
from isr_proxy.core.freshness import Times
from isr_proxy.core.http import Request
from isr_proxy.core.policy import Surroundings, on_request
from isr_proxy.core.purges import Verdict
from isr_proxy.core.reason import Reason, XCache
from isr_proxy.core.settings import Route
from isr_proxy.serve.deliver import Delivery
from isr_proxy.serve.hot_lane import HotLane, is_plain, may_repeat
from isr_proxy.serve.job import Job
from isr_proxy.serve.ready import Kind, Ready
from isr_proxy.serve.respond import (
    entry_head,
    hit_status,
    is_unchanged,
    not_modified,
    pick_encoding,
    validators,
    whole_body,
)
from isr_proxy.serve.variances import covers
from isr_proxy.serve.wire import encode_whole
from isr_proxy.store.base import Entry, Store


class AtOnce:
    """Answers with what the store has at hand."""

    def __init__(
        self,
        store: Store,
        verdict: Callable[[Entry], Verdict],
        regenerate_behind: Callable[[Job], Reason],
        now: Callable[[], float],
        hot: HotLane | None,
    ) -> None:
        self._store = store
        self._verdict = verdict
        self._regenerate_behind = regenerate_behind
        self._now = now
        self._hot = hot

    def serve(self, request: Request, delivery: Delivery, plan: LookUp) -> bool:
        """Answer, if nothing has to be waited for; False: nothing was sent."""
        epoch = 0 if self._hot is None else self._hot.epochs[0]  # before anything is judged
        found = self._store.peek(plan.key, request.fields)
        if not isinstance(found, Entry) or not covers(found, plan.key):
            return False
        now = self._now()
        stored = Stored(found.meta, found.state, self._verdict(found))
        decision = on_request(request, plan.match, stored, Surroundings(now))
        route = plan.match.route
        match decision:
            case Serve(at, reason):
                is_sent = self._repeat(request, delivery, found, route, at, now, epoch) or delivery.at_once(
                    found, route, at, hit_status(at, reason), XCache.HIT, reason
                )
            case ServeStale(at, reason):
                is_sent = delivery.at_once(found, route, at, hit_status(at, reason), XCache.STALE, reason)
            case ServeAndRegenerate(at):
                reason = self._regenerate_behind(
                    Job(plan.key, found.variant, plan.match, found, asked=plan.key)
                )
                is_sent = delivery.at_once(found, route, at, hit_status(at, reason), XCache.STALE, reason)
            case _:
                return False
        if is_sent:
            self._store.touch(found)
        return is_sent

    # --- making it ready ---

    def _repeat(
        self,
        request: Request,
        delivery: Delivery,
        entry: Entry,
        route: Route,
        at: Times,
        now: float,
        epoch: int,
    ) -> bool:
        """Send a hit that is ready, or make it so."""
        hot = self._hot
        if hot is None or b"range" in request.fields or not may_repeat(entry, at, now):
            return False
        ready = self._ready(hot, request, entry, route, at, delivery.most_at_once)
        if ready is None:
            return False
        if not ready.holds(now, epoch):
            ready.renew(at, now, epoch)
        return delivery.repeat(ready, is_plain=is_plain(request, route))

    def _ready(
        self, hot: HotLane, request: Request, entry: Entry, route: Route, at: Times, most_bytes: int
    ) -> Ready | None:
        kind = Kind(entry.variant, pick_encoding(request, entry.meta), request.method, False)
        whole = hot.find(entry, route, kind) or self._make(hot, entry, route, kind, at, most_bytes)
        if whole is None or not is_unchanged(request.fields, whole.validators):
            return whole
        kind = kind._replace(is_304=True)
        return hot.find(entry, route, kind) or self._make(hot, entry, route, kind, at, most_bytes)

    def _make(
        self, hot: HotLane, entry: Entry, route: Route, kind: Kind, at: Times, most_bytes: int
    ) -> Ready | None:
        """Make an answer ready; None where its body cannot be sent at once, or nobody would keep it."""
        body = whole_body(entry, kind.encoding, most_bytes)
        if body is None or not hot.may_keep(entry):
            return None
        status = hit_status(at, Reason.FRESH)
        head = entry_head(entry.meta, entry.state, route, kind.encoding, at, status, XCache.HIT)
        has = validators(head, entry.meta)
        if kind.is_304:
            head = not_modified(head)
        is_bodiless = kind.method == "HEAD" or not head.has_body
        ready = Ready(entry, route, kind, encode_whole(head, body), b"" if is_bodiless else body, has)
        hot.keep(ready)
        return ready
