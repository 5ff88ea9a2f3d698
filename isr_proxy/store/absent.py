"""Keys of which nothing is stored, as far as was looked: a miss looks for its page once, not five times.

Knows digests and stamps. Must not know files. What is remembered is true until a change of the key is told:
by `forget` in this process, by the key's stamp in the others (company.py).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from isr_proxy.store.company import Company

_MOST: Final = 8192  # keys; about 1 MiB


class Absent:
    """What one process found absent."""

    def __init__(self, company: Company, most: int = _MOST) -> None:
        self._company = company
        self._most = most
        self._stamps: OrderedDict[bytes, int] = OrderedDict()  # the longest known first

    def stamp(self, digest: bytes) -> int:
        """Return what to `note` an absence with: read it before you look."""
        return self._company.stamps[self._company.place(digest)]

    def has(self, digest: bytes) -> bool:
        """Tell whether nothing is stored under a key."""
        stamp = self._stamps.get(digest)
        return stamp is not None and stamp == self.stamp(digest)

    def note(self, digest: bytes, stamp: int) -> None:
        """Remember that nothing was there."""
        self._stamps[digest] = stamp
        if len(self._stamps) > self._most:
            self._stamps.popitem(last=False)  # a dict would pass by all that was let go before

    def forget(self, digest: bytes) -> None:
        """Hear that something changed."""
        self._stamps.pop(digest, None)
