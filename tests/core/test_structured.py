"""Structured fields and what is made of them: what is written is read back, nothing raises."""

from __future__ import annotations

import string
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import parse_qsl

import http_sf
from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.core.admission import Asked, on_response
from isr_proxy.core.decision import Judgement
from isr_proxy.core.directives import CacheControl, parse_targeted
from isr_proxy.core.http import Fields, Head
from isr_proxy.core.search_variance import SearchVariance, search_variance
from isr_proxy.core.structured import parse_dictionary, parse_strings
from isr_proxy.core.validation import on_304, on_head
from tests.core.making import asked, by_origin, fields, isr

KEYS = st.text(string.ascii_lowercase + "_-.*0123456789", min_size=1).filter(
    lambda key: key[0] in string.ascii_lowercase
)
STRINGS = st.text(st.characters(min_codepoint=32, max_codepoint=126))
TEXT = st.text(st.characters(max_codepoint=255))


@given(st.dictionaries(KEYS, st.booleans() | st.integers(-(10**14), 10**14) | STRINGS))
def test_dictionaries_are_read_as_they_were_written(members: dict[str, Any]) -> None:
    written: Any = {key: (value, {"p": 1}) for key, value in members.items()}
    assert parse_dictionary(http_sf.ser(written) if members else "") == members


@given(st.lists(STRINGS))
def test_strings_are_read_as_they_were_written(strings: list[str]) -> None:
    assert parse_strings([http_sf.ser([(each, {}) for each in strings])] if strings else []) == strings


@given(
    st.dictionaries(
        st.sampled_from(["no-store", "private", "max-age", "s-maxage", "foo"]), st.integers(0, 10**9)
    )
)
def test_targeted_directives_are_read_as_they_were_written(directives: dict[str, int]) -> None:
    said = {name: number for name, number in directives.items() if "age" in name or name == "foo"}
    text = ", ".join([f"{name}={number}" for name, number in said.items()])
    expected = CacheControl({name: str(number) for name, number in said.items()}) if said else None
    assert parse_targeted(text) == expected


@given(st.frozensets(st.text(string.ascii_letters, min_size=1)), st.booleans(), st.booleans())
def test_a_search_variance_is_read_as_it_was_written(
    names: frozenset[str], is_except: bool, ignores_order: bool
) -> None:
    listed = "(" + " ".join(f'"{name}"' for name in sorted(names)) + ")"
    parts = ["key-order"] if ignores_order else []
    parts += ["params", f"except={listed}"] if is_except else [f"params={listed}"]
    value = ", ".join(parts).encode()
    expected = SearchVariance(names, is_except, ignores_order)
    assert search_variance(Fields([(b"No-Vary-Search", value)])) == expected


@given(st.text(st.sampled_from("ab&=%61+;"), max_size=30), st.booleans(), st.booleans())
def test_a_shortened_query_is_as_short_as_it_gets(query: str, is_except: bool, ignores_order: bool) -> None:
    variance = SearchVariance(frozenset({"a"}), is_except, ignores_order)
    short = variance.shortened(query)
    assert short is None or variance.shortened(short) == short


@given(
    st.text(st.sampled_from("ab&=%61f+;\xe4"), max_size=20),
    st.text(st.sampled_from("ab&=%61f+"), max_size=20),
)
def test_queries_are_the_same_as_a_form_would_be(one: str, other: str) -> None:
    read = [parse_qsl(query, keep_blank_values=True, errors="surrogateescape") for query in (one, other)]
    kept = [[pair for pair in pairs if pair[0] != "b"] for pairs in read]
    variance = SearchVariance(frozenset({"b"}))
    assert (variance.shortened(one) == variance.shortened(other)) is (kept[0] == kept[1])


@given(TEXT)
def test_no_text_raises(text: str) -> None:
    parse_dictionary(text)
    parse_strings([text])
    parse_targeted(text)
    search_variance(Fields([(b"No-Vary-Search", text.encode("latin-1"))])).shortened(text)


FIELD_NAMES = st.sampled_from(
    [
        b"Cache-Control",
        b"CDN-Cache-Control",
        b"Surrogate-Control",
        b"Vary",
        b"Age",
        b"Expires",
        b"Date",
        b"ETag",
        b"Last-Modified",
        b"Cache-Groups",
        b"Cache-Tag",
        b"Set-Cookie",
        b"Content-Length",
        b"Content-Range",
        b"Retry-After",
    ]
)


@given(
    st.integers(200, 999),
    st.lists(st.tuples(FIELD_NAMES, st.binary(max_size=40))),
    st.sampled_from([isr(), by_origin()]),
    st.sampled_from([on_response, on_304, partial(on_head, stored_bytes=1)]),
)
def test_whatever_an_origin_says_it_is_judged(
    status: int, lines: list[tuple[bytes, bytes]], route: Any, judge: Callable[[Asked, Head], Judgement]
) -> None:
    how = asked(route, stored_fields=fields('ETag: "a"'))
    assert isinstance(judge(how, Head(status, "", Fields(lines))), Judgement)
