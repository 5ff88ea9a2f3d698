"""Parts of a page that are stored without the rest (RFC 9111 §3.3, §3.4).

Knows what is had, what is missing, what to ask for, and how parts are put together. Must not know how a
part is read or fetched. The parts of a page are an entry of their own beside it: its key has a dimension
that no route can configure, so that page and parts never hide each other. The body is the parts, one behind
the other, in the order of the page; no two of them touch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from isr_proxy.core.entry import Meta, Partial
from isr_proxy.core.forward import conditional_lines
from isr_proxy.core.http import Fields, Head, Line
from isr_proxy.core.key import Dimension, Key
from isr_proxy.core.ranges import Ask, Span, content_range, strong_validator

MAX_PIECES: Final = 16  # of one page (law 8)
PARTS: Final[Dimension] = (":parts", None)  # no header field and no cookie can be called so

# To add a part means to copy what is stored already: no more than this, and so many times the new part.
_COPIED_FREELY: Final = 1024 * 1024
_COPIED_PER_BYTE: Final = 64

Spans = tuple[Span, ...]


def key_of_parts(key: Key) -> Key:
    """Return the key under which the parts of a page lie."""
    return replace(key, dimensions=(*key.dimensions, PARTS))


def is_of_parts(key: Key) -> bool:
    return PARTS in key.dimensions


def spans_of(partial: Partial) -> Spans:
    return tuple(Span(start, stop) for start, stop in partial.spans)


def partial_of(spans: Spans, whole: int) -> Partial:
    return Partial(whole, tuple((span.start, span.stop) for span in spans))


# --- what is had, and what is missing ---


def offset_of(spans: Spans, wanted: Span) -> int | None:
    """Return where in the body the wanted bytes begin; None where not all of them are there."""
    offset = 0
    for span in spans:
        if span.start <= wanted.start and wanted.stop <= span.stop:
            return offset + wanted.start - span.start
        offset += span.size
    return None


def missing(spans: Spans, wanted: Span) -> Span | None:
    """Return from the first byte that is missing of `wanted` to the last one; None where none is."""
    start, stop = wanted.start, wanted.stop
    for span in spans:
        if span.start <= start < span.stop:
            start = span.stop
    for span in reversed(spans):
        if span.start < stop <= span.stop:
            stop = span.start
    return Span(start, stop) if start < stop else None


class Origin(Enum):
    """Where a cut is from."""

    STORED = "stored"
    FETCHED = "fetched"


@dataclass(frozen=True, slots=True)
class Cut:
    """The bytes [start, stop) of one of two bodies."""

    origin: Origin
    start: int
    stop: int


def combine(spans: Spans, fetched: Span) -> tuple[Spans, tuple[Cut, ...]]:
    """Return the parts that there are with a new one, and from which cuts their body is made."""
    touched = [span for span in spans if span.start <= fetched.stop and fetched.start <= span.stop]
    joined = Span(
        min([fetched.start, *(span.start for span in touched)]),
        max([fetched.stop, *(span.stop for span in touched)]),
    )
    kept = [span for span in spans if span not in touched]
    together = tuple(sorted([*kept, joined], key=lambda span: span.start))
    cuts: list[Cut] = []
    for span in together:
        cuts += _joined_cuts(spans, span, fetched) if span is joined else _stored_cuts(spans, span)
    return together, tuple(cuts)


def _joined_cuts(spans: Spans, joined: Span, fetched: Span) -> list[Cut]:
    return [
        *_stored_cuts(spans, Span(joined.start, fetched.start)),
        Cut(Origin.FETCHED, 0, fetched.size),
        *_stored_cuts(spans, Span(fetched.stop, joined.stop)),
    ]


def around(spans: Spans, wanted: Span, gap: Span) -> tuple[list[Cut], list[Cut]]:
    """Return what is stored of the wanted bytes before and behind a gap."""
    before, after = Span(wanted.start, gap.start), Span(gap.stop, wanted.stop)
    return _stored_cuts(spans, before), _stored_cuts(spans, after)


def _stored_cuts(spans: Spans, wanted: Span) -> list[Cut]:
    if wanted.size <= 0:
        return []
    offset = offset_of(spans, wanted)
    assert offset is not None, "what lies between a gap and the end of a part is in that part"
    return [Cut(Origin.STORED, offset, offset + wanted.size)]


def is_worth_adding(partial: Partial | None, fetched: Span, max_entry: int) -> bool:
    """Tell whether a part may join those stored: in bytes, in number, and in what copying them costs."""
    spans = () if partial is None else spans_of(partial)
    together, _ = combine(spans, fetched)
    stored_bytes = _size(spans)
    return (
        _size(together) <= max_entry
        and len(together) <= MAX_PIECES
        and stored_bytes <= _COPIED_FREELY + _COPIED_PER_BYTE * fetched.size
    )


def _size(spans: Sequence[Span]) -> int:
    return sum(span.size for span in spans)


# --- what to ask for ---


@dataclass(frozen=True, slots=True)
class Inquiry:
    """What is asked of the origin. `gap`: only this, the rest is stored; None: what the visitor asked."""

    lines: tuple[Line, ...]
    gap: Span | None = None
    is_validation: bool = False  # all of it is stored: is it still right?


def inquire(meta: Meta | None, ask: Ask, max_entry: int) -> Inquiry:
    """Choose what to ask, with these parts stored."""
    partial = None if meta is None else meta.partial
    if meta is None or partial is None:
        return plain_inquiry(ask)
    wanted = ask.span(partial.whole_bytes)
    if wanted.size == 0 or not is_worth_adding(partial, wanted, max_entry):
        return plain_inquiry(ask)
    gap = missing(spans_of(partial), wanted)
    return validating_inquiry(meta, ask) if gap is None else gap_inquiry(meta, gap)


def validating_inquiry(meta: Meta, ask: Ask) -> Inquiry:
    """Ask whether the stored parts are still right, and for the visitor's part if they are not."""
    return Inquiry((*conditional_lines(meta), *plain_inquiry(ask).lines), is_validation=True)


def plain_inquiry(ask: Ask) -> Inquiry:
    """Ask for what the visitor wants, normalised."""
    return Inquiry(((b"Range", str(ask).encode()),))


def gap_inquiry(meta: Meta, gap: Span) -> Inquiry:
    """Ask for what is missing, if the rest is still right (RFC 9110 §13.1.5)."""
    validator = strong_validator(meta.fields)
    assert validator is not None, "parts without a strong validator are not stored"
    asked = str(Ask(gap.start, gap.stop - 1)).encode()
    return Inquiry(((b"Range", asked), (b"If-Range", validator.encode("latin-1"))), gap)


def fills(head: Head, meta: Meta, partial: Partial, gap: Span) -> bool:
    """Tell whether an answer is the missing piece of the same representation (RFC 9111 §3.4)."""
    return (
        head.status == 206
        and content_range(head.fields) == (gap, partial.whole_bytes)
        and is_same(head.fields, meta.fields)
    )


def is_same(one: Fields, other: Fields) -> bool:
    """Tell whether two answers are of one representation: by the same strong validator."""
    validator = strong_validator(one)
    return validator is not None and validator == strong_validator(other)


_OF_ONE_MESSAGE: Final = frozenset({b"content-range", b"content-length"})


def as_whole(head: Head, older: Fields | None = None) -> Head:
    """Return a part's head as that of the page, over what was stored of it: the newest lines win."""
    fields = head.fields.without(_OF_ONE_MESSAGE)
    if older is not None:
        names = frozenset(name.lower() for name, _ in fields)
        fields = Fields((*older.without(names), *fields))
    return Head(200, "OK", fields)
