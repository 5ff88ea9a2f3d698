"""One request on its way through the engine's loop.

Knows what was learned of it so far. Must not know what is done next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from isr_proxy.coord.flight import Flight
from isr_proxy.core.decision import Fetch
from isr_proxy.core.http import Request
from isr_proxy.core.key import Key
from isr_proxy.core.reason import Reason
from isr_proxy.core.routes import Match
from isr_proxy.serve.deliver import Delivery
from isr_proxy.serve.exchange import Exchange
from isr_proxy.serve.job import Job, Landed, Opening, Streaming
from isr_proxy.serve.variances import covers, is_answer_to
from isr_proxy.store.base import Entry, Found


@dataclass(slots=True)
class Visit:
    """One request, and what was learned of it. `key` is where its page lies, as far as is known."""

    exchange: Exchange
    delivery: Delivery
    asked: Key
    match: Match
    key: Key = field(init=False)
    names: tuple[str, ...] = ()  # the answer is known to vary on these
    part: Entry | None = None  # parts of the page that are stored, where the page is not
    why_not: Reason | None = None  # why they are not served though all that is wanted is there
    is_alone: bool = False  # what he waited for was for one visitor only
    wants_whole: bool = False  # If-Range does not hold: the Range is as if it were not there
    is_apart: bool = False  # what others who ask for the page brought is to another query

    def __post_init__(self) -> None:
        self.key = self.asked

    def goes_apart(self, opening: Opening) -> bool:
        """Tell, and note, whether an answer he waited for is to another query: then he asks by himself."""
        match opening:
            case Streaming(wanted=Key() as wanted):
                self.is_apart = not is_answer_to(wanted, opening.admit.fields, self.asked)
            case Landed(entry) if entry.meta.partial is None:
                self.is_apart = not covers(entry, self.asked)
            case _:
                return False
        return self.is_apart

    def job(self, decision: Fetch, found: Found) -> Job:
        """Return what is to be fetched for him."""
        own = None if self.match.route.revalidate.is_isr else self.request
        return Job(
            self.key,
            decision.variant,
            self.match,
            found if isinstance(found, Entry) else None,
            own,
            decision.reason,
            self.exchange.interim,
            decision.is_head,
            decision.is_alone or self.is_alone,
            asked=self.asked,
        )

    @property
    def request(self) -> Request:
        return self.exchange.request


class Boarded(NamedTuple):
    """A visit that waits for a flight, and what for."""

    decision: Fetch
    job: Job
    flight: Flight[Opening]
    is_leader: bool


@dataclass(frozen=True, slots=True)
class Foreseen:
    """A request that nobody made."""

    request: Request
    key: Key
    match: Match
