"""Keys: two requests are one page exactly when they should be, and no two keys are ever confused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.core.http import Fields, Line
from isr_proxy.core.key import (
    PLAIN,
    Dimension,
    Key,
    Variant,
    canonical_query,
    derive,
    keyed_dimensions,
    matches_any,
    variant_of,
)
from isr_proxy.core.settings import KeyRules, QueryMode
from tests.core.making import fields, request

ANY = st.text()  # lone surrogates included
DIMENSIONS = st.lists(st.tuples(ANY, ANY | st.none()), max_size=3).map(tuple)
KEYS = st.builds(Key, ANY, ANY, ANY, ANY | st.none(), DIMENSIONS)
VARIANTS = st.builds(Variant, DIMENSIONS)

# --- digests ---


@given(KEYS, KEYS)
def test_two_keys_share_a_digest_exactly_when_they_are_equal(one: Key, other: Key) -> None:
    assert (one.digest == other.digest) is (one == other)


@given(VARIANTS, VARIANTS)
def test_two_variants_share_a_digest_exactly_when_they_are_equal(one: Variant, other: Variant) -> None:
    assert (one.digest == other.digest) is (one == other)


NEIGHBOURS = [
    (Key("http", "a", "bc"), Key("http", "ab", "c")),
    (Key("http", "a", "/b", "c"), Key("http", "a", "/b?c")),
    (Key("http", "a", "/", None), Key("http", "a", "/", "")),
    (Key("http", "a", "/", "-"), Key("http", "a", "/", None, (("", None),))),
    (Key("http", "a", "/", None, (("x", None),)), Key("http", "a", "/", None, (("x", "-"),))),
    (Key("http", "a", "/", None, (("x", "1:y"),)), Key("http", "a", "/", None, (("x", "1"), ("y", None)))),
    (Key("http", "a", "/é"), Key("http", "a", "/\udcc3\udca9")),
    (Key("http", "a", "/"), Key("https", "a", "/")),
]


@pytest.mark.parametrize(("one", "other"), NEIGHBOURS)
def test_lengths_keep_neighbouring_fields_apart(one: Key, other: Key) -> None:
    assert one.digest != other.digest


def test_equal_keys_are_one_in_a_dict() -> None:
    assert {Key("http", "a", "/", "b"): 1}[Key("http", "a", "/", "b")] == 1


def test_a_key_knows_its_address() -> None:
    assert Key("http", "a:81", "/b", "c=d").url == "http://a:81/b?c=d"
    assert Key("http", "a", "/b").target == "/b"


# --- the query ---

PARTS = st.sampled_from(["a", "b", "utm_x", "gclid", "a;utm_x", "", "a=1", "utm_x=&", "page=2", "=x", "%61"])
QUERIES = st.none() | st.lists(PARTS | st.text(max_size=5), max_size=6).map("&".join)
RULES = st.builds(
    KeyRules,
    st.sampled_from(QueryMode),
    st.sampled_from([(), ("a",), ("page", "b")]),
    st.sampled_from([(), ("utm_*", "gclid"), ("*",)]),
)


def is_subsequence(some: list[str], of: list[str]) -> bool:
    rest = iter(of)
    return all(item in rest for item in some)


@given(QUERIES, RULES)
def test_the_canonical_query_only_drops(query: str | None, rules: KeyRules) -> None:
    kept = canonical_query(query, rules)
    assert kept is None or is_subsequence(kept.split("&"), (query or "").split("&"))
    assert canonical_query(kept, rules) == kept


CANONICAL = [
    ("", KeyRules(), None),
    ("&&", KeyRules(), None),
    ("b=2&a=1", KeyRules(), "b=2&a=1"),
    ("utm_source=x&a=1&gclid=y", KeyRules(), "a=1"),
    ("utm_source=x", KeyRules(), None),
    ("a=1;utm_source=x", KeyRules(), "a=1;utm_source=x"),
    ("utm_source=x;a=1", KeyRules(), None),
    ("UTM_source=x", KeyRules(), "UTM_source=x"),
    ("a=1", KeyRules(QueryMode.NONE), None),
    ("b=2&a=1&a=3&ab=4", KeyRules(QueryMode.LISTED, ("a",)), "a=1&a=3"),
    ("%61=1", KeyRules(QueryMode.LISTED, ("a",)), None),
    ("filter[x]=1", KeyRules(ignore_query=("filter[*",)), None),
]


@pytest.mark.parametrize(("query", "rules", "kept"), CANONICAL)
def test_what_the_key_keeps_of_a_query(query: str, rules: KeyRules, kept: str | None) -> None:
    assert canonical_query(query, rules) == kept


@pytest.mark.parametrize(
    ("name", "pattern", "expected"),
    [
        ("utm_x", "utm_*", True),
        ("utm_", "utm_*", True),
        ("utm", "utm_*", False),
        ("a", "a", True),
        ("A", "a", False),
        ("b", "[ab]", False),
        ("[ab]c", "[ab]*", True),
        ("x", "?", False),
    ],
)
def test_only_a_star_at_the_end_is_special(name: str, pattern: str, expected: bool) -> None:
    assert matches_any(name, (pattern,)) is expected


# --- headers and cookies ---

KEYED = KeyRules(headers=("accept-language",), cookies=("lang", "theme"))
DIMENSION_ROWS: list[tuple[str, tuple[Dimension, ...]]] = [
    ("", (("accept-language", None), ("cookie:lang", None), ("cookie:theme", None))),
    ("Accept-Language:", (("accept-language", ""), ("cookie:lang", None), ("cookie:theme", None))),
    (
        "Accept-Language: de | Accept-Language: en | Cookie: theme=dark; other=1",
        (("accept-language", "de, en"), ("cookie:lang", None), ("cookie:theme", "dark")),
    ),
]


@pytest.mark.parametrize(("text", "dimensions"), DIMENSION_ROWS)
def test_the_routes_headers_and_cookies_are_dimensions(text: str, dimensions: tuple[Dimension, ...]) -> None:
    assert keyed_dimensions(fields(text), KEYED) == dimensions


NAMES = st.sampled_from([b"Cookie", b"Accept", b"User-Agent", b"X-Forwarded-Host", b"X-Own"])


@given(st.lists(st.tuples(NAMES, st.binary())))
def test_law_4_a_key_has_nothing_of_the_visitors_but_what_the_route_names(lines: list[Line]) -> None:
    assert derive(request(fields=Fields(lines)), KeyRules()) == derive(request(), KeyRules())


def test_a_variant_is_the_sorted_names_with_the_requests_values() -> None:
    variant = variant_of(["b", "a", "b"], fields("B: 2"))
    assert variant == Variant((("a", None), ("b", "2")))
    assert variant.names == ("a", "b")


def test_no_names_are_the_plain_variant() -> None:
    assert variant_of([], fields("A: 1")) == PLAIN
