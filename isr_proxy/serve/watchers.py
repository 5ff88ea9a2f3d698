"""Whoever wants to watch what happens, as it happens.

Knows Outcomes, and turns them into events while somebody watches. Must not know metrics or logs: it tells
them on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

from isr_proxy.serve.outcome import Observer, Outcome, Purged, Regenerated, Repeats

Event = dict[str, Any]

_QUEUED: Final = 256  # events a watcher may be behind; what is more is lost to him
MAX_WATCHERS: Final = 32


class Watchers:
    """An Observer in front of another one."""

    def __init__(self, behind: Observer) -> None:
        self._behind = behind
        self._watchers: set[asyncio.Queue[Event | None]] = set()
        self.on_turn: Callable[[], None] = lambda: None  # the first one came, or the last one went

    def visited(self, outcome: Outcome) -> None:
        self._behind.visited(outcome)
        if self._watchers:
            self._publish(_visit(outcome))

    def repeats(self, outcome: Outcome) -> Repeats:
        return self._behind.repeats(outcome)

    def listener(self, outcome: Outcome) -> Callable[[str], None] | None:
        behind = self._behind.listener(outcome)
        if not self._watchers:
            return behind
        event = _visit(replace(outcome, seconds=0.0))

        def tell(client: str) -> None:
            self._publish(event)
            if behind is not None:
                behind(client)

        return tell

    def regenerated(self, regenerated: Regenerated) -> None:
        self._behind.regenerated(regenerated)
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

    def purged(self, purged: Purged) -> None:
        self._behind.purged(purged)
        self._publish(
            {
                "type": "purge",
                "sequence": purged.sequence,
                "matched": purged.matched,
                "strength": purged.strength.value,
            }
        )

    @contextmanager
    def watching(self) -> Iterator[asyncio.Queue[Event | None]]:
        """Give a queue that every event from now on comes into, None at the end; a slow reader loses some."""
        queue: asyncio.Queue[Event | None] = asyncio.Queue(_QUEUED)
        self._watchers.add(queue)
        self._turn(1)
        try:
            yield queue
        finally:
            self._watchers.discard(queue)
            self._turn(0)

    def _turn(self, watching: int) -> None:
        """Say that from now on somebody watches, or nobody: whoever asked for a listener asks again."""
        if len(self._watchers) == watching:
            self.on_turn()

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


def _visit(outcome: Outcome) -> Event:
    request = outcome.request
    return {
        "type": "visit",
        "method": request.method,
        "url": f"{request.scheme}://{request.host}{request.target}",
        "route": outcome.route,
        "status": outcome.status,
        "x_cache": outcome.x_cache.value,
        "reason": outcome.reason.value,
        "seconds": outcome.seconds,
    }
