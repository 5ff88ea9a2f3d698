"""The policy as tables: one row for each Decision and each Reason that core produces."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import get_args

import pytest
from msgspec import structs

from isr_proxy.core.decision import (
    Decision,
    Fetch,
    LookUp,
    Pass,
    Plan,
    Refuse,
    Serve,
    ServeAndRegenerate,
    ServeShell,
    ServeStale,
    Stored,
    VaryMissed,
)
from isr_proxy.core.entry import State
from isr_proxy.core.http import Request
from isr_proxy.core.key import PLAIN, Variant
from isr_proxy.core.policy import Surroundings, is_crawler, on_arrival, on_request
from isr_proxy.core.purges import Verdict
from isr_proxy.core.reason import Reason, XCache
from isr_proxy.core.routes import RouteTable
from isr_proxy.core.settings import (
    BypassRules,
    ClientDirectives,
    Fallback,
    FallbackKind,
    KeyRules,
    Route,
    Settings,
)
from tests.core.making import NEVER, NOW, PASS, by_origin, isr, matched, request, stored

PACKAGE = Path(__file__).resolve().parents[2] / "isr_proxy"

# --- before the store is asked ---


def planned(asked: Request, route: Route, hosts: tuple[str, ...] = ()) -> Plan:
    settings = Settings(hosts=hosts, routes=(route,))
    return on_arrival(asked, settings, RouteTable(settings.routes))


BYPASS = BypassRules(
    cookies=("session", "wordpress_logged_in_*"),
    headers=("authorization", "x-draft-*"),
    query=("preview", "draft_*"),
)

PASSES = [
    (request(method="POST"), isr(), Reason.METHOD),
    (request(method="PURGE"), isr(), Reason.METHOD),
    (request(method="get"), isr(), Reason.METHOD),
    (request("*", method="OPTIONS"), isr(), Reason.METHOD),
    (request(has_body=True), isr(), Reason.REQUEST_BODY),
    (request(upgrade="websocket"), isr(), Reason.UPGRADE),
    (request(), replace(isr(), revalidate=PASS), Reason.ROUTE_PASS),
    (request("/a%2Fb"), isr(), Reason.ENCODED_PATH),
    (request("/a%3bb"), isr(), Reason.ENCODED_PATH),
    (request(), replace(isr(), match="/other"), Reason.NO_ROUTE),
    (request(text="Authorization: Basic eDp5"), isr(), Reason.BYPASS_HEADER),
    (request(text="X-Draft-Mode: 1"), isr(bypass=BYPASS), Reason.BYPASS_HEADER),
    (request(text="Cookie: a=b; session=1"), isr(bypass=BYPASS), Reason.BYPASS_COOKIE),
    (request(text="Cookie: a=b | Cookie: session=1"), isr(bypass=BYPASS), Reason.BYPASS_COOKIE),
    (request(text="Cookie: session"), isr(bypass=BYPASS), Reason.BYPASS_COOKIE),
    (request(text="Cookie: wordpress_logged_in_9f=x"), isr(bypass=BYPASS), Reason.BYPASS_COOKIE),
    (request("/page?a=1&preview=1"), isr(bypass=BYPASS), Reason.BYPASS_QUERY),
    (request("/page?draft_of=1"), isr(bypass=BYPASS), Reason.BYPASS_QUERY),
    (request("/page?%70review=1"), isr(bypass=BYPASS), Reason.BYPASS_QUERY),
]


@pytest.mark.parametrize(("asked", "route", "reason"), PASSES)
def test_what_passes(asked: Request, route: Route, reason: Reason) -> None:
    plan = planned(asked, route)
    assert isinstance(plan, Pass)
    assert plan.reason is reason


REFUSALS = [
    (request(host="evil.example"), 421, Reason.UNKNOWN_HOST),
    (request("/a#b"), 400, Reason.BAD_TARGET),
    (request("/a/../b"), 400, Reason.BAD_TARGET),
    (request("/a?b\x00"), 400, Reason.BAD_TARGET),
    (request("*?x", method="OPTIONS"), 400, Reason.BAD_TARGET),
    (request("*"), 400, Reason.BAD_TARGET),
    (request(text=f"Via: {', '.join(['1.1 isr-proxy (x)'] * 8)}", host="example.org"), 508, Reason.LOOP),
]


@pytest.mark.parametrize(("asked", "status", "reason"), REFUSALS)
def test_what_is_refused_on_arrival(asked: Request, status: int, reason: Reason) -> None:
    assert planned(asked, isr(), hosts=("example.org",)) == Refuse(status, reason)


LOOK_UPS = [
    (request(), isr()),
    (request(method="HEAD"), isr()),
    (request(), by_origin()),
    (request(text="Cookie: other=1"), isr(bypass=BYPASS)),
    (request("/page?previews=1"), isr(bypass=BYPASS)),
    (request(text="Authorization: x"), isr(bypass=BypassRules(headers=()))),
    (request(text="Range: bytes=0-1"), isr()),
]


@pytest.mark.parametrize(("asked", "route"), LOOK_UPS)
def test_what_is_looked_up(asked: Request, route: Route) -> None:
    plan = planned(asked, route)
    assert isinstance(plan, LookUp)
    assert plan.key.path == asked.path


def test_the_key_is_the_routes() -> None:
    route = isr(key=KeyRules(ignore_query=("utm_*",), headers=("accept-language",)))
    plan = planned(request("/page?b=2&utm_x=1&a=1", "Accept-Language: de"), route)
    assert isinstance(plan, LookUp)
    assert plan.key.target == "/page?b=2&a=1"
    assert plan.key.dimensions == (("accept-language", "de"),)


# --- with what the store has ---


def decided(
    found: Stored | VaryMissed | None,
    route: Route,
    asked: Request | None = None,
    around: Surroundings | None = None,
) -> Decision:
    return on_request(asked or request(), matched(route), found, around or Surroundings(NOW))


def reason_of(decision: Decision) -> Reason | None:
    return getattr(decision, "reason", None)


SHELL = Fallback(FallbackKind.SHELL, "/shell")
ONLY_KNOWN = Fallback(FallbackKind.NOT_FOUND)
FAILED = State(1, 0.0, retry_at=NOW + 5, failed_at=NOW - 5, failures=1)
HONOR = ClientDirectives.HONOR
NO_ERROR_WINDOW = {"stale_while_revalidate": 10.0, "stale_if_error": 0.0}

ROWS: list[tuple[str, Stored | VaryMissed | None, Route, Request, type, Reason | None]] = [
    ("fresh", stored(59), isr(), request(), Serve, Reason.FRESH),
    ("stale", stored(60), isr(), request(), ServeAndRegenerate, None),
    ("stale for a year", stored(3e7), isr(), request(), ServeAndRegenerate, None),
    (
        "finite window",
        stored(70),
        isr(stale_while_revalidate=10.0),
        request(),
        ServeAndRegenerate,
        None,
    ),
    ("beyond it, error window", stored(71), isr(stale_while_revalidate=10.0), request(), Fetch, Reason.STALE),
    ("beyond both", stored(71), isr(**NO_ERROR_WINDOW), request(), Fetch, Reason.STALE),
    ("failed lately", stored(70, state=FAILED), isr(), request(), ServeStale, Reason.RETRY_LATER),
    (
        "failed lately, error window",
        stored(70, state=FAILED),
        isr(stale_while_revalidate=0.0),
        request(),
        ServeStale,
        Reason.RETRY_LATER,
    ),
    ("never", stored(3e9), replace(isr(), revalidate=NEVER), request(), Serve, Reason.FRESH),
    ("purged", stored(1, verdict=Verdict(hidden=True)), isr(), request(), Fetch, Reason.PURGED),
    ("purged softly", stored(1, verdict=Verdict(stale_at=NOW)), isr(), request(), ServeAndRegenerate, None),
    ("nothing stored", None, isr(), request(), Fetch, Reason.URI_MISS),
    ("not generated", None, isr(fallback=ONLY_KNOWN), request(), Refuse, Reason.PRERENDERED_ONLY),
    ("generated", stored(), isr(fallback=ONLY_KNOWN), request(), Serve, Reason.FRESH),
    ("shell", None, isr(fallback=SHELL), request(), ServeShell, None),
    ("the shell itself", None, isr(fallback=SHELL), request("/shell"), Fetch, Reason.URI_MISS),
    ("crawler", None, isr(fallback=SHELL), request(text="User-Agent: Googlebot/2.1"), Fetch, Reason.URI_MISS),
    ("other variant", VaryMissed(("accept",)), isr(), request(), Fetch, Reason.VARY_MISS),
    (
        "varies, cookie",
        VaryMissed(("cookie",)),
        isr(),
        request(text="Cookie: a=b"),
        Pass,
        Reason.VARY_COOKIE,
    ),
    ("varies, no cookie", VaryMissed(("cookie",)), isr(), request(), Fetch, Reason.VARY_MISS),
    ("stale 404", stored(11, 404), isr(), request(), Fetch, Reason.STALE),
    ("stale 410", stored(61, 410), isr(), request(), Fetch, Reason.STALE),
    ("fresh 404", stored(9, 404), isr(), request(), Serve, Reason.FRESH),
    ("stale redirect", stored(3601, 308), isr(), request(), ServeAndRegenerate, None),
    ("404 failed lately", stored(11, 404, state=FAILED), isr(), request(), ServeStale, Reason.RETRY_LATER),
    ("origin: fresh", stored(9, ttl=10.0), by_origin(), request(), Serve, Reason.FRESH),
    ("origin: stale", stored(10, ttl=10.0), by_origin(), request(), Fetch, Reason.STALE),
    (
        "origin: its window",
        stored(11, ttl=10.0, stale_while_revalidate=1.0),
        by_origin(),
        request(),
        ServeAndRegenerate,
        None,
    ),
    (
        "origin: no-cache",
        stored(0, ttl=10.0, must_validate=True),
        by_origin(),
        request(),
        Fetch,
        Reason.MUST_VALIDATE,
    ),
    (
        "origin: must-revalidate",
        stored(11, ttl=10.0, forbids_stale=True),
        by_origin(stale_while_revalidate=99.0),
        request(),
        Fetch,
        Reason.STALE,
    ),
]


@pytest.mark.parametrize(
    ("found", "route", "asked", "kind", "reason"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS]
)
def test_what_is_done_with_what_is_stored(
    found: Stored | VaryMissed | None, route: Route, asked: Request, kind: type, reason: Reason | None
) -> None:
    decision = decided(found, route, asked)
    assert type(decision) is kind
    assert reason_of(decision) is reason


@pytest.mark.parametrize(
    ("route", "method", "found", "is_head"),
    [
        (by_origin(), "HEAD", stored(10, ttl=10.0), True),
        (by_origin(), "GET", stored(10, ttl=10.0), False),
        (by_origin(), "HEAD", None, False),
        (isr(), "HEAD", stored(11, 404), False),
    ],
)
def test_head_is_asked_as_head_where_the_origin_decides(
    route: Route, method: str, found: Stored | None, is_head: bool
) -> None:
    decision = decided(found, route, request(method=method))
    assert isinstance(decision, Fetch)
    assert decision.is_head is is_head


ASKED: list[tuple[str, Stored | VaryMissed | None, type, Reason | None]] = [
    ("Cache-Control: no-cache", stored(1), Fetch, Reason.REQUEST),
    ("Pragma: no-cache", stored(1), Fetch, Reason.REQUEST),
    ("Pragma: no-cache | Cache-Control: max-age=9", stored(1), Serve, Reason.FRESH),
    ("Cache-Control: max-age=5", stored(6), Fetch, Reason.REQUEST),
    ("Cache-Control: max-age=5", stored(5), Serve, Reason.FRESH),
    ("Cache-Control: max-age=x", stored(5), Fetch, Reason.REQUEST),
    ("Cache-Control: min-fresh=30", stored(31), Fetch, Reason.REQUEST),
    ("Cache-Control: min-fresh=30", stored(30), Serve, Reason.FRESH),
    ("Cache-Control: only-if-cached", stored(1), Serve, Reason.FRESH),
    ("Cache-Control: only-if-cached", stored(61), Refuse, Reason.ONLY_IF_CACHED),
    ("Cache-Control: only-if-cached, max-age=0", stored(1), Refuse, Reason.ONLY_IF_CACHED),
    ("Cache-Control: only-if-cached", None, Refuse, Reason.ONLY_IF_CACHED),
    ("Cache-Control: only-if-cached", VaryMissed(("accept",)), Refuse, Reason.ONLY_IF_CACHED),
    ("Cache-Control: only-if-cached", stored(verdict=Verdict(hidden=True)), Refuse, Reason.ONLY_IF_CACHED),
    ("Cache-Control: no-store", None, Pass, Reason.REQUEST),
    ("Cache-Control: no-store", stored(1), Serve, Reason.FRESH),
    ("Cache-Control: no-store", stored(61), Pass, Reason.REQUEST),
    ("Cache-Control: no-store, max-age=0", stored(1), Pass, Reason.REQUEST),
    ("Cache-Control: no-store, only-if-cached", None, Refuse, Reason.ONLY_IF_CACHED),
    ("Cache-Control: max-stale", stored(1), Serve, Reason.FRESH),
    ("Cache-Control: max-stale", stored(9999), ServeStale, Reason.REQUEST),
    ("Cache-Control: max-stale=5", stored(65), ServeStale, Reason.REQUEST),
    ("Cache-Control: max-stale=5", stored(66), ServeAndRegenerate, None),
    ("Cache-Control: max-stale=x", stored(61), ServeAndRegenerate, None),
    ("Cache-Control: max-stale, min-fresh=1", stored(61), Fetch, Reason.REQUEST),
    ("Cache-Control: max-stale", stored(61, forbids_stale=True), ServeAndRegenerate, None),
    ("Cache-Control: max-stale", stored(1, verdict=Verdict(stale_at=NOW)), ServeAndRegenerate, None),
    ("Cache-Control: only-if-cached, max-stale", stored(61), ServeStale, Reason.REQUEST),
    (
        "Cache-Control: only-if-cached, max-stale",
        stored(61, must_validate=True),
        Refuse,
        Reason.ONLY_IF_CACHED,
    ),
]


@pytest.mark.parametrize(("text", "found", "kind", "reason"), ASKED)
def test_a_visitors_directives_where_they_are_honored(
    text: str, found: Stored | VaryMissed | None, kind: type, reason: Reason | None
) -> None:
    decision = decided(found, isr(client_directives=HONOR), request(text=text))
    assert type(decision) is kind
    assert reason_of(decision) is reason


@pytest.mark.parametrize(("text", "found"), [row[:2] for row in ASKED])
def test_a_visitors_directives_are_ignored_by_default(text: str, found: Stored | VaryMissed | None) -> None:
    assert decided(found, isr(), request(text=text)) == decided(found, isr())


def test_a_prerendered_path_is_generated_though_others_are_not() -> None:
    around = Surroundings(NOW, is_prerendered=True)
    assert isinstance(decided(None, isr(fallback=ONLY_KNOWN), around=around), Fetch)


@pytest.mark.parametrize("found", [None, VaryMissed(("accept",))])
def test_what_is_known_to_be_uncacheable_passes(found: VaryMissed | None) -> None:
    around = Surroundings(NOW, is_hit_for_pass=True)
    assert decided(found, isr(), around=around) == Pass(Reason.HIT_FOR_PASS)


@pytest.mark.parametrize("verdict", [Verdict(), Verdict(hidden=True)])
def test_what_is_stored_after_all_does_not_pass(verdict: Verdict) -> None:
    around = Surroundings(NOW, is_hit_for_pass=True)
    assert not isinstance(decided(stored(1, verdict=verdict), isr(), around=around), Pass)


def test_a_vary_miss_fetches_the_visitors_own_variant() -> None:
    decision = decided(VaryMissed(("accept-language",)), isr(), request(text="Accept-Language: de"))
    assert decision == Fetch(Reason.VARY_MISS, Variant((("accept-language", "de"),)))


def test_a_purged_page_is_fetched_again_without_a_fallback() -> None:
    assert decided(stored(1, verdict=Verdict(hidden=True)), isr()) == Fetch(Reason.PURGED, PLAIN)


@pytest.mark.parametrize("verdict", [Verdict(), Verdict(hidden=True)])
def test_a_page_found_for_its_language_is_fetched_for_whoever_asks(verdict: Verdict) -> None:
    found = stored(61, verdict=verdict, ttl=60.0)
    english = replace(found, meta=structs.replace(found.meta, vary=(("accept-language", "en"),)))
    decision = decided(english, by_origin(), request(text="Accept-Language: de"))
    assert isinstance(decision, Fetch)
    assert decision.variant == Variant((("accept-language", "de"),))


@pytest.mark.parametrize(
    ("found", "route", "is_alone"),
    [
        (stored(1, ttl=60.0, must_validate=True), by_origin(), True),
        (stored(1, ttl=0.0, forbids_stale=True), by_origin(), True),
        (stored(61, ttl=60.0, forbids_stale=True), by_origin(), False),
        (stored(1, ttl=0.0), by_origin(), False),
        (stored(99, must_validate=True), isr(stale_while_revalidate=1.0, stale_if_error=1.0), False),
    ],
)
def test_law_3_only_what_each_must_validate_is_fetched_alone(
    found: Stored, route: Route, is_alone: bool
) -> None:
    decision = decided(found, route)
    assert isinstance(decision, Fetch)
    assert decision.is_alone is is_alone


@pytest.mark.parametrize("condition", ['If-Match: "a"', "If-Unmodified-Since: Fri, 01 Jan 2027 00:00:00 GMT"])
def test_what_only_the_origin_can_evaluate_passes_where_it_decides(condition: str) -> None:
    asked = request(text=condition)
    for found in (None, stored(61, ttl=60.0), stored(1, verdict=Verdict(hidden=True), ttl=60.0)):
        assert decided(found, by_origin(), asked) == Pass(Reason.REQUEST)
        assert not isinstance(decided(found, isr(), asked), Pass)
    assert isinstance(decided(stored(1, ttl=60.0), by_origin(), asked), Serve)


@pytest.mark.parametrize(("age", "has_fallback"), [(70.0, True), (90.0, True), (90.5, False)])
def test_law_1_the_old_page_is_the_fallback_within_stale_if_error(age: float, has_fallback: bool) -> None:
    route = isr(stale_while_revalidate=5.0, stale_if_error=30.0)
    decision = decided(stored(age), route)
    assert isinstance(decision, Fetch)
    assert (decision.fallback is not None) is has_fallback


@pytest.mark.parametrize(("age", "has_fallback"), [(15.0, True), (40.0, True), (40.5, False)])
def test_the_origins_stale_if_error_comes_before_the_routes(age: float, has_fallback: bool) -> None:
    decision = decided(stored(age, ttl=10.0, stale_if_error=30.0), by_origin(stale_if_error=5.0))
    assert isinstance(decision, Fetch)
    assert (decision.fallback is not None) is has_fallback


def test_a_stale_404_is_fetched_blocking_and_kept_should_the_origin_fail() -> None:
    decision = decided(stored(11, 404), isr())
    assert isinstance(decision, Fetch)
    assert decision.fallback is not None


@pytest.mark.parametrize("status", [404, 410])
def test_a_404_has_no_fallback_where_stale_if_error_is_zero(status: int) -> None:
    decision = decided(stored(99, status), isr(stale_if_error=0.0))
    assert isinstance(decision, Fetch)
    assert decision.fallback is None


PURGED_AFTER_FAILURE = [
    (stored(70, state=FAILED, verdict=Verdict(stale_at=NOW - 1)), ServeAndRegenerate),
    (stored(70, state=replace(FAILED, stale_at=NOW - 1)), ServeAndRegenerate),
    (stored(70, state=FAILED, verdict=Verdict(stale_at=NOW - 6)), ServeStale),
    (stored(70, state=replace(FAILED, failed_at=NOW + 1)), ServeAndRegenerate),  # the clock went back
    (stored(70, state=replace(FAILED, retry_at=NOW)), ServeAndRegenerate),
]


@pytest.mark.parametrize(("found", "kind"), PURGED_AFTER_FAILURE)
def test_a_soft_purge_younger_than_the_failure_lifts_the_retry_time(found: Stored, kind: type) -> None:
    assert type(decided(found, isr())) is kind


@pytest.mark.parametrize(
    ("agent", "expected"),
    [
        ("Mozilla/5.0 (compatible; Googlebot/2.1)", True),
        ("facebookexternalhit/1.1", True),
        ("WhatsApp/2.23", True),
        ("Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0", False),
        ("", False),
        (None, False),
    ],
)
def test_crawlers_are_known_by_their_agent(agent: str | None, expected: bool) -> None:
    assert is_crawler(agent) is expected


# --- the tables are whole ---


def produced(kind: str, paths: Iterable[Path]) -> set[str]:
    """Return the enum members that the source makes values of: not those it only compares with."""
    names: set[str] = set()
    for path in paths:
        tree = ast.parse(path.read_text("utf-8"))
        read = {id(node) for part in _only_read(tree) for node in ast.walk(part)}
        names.update(
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == kind
            and id(node) not in read
        )
    return names


def _only_read(tree: ast.Module) -> Iterator[ast.AST]:
    for node in ast.walk(tree):
        if isinstance(node, ast.match_case):
            yield node.pattern
        elif isinstance(node, ast.Compare):
            yield node
        elif isinstance(node, ast.Dict):
            yield from (key for key in node.keys if key is not None)


def test_every_decision_has_a_row() -> None:
    seen = {type(planned(asked, route)) for asked, route, _ in PASSES}
    seen |= {type(planned(asked, route)) for asked, route in LOOK_UPS}
    seen |= {row[4] for row in ROWS} | {Refuse}
    assert seen == {*get_args(Decision), *get_args(Plan)}


def test_every_reason_that_the_policy_gives_has_a_row() -> None:
    tabled = [row[2] for row in (*PASSES, *REFUSALS)] + [row[5] for row in ROWS] + [row[3] for row in ASKED]
    given = produced("Reason", [PACKAGE / "core" / "policy.py"])
    seen = {reason.name for reason in tabled if reason is not None} | {"HIT_FOR_PASS"}
    assert seen == given | {"FRESH"}  # Serve's own default


@pytest.mark.parametrize("kind", [Reason, XCache])
def test_law_10_every_word_is_said_somewhere(kind: type[Enum]) -> None:
    said = produced(kind.__name__, PACKAGE.rglob("*.py"))
    assert {member.name for member in kind} - said == set()


def test_law_10_every_word_fits_a_state_and_a_header() -> None:
    assert all(reason.value.isascii() and len(reason.value) <= 32 for reason in Reason)
    assert all(reason.value == reason.value.lower().replace("_", "-") for reason in Reason)
