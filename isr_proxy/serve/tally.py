"""Counts of what happened, and whoever wants to watch it happen.

Knows Outcomes and counters since the start. Must not know metrics or logs: it tells them on.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from isr_proxy.core.reason import Reason, XCache
from isr_proxy.serve.outcome import Observer, Outcome, Regenerated

Event = dict[str, Any]

_QUEUED: Final = 256  # events a watcher may be behind; what is more is lost to him
MAX_WATCHERS: Final = 32


class Tally:
    """An Observer in front of another one."""

    def __init__(self, behind: Observer) -> None:
        self._behind = behind
        self.visits: Counter[XCache] = Counter()
        self.regenerations: Counter[Reason] = Counter()
        self._watchers: set[asyncio.Queue[Event | None]] = set()

    def visited(self, outcome: Outcome) -> None:
        self._behind.visited(outcome)
        self.visits[outcome.x_cache] += 1
        if self._watchers:
            self._publish(
                {
                    "type": "visit",
                    "method": outcome.request.method,
                    "url": f"{outcome.request.scheme}://{outcome.request.host}{outcome.request.target}",
                    "route": outcome.route,
                    "status": outcome.status,
                    "x_cache": outcome.x_cache.value,
                    "reason": outcome.reason.value,
                    "seconds": outcome.seconds,
                }
            )

    def regenerated(self, regenerated: Regenerated) -> None:
        self._behind.regenerated(regenerated)
        self.regenerations[regenerated.reason] += 1
        if self._watchers:
            self._publish(
                {
                    "type": "regeneration",
                    "url": regenerated.key.url,
                    "route": regenerated.route,
                    "reason": regenerated.reason.value,
                    "unchanged": regenerated.is_unchanged,
                    "seconds": regenerated.seconds,
                }
            )

    def purged(self, sequence: int, matched: int, strength: str) -> None:
        """Tell the watchers of a purge."""
        self._publish({"type": "purge", "sequence": sequence, "matched": matched, "strength": strength})

    @property
    def hit_ratio(self) -> float | None:
        """Return which part of the looked-up answers came from the store; None before the first."""
        from_store = self.visits[XCache.HIT] + self.visits[XCache.STALE]
        looked_up = from_store + self.visits[XCache.MISS]
        return from_store / looked_up if looked_up else None

    @contextmanager
    def watching(self) -> Iterator[asyncio.Queue[Event | None]]:
        """Give a queue that every event from now on comes into, None at the end; a slow reader loses some."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_QUEUED)
        self._watchers.add(queue)
        try:
            yield queue
        finally:
            self._watchers.discard(queue)

    @property
    def has_room(self) -> bool:
        return len(self._watchers) < MAX_WATCHERS

    def dismiss(self) -> None:
        """Send every watcher home."""
        for queue in self._watchers:
            if queue.full():
                queue.get_nowait()
            queue.put_nowait(None)

    def _publish(self, event: Event) -> None:
        for queue in self._watchers:
            if not queue.full():
                queue.put_nowait(event)
