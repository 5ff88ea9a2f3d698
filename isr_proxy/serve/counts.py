"""What one worker has counted, as a value: to be read by others, added up, and gone on with by a successor.

Knows the shape. Must not know who counts (observe.py) or how counts travel. Keys are those of the metrics'
labels. Everything here only ever grows, but for `Gauges`, which are of the moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import msgspec


class Tally(msgspec.Struct, array_like=True):
    """The requests of one set of labels: route, X-Cache, reason, hundreds of the status."""

    labels: tuple[str | None, str, str, int]
    durations: list[int]
    seconds: float
    sent_bytes: int


class Gauges(msgspec.Struct, array_like=True, frozen=True):
    """What a worker has right now."""

    flights: int = 0
    resident_bytes: int = 0
    open_files: int = 0


class Counts(msgspec.Struct, array_like=True):
    """All of one worker and of those who sat in its seat before."""

    visits: list[Tally] = []
    regenerations: list[tuple[str, str, int]] = []  # route, reason
    unchanged: dict[str, int] = {}
    regeneration: tuple[list[int], float] = ([], 0.0)  # durations: buckets, and seconds together
    origin_errors: dict[str, int] = {}
    purges: dict[str, int] = {}
    dropped_lines: int = 0
    bad_entries: int = 0
    store_failures: int = 0
    evictions: int = 0
    cpu_seconds: float = 0.0
    gauges: Gauges = Gauges()


encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final = msgspec.msgpack.Decoder(Counts)


def decode(raw: bytes) -> Counts:
    """Read what a worker has said; of one that has said nothing, nothing was counted."""
    return _decoder.decode(raw) if raw else Counts()


def added(all_of_them: Iterable[Counts], name: str) -> Any:
    """Add up one number."""
    return sum(getattr(each, name) for each in all_of_them)
