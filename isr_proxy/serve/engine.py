"""The loop: decide, one I/O, decide again, until the visitor is answered.

Knows how each Decision is carried out. Must not know why it was taken (core/policy.py), how the origin is
asked for the store (regenerate.py), or what a connection is (front.py).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any, Final, Protocol, assert_never

import structlog

from isr_proxy.coord.base import Leases, PurgeLog
from isr_proxy.coord.eager import EagerTask
from isr_proxy.coord.flight import Flight
from isr_proxy.core.admission import Asked, is_personal, on_response
from isr_proxy.core.decision import (
    Admit,
    Decision,
    Fetch,
    LookUp,
    Pass,
    Plan,
    Refuse,
    Serve,
    ServeAndRegenerate,
    ServeShell,
    ServeStale,
    Stored,
    VaryMissed,
)
from isr_proxy.core.freshness import Times, remaining, times
from isr_proxy.core.http import Head, Line, Request, content_length
from isr_proxy.core.key import PLAIN, variant_of
from isr_proxy.core.policy import Surroundings, on_arrival, on_request
from isr_proxy.core.reason import Reason, XCache
from isr_proxy.core.routes import Match, RouteTable
from isr_proxy.core.settings import Settings
from isr_proxy.core.variants import is_for
from isr_proxy.errors import VisitorGone
from isr_proxy.origin.client import Client
from isr_proxy.serve.at_once import AtOnce, AtOnceEnd
from isr_proxy.serve.boarding import Boarding, Full
from isr_proxy.serve.deliver import Delivery
from isr_proxy.serve.exchange import Exchange, Flow
from isr_proxy.serve.freshening import with_own
from isr_proxy.serve.hot_lane import HotLane, HotTier
from isr_proxy.serve.job import Broken, Job, Landed, Lent, Opening, Relayed, Streaming, is_for_one
from isr_proxy.serve.outcome import Observer
from isr_proxy.serve.part_fetch import PartFetcher
from isr_proxy.serve.parts import Parts
from isr_proxy.serve.passthrough import Passthrough
from isr_proxy.serve.regenerate import Regenerator
from isr_proxy.serve.respond import collapsed_status, forward_status, hit_status, validated_status
from isr_proxy.serve.sharing import (
    for_leader,
    is_his_too,
    landed_status,
    opening_of,
    own_lines,
    streaming_status,
)
from isr_proxy.serve.shells import Shells
from isr_proxy.serve.showing import relay_own, show_at_once, show_failure
from isr_proxy.serve.visit import Boarded, Foreseen, Visit
from isr_proxy.serve.waiting import Waiting
from isr_proxy.store.base import Entry, Found, Store, VaryMiss

_log = structlog.get_logger("isr_proxy.engine")

_MAX_ROUNDS: Final = 4  # of one request, each having learned a name that the answer varies on


class Answerer(Protocol):
    """Answers an exchange by itself."""

    async def handle(self, exchange: Exchange, delivery: Delivery) -> None: ...


class Engine:
    """Answers visitors. One a process; everything it shares lives in what it is given."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        purges: PurgeLog,
        client: Client,
        observer: Observer,
        now: Callable[[], float],
        leases: Leases,
        hot_tier: HotTier | None = None,
    ) -> None:
        self.settings = settings
        self.routes = RouteTable(settings.routes)
        self.store = store
        self.purges = purges
        self._observer = observer
        self._now = now
        self._regenerator = Regenerator(settings, store, purges, client, observer, now)
        self._passthrough = Passthrough(settings, client, self._passed, self._now)
        parts = PartFetcher(self._regenerator, store, purges, observer, now, leases)
        self._boarding = Boarding(
            parts.fly, purges, leases, now, lambda: self.settings.origin.regenerate_timeout
        )
        self.purged = self._boarding.purged
        self.variances = self._regenerator.variances
        self.flights = self._boarding.flights
        self._parts = Parts(store, self._regenerator, self.flights, now)
        verdict = self._regenerator.verdict
        self.hot = None if hot_tier is None else HotLane(hot_tier, purges.epochs, observer, verdict)
        self._at_once = AtOnce(store, verdict, self.regenerate_behind, now, self.hot)
        self._shells = Shells(self.variances, self._boarding, verdict, self.regenerate_behind, now)
        self.purge_method: Answerer | None = None
        self.after_pass: Callable[[Request, Head], Awaitable[None]] = _nothing
        self.prerendered: Callable[[Match, str], bool] = lambda match, path: False

    def reconfigure(self, settings: Settings, client: Client) -> None:
        """Take new settings and the client made from them: they count from the next request on."""
        self.settings = settings
        self.routes = RouteTable(settings.routes)
        self._regenerator.reconfigure(settings, client)
        self._passthrough = Passthrough(settings, client, self._passed, self._now)
        if self.hot is not None:
            self.hot.clear()

    async def _passed(self, request: Request, head: Head) -> None:
        await self.after_pass(request, head)

    def begin(self, exchange: Exchange) -> Coroutine[Any, Any, None] | Flow | None:
        """Answer at once where that takes no waiting; else return what answers: by itself, or as a task.

        All raise VisitorGone only.
        """
        delivery = Delivery(exchange, self._observer, self._now)
        if exchange.request.method == "PURGE" and self.purge_method is not None:
            return self._told(delivery, self.purge_method.handle(exchange, delivery))
        again = exchange.passed
        plan = on_arrival(exchange.request, self.settings, self.routes) if again is None else again.plan
        flow: Flow | None = None
        if isinstance(plan, Pass):
            flow = self._passthrough.start(exchange, delivery, plan)
        elif isinstance(plan, LookUp):
            match self._serve_at_once(exchange, delivery, plan):
                case AtOnceEnd.SENT:
                    return None
                case AtOnceEnd.ABSENT:
                    flow = self._wait(Visit(exchange, delivery, plan.key, plan.match))
                case AtOnceEnd.NOT_SENT:
                    pass
        return flow or self._told(delivery, self._answer(exchange, delivery, plan))

    def _serve_at_once(self, exchange: Exchange, delivery: Delivery, plan: LookUp) -> AtOnceEnd:
        delivery.route = plan.match.route
        try:
            return self._at_once.serve(exchange.request, delivery, plan)
        except VisitorGone:
            delivery.gone()
            raise

    def _wait(self, visit: Visit) -> Flow | None:
        """Have an absent page fetched, where nothing else has to be looked at; None: nothing is done."""
        request = visit.request
        if visit.asked.query is not None or b"range" in request.fields:
            return None
        decision = on_request(request, visit.match, None, self._around(visit, None))
        if not isinstance(decision, Fetch) or decision.is_alone or not self._parts.are_absent(visit):
            return None
        job = visit.job(decision, None)
        if self.flights.find(job.identity) is not None:
            return None
        boarded = Boarded(decision, job, self._boarding.lead(job, EagerTask), is_leader=True)
        return Waiting(
            visit,
            boarded.flight,
            lambda opening: show_at_once(visit, decision, opening),
            lambda opening: self._told(visit.delivery, self._go_on(visit, boarded, opening)),
        )

    async def _go_on(self, visit: Visit, boarded: Boarded, opening: Opening) -> None:
        if not await self._on_opening(visit, boarded, None, opening):
            await self._look_up(visit, _MAX_ROUNDS - 1)

    async def handle(self, exchange: Exchange) -> None:
        """Answer one request the long way."""
        delivery = Delivery(exchange, self._observer, self._now)
        if exchange.request.method == "PURGE" and self.purge_method is not None:
            await self._told(delivery, self.purge_method.handle(exchange, delivery))
        else:
            plan = on_arrival(exchange.request, self.settings, self.routes)
            await self._told(delivery, self._answer(exchange, delivery, plan))

    async def _told(self, delivery: Delivery, answering: Awaitable[None]) -> None:
        """Tell of the visitor who hung up before he was answered."""
        try:
            await answering
        except (VisitorGone, asyncio.CancelledError):
            delivery.gone()
            raise

    async def _answer(self, exchange: Exchange, delivery: Delivery, plan: Plan) -> None:
        match plan:
            case Refuse():
                delivery.refuse(plan)
            case Pass(reason, match):
                delivery.route = None if match is None else match.route
                await self._passthrough.handle(exchange, delivery, reason)
            case LookUp(key, match):
                delivery.route = match.route
                await self._look_up(Visit(exchange, delivery, key, match))
            case _:
                assert_never(plan)

    async def _look_up(self, visit: Visit, rounds: int = _MAX_ROUNDS) -> None:
        reason = Reason.VARY_MISS
        for _ in range(rounds):
            found = await self.find(visit)
            around = self._around(visit, found)
            if await self._parts.answer(visit, found, around):
                return
            decision = on_request(visit.request, visit.match, self._judged(found), around)
            if await self._carry_out(visit, decision, found):
                return
            reason = decision.reason if isinstance(decision, Fetch) else reason
        await self._pass(visit, reason)

    async def find(self, visit: Visit) -> Found:
        """Ask the store; a flight may know of a variant that the store does not yet."""
        if visit.is_apart:
            visit.key, found = visit.asked, await self.variances.look(visit.asked, visit.request.fields)
        else:
            visit.key, found = await self.variances.find(visit.asked, visit.request.fields)
        if found is None and visit.names:
            return VaryMiss(visit.names)
        return found

    def _judged(self, found: Found) -> Stored | VaryMissed | None:
        match found:
            case None:
                return None
            case VaryMiss(names):
                return VaryMissed(names)
            case Entry():
                return Stored(found.meta, found.state, self._regenerator.verdict(found))

    def _around(self, visit: Visit | Foreseen, found: Found) -> Surroundings:
        """Gather what counts beside the entry: with a page, the moment alone does."""
        if isinstance(found, Entry):
            return Surroundings(self._now())
        return Surroundings(
            self._now(),
            self._boarding.is_passing(visit.key, is_personal=is_personal(visit.request.fields)),
            self._boarding.is_too_large(visit.key),
            self.prerendered(visit.match, visit.key.path),
        )

    async def _carry_out(self, visit: Visit, decision: Decision, found: Found) -> bool:
        """Do what was decided; False when it must be decided again."""
        match decision:
            case Serve(at, reason):
                await self._serve(visit, _entry(found), at, XCache.HIT, reason)
            case ServeStale(at, reason):
                await self._serve(visit, _entry(found), at, XCache.STALE, reason)
            case ServeAndRegenerate(at):
                entry = _entry(found)
                job = Job(visit.key, entry.variant, visit.match, entry, asked=visit.asked)
                reason = self.regenerate_behind(job)
                await self._serve(visit, entry, at, XCache.STALE, reason)
            case Fetch():
                return await self._fetch(visit, decision, found)
            case ServeShell(path):
                return await self._serve_shell(visit, path)
            case Pass(reason):
                await self._pass(visit, reason)
            case Refuse():
                visit.delivery.refuse(decision)
            case _:
                assert_never(decision)
        return True

    async def _serve(self, visit: Visit, entry: Entry, at: Times, x_cache: XCache, reason: Reason) -> None:
        route = visit.match.route
        self.store.touch(entry)
        await visit.delivery.entry(entry, route, at, hit_status(at, reason), x_cache, reason)

    async def _pass(self, visit: Visit, reason: Reason) -> None:
        head = await self._passthrough.handle(visit.exchange, visit.delivery, reason)
        if head is not None and reason is Reason.HIT_FOR_PASS and not is_personal(visit.request.fields):
            self._reconsider(visit, head)

    def _reconsider(self, visit: Visit, head: Head) -> None:
        """Forget that a key is uncacheable once it answers anybody with what could be stored."""
        now = self._now()
        judged = on_response(Asked(visit.match, visit.request.fields, now, now), head)
        is_small = (content_length(head.fields) or 0) <= self.settings.store.max_entry
        if isinstance(judged, Admit) and is_small:
            self._boarding.forget_pass(visit.key)

    async def foresee(self, foreseen: Foreseen) -> tuple[Found, Decision]:
        """Say what is stored for a request and what would be decided; does nothing of it."""
        key, found = await self.variances.find(foreseen.key, foreseen.request.fields)
        around = self._around(replace(foreseen, key=key), found)
        request, match = foreseen.request, foreseen.match
        of_parts = await self._parts.foresee(request, foreseen.key, match, found, around)
        return found, of_parts or on_request(request, match, self._judged(found), around)

    # --- asking the origin ---

    async def regenerate(self, job: Job, since: int) -> Flight[Opening]:
        """Fetch a page now: see Boarding."""
        return await self._boarding.regenerate(job, since)

    def regenerate_behind(self, job: Job) -> Reason:
        """Start a regeneration nobody waits for: see Boarding."""
        return self._boarding.regenerate_behind(job, self.settings.origin.max_regenerations)

    async def _fetch(self, visit: Visit, decision: Fetch, found: Found) -> bool:
        """Have the page fetched, by this visit or one before it; False when it must be decided again."""
        if visit.names:  # learned while waiting: what is stored may know nothing of them yet
            decision = replace(decision, variant=variant_of(visit.names, visit.request.fields))
        decision, job = self._parts.refine(visit, decision, visit.job(decision, found))
        if self._parts.is_crowded(job):
            await self._pass(visit, Reason.SATURATED)
            return True
        try:
            flight, is_leader = self._boarding.board(job, self.settings.limits.max_waiters)
        except Full:
            visit.delivery.error(503, Reason.TOO_MANY_WAITERS)
            return True
        opening = await opening_of(flight, is_leader=is_leader)
        return await self._on_opening(visit, Boarded(decision, job, flight, is_leader), found, opening)

    async def _on_opening(self, visit: Visit, boarded: Boarded, found: Found, opening: Opening) -> bool:
        """Answer with what a fetch opened; False when it must be decided again."""
        decision, job, flight, is_leader = boarded
        if not is_leader and not self._may_share(visit, flight, job, opening):
            return False
        if decision.fallback is not None and isinstance(found, Entry) and not isinstance(opening, Relayed):
            return await self._serve_better(visit, flight, decision, found, is_leader=is_leader)
        if job.ask is not None:
            done = await self._parts.deliver(visit, decision, opening, is_leader=is_leader)
            if isinstance(done, Reason):
                await self._pass(visit, done)
            if done is not None:
                return bool(done)
        return await self._deliver(visit, decision, job, opening, is_leader=is_leader)

    def _may_share(self, visit: Visit, flight: Flight[Opening], job: Job, opening: Opening) -> bool:
        """Tell whether what was fetched for another is for this visitor too; else he asks for himself."""
        if is_for_one(opening, job):
            visit.is_alone = True
            return False
        if isinstance(opening, Lent):
            visit.is_alone = visit.is_alone or is_his_too(opening, visit.request, visit.match.route)
            return False
        return not self._boarding.is_outdated(flight, job) and not visit.goes_apart(opening)

    async def _serve_better(
        self, visit: Visit, flight: Flight[Opening], decision: Fetch, stored: Entry, *, is_leader: bool
    ) -> bool:
        """A page is at hand should the origin fail, so wait for the whole new one, and serve the better."""
        await flight.landed()
        opening = flight.opening.result()
        own = own_lines(opening, visit.match.route) if is_leader else ()
        if isinstance(opening, Landed):
            status = landed_status(decision.reason, opening, is_leader=is_leader)
            return await self._serve_landed(visit, opening.entry, status, own)
        if isinstance(opening, Lent):
            return await self._serve_lent(visit, decision, opening)
        if self._regenerator.verdict(stored).hidden:
            return False
        found = await self.find(visit)
        if isinstance(found, Entry) and found.state != stored.state and not found.state.failures:
            said = opening.head.status if isinstance(opening, Streaming) else None
            status = forward_status(decision.reason, status=said, outcome=Reason.STORED)
            told = status if is_leader else collapsed_status(decision.reason)
            return await self._serve_landed(visit, found, told, () if flight.end is not None else own)
        at = decision.fallback
        assert at is not None, "there is a page to fall back to"
        status = f"{forward_status(Reason.ORIGIN_FAILED)}; ttl={remaining(at.ttl)}"
        await visit.delivery.entry(stored, visit.match.route, at, status, XCache.STALE, Reason.ORIGIN_FAILED)
        return True

    async def _serve_landed(
        self, visit: Visit, entry: Entry, status: str, own: tuple[Line, ...] = ()
    ) -> bool:
        """Serve what a fetch brought, if it is this visitor's variant and no purge came meanwhile."""
        verdict = self._regenerator.verdict(entry)
        if verdict.hidden or not is_for(visit.request.fields, entry.variant, entry.meta.fields):
            visit.names = entry.variant.names
            return False
        route = visit.match.route
        at = times(entry.meta, entry.state, route, self._now(), soft_purged_at=verdict.stale_at)
        await visit.delivery.entry(with_own(entry, own), route, at, status, XCache.MISS, Reason.STORED)
        return True

    async def _serve_lent(self, visit: Visit, decision: Fetch, lent: Lent) -> bool:
        """Serve what is this visitor's alone, unless a purge came meanwhile."""
        entry, route = lent.entry, visit.match.route
        verdict = self._regenerator.verdict(entry)
        if verdict.hidden:
            return False
        at = times(entry.meta, entry.state, route, self._now(), soft_purged_at=verdict.stale_at)
        status = validated_status(decision.reason, lent.status)
        await visit.delivery.entry(entry, route, at, status, XCache.MISS, lent.reason)
        return True

    async def _deliver(
        self,
        visit: Visit,
        decision: Fetch,
        job: Job,
        opening: Opening,
        *,
        is_leader: bool,
    ) -> bool:
        match opening:
            case Landed(entry):
                status = landed_status(decision.reason, opening, is_leader=is_leader)
                own = opening.own if is_leader else ()
                return await self._serve_landed(visit, entry, status, own)
            case Lent():
                return await self._serve_lent(visit, decision, opening)
            case Streaming():
                return await self._read_along(visit, decision, opening, is_leader=is_leader)
            case Relayed():
                return await self._relay(visit, decision, opening, is_leader=is_leader)
            case Broken():
                show_failure(visit, decision, job, opening, is_leader=is_leader)
                return True
            case _:
                assert_never(opening)

    async def _read_along(
        self, visit: Visit, decision: Fetch, opening: Streaming, *, is_leader: bool
    ) -> bool:
        """Read what is being stored, if it is this visitor's variant; else ask again, knowing the names."""
        names = opening.admit.variant.names
        if names and not is_for(visit.request.fields, opening.admit.variant, opening.head.fields):
            visit.names = names
            return False
        if opening.writer.is_abandoned:
            await self._pass(visit, Reason.TOO_LARGE)
            return True
        if is_leader:
            opening = for_leader(opening, visit.match.route)
        status = streaming_status(decision.reason, opening, is_leader=is_leader)
        await visit.delivery.streaming(opening, visit.match.route, status, decision.reason)
        return True

    async def _relay(self, visit: Visit, decision: Fetch, opening: Relayed, *, is_leader: bool) -> bool:
        """Give the leader's visitor the answer, if it is one to his own request; the others pass.

        What one visitor's cookies brought says nothing to those without: they ask again.
        """
        is_his = is_personal(visit.request.fields)
        if opening.is_personal and not is_leader and not is_his:
            return False
        if not decision.is_head:
            self._boarding.remember_pass(visit.key, is_personal=is_his)
        answer = opening.take() if is_leader else None
        is_his_own = not visit.match.route.revalidate.is_isr or not is_his
        if answer is not None and is_his_own:
            await relay_own(visit, decision, answer, opening.reason)
            return True
        if answer is not None:
            await answer.aclose()
        await self._pass(visit, opening.reason)
        return True

    # --- the shell ---

    async def _serve_shell(self, visit: Visit, path: str) -> bool:
        """Answer with the route's shell, and generate the page behind."""
        job = Job(visit.key, PLAIN, visit.match, asked=visit.asked)
        shell = await self._shells.obtain(replace(visit.key, path=path, query=None), self.routes)
        if shell is None:
            return await self._fetch(visit, Fetch(Reason.URI_MISS, PLAIN), None)
        entry, match, at = shell
        self.regenerate_behind(job)
        route = replace(match.route, client_cache_control="no-store")
        status = hit_status(at, Reason.SHELL)
        await visit.delivery.entry(entry, route, at, status, XCache.FALLBACK, Reason.SHELL)
        return True

    async def drain(self, timeout: float) -> None:
        """Let the regenerations under way end, up to `timeout` seconds."""
        await self.flights.drain(timeout)


async def _nothing(request: Request, head: Head) -> None:
    """Take note of no answer."""


def _entry(found: Found) -> Entry:
    assert isinstance(found, Entry), "only a stored page is decided to be served"
    return found
