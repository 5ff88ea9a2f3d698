"""What was found uncacheable lately, so that requests do not queue behind each other for nothing.

Knows keys and until when each passes. Must not know why. After Varnish's hit-for-pass: 120 seconds.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

SECONDS: Final = 120.0
_MAX_KEYS: Final = 50_000  # about 10 MB (law 8)


class HitForPass:
    """Remembers keys for a while, the oldest forgotten first. A purge forgets all it may have changed."""

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, tuple[float, int]] = OrderedDict()

    def remember(self, identity: bytes, now: float, sequence: int) -> None:
        """Let a key pass from now on; `sequence` is the purge log's."""
        self._until[identity] = (now + SECONDS, sequence)
        self._until.move_to_end(identity)
        if len(self._until) > _MAX_KEYS:
            self._until.popitem(last=False)

    def holds(self, identity: bytes, now: float) -> int | None:
        """Return the purge sequence at which a key was found uncacheable, None where it was not."""
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
