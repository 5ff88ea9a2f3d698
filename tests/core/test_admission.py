"""Admission as tables: which answer is kept, relayed or a failure, and what is kept of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.core.admission import (
    RETRY_MAX,
    RETRY_MIN,
    Asked,
    failure_of,
    on_failure,
    on_response,
    retry_after,
)
from isr_proxy.core.decision import Admit, Failed, Relay
from isr_proxy.core.entry import State
from isr_proxy.core.http import Head, format_date
from isr_proxy.core.key import PLAIN, Variant
from isr_proxy.core.purges import visible_tags
from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import Heuristic, KeyRules, RequestCookie, Route, SetCookie, Veto
from tests.core.making import NEVER, NOW, asked, by_origin, fields, head, isr, lines, matched
from tests.core.test_policy import PACKAGE, produced

FRESH = "Cache-Control: max-age=60"
DROP, STORE = SetCookie.DROP, SetCookie.STORE


def ignoring(*vetoes: Veto) -> Route:
    return isr(ignore_origin=frozenset(vetoes))


def validated(age: int) -> str:
    return f"Last-Modified: {format_date(NOW - age)}"


RELAYED: list[tuple[Route, str, int, str, Reason]] = [
    # Law 9: in doubt, pass.
    (isr(), "", 200, "Cache-Control: no-store", Reason.NO_STORE),
    (isr(), "", 200, "CDN-Cache-Control: no-store | Cache-Control: public", Reason.NO_STORE),
    (isr(), "", 418, "Cache-Control: must-understand, no-store", Reason.NO_STORE),
    (isr(), "", 200, "Cache-Control: private", Reason.PRIVATE),
    (isr(), "", 200, 'Cache-Control: private="x', Reason.PRIVATE),
    (isr(), "", 200, "Cache-Control: max-age=60; private", Reason.PRIVATE),
    (isr(), "", 200, "Cache-Control: max-age=60 | Cache-Control: Private", Reason.PRIVATE),
    (ignoring(Veto.PRIVATE), "", 200, "Cache-Control: private, no-store", Reason.NO_STORE),
    (ignoring(Veto.NO_STORE), "", 200, "Cache-Control: private, no-store", Reason.PRIVATE),
    (by_origin(ignore_origin=frozenset(Veto)), "", 200, "Cache-Control: no-store", Reason.NO_STORE),
    (by_origin(ignore_origin=frozenset(Veto)), "", 200, f"{FRESH} | Vary: *", Reason.VARY_STAR),
    (isr(), "", 200, "Vary: *", Reason.VARY_STAR),
    (isr(), "", 200, "Vary: Accept, *", Reason.VARY_STAR),
    (isr(), "", 200, "Vary: accept language", Reason.VARY_STAR),
    (by_origin(), "", 200, f"{FRESH} | Vary: X-Forwarded-For", Reason.VARY_STAR),
    (by_origin(), "Cookie: a=1", 200, "Cache-Control: public, max-age=9 | Vary: Cookie", Reason.VARY_COOKIE),
    (
        by_origin(key=KeyRules(cookies=("lang",))),
        "Cookie: lang=de; session=1",
        200,
        "Cache-Control: public, max-age=9 | Vary: Cookie",
        Reason.VARY_COOKIE,
    ),
    (by_origin(), "", 599, f"{FRESH}, must-understand", Reason.STATUS),
    (by_origin(), "", 431, FRESH, Reason.STATUS),
    (by_origin(), "", 405, validated(1000), Reason.NO_FRESHNESS),
    (
        by_origin(heuristic=Heuristic.OFF),
        "",
        200,
        f"Last-Modified: {format_date(NOW - 9)}",
        Reason.NO_FRESHNESS,
    ),
    (isr(), "", 200, "Set-Cookie: a=1", Reason.SET_COOKIE),
    (isr(set_cookie=STORE), "", 200, "Set-Cookie: a=1", Reason.SET_COOKIE),
    (by_origin(), "", 200, f"{FRESH} | Set-Cookie: a=1", Reason.SET_COOKIE),
    (by_origin(set_cookie=STORE), "", 200, f"Set-Cookie: a=1 | {validated(99)}", Reason.SET_COOKIE),
    (
        by_origin(set_cookie=STORE),
        "",
        200,
        "Set-Cookie: a=1 | CDN-Cache-Control: public | Expires: Sat, 01 Jan 2050 00:00:00 GMT",
        Reason.SET_COOKIE,
    ),
    (isr(), "", 200, "Content-Range: bytes 0-1/9", Reason.PARTIAL),
    (isr(), "", 200, "Content-Type: text/event-stream; charset=utf-8", Reason.EVENT_STREAM),
    (isr(), "", 403, "", Reason.STATUS),
    (isr(), "", 201, "", Reason.STATUS),
    (by_origin(), "Authorization: x", 200, FRESH, Reason.AUTHORIZATION),
    (by_origin(), "Cookie: a=1", 200, FRESH, Reason.REQUEST_COOKIE),
    (by_origin(), "Cookie: a=1", 200, f"{FRESH}, must-revalidate", Reason.REQUEST_COOKIE),
    (by_origin(), "", 200, "", Reason.NO_FRESHNESS),
    (by_origin(), "", 200, "Cache-Control: max-age=0", Reason.NO_FRESHNESS),
    (by_origin(), "", 200, "Cache-Control: s-maxage=0, max-age=60", Reason.NO_FRESHNESS),
    (by_origin(), "", 200, "Expires: 0", Reason.NO_FRESHNESS),
    (by_origin(), "", 405, validated(1000), Reason.NO_FRESHNESS),
    (by_origin(), "", 403, f"Cache-Control: public | {validated(1000)}", Reason.NO_FRESHNESS),
]


@pytest.mark.parametrize(("route", "sent", "status", "text", "reason"), RELAYED)
def test_law_9_what_is_not_stored(route: Route, sent: str, status: int, text: str, reason: Reason) -> None:
    assert on_response(asked(route, sent), head(status, text)) == Relay(reason)


KEPT: list[tuple[Route, str, int, str]] = [
    *((isr(), "", status, "") for status in (200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 410)),
    (isr(status_ttl=((403, 9.0),)), "", 403, ""),
    (isr(), "", 200, "Cache-Control: no-cache, max-age=0, must-revalidate"),
    (isr(), "", 200, "Cache-Control: must-understand, no-store"),
    (isr(), "", 200, "CDN-Cache-Control: max-age=9 | Cache-Control: private, no-store"),
    (ignoring(Veto.NO_STORE), "", 200, "Cache-Control: no-store"),
    (ignoring(Veto.PRIVATE), "", 200, "Cache-Control: private"),
    (ignoring(Veto.VARY), "", 200, "Vary: *"),
    (isr(set_cookie=DROP), "", 200, "Set-Cookie: a=1"),
    (by_origin(set_cookie=STORE), "", 200, f"{FRESH} | Set-Cookie: a=1"),
    (by_origin(), "", 200, FRESH),
    (by_origin(), "", 200, validated(1000)),
    (by_origin(), "", 200, 'Cache-Control: max-age=0 | ETag: "e"'),
    (by_origin(), "Authorization: x", 200, f"{FRESH}, public"),
    (by_origin(), "Authorization: x", 200, f"{FRESH}, must-revalidate"),
    (by_origin(), "Authorization: x", 200, "Cache-Control: s-maxage=9"),
    (by_origin(), "Cookie: a=1", 200, "Cache-Control: s-maxage=9"),
    (by_origin(request_cookie=RequestCookie.STORE), "Cookie: a=1", 200, FRESH),
    (by_origin(), "", 200, f'{FRESH}, no-cache="Set-Cookie" | Set-Cookie: a=1'),
    (by_origin(), "", 200, f'{FRESH}, private="x-user" | X-User: a'),
    (by_origin(heuristic=Heuristic.ALL), "", 405, validated(1000)),
    (by_origin(heuristic=Heuristic.ALL), "", 501, validated(1000)),
    (by_origin(), "", 403, FRESH),
    (by_origin(), "", 500, FRESH),
    (by_origin(), "", 404, validated(1000)),
]


@pytest.mark.parametrize(("route", "sent", "status", "text"), KEPT)
def test_what_is_stored(route: Route, sent: str, status: int, text: str) -> None:
    assert isinstance(on_response(asked(route, sent), head(status, text)), Admit)


FAILURES: list[tuple[Route, dict[str, Any], int, str, Reason]] = [
    *((isr(), {}, status, "", Reason.SERVER_ERROR) for status in (500, 501, 502, 503, 504, 599)),
    (isr(status_ttl=((503, 9.0),)), {}, 503, "", Reason.SERVER_ERROR),
    (isr(), {}, 500, FRESH, Reason.SERVER_ERROR),
    (by_origin(), {}, 500, "", Reason.SERVER_ERROR),
    (by_origin(), {"has_stored": True}, 500, FRESH, Reason.SERVER_ERROR),
    (isr(), {}, 429, "", Reason.TOO_MANY_REQUESTS),
    (by_origin(), {"has_stored": True}, 429, FRESH, Reason.TOO_MANY_REQUESTS),
    (isr(), {"has_stored": True}, 403, "", Reason.CLIENT_ERROR),
    (isr(status_ttl=((403, 9.0),)), {"has_stored": True}, 403, "", Reason.CLIENT_ERROR),
    (isr(), {}, 304, "", Reason.BAD_RESPONSE),
    (isr(), {}, 206, "Content-Range: bytes 0-1/9", Reason.BAD_RESPONSE),
    (isr(), {"has_stored": True}, 206, "", Reason.BAD_RESPONSE),
]


@pytest.mark.parametrize(("route", "how", "status", "text", "reason"), FAILURES)
def test_law_1_what_is_a_failure(
    route: Route, how: dict[str, Any], status: int, text: str, reason: Reason
) -> None:
    judged = on_response(asked(route, **how), head(status, text))
    assert isinstance(judged, Failed)
    assert judged.reason is reason


@pytest.mark.parametrize("status", [404, 410, 301])
def test_law_1_an_answer_replaces_a_good_page(status: int) -> None:
    assert isinstance(on_response(asked(isr(), has_stored=True), head(status)), Admit)


def test_where_the_origin_decides_an_error_is_shown_and_the_page_stays() -> None:
    how = asked(by_origin(), has_stored=True)
    assert on_response(how, head(401, FRESH)) == Relay(Reason.CLIENT_ERROR)


def test_every_reason_of_admission_has_a_row() -> None:
    rows = {row[-1].name for row in RELAYED} | {row[-1].name for row in FAILURES}
    assert rows == produced("Reason", [PACKAGE / "core" / "admission.py"])


# --- what is kept ---


def admitted(how: Asked, answer: Head) -> Admit:
    judged = on_response(how, answer)
    assert isinstance(judged, Admit)
    return judged


VARIANTS: list[tuple[Route, str, str, Variant]] = [
    (isr(), "", "", PLAIN),
    (isr(), "Accept-Encoding: br", "Vary: Accept-Encoding", PLAIN),
    (isr(), "Accept: a/b", "Vary: Accept-Encoding, Accept", Variant((("accept", "a/b"),))),
    (isr(), "", "Vary: B | Vary: A, b", Variant((("a", None), ("b", None)))),
    (isr(key=KeyRules(headers=("accept",))), "Accept: a/b", "Vary: Accept", PLAIN),
    (isr(key=KeyRules(cookies=("lang",))), "", "Vary: Cookie", PLAIN),
    (isr(), "", "Vary: Cookie", Variant((("cookie", None),))),
    (ignoring(Veto.VARY), "", "Vary: Accept, Cookie", PLAIN),
    (isr(), "", "Vary: Host, X-Forwarded-Host, X-Forwarded-For, Range, X-Original-URL, Connection", PLAIN),
    (by_origin(), "Accept: a/b", f"{FRESH} | Vary: Accept", Variant((("accept", "a/b"),))),
    (by_origin(key=KeyRules(cookies=("l",))), "", f"{FRESH} | Vary: Cookie", Variant((("cookie", None),))),
]


@pytest.mark.parametrize(("route", "sent", "text", "variant"), VARIANTS)
def test_the_variant_an_answer_is_stored_under(route: Route, sent: str, text: str, variant: Variant) -> None:
    assert admitted(asked(route, sent), head(200, text)).variant == variant


RSC = ("next-url", "rsc")
REDIRECTS = [
    (isr(), "rsc: 1", "", Variant((("next-url", None), ("rsc", "1")))),
    (isr(), "", "", PLAIN),
    (isr(), "rsc: 1", "Vary: Accept", Variant((("accept", None), ("next-url", None), ("rsc", "1")))),
    (by_origin(), "rsc: 1 | A: 1", FRESH, Variant((("next-url", None), ("rsc", "1")))),
    (by_origin(), "A: 1", FRESH, PLAIN),
    (ignoring(Veto.VARY), "rsc: 1", "", PLAIN),
]


@pytest.mark.parametrize(("route", "sent", "text", "variant"), REDIRECTS)
def test_law_4_an_answer_to_a_varying_header_is_for_those_who_send_it(
    route: Route, sent: str, text: str, variant: Variant
) -> None:
    assert admitted(asked(route, sent, varies_on=RSC), head(200, text)).variant == variant


def test_hop_by_hop_fields_and_age_are_not_kept() -> None:
    said = "A: 1 | Connection: close, B | B: 2 | Keep-Alive: x | Age: 5 | Content-Length: 3 | TE: x"
    assert admitted(asked(isr()), head(200, said)).fields.lines == lines("A: 1")


def test_law_4_a_dropped_cookie_is_not_kept() -> None:
    answer = head(200, "Set-Cookie: a=1 | X: y | set-cookie: b=2")
    assert admitted(asked(isr(set_cookie=DROP)), answer).fields.lines == lines("X: y")


def test_a_cookie_is_kept_where_the_route_stores_it() -> None:
    answer = head(200, f"{FRESH} | Set-Cookie: a=1")
    assert b"set-cookie" in fields_of(admitted(asked(by_origin(set_cookie=STORE)), answer))


def fields_of(admit: Admit) -> set[bytes]:
    return {name.lower() for name, _ in admit.fields}


TAGS = [
    ("Cache-Tag: A, b c,,", ("a", "b c")),
    ("Surrogate-Key: a  b\tc", ("a", "b", "c")),
    ("xkey: a b,c | xkey: d", ("a", "b", "c", "d")),
    ('Cache-Groups: "one", "Two"', ("one", "two")),
    ("Cache-Tag: a | Surrogate-Key: a b", ("a", "b")),
    (f"Cache-Tag: ok, {'x' * 1025}", ("ok",)),
]


@pytest.mark.parametrize(("text", "tags"), TAGS)
def test_the_tags_of_an_answer(text: str, tags: tuple[str, ...]) -> None:
    assert visible_tags(admitted(asked(isr()), head(200, text)).tags) == tags


def test_tags_are_read_as_utf_8() -> None:
    answer = Head(200, "", fields().plus((b"Cache-Tag", "Café".encode()), (b"xkey", b"\xff")))
    assert admitted(asked(isr()), answer).tags == ("café", "\xff")


def test_the_routes_tags_come_first_with_their_captures_decoded() -> None:
    match = matched(isr(tags=("blog", "post:{slug}")), slug="caf%C3%A9")
    how = replace(asked(isr()), match=match)
    assert admitted(how, head(200, "Cache-Tag: z")).tags == ("blog", "post:café", "z")


def test_the_number_of_tags_is_bounded() -> None:
    answer = head(200, "Cache-Tag: " + ",".join(str(number) for number in range(5000)))
    assert len(admitted(asked(isr()), answer).tags) == 1024


def test_an_isr_page_is_as_old_as_its_regeneration() -> None:
    answer = head(200, f"{FRESH} | Age: 30")
    assert admitted(asked(isr()), answer).initial_age == 0
    assert admitted(asked(by_origin()), answer).initial_age == 30


# --- after a failure ---

FAILED = Failed(Reason.SERVER_ERROR)
GOOD = State(3, NOW - 100, count=7)

DELAYS = [
    (0.0, 0, None, 3.0),
    (3.0, 0, None, 3.0),
    (10.0, 0, None, 10.0),
    (30.0, 0, None, 30.0),
    (NEVER.ttl, 0, None, 30.0),
    (10.0, 1, None, 20.0),
    (10.0, 3, None, 80.0),
    (10.0, 6, None, 640.0),
    (10.0, 99, None, 640.0),
    (10.0, 0, 4.0, 10.0),
    (10.0, 0, 45.0, 45.0),
    (10.0, 0, 1e9, 3600.0),
]


@pytest.mark.parametrize(("ttl", "failures", "said", "delay"), DELAYS)
def test_when_a_failed_regeneration_is_tried_again(
    ttl: float, failures: int, said: float | None, delay: float
) -> None:
    state = on_failure(replace(GOOD, failures=failures), replace(FAILED, retry_after=said), ttl, NOW, 0.0)
    assert state.retry_at == NOW + delay


@given(st.floats(0, 1, exclude_max=True), st.floats(0), st.integers(0, 2**31))
def test_the_jitter_spreads_by_a_fifth(jitter: float, ttl: float, failures: int) -> None:
    state = replace(GOOD, failures=failures)
    plain = on_failure(state, FAILED, ttl, NOW, 0.0).retry_at - NOW
    spread = on_failure(state, FAILED, ttl, NOW, jitter).retry_at - NOW
    assert RETRY_MIN <= plain <= spread <= plain * 1.2 + 1e-3
    assert plain <= RETRY_MAX * 64


def test_law_1_a_failure_changes_only_when_to_try_again() -> None:
    state = on_failure(GOOD, FAILED, 60.0, NOW, 0.5)
    kept = replace(
        state, retry_at=GOOD.retry_at, failed_at=GOOD.failed_at, failures=0, last_error="", count=7
    )
    assert kept == GOOD
    assert (state.failed_at, state.failures, state.last_error, state.count) == (NOW, 1, "server-error", 8)


RETRIES = [
    ("", None),
    ("Retry-After: 120", 120.0),
    (f"Retry-After: {format_date(NOW + 50)}", 50.0),
    (f"Retry-After: {format_date(NOW - 50)}", 0.0),
    ("Retry-After: soon", None),
    ("Retry-After: -1", None),
]


@pytest.mark.parametrize(("text", "seconds"), RETRIES)
def test_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    assert retry_after(fields(text), NOW) == seconds


@pytest.mark.parametrize("status", [429, 503])
def test_a_failure_carries_the_origins_retry_after(status: int) -> None:
    failed = failure_of(head(status, "Retry-After: 9"), asked(isr()))
    assert failed is not None
    assert failed.retry_after == 9
