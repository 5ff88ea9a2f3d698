"""What changed on disk, as the catalog is told.

Knows rows. Must not know SQL.
"""

from __future__ import annotations

import math
from typing import Final

from isr_proxy.core.value import Value
from isr_proxy.store.layout import Name

INDEX_STATUS: Final = 0  # of the row of a VaryIndex: it takes space, but is no entry
FOREVER_SERVED: Final = math.inf  # of an index: never a victim by itself


class Row(Value, frozen=True):
    """One page file, as listed. `variant` and `encodings` are for people; sizes on disk are allocated."""

    name: Name
    scheme: str
    host: str
    path: str
    query: str | None
    variant: str
    encodings: str
    status: int
    size_bytes: int
    body_bytes: int
    inode: int
    mtime_ns: int
    sequence: int
    generated_at: float
    fetched_at: float
    stale_at: float
    failures: int
    last_error: str
    retry_at: float
    served_at: float
    tags: tuple[str, ...] = ()

    @property
    def is_entry(self) -> bool:
        """Tell whether it is a page, not an index."""
        return self.status > INDEX_STATUS


class Freshened(Value, frozen=True):
    """What an update in place changed of a row."""

    name: Name
    mtime_ns: int
    sequence: int
    fetched_at: float
    stale_at: float
    failures: int
    last_error: str
    retry_at: float


class Forgotten(Value, frozen=True):
    """A file is gone."""

    name: Name


Change = Row | Freshened | Forgotten


class Totals(Value, frozen=True):
    """Of page files: allocated bytes, and entries (without indexes)."""

    size_bytes: int = 0
    entries: int = 0

    def __add__(self, other: Totals) -> Totals:
        return Totals(self.size_bytes + other.size_bytes, self.entries + other.entries)

    def __neg__(self) -> Totals:
        return Totals(-self.size_bytes, -self.entries)
