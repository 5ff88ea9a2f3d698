"""Bodies that were written in one piece and that their visitors have not taken yet (law 8).

Knows counts of bytes, over all connections. Must not know bodies: what is lent was a part of the hot tier,
which may let go of it meanwhile.
"""

from __future__ import annotations

from typing import Final

PIECE_BYTES: Final = 256 * 1024  # what everybody may be sent in one write
_LENT_BYTES: Final = 32 * 1024 * 1024
_WHOLE_BYTES: Final = 1024 * 1024


class Loans:
    """What is lent to all visitors."""

    __slots__ = ("lent_bytes",)

    def __init__(self) -> None:
        self.lent_bytes = 0

    @property
    def most_at_once(self) -> int:
        """Return how large a body may be that is sent in one write; what is larger goes piece by piece."""
        return _WHOLE_BYTES if self.lent_bytes < _LENT_BYTES else PIECE_BYTES


class Loan:
    """What is lent to one visitor."""

    __slots__ = ("_bytes", "_of")

    def __init__(self, of: Loans) -> None:
        self._of = of
        self._bytes = 0

    def is_now(self, unsent_bytes: int) -> None:
        """Note how much he has still to take."""
        self._of.lent_bytes += unsent_bytes - self._bytes
        self._bytes = unsent_bytes
