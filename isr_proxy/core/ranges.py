"""Ranges: which bytes of a representation a visitor wants (RFC 9110 §14).

Knows the grammar of Range and Content-Range, If-Range, which validators are strong, and when a request for
parts is answered with the whole. Must not know where the bytes are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from isr_proxy.core.http import OWS, Fields, parse_date

MAX_SPANS: Final = 16  # more parts of one page than this cost more than the page (RFC 9110 §14.2)

_SPEC: Final = re.compile(r"([0-9]*)-([0-9]*)")
_CONTENT_RANGE: Final = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})", re.IGNORECASE)
_BEYOND: Final = 10**18  # no representation is as long


@dataclass(frozen=True, slots=True)
class Span:
    """The bytes [start, stop) of a representation."""

    start: int
    stop: int

    @property
    def size(self) -> int:
        return self.stop - self.start

    def content_range(self, whole: int) -> str:
        """Write Content-Range (RFC 9110 §14.4)."""
        return f"bytes {self.start}-{self.stop - 1}/{whole}"


@dataclass(frozen=True, slots=True)
class Ask:
    """One range as it is asked for, while the length is not known (RFC 9110 §14.1.1).

    `first` None: the last `last` bytes. `last` None: from `first` to the end. Else both are included.
    """

    first: int | None
    last: int | None

    def span(self, size: int) -> Span:
        """Return what that is of a representation of this size; an empty span where it lies outside."""
        if self.first is None:
            return Span(max(0, size - (self.last or 0)), size)
        if self.first >= size:
            return Span(size, size)
        return Span(self.first, size if self.last is None else min(self.last + 1, size))

    def __str__(self) -> str:
        first, last = ("" if place is None else str(place) for place in (self.first, self.last))
        return f"bytes={first}-{last}"


UNSATISFIABLE: Final[tuple[Span, ...]] = ()


def asked_ranges(fields: Fields) -> tuple[Ask, ...] | None:
    """Read Range; None where there is none that counts (RFC 9110 §14.2).

    One that cannot be read, of another unit, or of too many parts is as if it were not there.
    """
    values = fields.all(b"range")
    if len(values) != 1:
        return None
    unit, separator, listed = values[0].partition("=")
    if not separator or unit.lower() != "bytes":
        return None
    specs = [spec for each in listed.split(",") if (spec := each.strip(OWS))]
    asks = tuple(ask for spec in specs if (ask := _ask(spec)) is not None)
    return asks if len(asks) == len(specs) and 0 < len(asks) <= MAX_SPANS else None


def _ask(spec: str) -> Ask | None:
    match = _SPEC.fullmatch(spec)
    if match is None or spec == "-":
        return None
    first, last = (_position(digits) if digits else None for digits in match.groups())
    return None if first is not None and last is not None and last < first else Ask(first, last)


def _position(digits: str) -> int:
    return min(int(digits.lstrip("0")[:19] or "0"), _BEYOND)


def wanted_spans(
    fields: Fields, size: int, etag: str | None, last_modified: str | None, dated_at: float | None
) -> tuple[Span, ...] | None:
    """Return the spans a GET asks for, UNSATISFIABLE for 416, None where the whole is the answer.

    Overlapping parts, and any of which If-Range does not hold, are answered with the whole; so are the last
    bytes of nothing, as no Content-Range can say them.
    """
    asks = asked_ranges(fields)
    if asks is None or not if_range_holds(fields, etag, last_modified, dated_at):
        return None
    if size == 0 and any(ask.first is None and ask.last for ask in asks):
        return None
    spans = tuple(span for ask in asks if (span := ask.span(size)).size > 0)
    return None if _overlap(spans) else spans


def _overlap(spans: tuple[Span, ...]) -> bool:
    ordered = sorted(spans, key=lambda span: span.start)
    return any(one.stop > other.start for one, other in pairwise(ordered))


# --- validators ---


def if_range_holds(
    fields: Fields, etag: str | None, last_modified: str | None, dated_at: float | None
) -> bool:
    """RFC 9110 §13.1.5: the same strong entity tag, or exactly the same date, if that is strong too."""
    conditions = fields.all(b"if-range")
    if not conditions:
        return True
    condition = conditions[0]
    if len(conditions) > 1:
        return False
    if condition.startswith(('"', "W/")):
        return condition == etag and not condition.startswith("W/")
    asked = parse_date(condition)
    return asked is not None and asked == parse_date(last_modified) and is_strong_date(asked, dated_at)


def is_strong_date(modified_at: float, dated_at: float | None) -> bool:
    """RFC 9110 §8.8.2.2: nothing else was modified within the same second as what was answered."""
    return dated_at is not None and modified_at + 1 <= dated_at


def strong_validator(fields: Fields) -> str | None:
    """Return what tells a representation from every other: a strong ETag, or else a strong date."""
    etag = fields.first(b"etag")
    if etag is not None:
        return etag if etag.startswith('"') and len(etag) > 1 and etag.endswith('"') else None
    modified = fields.first(b"last-modified")
    modified_at = parse_date(modified)
    if modified_at is None or not is_strong_date(modified_at, parse_date(fields.first(b"date"))):
        return None
    return modified


def content_range(fields: Fields) -> tuple[Span, int] | None:
    """Read Content-Range: which bytes, and of how many; None where that is not told (RFC 9110 §14.4)."""
    values = fields.all(b"content-range")
    match = _CONTENT_RANGE.fullmatch(values[0]) if len(values) == 1 else None
    if match is None:
        return None
    first, last, whole = map(int, match.groups())
    return (Span(first, last + 1), whole) if first <= last < whole else None
