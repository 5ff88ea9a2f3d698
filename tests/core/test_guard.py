"""The guard: each of its rules, and that it does not matter how a body is cut into pieces."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.core.guard import GuardScan
from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import Guard

HTML = "text/html; charset=utf-8"


def problem(
    guard: Guard, *chunks: bytes, kind: str | None = HTML, stored: int | None = None
) -> Reason | None:
    scan = GuardScan(guard)
    for chunk in chunks:
        scan.feed(chunk)
    return scan.problem(kind, stored)


ROWS = [
    (Guard(), b"", None, None),
    (Guard(min_bytes=3), b"abc", None, None),
    (Guard(min_bytes=4), b"abc", None, Reason.GUARD_SIZE),
    (Guard(max_shrink=0.5), b"abc", 6, None),
    (Guard(max_shrink=0.5), b"abc", 7, Reason.GUARD_SHRINK),
    (Guard(max_shrink=0.5), b"abc", None, None),
    (Guard(max_shrink=0.0), b"abc", 3, None),
    (Guard(max_shrink=0.0), b"abc", 4, Reason.GUARD_SHRINK),
    (Guard(content_type="text/html"), b"", None, None),
    (Guard(content_type="application/json"), b"", None, Reason.GUARD_TYPE),
    (Guard(contains=("b", "é")), "abé".encode(), None, None),
    (Guard(contains=("b", "é")), b"abe", None, Reason.GUARD_CONTAINS),
    (Guard(contains=("b",)), b"", None, Reason.GUARD_CONTAINS),
    (Guard(forbids=("x", "b")), b"abc", None, Reason.GUARD_FORBIDS),
    (Guard(forbids=("x", "y")), b"abc", None, None),
]


@pytest.mark.parametrize(("guard", "body", "stored", "expected"), ROWS)
def test_law_1_what_a_guard_refuses(
    guard: Guard, body: bytes, stored: int | None, expected: Reason | None
) -> None:
    assert problem(guard, body, stored=stored) is expected


def test_every_reason_of_a_guard_has_a_row() -> None:
    rows = {expected for *_, expected in ROWS if expected is not None}
    assert rows == {reason for reason in Reason if reason.name.startswith("GUARD_")}


def test_a_missing_content_type_is_the_wrong_one() -> None:
    assert problem(Guard(content_type="text/html"), b"", kind=None) is Reason.GUARD_TYPE


TEXTS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=3).map(tuple)


@given(st.text("ab", max_size=30).map(str.encode), TEXTS, TEXTS, st.data())
def test_it_does_not_matter_how_a_body_is_cut(
    body: bytes, contains: tuple[str, ...], forbids: tuple[str, ...], data: st.DataObject
) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(body)), max_size=10))
    chunks = [body[start:stop] for start, stop in pairwise([0, *sorted(cuts), len(body)])]
    guard = Guard(contains=contains, forbids=forbids)
    assert problem(guard, *chunks) is naive_problem(guard, body)


def naive_problem(guard: Guard, body: bytes) -> Reason | None:
    if any(text.encode() not in body for text in guard.contains):
        return Reason.GUARD_CONTAINS
    return Reason.GUARD_FORBIDS if any(text.encode() in body for text in guard.forbids) else None
