"""Whose turn it is: round robin over the healthy origins.

Knows the origins, their pools, and what was learned of each. Must not know requests or retries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from isr_proxy.core.reason import Reason
from isr_proxy.errors import OriginUnreachable
from isr_proxy.origin.health import Event, Health, State
from isr_proxy.origin.pool import Pool


@dataclass(frozen=True, slots=True)
class OriginHealth:
    """One line of the status page; `since` is how many seconds the state has lasted."""

    url: str
    state: State
    failures: int
    since: float


@dataclass(slots=True, eq=False)
class Origin:
    """One origin: its connections and what is known of it."""

    url: str
    pool: Pool
    health: Health


class Turns:
    """Every origin of the config, in its order. `clock` is monotonic seconds."""

    def __init__(self, pools: Iterable[tuple[str, Pool]], clock: Callable[[], float]) -> None:
        self._clock = clock
        now = clock()
        self.origins = tuple(Origin(url, pool, Health(since_at=now)) for url, pool in pools)
        self._next = 0

    @property
    def are_all_down(self) -> bool:
        """Tell whether there was a choice, and none is left."""
        return len(self.origins) > 1 and all(origin.health.state is State.DOWN for origin in self.origins)

    def choose(self, failed: Origin | None = None) -> Origin:
        """Return the next origin in turn that is open and is not `failed`; without one, the next at all.

        OriginUnreachable (NO_HEALTHY_ORIGIN) when the config names none.
        """
        count = len(self.origins)
        if count == 1:
            return self.origins[0]
        if not count:
            raise OriginUnreachable(Reason.NO_HEALTHY_ORIGIN.value, "no origin is configured")
        now = self._clock()
        order = [self.origins[(self._next + step) % count] for step in range(count)]
        others = [origin for origin in order if origin is not failed]
        chosen = next((origin for origin in others if origin.health.is_open(now)), others[0])
        self._next = (self.origins.index(chosen) + 1) % count
        if chosen.health.state is not State.UP and chosen.health.is_open(now):
            self.learn(chosen, Event.PROBED)
        return chosen

    def at_hand(self) -> Origin | None:
        """Return whose turn it is, where there is nothing to find out; the turn is not taken yet."""
        if len(self.origins) == 1:
            return self.origins[0]
        origin = self.origins[self._next] if self.origins else None
        return None if origin is None or origin.health.state is not State.UP else origin

    def take(self, origin: Origin) -> None:
        """Note that an origin has had its turn."""
        if len(self.origins) > 1:
            self._next = (self.origins.index(origin) + 1) % len(self.origins)

    def learn(self, origin: Origin, event: Event) -> None:
        """Remember what happened to a request or check of this origin."""
        if event is Event.ANSWERED and origin.health.is_untroubled:
            return
        origin.health = origin.health.after(event, self._clock())

    def snapshot(self) -> list[OriginHealth]:
        """Return what is known of each origin."""
        now = self._clock()
        return [
            OriginHealth(each.url, each.health.state, each.health.failures, now - each.health.since_at)
            for each in self.origins
        ]
