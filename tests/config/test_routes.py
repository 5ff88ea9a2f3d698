"""Routes: inheritance, and the combinations that are refused."""

from __future__ import annotations

import pytest

from isr_proxy.core.settings import (
    FOREVER,
    BypassRules,
    Fallback,
    FallbackKind,
    Guard,
    PathSource,
    PathSourceKind,
    QueryMode,
    Revalidate,
    RevalidateMode,
    Route,
    SetCookie,
    Veto,
)
from tests.config.reading import parsed, problem, problems, route


def only(keys: str) -> Route:
    return route(f"routes: [{{match: '/blog/{{slug}}', {keys}}}]")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("60s", Revalidate(RevalidateMode.TTL, 60)),
        ("60", Revalidate(RevalidateMode.TTL, 60)),
        ("0", Revalidate(RevalidateMode.PASS)),
        ("0s", Revalidate(RevalidateMode.PASS)),
        ("never", Revalidate(RevalidateMode.NEVER, FOREVER)),
        ("origin", Revalidate(RevalidateMode.ORIGIN)),
    ],
)
def test_revalidate(text: str, expected: Revalidate) -> None:
    assert only(f"revalidate: {text}").revalidate == expected


def test_a_route_with_a_match_alone_is_the_default_route() -> None:
    assert only("") == Route("/blog/{slug}")


def test_windows_are_none_until_given() -> None:
    given = only("stale_while_revalidate: forever, stale_if_error: 1h")
    assert (only("").stale_while_revalidate, only("").stale_if_error) == (None, None)
    assert (given.stale_while_revalidate, given.stale_if_error) == (FOREVER, 3600)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("blocking", Fallback()),
        ("not_found", Fallback(FallbackKind.NOT_FOUND)),
        ("{shell: /blog/_loading}", Fallback(FallbackKind.SHELL, "/blog/_loading")),
    ],
)
def test_fallback(text: str, expected: Fallback) -> None:
    assert only(f"fallback: {text}").fallback == expected


def test_files_to_prerender_lie_beside_the_config() -> None:
    sources = only("prerender: ['/a?b=c', {sitemap: /s.xml}, {json: /j}, {file: /abs/p.txt}]").prerender
    assert sources == (
        PathSource(PathSourceKind.PATH, "/a?b=c"),
        PathSource(PathSourceKind.SITEMAP, "/s.xml"),
        PathSource(PathSourceKind.JSON, "/j"),
        PathSource(PathSourceKind.FILE, "/abs/p.txt"),
    )


def test_words_of_a_route() -> None:
    given = only("ignore_origin: [private, vary], set_cookie: drop, client_cache_control: origin")
    assert given.ignore_origin == {Veto.PRIVATE, Veto.VARY}
    assert given.set_cookie is SetCookie.DROP
    assert given.client_cache_control == "origin"


def test_key_names() -> None:
    rules = only("key: {query: [page], headers: [Accept-Language], cookies: [Currency]}").key
    assert (rules.query_mode, rules.query_names) == (QueryMode.LISTED, ("page",))
    assert (rules.headers, rules.cookies) == (("accept-language",), ("Currency",))


# --- defaults ---

INHERITING = """\
defaults:
  revalidate: 5m
  host: example.org
  tags: [site]
  bypass: {cookies: [session]}
  guard: {min_bytes: 10, max_shrink: 0.5}
  status_ttl: {404: 1s, 500: 2s}
routes:
  - match: /a
  - match: /b
    revalidate: never
    host: null
    tags: []
    bypass: {query: [preview]}
    guard: {min_bytes: 1KiB, max_shrink: null}
    status_ttl: {500: 3s}
"""


def test_a_route_inherits_what_it_does_not_say() -> None:
    first = parsed(INHERITING).routes[0]
    assert (first.revalidate.ttl, first.host, first.tags) == (300, "example.org", ("site",))
    assert first.guard == Guard(10, 0.5)


def test_what_a_route_says_wins_key_by_key() -> None:
    second = parsed(INHERITING).routes[1]
    assert (second.revalidate.mode, second.host, second.tags) == (RevalidateMode.NEVER, None, ())
    assert second.bypass == BypassRules(cookies=("session",), query=("preview",))
    assert second.guard == Guard(1024, None)


def test_status_ttls_merge_by_status() -> None:
    statuses = dict(parsed(INHERITING).routes[1].status_ttl)
    assert (statuses[404], statuses[500], statuses[410]) == (1, 3, 60)


def test_a_config_without_routes_obeys_the_origin_everywhere() -> None:
    assert parsed("origin: {url: http://app:3000}").routes == (Route("/**"),)


