"""Pages made because an operator wants them: one at a time, and what came of each.

Knows how a wanted page becomes a flight, and how many fly at once for operators. Must not know who asked,
nor how the wanted pages are found.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, assert_never

from isr_proxy.coord.flight import Flight
from isr_proxy.core.decision import LookUp, Pass, Refuse
from isr_proxy.core.freshness import Phase, times
from isr_proxy.core.http import Request
from isr_proxy.core.key import PLAIN, variant_of
from isr_proxy.core.policy import on_arrival
from isr_proxy.core.reason import Reason
from isr_proxy.serve.engine import Engine
from isr_proxy.serve.freshening import variant_fields
from isr_proxy.serve.job import Broken, Job, Lent, Opening, Relayed
from isr_proxy.serve.regenerate import subject_of
from isr_proxy.store.base import Entry, VaryMiss

MAX_AT_ONCE: Final = 8


class Result(Enum):
    """What came of one wanted page."""

    REGENERATED = "regenerated"
    UNCHANGED = "unchanged"  # the origin gave the same page
    FRESH = "fresh"  # it was fresh already, and the origin was not asked
    FAILED = "failed"
    SKIPPED = "skipped"  # not a page that is stored


@dataclass(frozen=True, slots=True)
class PageResult:
    """`reason` is a Reason's word: why it failed or was skipped."""

    url: str
    result: Result
    reason: str


class OnDemand:
    """Makes pages for operators; visitors' regenerations are not counted here."""

    def __init__(self, engine: Engine, now: Callable[[], float]) -> None:
        self._engine = engine
        self._now = now
        self.at_once = max(1, min(MAX_AT_ONCE, engine.settings.origin.max_regenerations))
        self._slots = asyncio.Semaphore(self.at_once)

    def plan(self, request: Request) -> Job | PageResult:
        """Return what is to be fetched for a request, or why nothing is."""
        url = f"{request.scheme}://{request.host}{request.target}"
        plan = on_arrival(request, self._engine.settings, self._engine.routes)
        match plan:
            case LookUp(key, found):
                return Job(key, PLAIN, found, asked=key)
            case Pass(reason):
                return PageResult(url, Result.SKIPPED, reason.value)
            case Refuse(_, reason):
                return PageResult(url, Result.FAILED, reason.value)
            case _:
                assert_never(plan)

    async def generate(self, job: Job) -> PageResult:
        """Make a page that is not fresh."""
        async with self._slots:
            job = await self._with_stored(job)
            if job.stored is not None and self._is_fresh(job, job.stored):
                return PageResult(job.key.url, Result.FRESH, Reason.FRESH.value)
            return await self._fly(job, since=0)

    async def regenerate(self, job: Job, since: int) -> PageResult:
        """Make a page anew, by a fetch that begins at `since` of the purge log or later."""
        async with self._slots:
            return await self._fly(await self._with_stored(job), since)

    async def _with_stored(self, job: Job) -> Job:
        """Look up what it replaces; where pages vary, the one that names nothing is meant."""
        key, found = await self._engine.variances.find(job.wanted, variant_fields(job.variant))
        match found:
            case Entry():
                asked = found.meta.asked_key if job.asked is None else job.asked
                return replace(job, key=key, stored=found, variant=found.variant, asked=asked)
            case VaryMiss(names):
                return replace(job, variant=variant_of(names, variant_fields(job.variant)))
            case None:
                return job

    def _is_fresh(self, job: Job, stored: Entry) -> bool:
        verdict = self._engine.purges.index.verdict(subject_of(stored), stored.state.sequence)
        now = self._now()
        at = times(stored.meta, stored.state, job.match.route, now, soft_purged_at=verdict.stale_at)
        return not verdict.hidden and at.phase is Phase.FRESH

    async def _fly(self, job: Job, since: int) -> PageResult:
        url = job.key.url
        flight = await self._engine.regenerate(job, since)
        failed = _failure(flight)
        if failed is not None:
            return PageResult(url, Result.FAILED, failed.value)
        opening = flight.opening.result()
        if isinstance(opening, Relayed | Lent):
            return PageResult(url, Result.SKIPPED, opening.reason.value)
        found = await self._engine.store.lookup(job.key, variant_fields(job.variant))
        is_same = isinstance(found, Entry) and job.stored is not None and _is_same(job.stored, found)
        return PageResult(url, Result.UNCHANGED if is_same else Result.REGENERATED, Reason.STORED.value)


def _failure(flight: Flight[Opening]) -> Reason | None:
    opening = flight.opening.result()
    if isinstance(opening, Relayed | Lent):
        return None
    end = flight.end or opening
    return end.failed.reason if isinstance(end, Broken) else None


def _is_same(old: Entry, new: Entry) -> bool:
    return old.meta.status == new.meta.status and old.meta.body_checksum == new.meta.body_checksum
