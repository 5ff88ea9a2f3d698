"""The company a store keeps: who else writes to the same directory.

Knows what a store asks of the others, and the answers of one that is alone. Must not know how processes talk.

What all of them count together lies in words of eight bytes that all of them see, written under the catalog's
lock or by one at a time:

    doubts, settled     the catalog lacks nothing while these two are the same
    pages, entries      bytes and number of what is stored, as of the last batch in the catalog
    bad                 bytes of bad/
    directories         256 words: what each directory of pages takes
"""

from __future__ import annotations

import itertools
from array import array
from typing import Final, Protocol

DOUBTS: Final = 0
SETTLED: Final = 1
PAGES: Final = 2
ENTRIES: Final = 3
BAD: Final = 4
DIRECTORIES: Final = 256
TALLY_WORDS: Final = 512


class Company(Protocol):
    """The other processes of a directory, and what is shared with them."""

    tally: memoryview[int]
    stamps: memoryview[int]  # what a tier holds is what lies behind while its key's stamp is the same
    name: str  # of this process, for its temporary files

    @property
    def is_first(self) -> bool:
        """Tell whether this process does what one of them does for all."""

    @property
    def is_alone(self) -> bool: ...

    def place(self, digest: bytes) -> int:
        """Return which stamp a key has; it shares it with others."""

    def changed(self, digest: bytes) -> None:
        """Have every tier look again at what it holds of a key: its stamp becomes one that never was."""

    async def lock(self, digest: bytes) -> None:
        """Wait until nobody else changes a key's files; StoreUnavailable when that takes too long."""

    def unlock(self, digest: bytes) -> None: ...

    async def lock_eviction(self) -> None:
        """Be the only one who evicts."""

    def unlock_eviction(self) -> None: ...

    def promise(self, size_bytes: int) -> None:
        """Say how many bytes this process has promised and not written down in the catalog."""

    def promised_elsewhere(self) -> int:
        """Return what all others have."""

    async def settle(self) -> None:
        """Have all others write down in the catalog what they changed."""

    def doubt(self) -> None:
        """Say that the catalog may lack something."""


class Alone:
    """One process on its directory."""

    is_first = True
    is_alone = True

    def __init__(self) -> None:
        self.tally = memoryview(array("q", bytes(8 * TALLY_WORDS)))
        self.stamps = memoryview(array("q", [0]))
        self.name = ""
        self._doubts = itertools.count(1)

    def place(self, digest: bytes) -> int:
        return 0

    def changed(self, digest: bytes) -> None:
        """Nothing: the tier in front of this store is told what lies there now."""

    async def lock(self, digest: bytes) -> None: ...

    def unlock(self, digest: bytes) -> None: ...

    async def lock_eviction(self) -> None: ...

    def unlock_eviction(self) -> None: ...

    def promise(self, size_bytes: int) -> None: ...

    def promised_elsewhere(self) -> int:
        return 0

    async def settle(self) -> None: ...

    def doubt(self) -> None:
        self.tally[DOUBTS] = next(self._doubts)


def is_settled(tally: memoryview[int]) -> bool:
    """Tell whether every page has its row in the catalog."""
    return tally[DOUBTS] == tally[SETTLED]
