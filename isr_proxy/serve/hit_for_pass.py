"""What was uncacheable, or failing, lately, so that requests do not queue behind each other for nothing.

Knows keys and until when each counts. Must not know why. Varnish's hit-for-pass lasts 120 seconds too.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

PASS_SECONDS: Final = 120.0
FAILING_SECONDS: Final = 3.0  # a page never stored, whose fetch failed: the same as its first retry
_MAX_KEYS: Final = 50_000  # about 10 MB (law 8)


class Remembered:
    """Keys for a while, the oldest forgotten first. Each carries the purge sequence at which it was noted."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: OrderedDict[bytes, tuple[float, int]] = OrderedDict()

    def remember(self, identity: bytes, now: float, sequence: int) -> None:
        """Note a key; `sequence` is the purge log's."""
        self._until[identity] = (now + self._seconds, sequence)
        self._until.move_to_end(identity)
        if len(self._until) > _MAX_KEYS:
            self._until.popitem(last=False)

    def holds(self, identity: bytes, now: float) -> int | None:
        """Return the purge sequence at which a key was noted, None where it was not, or long ago."""
        known = self._until.get(identity)
        if known is None:
            return None
        until, sequence = known
        if now < until:
            return sequence
        del self._until[identity]
        return None

    def forget(self, identity: bytes) -> None:
        self._until.pop(identity, None)
