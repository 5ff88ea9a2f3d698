"""Routes: patterns mean what their table says, and what servers read differently never reaches one."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.core.routes import (
    RouteTable,
    compile_pattern,
    fill,
    hides_delimiter,
    host_matches,
    target_problem,
)
from isr_proxy.core.settings import Route
from tests.core.making import matched

# --- patterns ---

MATCHES: list[tuple[str, str, Mapping[str, str] | None]] = [
    ("/about", "/about", {}),
    ("/about", "/about/", None),
    ("/about", "/About", None),
    ("/", "/", {}),
    ("/blog/{slug}", "/blog/a%2Fb.html", {"slug": "a%2Fb.html"}),
    ("/blog/{slug}", "/blog/", None),
    ("/blog/{slug}", "/blog/a/b", None),
    ("/docs/{rest:path}", "/docs/a/b", {"rest": "a/b"}),
    ("/docs/{rest:path}", "/docs/", {"rest": ""}),
    ("/docs/{rest:path}", "/docs", None),
    ("/blog/**", "/blog", {}),
    ("/blog/**", "/blog/", {}),
    ("/blog/**", "/blog/a/b", {}),
    ("/blog/**", "/blogs", None),
    ("/**", "/", {}),
    ("/**", "/a/b", {}),
    ("/{lang}/blog/**", "/de/blog/x", {"lang": "de"}),
    ("/img/*.webp", "/img/a.webp", {}),
    ("/img/*.webp", "/img/.webp", {}),
    ("/img/*.webp", "/img/a.webp.webp", {}),
    ("/img/*.webp", "/img/a/b.webp", None),
    ("/img/*.webp/**", "/img/a.webp.webp/b", {}),
    ("/{year}-{month}-{day}", "/2026-11-24", {"year": "2026", "month": "11", "day": "24"}),
    ("/{a}-{b}", "/x-y-z", {"a": "x", "b": "y-z"}),
    ("/{a}-{b}", "/-y", None),
    ("/a.b", "/axb", None),
    ("/café", "/caf%C3%A9", {}),
    ("/a+b(c)", "/a+b(c)", {}),
]


@pytest.mark.parametrize(("pattern", "path", "captures"), MATCHES)
def test_what_a_pattern_matches(pattern: str, path: str, captures: Mapping[str, str] | None) -> None:
    assert compile_pattern(pattern).match(path) == captures


BAD = "|blog|/a/**/b|/{|/}|/{}|/{a b}|/{1}|/{a}/{a}|/{a:int}|/{a:path}/b|/{a{b}}"


@pytest.mark.parametrize("pattern", BAD.split("|"))
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"[`{]"):
        compile_pattern(pattern)


WILD = {"*": 0, "{a}": 1, "{b}": 1}
PIECES = st.lists(st.sampled_from(["/", "x", "-", "*", ".y", "/z"]), max_size=6).filter(
    lambda pieces: ("*", "*") not in pairwise(pieces)
)
SUFFIXES = st.sampled_from([[], ["/**"], ["/", "{rest:path}"], ["{a}"], ["{a}", "-", "{b}"], ["/", "{a}"]])
PATHS = st.text("/x-.yz", max_size=10).map(lambda rest: "/" + rest)


def naive_match(pieces: list[str], path: str) -> bool:
    """Try every length of every wildcard."""
    if not pieces:
        return not path
    first, rest = pieces[0], pieces[1:]
    if first == "{rest:path}":
        return True
    if first == "/**":
        return not path or path.startswith("/")
    if first not in WILD:
        return path.startswith(first) and naive_match(rest, path[len(first) :])
    longest = len(path.partition("/")[0])
    return any(naive_match(rest, path[taken:]) for taken in range(WILD[first], longest + 1))


@given(PIECES, SUFFIXES, PATHS)
def test_a_pattern_matches_what_trying_everything_matches(
    pieces: list[str], suffix: list[str], path: str
) -> None:
    pieces = ["/", *pieces, *suffix]
    found = compile_pattern("".join(pieces)).match(path)
    assert (found is not None) is naive_match(pieces, path)


@pytest.mark.parametrize("pattern", ["/{a}-{b}-{c}-{d}", "/*-*-*-*-*x", "/{a}--{b}--{c}/y"])
def test_law_8_a_long_path_is_matched_in_bounded_time(pattern: str) -> None:
    assert compile_pattern(pattern).match("/" + "-" * 8000 + "/") is None


# --- tags ---

TAGS = [
    ("post:{slug}", {"slug": "a"}, "post:a"),
    ("post:{slug}", {"slug": "caf%C3%A9+x"}, "post:café+x"),
    ("post:{slug}", {"slug": "%FF"}, "post:%FF"),
    ("{a}{b}", {"a": "{b}", "b": "x"}, "{b}x"),
    ("{a}{b}", {"a": "%7Bb%7D", "b": "x"}, "{b}x"),
    ("{other}", {"a": "x"}, "{other}"),
]


@pytest.mark.parametrize(("template", "captures", "tag"), TAGS)
def test_a_tag_has_the_captures_decoded(template: str, captures: dict[str, str], tag: str) -> None:
    assert fill(template, captures) == tag


@given(st.text().filter(lambda text: text.isprintable()))
def test_any_capture_makes_a_tag(text: str) -> None:
    assert fill("{a}", {"a": text}) in (text, unquote(text, errors="replace"))


def test_the_tags_of_a_match() -> None:
    assert matched(Route("/", tags=("blog", "p:{x}")), x="1").tags() == ("blog", "p:1")


# --- the table ---


def chosen(table: RouteTable, host: str, path: str) -> str | None:
    match = table.match(host, path)
    return None if match is None else match.route.match


def test_the_first_route_that_matches_wins() -> None:
    table = RouteTable((Route("/a/x"), Route("/a/**"), Route("/a/y")))
    assert [chosen(table, "h", path) for path in ("/a/x", "/a/y", "/b")] == ["/a/x", "/a/**", None]


def test_routes_of_other_hosts_are_left_out() -> None:
    table = RouteTable((Route("/**", host="a.example"), Route("/x")))
    assert [chosen(table, host, "/x") for host in ("a.example", "b.example")] == ["/**", "/x"]


def test_law_8_the_table_remembers_boundedly_and_rightly() -> None:
    table = RouteTable((Route("/{n}"),))
    for number in [*range(5000), *range(5000)]:
        match = table.match("h", f"/{number}")
        assert match is not None
        assert match.captures["n"] == str(number)
    assert len(table._answers) <= 4096


HOSTS = [
    (None, "", True),
    (None, "any:80", True),
    ("a.example", "a.example", True),
    ("a.example", "a.example:8080", True),
    ("a.example:8080", "a.example:8080", True),
    ("a.example:8080", "a.example", False),
    ("a.example", "b.example", False),
    ("a.example", "xa.example", False),
    ("*.example", "a.example", True),
    ("*.example", "a.b.example:81", True),
    ("*.example", "example", False),
    ("*.example", "aexample", False),
    ("*.example:81", "a.example:81", True),
    ("*.example:81", "a.example", False),
    ("[::1]", "[::1]:80", True),
    ("[::1]", "[::1]", True),
    ("[::1]:80", "[::1]", False),
]


@pytest.mark.parametrize(("pattern", "host", "expected"), HOSTS)
def test_which_hosts_a_pattern_means(pattern: str | None, host: str, expected: bool) -> None:
    assert host_matches(pattern, host) is expected


# --- what is refused and what passes (path discrepancy) ---

REFUSED = [
    "",
    "a",
    "*",
    "/a#b",
    "/a\\b",
    "/a b",
    "/a\tb",
    "/a\r\nb",
    "/a\x00b",
    "/a\x7fb",
    "/a\udcffb",
    "/a%00b",
    "/a%",
    "/a%4",
    "/a%zz",
    "/a%-1",
    "/.",
    "/..",
    "/a/../b",
    "/a/./b",
    "/a/%2e%2E/b",
    "/a/.%2e",
    "/a/%2e",
    "/a/..;/b",
    "/a/..;x=1/b",
    "/a/.;/b",
]


@pytest.mark.parametrize("path", REFUSED)
def test_what_servers_read_differently_is_refused(path: str) -> None:
    assert target_problem(path, None) is not None


@pytest.mark.parametrize("query", ["#", "a#b", "a b", "a\x00", "a\r\nb", "%00", "\udc80"])
def test_what_servers_read_differently_is_refused_in_the_query(query: str) -> None:
    assert target_problem("/", query) is not None


ORDINARY = ["/", "/a.b", "/...", "/a..b/..c", "/.well-known/x", "/a;b", "//", "/%20", "/é", "/%252e"]


@pytest.mark.parametrize("path", ORDINARY)
def test_ordinary_paths_are_not_refused(path: str) -> None:
    assert target_problem(path, "a=%&b=?/\\") is None


@pytest.mark.parametrize("path", ["/a%2fb", "/a%2Fb", "/%5c", "/a%3Bb", "/%23", "/%3f", "/..%2f.."])
def test_a_hidden_delimiter_is_seen(path: str) -> None:
    assert hides_delimiter(path)


@pytest.mark.parametrize("path", ["/", "/a%20b", "/%252f", "/2f", "/%2e"])
def test_other_escapes_hide_nothing(path: str) -> None:
    assert not hides_delimiter(path)


SEGMENTS = st.lists(st.sampled_from(["a", ".", "..", "%2e", "%2E.", ".%2e", "%2e%2e", "..;", ""]), max_size=5)


@given(SEGMENTS)
def test_whatever_a_decoding_server_would_climb_is_refused(segments: list[str]) -> None:
    path = "/" + "/".join(segments)
    climbs = any(part.partition(";")[0] in (".", "..") for part in unquote(path).split("/"))
    assert (target_problem(path, None) is not None) is climbs


@given(st.text(), st.none() | st.text())
def test_no_target_makes_the_check_raise(path: str, query: str | None) -> None:
    target_problem(path, query)
    hides_delimiter(path)
