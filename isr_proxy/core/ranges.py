"""Ranges: which bytes of a whole representation a visitor wants (RFC 9110 §14).

Knows the grammar, If-Range, and when a request for parts is answered with the whole. Must not know where
the bytes are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from isr_proxy.core.http import Fields, parse_date

MAX_SPANS: Final = 16  # more parts of one page than this cost more than the page (RFC 9110 §14.2)

_SPEC: Final = re.compile(r"(\d{0,19})-(\d{0,19})")


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


UNSATISFIABLE: Final[tuple[Span, ...]] = ()


def wanted_spans(
    fields: Fields, size: int, etag: str | None, last_modified: str | None
) -> tuple[Span, ...] | None:
    """Return the spans a GET asks for, UNSATISFIABLE for 416, None where the whole is the answer.

    A Range that cannot be read, of another unit, of too many or overlapping parts, or whose If-Range does
    not hold, is as if it were not there.
    """
    value = fields.first(b"range")
    if value is None or len(fields.all(b"range")) > 1 or not _if_range_holds(fields, etag, last_modified):
        return None
    unit, separator, specs = value.partition("=")
    if not separator or unit.strip().lower() != "bytes":
        return None
    parsed = [_span(spec.strip(), size) for spec in specs.split(",")]
    if any(span is None for span in parsed) or len(parsed) > MAX_SPANS:
        return None
    spans = tuple(span for span in parsed if span is not None and span.size > 0)
    return None if _overlap(spans) else spans


def _span(spec: str, size: int) -> Span | None:
    """Read one range-spec; an empty span where it lies outside, None where it is malformed."""
    match = _SPEC.fullmatch(spec)
    if match is None or spec == "-":
        return None
    first, last = match.groups()
    if not first:
        return Span(max(0, size - int(last)), size)
    start = int(first)
    stop = size if not last else min(int(last) + 1, size)
    if last and int(last) < start:
        return None
    return Span(start, stop) if start < size else Span(size, size)


def _overlap(spans: tuple[Span, ...]) -> bool:
    ordered = sorted(spans, key=lambda span: span.start)
    return any(one.stop > other.start for one, other in pairwise(ordered))


def _if_range_holds(fields: Fields, etag: str | None, last_modified: str | None) -> bool:
    """RFC 9110 §13.1.5: the same strong entity tag, or exactly the same date."""
    condition = fields.first(b"if-range")
    if condition is None:
        return True
    condition = condition.strip()
    if condition.startswith(('"', "W/")):
        return condition == etag and not condition.startswith("W/")
    asked = parse_date(condition)
    return asked is not None and asked == parse_date(last_modified)
