"""How often names were asked for lately, in a table of one size: a count-min sketch.

Knows hashes and counts. Must not know what a name stands for, nor what is done about it.

Each name has one counter in each of four rows; names share counters, so the least of the four is the best
estimate, and it is never too low but by forgetting. Forgetting is `halve`: what was popular once loses half
of its weight with each period. The hash has a secret of the process, so nobody can aim at another's counters.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 255  # a count beyond it says nothing more

_ROWS: Final = 4
_HALF_BITS: Final = 32
_LOW_BITS: Final = 2**_HALF_BITS - 1
_HALVED: Final = bytes(count >> 1 for count in range(256))


class Frequencies:
    """Estimates for any number of names; `width` counters in each row, rounded up to a power of two."""

    def __init__(self, width: int) -> None:
        self._mask = (1 << max(width - 1, 1).bit_length()) - 1
        self._rows = [bytearray(self._mask + 1) for _ in range(_ROWS)]
        self._added = 0  # since the last halving

    @property
    def size_bytes(self) -> int:
        return _ROWS * (self._mask + 1)

    def add(self, name: bytes) -> int:
        """Count one more request for a name; returns the estimate with it.

        With as many requests as a row has counters a period ends by itself: else strangers looked popular.
        """
        self._added += 1
        if self._added > self._mask:
            self.halve()
        places = self._places(name)
        least = min([row[place] for row, place in zip(self._rows, places, strict=True)])
        if least == MOST:
            return MOST
        for row, place in zip(self._rows, places, strict=True):
            if row[place] == least:  # the others are too high by what they share already
                row[place] = least + 1
        return least + 1

    def estimate(self, name: bytes) -> int:
        return min([row[place] for row, place in zip(self._rows, self._places(name), strict=True)])

    def halve(self) -> None:
        """Begin a new period: everything that was counted weighs half as much from now on."""
        self._rows = [row.translate(_HALVED) for row in self._rows]
        self._added = 0

    def _places(self, name: bytes) -> list[int]:
        hashed = hash(name)
        start, step = hashed & _LOW_BITS, (hashed >> _HALF_BITS) | 1
        return [(start + number * step) & self._mask for number in range(_ROWS)]
