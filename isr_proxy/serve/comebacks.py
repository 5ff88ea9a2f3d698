"""Who comes a second time: most that come once never come again, and are not worth remembering.

Knows hashes, a byte for each of so many. Must not know whose they are. A few strangers are taken for somebody
who came before, which costs a little room.
"""

from __future__ import annotations


class Comebacks:
    """What came lately, in `size` bytes."""

    def __init__(self, size: int) -> None:
        self._marks = bytearray(size)

    def is_one(self, raw: bytes) -> bool:
        """Tell whether it came lately, and note that it did."""
        number = hash(raw)
        place, mark = number % len(self._marks), (number >> 20) % 255 + 1
        if self._marks[place] == mark:
            return True
        self._marks[place] = mark
        return False
