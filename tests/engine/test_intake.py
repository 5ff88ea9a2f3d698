"""Where requests end on the wire, however it is cut: the parser is fed one, and nothing behind it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.serve.intake import Intake

HEAD = b"POST /p HTTP/1.1\r\nHost: a\r\n\r\n"
REST = b"GET /next HTTP/1.1\r\n\r\n"


def cuts(raw: bytes, places: list[int]) -> list[bytes]:
    edges = sorted({0, *(place % (len(raw) + 1) for place in places), len(raw)})
    return [raw[start:stop] for start, stop in pairwise(edges)]


def heads(intake: Intake, pieces: list[bytes]) -> tuple[bytes, bytes]:
    """Feed until the head is whole, as the front does; returns what was fed and what was left."""
    fed, pieces = b"", list(pieces)
    while pieces and not fed.endswith(b"\r\n\r\n"):
        head, rest = intake.head(pieces.pop(0))
        fed += head
        pieces[:0] = [rest] if rest else []
    return fed, b"".join(pieces)


PLACES = st.lists(st.integers(0, 200), max_size=12)
ASKED = st.sampled_from([b"GET", b"POST", b"FETCH", b"get", b"P", b"POSTS", b"OPTIONS", b"PRI"])


@given(ASKED, PLACES, st.sampled_from([b"", b"\r\n", b"\r\n\r\n"]))
def test_a_head_ends_where_it_ends(method: bytes, places: list[int], blank: bytes) -> None:
    intake = Intake()
    raw = blank + method + b" /p HTTP/1.1\r\nHost: a\r\n\r\n" + REST
    fed, rest = heads(intake, cuts(raw, places))
    plain = method in (b"GET", b"POST", b"OPTIONS")
    assert fed == (method if plain else b"POST") + b" /p HTTP/1.1\r\nHost: a\r\n\r\n"
    assert intake.method == (None if plain else method.decode())
    assert rest == REST


@given(st.binary(max_size=300), PLACES)
def test_nothing_is_lost_that_is_no_request(raw: bytes, places: list[int]) -> None:
    intake = Intake()
    given = b"".join(head for piece in cuts(raw, places) for head in intake.head(piece))
    held = raw.lstrip(b"\r\n")
    assert held.startswith(given) or intake.method is not None
    assert len(held) - len(given) <= 64 or intake.method is not None


@given(st.integers(0, 50), PLACES)
def test_a_length_ends_where_it_ends(length: int, places: list[int]) -> None:
    intake = Intake()
    intake.expect_length(length)
    got = [intake.body(piece) for piece in cuts(b"x" * length + REST, places)]
    assert b"".join(ours for ours, _ in got) == b"x" * length
    assert b"".join(rest for _, rest in got) == REST


CHUNKS = b"3;a=b\r\nabc\r\n0\r\nX: 1\r\nY: 2\r\n\r\n"


@given(PLACES)
def test_chunks_end_where_they_end_and_are_written_anew(places: list[int]) -> None:
    intake = Intake()
    intake.expect_chunks()
    got = [intake.body(piece) for piece in cuts(CHUNKS + REST, places)]
    fed = b"".join(ours for ours, _ in got)
    assert b"".join(rest for _, rest in got) == REST
    assert fed.endswith(b"0\r\n\r\n")
    assert b"X: 1" not in fed
    assert intake.trailers.all(b"y") == ["2"]


@pytest.mark.parametrize("method", [b"A(B", b"A:", b"\x16\x03\x01", b"x" * 65])
def test_what_is_no_method_is_the_parsers_to_refuse(method: bytes) -> None:
    intake = Intake()
    assert intake.head(method + b" / HTTP/1.1\r\n\r\n")[0].startswith(method)
    assert intake.method is None
