"""HTTP's grammar: what is written is read back, and nothing a stranger sends can raise."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.core.directives import CacheControl, effective_directives, parse_cache_control
from isr_proxy.core.http import (
    DELTA_SECONDS_MAX,
    Fields,
    Head,
    choose_encoding,
    content_length,
    delta_seconds,
    end_to_end,
    format_date,
    is_not_modified,
    made_once,
    parse_cookies,
    parse_date,
    parse_etags,
    tokens,
    weak_equal,
    weights_of,
)
from tests.core.making import NOW, fields

TEXT = st.text(st.characters(max_codepoint=255))
TOKENS = st.text(string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~", min_size=1)

# --- nothing raises ---


@given(TEXT)
def test_no_text_makes_a_parser_raise(text: str) -> None:
    parse_cache_control([text]).seconds("max-age")
    parse_date(text, now=NOW)
    parse_etags(text)
    parse_cookies([text])
    choose_encoding(text, ["br"])
    content_length(Fields([(b"content-length", text.encode("latin-1"))]))


@given(st.text('"\\,;=ab \t', max_size=60))
def test_a_mess_of_quotes_does_not_make_a_parser_raise(text: str) -> None:
    parse_cache_control([text])
    parse_etags(text)
    parse_cookies([text])


@pytest.mark.parametrize("piece", ['"', '"\\', 'a="', 'a="\\"', ",", "a=b;"])
def test_law_8_a_long_mess_is_read_in_bounded_time(piece: str) -> None:
    text = piece * (8192 // len(piece))
    parse_cache_control([text])
    parse_etags(text)


# --- lines ---


def test_lines_keep_their_order_and_their_case() -> None:
    known = fields("B: 1 | a: 2 | b: 3")
    assert [name for name, _ in known] == [b"B", b"a", b"b"]
    assert (known.all(b"b"), known.get(b"b"), known.first(b"b")) == (["1", "3"], "1, 3", "1")
    assert (known.get(b"c"), b"a" in known, len(known)) == (None, True, 3)


def test_lines_are_values() -> None:
    assert fields("A: 1").plus((b"B", b"2")).without(frozenset({b"a"})) == fields("B: 2")
    assert hash(fields("A: 1")) == hash(fields("A: 1"))


def test_what_is_made_of_fields_is_made_once_and_of_these_alone() -> None:
    made: list[Fields] = []

    @made_once
    def size(fields: Fields) -> int:
        made.append(fields)
        return len(fields)

    one = Fields([(b"A", b"1")])
    more = one.plus((b"B", b"2"))
    assert [size(one), size(one), size(more), size(one.without(frozenset({b"a"}))), size(one)] == [
        1,
        1,
        2,
        0,
        1,
    ]
    assert len(made) == 3
    assert effective_directives(one) is effective_directives(one)


def test_hop_by_hop_fields_end_here_with_all_that_connection_names() -> None:
    kept = end_to_end(fields("A: 1 | Connection: close, X-Own | x-own: 2 | TE: trailers | Upgrade: h2c"))
    assert kept == fields("A: 1")


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("5", 5),
        ("005", 5),
        ("", None),
        ("-1", None),
        ("5, 5", None),
        ("0x5", None),
        ("²", None),
        ("9" * 5000, None),
    ],
)
def test_a_content_length_is_digits(text: str, length: int | None) -> None:
    assert content_length(fields(f"Content-Length: {text}")) == length


def test_which_statuses_have_a_body() -> None:
    having = [status for status in (103, 200, 204, 304, 404) if Head(status, "", Fields()).has_body]
    assert having == [200, 404]


def test_tokens_are_lower_case_and_not_empty() -> None:
    assert tokens(" A, ,b,, C ") == ["a", "b", "c"]
    assert tokens(None) == []


# --- Cache-Control ---

QUOTED = st.text(st.characters(min_codepoint=32, max_codepoint=126, exclude_characters='"\\'))


@given(st.dictionaries(TOKENS.map(str.lower), st.none() | st.integers(0, 2**40).map(str) | TOKENS | QUOTED))
def test_directives_are_read_as_they_were_written(directives: dict[str, str | None]) -> None:
    members = [name if value is None else f'{name}="{value}"' for name, value in directives.items()]
    assert parse_cache_control([", ".join(members)]) == CacheControl(directives)
    assert parse_cache_control(members) == CacheControl(directives)


DIRECTIVES: list[tuple[str, dict[str, str | None]]] = [
    ("max-age=60", {"max-age": "60"}),
    ("Max-Age=60 , NO-STORE", {"max-age": "60", "no-store": None}),
    ('max-age="60"', {"max-age": "60"}),
    ("max-age=60 70", {"max-age": None}),
    ("max-age = 60", {"max-age": None}),
    ('max-age=60"', {"max-age": None}),
    ("private x", {"private": None}),
    ("max-age=60 no-store", {"max-age": None, "no-store": None}),
    ("public max-age=60 Private", {"public": None, "private": None}),
    ('max-age="60" no-cache="x"', {"max-age": None, "no-cache": None}),
    ('private="x" no-cache', {"private": None, "no-cache": None}),
    ("[no-store]", {"no-store": None}),
    ("max-age=60 x-no-store", {"max-age": None}),
    ('x="no-store"', {"x": "no-store"}),
    ("max-age=60; private", {"max-age": "60", "private": None}),
    ('private="a, no-store', {"private": None, "no-store": None}),
    ('no-cache="a, max-age=1", x', {"no-cache": "a, max-age=1", "x": None}),
    ('a="\\", no-store", b', {"a": '\\", no-store', "b": None}),
    (",, ,", {}),
    ("=5, no-store", {"no-store": None}),
    ("\xff, no-store", {"no-store": None}),
]


@pytest.mark.parametrize(("text", "directives"), DIRECTIVES)
def test_broken_directives_are_read_conservatively(text: str, directives: dict[str, str | None]) -> None:
    assert parse_cache_control([text]).directives == directives


SECONDS = [
    ("max-age=60, max-age=30", 30),
    ("max-age=30, max-age=60", 30),
    ("max-age=30, max-age=x", 0),
    ("max-age=x, max-age=30", 0),
    ("max-age", 0),
    ("max-age=-1", 0),
    ("max-age=1.5", 0),
    ("max-age=٣", 0),
    ("max-age=0000000000005", 5),
    (f"max-age={2**31}", DELTA_SECONDS_MAX),
    (f"max-age={10**60}", DELTA_SECONDS_MAX),
    ("s-maxage=9", None),
]


@pytest.mark.parametrize(("text", "seconds"), SECONDS)
def test_law_9_of_doubtful_seconds_the_fewest_count(text: str, seconds: int | None) -> None:
    assert parse_cache_control([text]).seconds("max-age") == seconds


@given(st.integers(0))
def test_delta_seconds_are_bounded(number: int) -> None:
    assert delta_seconds(str(number)) == min(number, DELTA_SECONDS_MAX)


# --- dates ---


@given(st.integers(-(10**10), 10**11))
def test_a_date_is_read_as_it_was_written(instant: int) -> None:
    assert parse_date(format_date(instant), now=NOW) == instant


INSTANT = 784111777.0
DATES = [
    ("Sun, 06 Nov 1994 08:49:37 GMT", INSTANT),
    ("sun, 06 NOV 1994 08:49:37 gmt", INSTANT),
    ("Sunday, 06-Nov-94 08:49:37 GMT", INSTANT),
    ("Sun Nov  6 08:49:37 1994", INSTANT),
    ("Fri, 30 Jun 2017 23:59:60 GMT", 1498867200.0),
    ("Thu, 29 Feb 2024 00:00:00 GMT", 1709164800.0),
    ("Wed, 29 Feb 2023 00:00:00 GMT", None),
    ("Sun, 06 Nov 1994 08:49:37 UTC", None),
    ("Sun, 06 Nov 1994 24:00:00 GMT", None),
    ("Sun, 6 Nov 1994 08:49:37 GMT", None),
    ("Sun, 00 Nov 1994 08:49:37 GMT", None),
    ("Sun, 06 Nob 1994 08:49:37 GMT", None),
    ("Sun, 06 Nov 0000 08:49:37 GMT", None),
    (" Sun, 06 Nov 1994 08:49:37 GMT", None),
    ("784111777", None),
    ("", None),
    (None, None),
]


@pytest.mark.parametrize(("text", "instant"), DATES)
def test_all_three_forms_of_a_date_are_read_and_no_other(text: str | None, instant: float | None) -> None:
    assert parse_date(text) == instant


@pytest.mark.parametrize(("year", "full"), [("26", "2026"), ("76", "2076"), ("77", "1977"), ("99", "1999")])
def test_a_two_digit_year_is_at_most_fifty_years_ahead(year: str, full: str) -> None:
    assert parse_date(f"Friday, 01-Jan-{year} 00:00:00 GMT") == parse_date(f"Fri, 01 Jan {full} 00:00:00 GMT")


# --- validators ---

OPAQUE = st.text([chr(code) for code in (0x21, *range(0x23, 0x7F), *range(0x80, 0x100))])
ETAGS = st.tuples(st.sampled_from(["", "W/"]), OPAQUE).map(lambda pair: f'{pair[0]}"{pair[1]}"')


@given(st.lists(ETAGS), st.sampled_from([",", ", ", " , ", ",,"]))
def test_entity_tags_are_read_as_they_were_written(etags: list[str], separator: str) -> None:
    assert parse_etags(separator.join(etags)) == etags


@pytest.mark.parametrize("text", ["", "a", '"a" "b"', '"a', 'w/"a"', '*, "a"'])
def test_what_is_no_entity_tag_matches_nothing(text: str) -> None:
    assert parse_etags(text) == []


def test_the_star_stands_alone() -> None:
    assert parse_etags(" * ") == ["*"]


def test_entity_tags_compare_weakly() -> None:
    assert weak_equal('W/"a"', '"a"')
    assert not weak_equal('"a"', '"b"')


MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
LATER = "Mon, 07 Nov 1994 08:49:37 GMT"
CONDITIONS = [
    ("", False),
    ('If-None-Match: "x"', False),
    ('If-None-Match: "x", W/"e"', True),
    ('If-None-Match: "x" | If-None-Match: "e"', True),
    ("If-None-Match: *", True),
    (f'If-None-Match: "x" | If-Modified-Since: {LATER}', False),
    (f"If-None-Match: e | If-Modified-Since: {LATER}", False),
    (f"If-Modified-Since: {MODIFIED}", True),
    (f"If-Modified-Since: {LATER}", True),
    ("If-Modified-Since: Sat, 05 Nov 1994 08:49:37 GMT", False),
    ("If-Modified-Since: yesterday", False),
    (f"If-Modified-Since: {LATER} | If-Modified-Since: {LATER}", False),
    (f"If-Unmodified-Since: {LATER}", False),
]


@pytest.mark.parametrize(("text", "expected"), CONDITIONS)
def test_if_none_match_decides_alone(text: str, expected: bool) -> None:
    assert is_not_modified(fields(text), '"e"', MODIFIED) is expected


def test_a_page_changed_this_century_is_not_taken_for_one_of_the_last() -> None:
    asked = fields("If-Modified-Since: Wed, 01 Jan 2020 00:00:00 GMT")
    assert not is_not_modified(asked, None, "Thursday, 01-Jan-26 00:00:00 GMT")


# --- cookies ---

NAMES = st.text(string.ascii_letters + string.digits + "_-", min_size=1)
VALUES = st.text(string.ascii_letters + string.digits + "=%/+:")


@given(st.dictionaries(NAMES, VALUES))
def test_cookies_are_read_as_they_were_written(cookies: dict[str, str]) -> None:
    pairs = [f"{name}={value}" for name, value in cookies.items()]
    assert parse_cookies(["; ".join(pairs)]) == cookies
    assert parse_cookies(pairs) == cookies


def test_of_two_cookies_of_a_name_the_first_counts() -> None:
    assert parse_cookies(["a=1; a=2", "a=3;b;=x; "]) == {"a": "1", "b": ""}


# --- Accept-Encoding ---


@given(st.dictionaries(NAMES.map(str.lower), st.integers(0, 1000)))
def test_weights_are_read_as_they_were_written(weights: dict[str, int]) -> None:
    text = ", ".join(f"{coding};q={weight / 1000:.3f}" for coding, weight in weights.items())
    assert weights_of(text) == {coding: weight / 1000 for coding, weight in weights.items()}


CHOICES = [
    (None, "identity"),
    ("", "identity"),
    ("gzip", "gzip"),
    ("gzip, br", "br"),
    ("gzip;q=1, br;q=0.5", "gzip"),
    ("br;q=0", "identity"),
    ("*", "br"),
    ("*, br;q=0", "zstd"),
    ("identity, br;q=0.5", "identity"),
    ("gzip;q=nan", "identity"),
    ("gzip;q=inf", "identity"),
    ("gzip;q=2", "identity"),
    ("gzip;q=-1", "identity"),
    ("GZIP ; Q=0.3", "gzip"),
    ("gzip;q=\x1d0", "identity"),  # only a space and a tab are spaces
    ("gzip;q=\xa01", "identity"),
    ("\x85gzip", "identity"),
    ("gzip ; q =\t0.5 ", "gzip"),
    ("deflate", "identity"),
]


@pytest.mark.parametrize(("accept", "coding"), CHOICES)
def test_the_coding_a_visitor_gets(accept: str | None, coding: str) -> None:
    assert choose_encoding(accept, ["br", "zstd", "gzip"]) == coding
