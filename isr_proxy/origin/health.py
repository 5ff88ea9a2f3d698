"""Whether an origin takes requests: up / probing / down, as a state table.

Knows states, events and times. Pure: `now` is an argument. Must not know sockets, pools or requests.

An origin goes down after FAILURES_MAX failures in a row to connect, or of its health check. After a
back-off one request is let through; it brings the origin up, or down again for twice as long.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

FAILURES_MAX: Final = 3
BACKOFF_FIRST: Final = 1.0
BACKOFF_MAX: Final = 30.0


class State(Enum):
    """What is believed of an origin."""

    UP = "up"
    PROBING = "probing"  # one request is on its way to find out
    DOWN = "down"


class Event(Enum):
    """What was learned."""

    ANSWERED = "answered"  # it sent a head, whatever the status; or its health check passed
    FAILED = "failed"  # no connection, or no answer on a new one; or its health check failed
    FAILED_AGAIN = "failed-again"  # the failure that is one too many
    PROBED = "probed"  # a request was let through although it is down


TABLE: Final[Mapping[tuple[State, Event], State]] = {
    (State.UP, Event.ANSWERED): State.UP,
    (State.UP, Event.FAILED): State.UP,
    (State.UP, Event.FAILED_AGAIN): State.DOWN,
    (State.UP, Event.PROBED): State.UP,
    (State.PROBING, Event.ANSWERED): State.UP,
    (State.PROBING, Event.FAILED): State.DOWN,
    (State.PROBING, Event.FAILED_AGAIN): State.DOWN,
    (State.PROBING, Event.PROBED): State.PROBING,  # the last probe never told how it went
    (State.DOWN, Event.ANSWERED): State.UP,
    (State.DOWN, Event.FAILED): State.DOWN,
    (State.DOWN, Event.FAILED_AGAIN): State.DOWN,
    (State.DOWN, Event.PROBED): State.PROBING,
}


@dataclass(frozen=True, slots=True)
class Health:
    """What is known of one origin."""

    state: State = State.UP
    failures: int = 0  # in a row
    since_at: float = 0.0  # when the state began
    probe_at: float = 0.0  # when a request may find out; counts unless UP
    backoff: float = BACKOFF_FIRST  # of the next time it goes down

    def is_open(self, now: float) -> bool:
        """Tell whether a request may go there."""
        return self.state is State.UP or now >= self.probe_at

    @property
    def is_untroubled(self) -> bool:
        """Tell whether one more answer changes nothing."""
        return self.state is State.UP and not self.failures

    def after(self, event: Event, now: float) -> Health:
        """Return what is known once `event` happened."""
        failures = self.failures
        if event is Event.FAILED:
            failures += 1
            event = Event.FAILED_AGAIN if failures >= FAILURES_MAX else event
        state = TABLE[self.state, event]
        since_at = self.since_at if state is self.state else now
        match state:
            case State.UP if event is Event.ANSWERED:
                return Health(State.UP, since_at=since_at)
            case State.UP:
                return replace(self, failures=failures)
            case State.PROBING:
                return replace(self, state=state, since_at=since_at, probe_at=now + self.backoff)
            case State.DOWN if self.state is State.DOWN and event is not Event.PROBED:
                # A request that was sent because nothing is up: it proves nothing new, it only counts.
                return replace(self, failures=failures)
            case State.DOWN:
                backoff = min(self.backoff * 2, BACKOFF_MAX)
                return Health(State.DOWN, failures, since_at, now + self.backoff, backoff)
