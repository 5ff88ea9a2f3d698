"""The algebra of stored parts (RFC 9111 §3.4), against a body of which every byte is known."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from isr_proxy.core.entry import Meta, Partial
from isr_proxy.core.http import Fields, Head
from isr_proxy.core.key import Key, derive
from isr_proxy.core.partial import (
    MAX_PIECES,
    Cut,
    Origin,
    Spans,
    around,
    as_whole,
    combine,
    fills,
    inquire,
    is_of_parts,
    is_worth_adding,
    key_of_parts,
    missing,
    offset_of,
    partial_of,
    spans_of,
)
from isr_proxy.core.ranges import Ask, Span
from isr_proxy.core.settings import KeyRules
from tests.core.making import meta as make_meta
from tests.core.making import request

PAGE = bytes(range(60))
SPANS = (Span(0, 10), Span(20, 30))


def body_of(spans: Spans) -> bytes:
    return b"".join(PAGE[span.start : span.stop] for span in spans)


def read(cuts: tuple[Cut, ...] | list[Cut], stored: bytes, fetched: bytes = b"") -> bytes:
    bodies = {Origin.STORED: stored, Origin.FETCHED: fetched}
    return b"".join(bodies[cut.origin][cut.start : cut.stop] for cut in cuts)


def of_version_1(partial: Partial) -> Meta:
    return structs.replace(make_meta(), lines=((b"ETag", b'"v1"'),), partial=partial)


spans = st.builds(
    lambda start, size: Span(start, min(60, start + size)), st.integers(0, 59), st.integers(1, 60)
)


@given(st.lists(spans, max_size=8), spans)
def test_parts_put_together_are_the_page_s_own_bytes(added: list[Span], wanted: Span) -> None:
    had: Spans = ()
    for span in added:
        together, cuts = combine(had, span)
        assert read(cuts, body_of(had), PAGE[span.start : span.stop]) == body_of(together)
        had = together
    assert {place for span in had for place in range(span.start, span.stop)} == {
        place for span in added for place in range(span.start, span.stop)
    }
    assert all(one.stop < other.start for one, other in pairwise(had))
    gap = missing(had, wanted)
    offset = offset_of(had, wanted)
    if gap is None:
        assert offset is not None
        assert body_of(had)[offset : offset + wanted.size] == PAGE[wanted.start : wanted.stop]
        return
    assert offset is None
    before, after = around(had, wanted, gap)
    middle = PAGE[gap.start : gap.stop]
    stored = body_of(had)
    assert read(before, stored) + middle + read(after, stored) == PAGE[wanted.start : wanted.stop]
    assert not any(span.start <= place < span.stop for span in had for place in (gap.start, gap.stop - 1))


@pytest.mark.parametrize(
    ("ask", "lines"),
    [
        (Ask(2, 5), {"If-None-Match": '"v1"', "Range": "bytes=2-5"}),
        (Ask(5, 14), {"Range": "bytes=10-14", "If-Range": '"v1"'}),
        (Ask(15, 24), {"Range": "bytes=15-19", "If-Range": '"v1"'}),
        (Ask(5, 24), {"Range": "bytes=10-19", "If-Range": '"v1"'}),
        (Ask(None, 5), {"Range": "bytes=55-59", "If-Range": '"v1"'}),
        (Ask(99, None), {"Range": "bytes=99-"}),
    ],
)
def test_what_is_asked_for_with_parts_stored(ask: Ask, lines: dict[str, str]) -> None:
    meta = of_version_1(partial_of(SPANS, 60))
    inquiry = inquire(meta, ask, 1000)
    assert {name.decode(): value.decode() for name, value in inquiry.lines} == lines


def test_without_parts_the_visitor_s_range_is_asked_for() -> None:
    assert inquire(None, Ask(None, 5), 1000).lines == ((b"Range", b"bytes=-5"),)


@pytest.mark.parametrize(
    ("status", "etag", "said", "fits"),
    [
        (206, '"v1"', "bytes 10-19/60", True),
        (200, '"v1"', "bytes 10-19/60", False),
        (206, '"v2"', "bytes 10-19/60", False),
        (206, 'W/"v1"', "bytes 10-19/60", False),
        (206, '"v1"', "bytes 10-18/60", False),
        (206, '"v1"', "bytes 10-19/61", False),
        (206, '"v1"', "bytes 10-19/*", False),
    ],
)
def test_only_the_missing_piece_of_the_same_version_fits(
    status: int, etag: str, said: str, fits: bool
) -> None:
    partial = partial_of(SPANS, 60)
    meta = of_version_1(partial)
    head = Head(status, "", Fields(((b"ETag", etag.encode()), (b"Content-Range", said.encode()))))
    assert fills(head, meta, partial, Span(10, 20)) is fits


def test_the_newest_lines_win() -> None:
    older = Fields(((b"X-Old", b"1"), (b"X-Both", b"1"), (b"X-Both", b"2")))
    newer = Head(
        206, "", Fields(((b"x-both", b"3"), (b"Content-Range", b"bytes 0-0/2"), (b"Content-Length", b"1")))
    )
    assert as_whole(newer, older) == Head(200, "OK", Fields(((b"X-Old", b"1"), (b"x-both", b"3"))))


def test_what_is_added_is_bounded() -> None:
    many = tuple(Span(place, place + 1) for place in range(0, 2 * MAX_PIECES, 2))
    assert not is_worth_adding(partial_of(many, 10**6), Span(1000, 1001), 10**6)
    assert is_worth_adding(partial_of(many, 10**6), Span(0, 100), 10**6)
    assert not is_worth_adding(partial_of(SPANS, 60), Span(30, 60), 49)
    assert is_worth_adding(partial_of(SPANS, 60), Span(30, 60), 50)
    assert not is_worth_adding(None, Span(0, 60), 59)


def test_one_byte_does_not_make_megabytes_be_copied() -> None:
    large = partial_of((Span(0, 20 << 20),), 10**9)
    assert not is_worth_adding(large, Span(10**8, 10**8 + 1), 10**9)
    assert is_worth_adding(large, Span(20 << 20, 21 << 20), 10**9)


def test_no_route_can_configure_the_key_of_parts() -> None:
    page = Key("http", "site.example", "/p", None, (("x-a", "1"),))
    parts = key_of_parts(page)
    assert parts.digest != page.digest
    assert is_of_parts(parts)
    assert not is_of_parts(page)
    named = KeyRules(headers=(":parts",), cookies=(":parts",))
    assert derive(request(), named).digest != parts.digest


def test_spans_survive_the_meta() -> None:
    assert spans_of(partial_of(SPANS, 60)) == SPANS
