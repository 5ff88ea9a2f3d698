"""Visitors of parts, where the page is not stored and the origin decides (RFC 9110 §14, RFC 9111 §3.3).

Knows when stored parts answer, when a part is asked for instead of the page, and how a part that comes is
sent. Must not know how one is fetched (part_fetch.py). On ISR routes none of this happens: what the origin
is asked there comes from the key alone (law 4).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from isr_proxy.coord.flight import Flights
from isr_proxy.core.decision import Fetch, Refuse, Serve, Stored
from isr_proxy.core.freshness import Phase, Times, times
from isr_proxy.core.http import Fields, Request, parse_date
from isr_proxy.core.key import Key, variant_of
from isr_proxy.core.partial import key_of_parts, missing, spans_of
from isr_proxy.core.policy import Surroundings, on_request
from isr_proxy.core.ranges import Ask, asked_ranges, if_range_holds
from isr_proxy.core.reason import Reason, XCache
from isr_proxy.core.routes import Match
from isr_proxy.serve.freshening import with_own
from isr_proxy.serve.job import Job, Landed, Lent, Opening, Relayed, Streaming
from isr_proxy.serve.regenerate import Regenerator
from isr_proxy.serve.respond import collapsed_status, forward_status, hit_status, validated_status
from isr_proxy.serve.sharing import own_lines
from isr_proxy.serve.sources import Completion
from isr_proxy.serve.visit import Visit
from isr_proxy.store.base import PENDING, Entry, Found, Store

MAX_AT_ONCE: Final = 8  # fetches of different parts of one page (law 8)


class Parts:
    """What one process does about parts."""

    def __init__(
        self, store: Store, regenerator: Regenerator, flights: Flights[Opening], now: Callable[[], float]
    ) -> None:
        self._store = store
        self._regenerator = regenerator
        self._flights = flights
        self._now = now

    # --- before the page is asked for ---

    def are_absent(self, visit: Visit) -> bool:
        """Tell whether it is known at once that no parts of a page are stored."""
        if not _may_be_in_parts(visit.request, visit.match):
            return True
        return self._store.peek(key_of_parts(visit.asked), visit.request.fields) is None

    async def answer(self, visit: Visit, found: Found, around: Surroundings) -> bool:
        """Answer with stored parts, if they are all that is wanted; notes what is stored in the visit."""
        visit.part, visit.why_not = None, None
        if not _may_be_in_parts(visit.request, visit.match) or self._is_page(found):
            return False
        visit.part = await self._find(visit.asked, visit.request)
        if visit.part is None:
            return False
        visit.wants_whole = visit.wants_whole or self._is_outdated(visit, visit.part)
        ask = _ask(visit)
        if ask is None or not _is_there(visit.part, ask):
            return False
        return await self._decide(visit, visit.part, around)

    async def _decide(self, visit: Visit, part: Entry, around: Surroundings) -> bool:
        """Decide as with a page, but nothing stale is served, as nobody would regenerate it."""
        decision = on_request(visit.request, visit.match, self._stored(part), around)
        match decision:
            case Serve(at, reason):
                self._store.touch(part)
                return await self._serve(visit, part, at, hit_status(at, reason), XCache.HIT, reason)
            case Refuse():
                visit.delivery.refuse(decision)
                return True
            case Fetch(reason):
                visit.why_not = reason
            case _:
                visit.why_not = Reason.STALE
        return False

    async def foresee(
        self, request: Request, key: Key, match: Match, found: Found, around: Surroundings
    ) -> Serve | Refuse | None:
        """Say what stored parts would answer; None: nothing. Does nothing of it."""
        if not _may_be_in_parts(request, match) or self._is_page(found):
            return None
        part, asks = await self._find(key, request), asked_ranges(request.fields)
        if part is None or asks is None or len(asks) > 1 or not _is_there(part, asks[0]):
            return None
        decision = on_request(request, match, self._stored(part), around)
        is_same = _holds(request.fields, part.meta.fields)
        return decision if is_same and isinstance(decision, Serve | Refuse) else None

    def _stored(self, part: Entry) -> Stored:
        return Stored(part.meta, part.state, self._regenerator.verdict(part))

    async def _serve(
        self, visit: Visit, part: Entry, at: Times, status: str, x_cache: XCache, reason: Reason
    ) -> bool:
        route = visit.match.route
        if await visit.delivery.part(part, route, at, status, x_cache, reason):
            return True
        visit.wants_whole = True
        return False

    def _is_page(self, found: Found) -> bool:
        return isinstance(found, Entry) and not self._regenerator.verdict(found).hidden

    async def _find(self, page: Key, request: Request) -> Entry | None:
        key = key_of_parts(page)
        found = self._store.peek(key, request.fields)
        if found is PENDING:
            found = await self._store.lookup(key, request.fields)
        if not isinstance(found, Entry) or found.meta.partial is None:
            return None
        return None if self._regenerator.verdict(found).hidden else found

    def _is_outdated(self, visit: Visit, part: Entry) -> bool:
        """Tell whether fresh parts show that the visitor's If-Range does not hold."""
        stale_at = self._regenerator.verdict(part).stale_at
        at = times(part.meta, part.state, visit.match.route, self._now(), soft_purged_at=stale_at)
        return at.phase is Phase.FRESH and not _holds(visit.request.fields, part.meta.fields)

    # --- asking for it ---

    def refine(self, visit: Visit, decision: Fetch, job: Job) -> tuple[Fetch, Job]:
        """Ask for the visitor's part only, or for what is missing of the page."""
        is_page_only = not _may_be_in_parts(visit.request, visit.match)
        if is_page_only or decision.fallback is not None or self._is_page(job.stored):
            return decision, job
        part, ask = visit.part, _ask(visit)
        if part is not None:
            decision = replace(decision, reason=visit.why_not or Reason.PARTIAL)
        if ask is not None:
            # Parts are of the query that was asked: they have no rule of their own to go by.
            return decision, replace(job, key=visit.asked, ask=ask, part=part, reason=decision.reason)
        if part is not None:
            source = Completion(self._store, part, self._regenerator.verdict)
            return decision, replace(job, reason=decision.reason, source=source)
        return decision, job

    def is_crowded(self, job: Job) -> bool:
        """Tell whether as many parts of a page are being fetched as may."""
        if job.ask is None or self._flights.find(job.identity) is not None:
            return False
        return self._flights.count(replace(job, ask=None).identity) >= MAX_AT_ONCE

    # --- what came ---

    async def deliver(
        self, visit: Visit, decision: Fetch, opening: Opening, *, is_leader: bool
    ) -> bool | Reason | None:
        """Send a part; False: decide again; a Reason: pass; None: what came is not a part."""
        match opening:
            case Streaming() if opening.head.status == 206:
                return await self._read_along(visit, decision, opening, is_leader=is_leader)
            case Landed(entry, said) if entry.meta.partial is not None:
                status = forward_status(decision.reason, status=said, outcome=Reason.STORED)
                told = status if is_leader and said is not None else collapsed_status(decision.reason)
                own = opening.own if is_leader else ()
                return await self._serve_landed(visit, with_own(entry, own), told, Reason.STORED)
            case Lent(entry) if entry.meta.partial is not None:
                told = validated_status(decision.reason, opening.status)
                return await self._serve_landed(visit, entry, told, opening.reason)
            case Relayed() if opening.head.status in (206, 416):
                return await self._relay(visit, decision, opening, is_leader=is_leader)
            case _:
                return None

    async def _read_along(
        self, visit: Visit, decision: Fetch, opening: Streaming, *, is_leader: bool
    ) -> bool | Reason:
        variant = opening.admit.variant
        if variant.names and variant_of(variant.names, visit.request.fields) != variant:
            visit.names = variant.names
            return False
        if opening.writer.is_abandoned:
            return Reason.TOO_LARGE
        said = forward_status(decision.reason, status=206, outcome=Reason.STORED)
        status = said if is_leader else collapsed_status(decision.reason)
        route = visit.match.route
        if is_leader:
            fields = opening.admit.fields.plus(*own_lines(opening, route))
            opening = replace(opening, admit=replace(opening.admit, fields=fields))
        if await visit.delivery.streaming_part(opening, route, status, decision.reason):
            return True
        visit.wants_whole = True
        return False

    async def _serve_landed(self, visit: Visit, entry: Entry, status: str, reason: Reason) -> bool:
        """Serve what a fetch brought, if it is this visitor's variant and no purge came meanwhile."""
        verdict = self._regenerator.verdict(entry)
        if verdict.hidden or entry.variant != variant_of(entry.variant.names, visit.request.fields):
            visit.names = entry.variant.names
            return False
        route = visit.match.route
        at = times(entry.meta, entry.state, route, self._now(), soft_purged_at=verdict.stale_at)
        return await self._serve(visit, entry, at, status, XCache.MISS, reason)

    async def _relay(
        self, visit: Visit, decision: Fetch, opening: Relayed, *, is_leader: bool
    ) -> bool | Reason:
        """Give the leader's visitor the part that is not stored; whoever asked on a condition passes.

        What is true of one part tells nothing of the page, so nothing is remembered.
        """
        answer = opening.take() if is_leader else None
        if answer is None:
            return opening.reason
        if b"if-range" in visit.request.fields:
            await answer.aclose()
            return opening.reason
        status = forward_status(decision.reason, status=answer.head.status, outcome=opening.reason)
        await visit.delivery.relay(answer, status, XCache.MISS, opening.reason)
        return True


def _may_be_in_parts(request: Request, match: Match) -> bool:
    return request.method == "GET" and not match.route.revalidate.is_isr


def _ask(visit: Visit) -> Ask | None:
    """Return the one part that is wanted, None where that is the page."""
    asks = None if visit.wants_whole else asked_ranges(visit.request.fields)
    return asks[0] if asks is not None and len(asks) == 1 else None


def _is_there(part: Entry, ask: Ask) -> bool:
    """Tell whether all that is wanted is stored; what lies outside of the page needs nothing."""
    partial = part.meta.partial
    return partial is not None and missing(spans_of(partial), ask.span(partial.whole_bytes)) is None


def _holds(asked: Fields, said: Fields) -> bool:
    dated_at = parse_date(said.first(b"date"))
    return if_range_holds(asked, said.first(b"etag"), said.first(b"last-modified"), dated_at)
