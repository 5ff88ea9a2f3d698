"""What is answered at once: a page that can be sent as it is, fresh or stale, with no task and no waiting.

Knows which decisions need no I/O, and how a hit becomes ready for the hot lane. Must not know connections,
nor what is done where this is not enough: that is the engine's loop, which decides the same again.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import Final, NamedTuple

from msgspec import structs

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
from isr_proxy.store.opened import FileId, ResidentBodies
from isr_proxy.store.slices import FileSlice

# Of a page that is read from its file each time.
_NOWHERE: Final = ResidentBodies({}, FileId(0, b""))


class AtOnceEnd(Enum):
    """What came of trying to answer at once."""

    SENT = auto()
    NOT_SENT = auto()  # something is stored, or may be
    ABSENT = auto()  # nothing is


class _Seen(NamedTuple):
    """A page that was found, and the purges' epoch before that."""

    request: Request
    plan: LookUp
    entry: Entry
    epoch: int


class _Hit(NamedTuple):
    """A page that is served fresh."""

    request: Request
    entry: Entry
    route: Route
    at: Times
    now: float


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

    def serve(self, request: Request, delivery: Delivery, plan: LookUp) -> AtOnceEnd:
        """Answer, if nothing has to be waited for."""
        epoch = 0 if self._hot is None else self._hot.epochs[0]  # before anything is judged
        found = self._store.peek(plan.key, request.fields)
        if found is None:
            return AtOnceEnd.ABSENT
        if not isinstance(found, Entry) or not covers(found, plan.key):
            return AtOnceEnd.NOT_SENT
        is_sent = self._is_sent(_Seen(request, plan, found, epoch), delivery)
        if is_sent:
            self._store.touch(found)
        return AtOnceEnd.SENT if is_sent else AtOnceEnd.NOT_SENT

    def _is_sent(self, seen: _Seen, delivery: Delivery) -> bool:
        request, plan, found, epoch = seen
        now = self._now()
        stored = Stored(found.meta, found.state, self._verdict(found))
        decision = on_request(request, plan.match, stored, Surroundings(now))
        route = plan.match.route
        match decision:
            case Serve(at, reason):
                hit = _Hit(request, found, route, at, now)
                return self._repeat(delivery, hit, epoch) or delivery.at_once(
                    found, route, at, hit_status(at, reason), XCache.HIT, reason
                )
            case ServeStale(at, reason):
                return delivery.at_once(found, route, at, hit_status(at, reason), XCache.STALE, reason)
            case ServeAndRegenerate(at):
                reason = self._regenerate_behind(
                    Job(plan.key, found.variant, plan.match, found, asked=plan.key)
                )
                return delivery.at_once(found, route, at, hit_status(at, reason), XCache.STALE, reason)
            case _:
                return False

    # --- making it ready ---

    def _repeat(self, delivery: Delivery, hit: _Hit, epoch: int) -> bool:
        """Send a hit that is ready, or make it so."""
        hot, request = self._hot, hit.request
        if hot is None or b"range" in request.fields or not may_repeat(hit.entry, hit.at, hit.now):
            return False
        encoding = pick_encoding(request, hit.entry.meta)
        kind = Kind(hit.entry.variant, encoding, request.method, False)
        ready = self._ready(hot, kind, hit)
        if ready is not None and is_unchanged(request.fields, ready.validators):
            ready = self._ready(hot, kind._replace(is_304=True), hit)
        if ready is None:
            return False
        if not ready.holds(hit.now, epoch):
            ready.renew(hit.at, hit.now, epoch)
        body = whole_body(hit.entry, encoding, delivery.most_at_once) if ready.body_bytes else b""
        return body is not None and delivery.repeat(ready, body, is_plain=is_plain(request, hit.route))

    def _ready(self, hot: HotLane, kind: Kind, hit: _Hit) -> Ready | None:
        return hot.find(hit.entry, hit.route, kind) or _made(hot, kind, hit)


def _made(hot: HotLane, kind: Kind, hit: _Hit) -> Ready | None:
    """Make an answer ready; None where its body is not in memory, or nobody would keep it."""
    entry = hit.entry
    content = entry.bodies.resident(kind.encoding)
    if content is None:
        return None
    head = entry_head(
        entry.meta,
        entry.state,
        hit.route,
        kind.encoding,
        hit.at,
        hit_status(hit.at, Reason.FRESH),
        XCache.HIT,
    )
    has = validators(head, entry.meta)
    if kind.is_304:
        head = not_modified(head)
    is_bodiless = kind.method == "HEAD" or not head.has_body
    body: bytes | FileSlice | None = b"" if is_bodiless else content
    if not hot.is_held(entry):
        body = hot.slice_of(entry, None if is_bodiless else kind.encoding)
        # The lines are in the head, which is ready.
        entry = structs.replace(entry, meta=structs.replace(entry.meta, lines=()), bodies=_NOWHERE)
    if body is None:
        return None
    ready = Ready(entry, hit.route, kind, encode_whole(head, content), body, has)
    hot.keep(ready)
    return ready
