"""Validation as tables: what a 304 or an answer to HEAD changes of a stored page, and for whom."""

from __future__ import annotations

from typing import Any

import pytest

from isr_proxy.core.admission import Asked
from isr_proxy.core.decision import Failed, Freshen, Judgement, Lend, Outdated, Relay
from isr_proxy.core.http import format_date
from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import RequestCookie, Route, SetCookie, Veto
from isr_proxy.core.validation import on_304, on_head
from tests.core.making import NOW, asked, by_origin, fields, head, isr, lines

FRESH = "Cache-Control: max-age=60"
TAGGED = f'{FRESH} | ETag: "a"'
OTHER = Failed(Reason.OTHER_VALIDATOR)


def holding(route: Route, stored: str, sent: str = "", **more: Any) -> Asked:
    """Say how a page with these fields was validated."""
    return asked(route, sent, has_stored=True, stored_fields=fields(stored), **more)


def freshened(how: Asked, text: str) -> Freshen:
    judged = on_304(how, head(304, text))
    assert isinstance(judged, Freshen)
    return judged


def test_a_304_freshens_all_but_what_speaks_of_a_body() -> None:
    said = "X: 1 | Content-Length: 0 | Content-Type: a/b | Set-Cookie: a=1 | Age: 3 | Connection: close"
    assert freshened(holding(isr(), ""), said).lines == lines("X: 1 | Content-Type: a/b")


def test_a_304_replaces_the_fields_it_brings_and_keeps_the_others() -> None:
    judged = freshened(holding(by_origin(), f"{TAGGED} | X: 1 | Y: 1"), "X: 2 | X: 3")
    assert judged.lines == lines(f"{TAGGED} | Y: 1 | X: 2 | X: 3")


VALIDATORS = [
    ('ETag: "a"', 'ETag: "a"', True),
    ('ETag: "a"', 'ETag: "b"', False),
    ('ETag: "a"', 'ETag: W/"a"', True),
    ('ETag: "a"', 'ETag: W/"b"', False),
    ('ETag: W/"a"', 'ETag: W/"a"', True),
    ('ETag: W/"a"', 'ETag: W/"b"', False),
    ('ETag: W/"a"', 'ETag: "a"', False),
    ("", 'ETag: "a"', False),
    ("", 'ETag: W/"a"', True),
    ("Last-Modified: x", "Last-Modified: x", True),
    ("Last-Modified: x", "Last-Modified: y", False),
    ("", "Last-Modified: y", True),
    ('ETag: "a" | Last-Modified: x', 'ETag: "a" | Last-Modified: y', True),
    ('ETag: "a" | Last-Modified: x', "Last-Modified: y", False),
    ('ETag: "a"', "", True),
]


@pytest.mark.parametrize(("stored", "said", "is_same"), VALIDATORS)
def test_a_304_with_another_validator_says_nothing(stored: str, said: str, is_same: bool) -> None:
    judged = on_304(holding(by_origin(), stored), head(304, said))
    assert isinstance(judged, Freshen) if is_same else judged == OTHER


COOKIE, LOGIN = "Cookie: a=1", "Authorization: x"
KEEPING = by_origin(request_cookie=RequestCookie.STORE)
LENT: list[tuple[Route, str, str, str, Reason, bool]] = [
    # What one visitor's own request brought (law 4, RFC 9111 §3.5).
    (by_origin(), TAGGED, COOKIE, "", Reason.REQUEST_COOKIE, True),
    (by_origin(), TAGGED, COOKIE, "Cache-Control: private", Reason.REQUEST_COOKIE, True),
    (by_origin(), TAGGED, LOGIN, FRESH, Reason.AUTHORIZATION, True),
    (KEEPING, TAGGED, COOKIE, "Cache-Control: private", Reason.PRIVATE, True),
    (KEEPING, TAGGED, COOKIE, "Vary: Cookie", Reason.VARY_COOKIE, True),
    (by_origin(), TAGGED, "", "Set-Cookie: a=1", Reason.SET_COOKIE, True),
    # What forbids keeping it.
    (by_origin(), TAGGED, "", "Cache-Control: no-store", Reason.NO_STORE, False),
    (by_origin(), TAGGED, "", "Cache-Control: private", Reason.PRIVATE, False),
    (isr(), TAGGED, "", "Cache-Control: private", Reason.PRIVATE, False),
    # It varies now.
    (by_origin(), TAGGED, "", "Vary: *", Reason.VARY_STAR, False),
    (by_origin(), TAGGED, "", "Vary: Foo", Reason.VARY_MISS, False),
    (by_origin(), f"{TAGGED} | Vary: Bar", "", "Vary: Foo, Bar", Reason.VARY_MISS, False),
    (isr(), TAGGED, "", "Vary: Foo", Reason.VARY_MISS, False),
]


