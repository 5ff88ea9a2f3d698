"""Who flies with whom: joining a fetch, starting one, remembering what is not worth waiting for.

Knows flights, and whether one may still be joined after a purge. Must not know what visitors are told, nor
how a page is fetched (regenerate.py).

Before a flight does anything it takes the lease of what it fetches, so that over all workers there is one at
a time (law 3). One that a purge has outdated gives its lease up at once: it flies on for those who wait for
it, but nobody who may not have what it brings waits for its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import structlog

from isr_proxy.coord.base import Leases, PurgeLog
from isr_proxy.coord.flight import Flight, Flights, Start, soon
from isr_proxy.core.decision import Failed
from isr_proxy.core.key import Key
from isr_proxy.core.purges import Subject
from isr_proxy.core.reason import Reason
from isr_proxy.serve.hit_for_pass import FAILING_SECONDS, PASS_SECONDS, Remembered
from isr_proxy.serve.job import Broken, Job, Landed, Opening, Relayed, Streaming
from isr_proxy.serve.tidings import NOTHING, opening_from, tidings_of

_log = structlog.get_logger("isr_proxy.boarding")

_PERSONAL = b"personal"

Fly = Callable[[Flight[Opening], Job], Coroutine[Any, Any, None]]


class Full(Exception):
    """As many wait for this fetch as may (law 8)."""


class Boarding:
    """The flights of one process, and what it learned from those that brought nothing to store."""

    def __init__(
        self,
        fly: Fly,
        purges: PurgeLog,
        leases: Leases,
        now: Callable[[], float],
        patience: Callable[[], float],
    ) -> None:
        self.flights: Flights[Opening] = Flights(_crashed)
        self._fly = fly
        self._leases = leases
        self._patience = patience
        self._holding: dict[Flight[Opening], Job] = {}  # those that hold their lease
        self._purges = purges
        self._now = now
        self._passing = Remembered(PASS_SECONDS)
        self._too_large = Remembered(PASS_SECONDS)
        self._failing = Remembered(FAILING_SECONDS)
        self._alone = 0  # fetches that nobody may join, so far
        self._behind = 0  # background regenerations under way

    def board(self, job: Job, at_most: int) -> tuple[Flight[Opening], bool]:
        """Join the flight of a job or start it; tells whether it was started. Full: `at_most` wait."""
        flight = None if job.is_alone else self.flights.find(job.identity)
        if flight is None or self.is_outdated(flight, job):
            if flight is not None:
                self._give_up(flight)
            return self.lead(job), True
        if flight.waiters >= at_most:
            raise Full
        return flight, False

    def lead(self, job: Job, start: Start = soon) -> Flight[Opening]:
        """Start the flight of a job for a visitor."""
        return self._launch(job, self._led, start)

    def is_outdated(self, flight: Flight[Opening], job: Job) -> bool:
        """Tell whether a purge since its start hides what a flight brings (law 2).

        All its tags are known once it has opened; until then the origin may give it more, so whoever
        boards asks again at the opening. To start another fetch at every purge of any tag would break law 3.
        """
        key, tags = job.key, job.known_tags
        if flight.opening.done() and isinstance(opening := flight.opening.result(), Streaming):
            tags = opening.admit.tags
        subject = Subject(key.host, key.path, key.query, tags, job.wanted.query)
        return self._purges.index.verdict(subject, flight.sequence).hidden

    async def _led(self, flight: Flight[Opening], job: Job) -> None:
        flight.has_leader = True
        await self._fly_alone(flight, job)

    def _launch(self, job: Job, fly: Fly, start: Start = soon) -> Flight[Opening]:
        identity = job.identity
        if job.is_alone:
            self._alone += 1
            identity += self._alone.to_bytes(8)
        flight = self.flights.launch(
            identity,
            self._purges.index.sequence,
            lambda flight: fly(flight, job),
            job.key.place,
            start,
        )
        assert flight.task is not None
        flight.task.add_done_callback(lambda _: self._learn(flight, job))
        return flight

    # --- leases ---

    async def _fly_alone(self, flight: Flight[Opening], job: Job) -> None:
        """Fly once no other worker fetches the same; what is nobody else's needs no lease."""
        if job.is_alone:
            await self._fly(flight, job)
            return
        try:
            tidings = await self._leases.acquire(job.identity, self._patience())
        except TimeoutError:
            _log.warning(
                "another worker does not end its fetch; the page is fetched all the same", url=job.key.url
            )
        else:
            if tidings is not None:
                flight.open(opening_from(tidings))
                return
            self._holding[flight] = job
        flight.sequence = self._purges.index.sequence  # the fetch begins now
        flight.opening.add_done_callback(lambda _: self._look_at(flight))
        flight.on_free = lambda: self._give_up(flight, tidings_of(flight))
        try:
            await self._fly(flight, job)
        finally:
            self._give_up(flight, tidings_of(flight))

    def _give_up(self, flight: Flight[Opening], tidings: bytes = NOTHING) -> None:
        job = self._holding.pop(flight, None)
        if job is not None:
            self._leases.release(job.identity, tidings)

    def purged(self) -> None:
        """Hear that a purge is in force: what it outdates holds up nobody any more."""
        for flight in list(self._holding):
            self._look_at(flight)

    def _look_at(self, flight: Flight[Opening]) -> None:
        job = self._holding.get(flight)
        if job is not None and self.is_outdated(flight, job):
            self._give_up(flight)

    def _learn(self, flight: Flight[Opening], job: Job) -> None:
        """Remember, for whoever asks next, that there was nothing to wait for; a part tells nothing of it."""
        if job.ask is not None:
            return
        opening, end = flight.opening.result(), flight.end
        if isinstance(end, Broken) and end.failed.reason is Reason.TOO_LARGE:
            self._too_large.remember(job.key.digest, self._now(), self._purges.index.sequence)
        elif isinstance(opening, Relayed) and not job.is_head:
            self.remember_pass(job.key, is_personal=job.is_personal)
        elif isinstance(opening, Streaming | Landed):
            self.forget_pass(job.key)
        elif isinstance(opening, Broken) and job.stored is None:
            self._failing.remember(job.key.digest, self._now(), self._purges.index.sequence)

    # --- with nobody waiting ---

    def regenerate_behind(self, job: Job, at_most: int) -> Reason:
        """Start a regeneration nobody waits for, unless one flies, as many as may, or it just failed."""
        flight = self.flights.find(job.identity)
        if flight is not None and not self.is_outdated(flight, job):
            return Reason.REGENERATING
        if job.stored is None and self._holds(self._failing, job.key.digest, job.key):
            return Reason.RETRY_LATER
        if self._behind >= at_most:
            return Reason.SATURATED
        if flight is not None:
            self._give_up(flight)
        self._behind += 1
        flight = self._launch(job, self._fly_alone)
        assert flight.task is not None
        flight.task.add_done_callback(self._landed_behind)
        return Reason.REGENERATING

    def _landed_behind(self, _: asyncio.Future[None]) -> None:
        self._behind -= 1

    async def regenerate(self, job: Job, since: int) -> Flight[Opening]:
        """Fetch a page now, and return its flight when it has landed.

        One that flies already counts if it began at `since` of the purge log or later; an earlier one is
        waited for, as there is one at a time (law 3).
        """
        while (flight := self.flights.find(job.identity)) is not None:
            await flight.landed()
            if flight.sequence >= since:
                return flight
        flight = self._launch(job, self._fly_alone)
        await flight.landed()
        return flight

    # --- hit-for-pass ---

    def remember_pass(self, key: Key, *, is_personal: bool) -> None:
        """Note that an answer could not be stored.

        Who brings cookies may get what nobody else may: his answers tell nothing of theirs.
        """
        identity = key.digest + (_PERSONAL if is_personal else b"")
        self._passing.remember(identity, self._now(), self._purges.index.sequence)

    def forget_pass(self, key: Key) -> None:
        """Note that a key proved cacheable by its head; how large it is, a head does not always tell."""
        self._passing.forget(key.digest)

    def is_passing(self, key: Key, *, is_personal: bool) -> bool:
        """Tell whether a key was found uncacheable lately, and no purge has touched it since."""
        identity = key.digest + (_PERSONAL if is_personal else b"")
        return self._holds(self._passing, identity, key) or self.is_too_large(key)

    def is_too_large(self, key: Key) -> bool:
        return self._holds(self._too_large, key.digest, key)

    def _holds(self, remembered: Remembered, identity: bytes, key: Key) -> bool:
        sequence = remembered.holds(identity, self._now())
        if sequence is None:
            return False
        verdict = self._purges.index.verdict(Subject(key.host, key.path, key.query, ()), sequence)
        return not verdict.hidden and verdict.stale_at is None


def _crashed(error: BaseException) -> Opening:
    if not isinstance(error, asyncio.CancelledError):
        _log.error("regeneration crashed", exc_info=error)
    return Broken(Failed(Reason.INTERNAL))
