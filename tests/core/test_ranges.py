"""Range and If-Range as values (RFC 9110 §13.1.5, §14)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.core.http import Fields
from isr_proxy.core.ranges import MAX_SPANS, UNSATISFIABLE, Span, wanted_spans

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
    ("Bytes = 0-1", [(0, 2)]),
    ("bytes=0-1, 4-5", [(0, 2), (4, 6)]),
    ("bytes=4-5,0-1", [(4, 6), (0, 2)]),
    ("bytes=0-1, 20-30", [(0, 2)]),
]


@pytest.mark.parametrize(("value", "spans"), SPANS)
def test_what_is_wanted(value: str, spans: list[tuple[int, int]]) -> None:
    assert wanted(value) == tuple(Span(*span) for span in spans)


@pytest.mark.parametrize("value", ["bytes=10-", "bytes=10-20, 30-", "bytes=-0"])
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
        ("Fri, 01 Jan 2026 00:00:00 GMT", False),
    ],
)
def test_if_range(condition: str, holds: bool) -> None:
    assert (wanted("bytes=0-1", ("If-Range", condition)) is not None) is holds


@given(st.text(), st.integers(0, 1000))
def test_spans_lie_inside_whatever_is_asked(value: str, size: int) -> None:
    fields = Fields(((b"Range", value.encode("latin-1", "replace")),))
    for span in wanted_spans(fields, size, None, None) or ():
        assert 0 <= span.start < span.stop <= size


def wanted(value: str, *more: tuple[str, str]) -> tuple[Span, ...] | None:
    lines = [("Range", value), *more]
    fields = Fields((name.encode(), text.encode()) for name, text in lines)
    return wanted_spans(fields, 10, ETAG, DATE)