# --- what is refused ---


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ("match: 'blog'", "starts with `/`"),
        ("match: '/{a}/{a}'", "appears twice"),
        ("match: '/{a:path}/b'", "only at the end"),
        ("match: '/**/b'", "only at the end"),
        ("match: '/{a'", "unbalanced"),
        ("match: '/a?b'", "matches the path only"),
        ("match: /, revalidate: -1", "is not a time to revalidate"),
        ("match: /, fallback: {shell: blog}", "has a `shell` that is not a path"),
        ("match: /, prerender: [a]", "is not a path"),
        ("match: /, prerender: [{sitemap: /a, json: /b}]", "is not a source of paths"),
        ("match: /, prerender: [/a/../b]", "dot segment"),
        ("match: /, status_ttl: {600: 1s}", "is not an HTTP status"),
        ("match: /, status_ttl: {404: forever}", "is not a duration"),
        ("match: /, key: {headers: [Authorization]}", "bypass.headers"),
        ("match: /, key: {headers: [host]}", "part of every key"),
        ("match: /, key: {headers: [Connection]}", "belongs to each connection"),
        ("match: /, key: {headers: [X_Forwarded_Host]}", "rebuilt by the proxy"),
        ("match: /, key: {headers: ['a b']}", "is not a header name"),
        ("match: /, key: {query: some}", "all, none or a list"),
        ("match: /, key: {ignore_query: ['*_x']}", "is not the name of a query parameter"),
        ("match: /, bypass: {cookies: ['a*b']}", "is not a cookie name"),
        ("match: /, tags: ['a b']", "is not a tag"),
        ("match: /, ignore_origin: [max-age]", "no-store, private, vary"),
        ('match: /, client_cache_control: "a\\nb"', "is not a header value"),
        ("match: /, guard: {max_shrink: 2}", "is not a fraction"),
        ("match: /, revalidate: 1s, set_cookie: store", "needs `revalidate: origin`"),
        ("match: /, hosts: a", "did you mean `host`?"),
    ],
)
def test_a_bad_route_says_what_is_allowed(keys: str, words: str) -> None:
    assert words in problem(f"routes: [{{{keys}}}]")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("match: /a", "match: /a"),
        ("match: '/{a}'", "match: '/{b}'"),
        ("match: /a", "match: /a, host: x.org"),
        ("match: /**", "match: /a"),
        ("match: /a, host: x.org", "match: /a, host: X.org"),
    ],
)
def test_a_route_that_never_matches_is_refused(first: str, second: str) -> None:
    assert "routes[1].match: never matches" in problem(f"routes: [{{{first}}}, {{{second}}}]")


@pytest.mark.parametrize(
    ("first", "second"), [("match: /a, host: x.org", "match: /a"), ("match: '/{a}'", "match: '/{a:path}'")]
)
def test_a_route_that_can_match_is_not(first: str, second: str) -> None:
    assert len(parsed(f"routes: [{{{first}}}, {{{second}}}]").routes) == 2


def test_what_defaults_break_is_reported_where_it_stands() -> None:
    text = """\
    defaults: {tags: ["post:{slug}"], set_cookie: store}
    routes: [{match: "/{slug}"}, {match: /a, revalidate: 1s}]
    """
    assert [found.split(": ")[:2] for found in problems(text)] == [
        ["1:19", "defaults.tags[0]"],
        ["1:47", "defaults.set_cookie"],
    ]


# --- admin, listen, store ---

TOKEN = "0123456789" * 4


@pytest.mark.parametrize("listen", [":8081", "0.0.0.0:8081", "admin.example.org:8081"])
def test_admin_beyond_loopback_needs_a_token(listen: str) -> None:
    assert "`admin.token` is needed" in problem(f"admin: {{listen: '{listen}'}}")
    assert parsed(f"admin:\n  listen: '{listen}'\n  token: ${{T}}", T=TOKEN).admin.token == TOKEN


def test_the_purge_method_needs_a_token() -> None:
    assert problem("admin: {purge_method: true}").startswith("1:23: admin.purge_method: PURGE")
    assert parsed(f"admin: {{purge_method: true, token: {TOKEN}}}").admin.purge_method


def test_a_short_token_is_one_problem_however_much_needs_it() -> None:
    assert "admin.token" in problem("admin: {listen: ':1', token: short, purge_method: true}")


def test_a_token_is_not_shown() -> None:
    assert TOKEN not in repr(parsed(f"admin: {{token: {TOKEN}}}"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("listen: ['127.0.0.1:80', '127.0.0.1:80']", "stands here twice"),
        ("listen: []", "has nothing in it"),
        ("listen: 127.0.0.1:8081", "is a `listen` address too"),
        ("store: {max_size: 1MiB}", "allowed: 4MiB or more"),
        ("store: {max_size: 8MiB}", "`max_entry` is larger than `max_size`"),
        ("store: {max_entry: 0}", "is no room at all"),
        ("origin: {regenerate_timeout: 0}", "is no time at all"),
        ("origin: {max_connections: 0}", "at least 1"),
        ("workers: 0", "allowed: 1 to 256, or auto"),
        ("hosts: example.org", "is not a list"),
        ("trusted_proxies: [me]", "is not a network"),
    ],
)
def test_a_bad_top_level_says_what_is_allowed(text: str, words: str) -> None:
    assert words in problem(text)
