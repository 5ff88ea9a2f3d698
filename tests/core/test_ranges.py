"""Range and If-Range as values (RFC 9110 §13.1.5, §14)."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.core.http import Fields, parse_date
from isr_proxy.core.ranges import (
    MAX_SPANS,
    UNSATISFIABLE,
    Span,
    asked_ranges,
    content_range,
    if_range_holds,
    strong_validator,
    wanted_spans,
)

ETAG = '"abc"'
DATE = "Fri, 01 Jan 2027 00:00:00 GMT"
OLDER = "Thu, 01 Jan 2026 00:00:00 GMT"

SPANS = [
    ("bytes=0-0", [(0, 1)]),
    ("bytes=0-4", [(0, 5)]),
    ("bytes=5-", [(5, 10)]),
    ("bytes=-3", [(7, 10)]),
    ("bytes=-99", [(0, 10)]),
    ("bytes=8-99", [(8, 10)]),
    ("Bytes=0-1", [(0, 2)]),
    ("bytes=0-1, 4-5", [(0, 2), (4, 6)]),
    ("bytes=0-1\t,4-5 ", [(0, 2), (4, 6)]),
    ("bytes=,0-1,,4-5,", [(0, 2), (4, 6)]),
    ("bytes=007-0008", [(7, 9)]),
    ("bytes=0-99999999999999999999999999", [(0, 10)]),
    ("bytes=-99999999999999999999999999", [(0, 10)]),
    ("bytes=-0,0-1", [(0, 2)]),
    ("bytes=4-5,0-1", [(4, 6), (0, 2)]),
    ("bytes=0-1, 20-30", [(0, 2)]),
]


@pytest.mark.parametrize(("value", "spans"), SPANS)
def test_what_is_wanted(value: str, spans: list[tuple[int, int]]) -> None:
    assert wanted(value) == tuple(Span(*span) for span in spans)


@pytest.mark.parametrize(
    "value", ["bytes=10-", "bytes=10-20, 30-", "bytes=-0", "bytes=99999999999999999999999999-"]
)
def test_what_lies_outside_is_unsatisfiable(value: str) -> None:
    assert wanted(value) == UNSATISFIABLE


IGNORED = [
    "",
    "bytes",
    "bytes=",
    "bytes=-",
    "bytes=a-b",
    "bytes=5-4",
    "lines=0-1",
    "bytes=0-5,3-8",
    "bytes=+1-2",
    "bytes = 0-1",
    "bytes=0 -1",
    "bytes=,",
    "bytes=0-1;5-6",
    "bytes=\xb2-3",
]


@pytest.mark.parametrize("value", [*IGNORED, "bytes=" + ",".join(["0-0"] * (MAX_SPANS + 1))])
def test_what_is_as_if_it_were_not_there(value: str) -> None:
    assert wanted(value) is None


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        (ETAG, True),
        ('"x"', False),
        (f"W/{ETAG}", False),
        (DATE, True),
        ("Thu, 01 Jan 2026 00:00:00 GMT", False),
        ("Sat, 01 Jan 2028 00:00:00 GMT", False),
        ("abc", False),
        ("", False),
    ],
)
def test_if_range(condition: str, holds: bool) -> None:
    assert (wanted("bytes=0-1", ("If-Range", condition)) is not None) is holds


def test_if_range_with_a_date_needs_a_later_date_of_the_answer() -> None:
    asked = Fields(((b"Range", b"bytes=0-1"), (b"If-Range", DATE.encode())))
    for later, holds in ((0, False), (0.9, False), (1, True)):
        assert if_range_holds(asked, None, DATE, (parse_date(DATE) or 0) + later) is holds
    assert not if_range_holds(asked, None, DATE, None)


def test_two_lines_of_either_are_as_if_there_were_no_range() -> None:
    assert wanted("bytes=0-1", ("Range", "bytes=4-5")) is None
    assert wanted("bytes=0-1", ("If-Range", ETAG), ("If-Range", ETAG)) is None


def test_of_nothing_there_is_no_part() -> None:
    def wanted_of_nothing(value: bytes) -> tuple[Span, ...] | None:
        return wanted_spans(Fields(((b"Range", value),)), 0, None, None, None)

    assert wanted_of_nothing(b"bytes=-5") is None
    assert wanted_of_nothing(b"bytes=0-") == wanted_of_nothing(b"bytes=-0") == UNSATISFIABLE


STRONG = [
    ({"ETag": ETAG}, ETAG),
    ({"ETag": f"W/{ETAG}"}, None),
    ({"ETag": f"W/{ETAG}", "Last-Modified": OLDER, "Date": DATE}, None),
    ({"ETag": '"'}, None),
    ({"Last-Modified": OLDER, "Date": DATE}, OLDER),
    ({"Last-Modified": DATE, "Date": DATE}, None),
    ({"Last-Modified": OLDER}, None),
    ({"Last-Modified": "yesterday", "Date": DATE}, None),
    ({}, None),
]


@pytest.mark.parametrize(("headers", "validator"), STRONG)
def test_strong_validators(headers: dict[str, str], validator: str | None) -> None:
    assert strong_validator(fields_of(headers)) == validator


CONTENT_RANGES = [
    ("bytes 0-9/10", (Span(0, 10), 10)),
    ("bytes 3-3/10", (Span(3, 4), 10)),
    ("bytes 0-9/*", None),
    ("bytes */10", None),
    ("bytes 0-10/10", None),
    ("bytes 5-4/10", None),
    ("lines 0-9/10", None),
    ("bytes=0-9/10", None),
]


@pytest.mark.parametrize(("value", "read"), CONTENT_RANGES)
def test_content_range(value: str, read: tuple[Span, int] | None) -> None:
    assert content_range(fields_of({"Content-Range": value})) == read
    if read is not None:
        assert read[0].content_range(read[1]) == value


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 50))
def test_what_is_asked_is_written_as_it_was_read(first: int, last: int, size: int) -> None:
    for text in (f"bytes={first}-{first + last}", f"bytes={first}-", f"bytes=-{last}"):
        asks = asked_ranges(fields_of({"Range": text}))
        assert asks is not None
        (ask,) = asks
        assert str(ask) == text
        spans = wanted_spans(fields_of({"Range": text}), size, None, None, None)
        assert spans == ((ask.span(size),) if ask.span(size).size else UNSATISFIABLE)


def fields_of(headers: Mapping[str, str]) -> Fields:
    return Fields((name.encode(), value.encode("latin-1")) for name, value in headers.items())


@given(st.text(), st.integers(0, 1000))
def test_spans_lie_inside_whatever_is_asked(value: str, size: int) -> None:
    fields = Fields(((b"Range", value.encode("latin-1", "replace")),))
    for span in wanted_spans(fields, size, None, None, None) or ():
        assert 0 <= span.start < span.stop <= size


def wanted(value: str, *more: tuple[str, str]) -> tuple[Span, ...] | None:
    lines = [("Range", value), *more]
    fields = Fields((name.encode(), text.encode("latin-1")) for name, text in lines)
    return wanted_spans(fields, 10, ETAG, DATE, (parse_date(DATE) or 0) + 1)