@pytest.mark.parametrize(("route", "stored", "sent", "said", "reason", "may_stay"), LENT)
def test_law_4_whose_a_304_is(
    route: Route, stored: str, sent: str, said: str, reason: Reason, may_stay: bool
) -> None:
    judged = on_304(holding(route, stored, sent, stored_names=("bar",)), head(304, said))
    assert isinstance(judged, Lend)
    assert (judged.reason, judged.may_stay) == (reason, may_stay)


SHARED: list[tuple[Route, str, str, str]] = [
    (by_origin(), "Cache-Control: public, max-age=9", COOKIE, ""),
    (by_origin(), TAGGED, COOKIE, "Cache-Control: public, max-age=9"),
    (by_origin(), TAGGED, LOGIN, "Cache-Control: must-revalidate, max-age=9"),
    (KEEPING, TAGGED, COOKIE, ""),
    (by_origin(), TAGGED, "", 'Cache-Control: max-age=9, private="Set-Cookie" | Set-Cookie: a=1'),
    (by_origin(set_cookie=SetCookie.DROP), TAGGED, "", "Set-Cookie: a=1"),
    (by_origin(set_cookie=SetCookie.STORE), TAGGED, "", "Set-Cookie: a=1"),
    (by_origin(), TAGGED, "", "Vary: Bar"),
    (by_origin(), TAGGED, "", "Vary: Accept-Encoding"),
    (isr(), TAGGED, "", "Set-Cookie: a=1"),
    (isr(ignore_origin=frozenset(Veto)), TAGGED, "", "Cache-Control: private, no-store | Vary: *"),
]


@pytest.mark.parametrize(("route", "stored", "sent", "said"), SHARED)
def test_a_304_is_for_all_where_a_200_would_be(route: Route, stored: str, sent: str, said: str) -> None:
    judged = freshened(holding(route, stored, sent, stored_names=("bar",)), said)
    assert b"set-cookie" not in {name.lower() for name, _ in judged.lines}


OWN = [
    (by_origin(set_cookie=SetCookie.STORE), TAGGED, "Set-Cookie: a=1", "Set-Cookie: a=1"),
    (by_origin(set_cookie=SetCookie.DROP), TAGGED, "Set-Cookie: a=1", ""),
    (by_origin(), 'Cache-Control: max-age=9, private="X"', "X: 1 | Y: 1", "X: 1"),
    (by_origin(), 'Cache-Control: max-age=9, no-cache="X"', "X: 1 | Y: 1", "X: 1"),
    (by_origin(), f"{TAGGED} | X: 0", 'Cache-Control: private="X" | X: 1', "X: 1"),
    (isr(), 'Cache-Control: private="X"', "X: 1", ""),
]


@pytest.mark.parametrize(("route", "stored", "said", "own"), OWN)
def test_what_the_directives_name_is_for_whoever_asked(
    route: Route, stored: str, said: str, own: str
) -> None:
    judged = freshened(holding(route, stored), said)
    assert judged.own == lines(own)
    assert not {name for name, _ in judged.lines} & {b"X", b"Set-Cookie"}


def test_a_304_that_says_nothing_of_freshness_leaves_the_stored_directives() -> None:
    how = holding(by_origin(), TAGGED)
    assert freshened(how, 'ETag: "a"').origin_times.ttl == 60
    assert freshened(how, "Cache-Control: max-age=5").origin_times.ttl == 5


def test_the_age_of_a_304_counts_where_the_origin_decides() -> None:
    assert freshened(holding(by_origin(), ""), "Age: 7").initial_age == 7


# --- an answer to HEAD ---

DATED = f"Last-Modified: {format_date(NOW - 9)}"
HEADS: list[tuple[int, str, str, Judgement | type[Judgement]]] = [
    (200, "", "", Freshen),
    (200, "", 'ETag: "a"', Freshen),
    (200, "", "Content-Length: 5", Freshen),
    (200, "", "Content-Length: 6", Outdated()),
    (200, "", 'ETag: "b"', Outdated()),
    (200, "", DATED, Outdated()),
    (200, COOKIE, "", Lend),
    (200, COOKIE, 'ETag: "b"', Relay(Reason.HEAD_ONLY)),
    (200, "", "Cache-Control: no-store", Lend),
    (404, "", "", Outdated()),
    (410, "", "", Outdated()),
    (203, "", "", Relay(Reason.HEAD_ONLY)),
    (302, "", "", Relay(Reason.HEAD_ONLY)),
    (405, "", "", Relay(Reason.HEAD_ONLY)),
    (501, "", "", Failed(Reason.SERVER_ERROR)),
]


@pytest.mark.parametrize(("status", "sent", "said", "expected"), HEADS)
def test_what_an_answer_to_head_tells(
    status: int, sent: str, said: str, expected: Judgement | type[Judgement]
) -> None:
    judged = on_head(holding(by_origin(), TAGGED, sent), head(status, said), 5)
    assert isinstance(judged, expected) if isinstance(expected, type) else judged == expected
