"""What is ready of pages that the hot tier does not hold: heads alone, and their bodies are read from files.

Knows how much it may take in all, and who came in first. Must not know answers: who has to go is told, and
may stay once more, for having been asked for.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

_ROOMY_FRACTION: Final = 0.75


class Beside:
    """The weights of pages by their keys' digests, first come first (a clock with a second chance)."""

    def __init__(
        self, max_bytes: int, let_go: Callable[[bytes], bool], reserve: Callable[[int], None]
    ) -> None:
        """`let_go` drops a page, or says False: it was asked for since. `reserve` hears of every change."""
        self.size_bytes = 0
        self._max_bytes = max_bytes
        self._let_go = let_go
        self._reserve = reserve
        self._sizes: OrderedDict[bytes, int] = OrderedDict()

    @property
    def is_roomy(self) -> bool:
        """Tell whether nobody need go for what is charged."""
        return self.size_bytes < self._max_bytes * _ROOMY_FRACTION

    def charge(self, digest: bytes, size_bytes: int) -> None:
        """Weigh a page so much heavier, and let go of others for it."""
        self._sizes[digest] = self._sizes.get(digest, 0) + size_bytes
        self._takes(size_bytes)
        while self.size_bytes > self._max_bytes:
            oldest = next(iter(self._sizes))
            if not self._let_go(oldest):
                self._sizes.move_to_end(oldest)

    def forget(self, digest: bytes) -> None:
        """Weigh a page no more."""
        self._takes(-self._sizes.pop(digest, 0))

    def _takes(self, size_bytes: int) -> None:
        self.size_bytes += size_bytes
        self._reserve(size_bytes)
