"""Freshness: how long a page is fresh, by the route or by RFC 9111, and where its windows end."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.core.entry import OriginTimes, State
from isr_proxy.core.freshness import (
    Lifetime,
    Phase,
    initial_age,
    lifetime,
    read_origin_times,
    remaining,
    status_ttl,
    times,
)
from isr_proxy.core.http import DELTA_SECONDS_MAX, format_date
from isr_proxy.core.settings import FOREVER, Revalidate, RevalidateMode, Route
from tests.core.making import NEVER, NOW, by_origin, fields, isr, meta

DATE = format_date(NOW)
DAY = 86400


def date(offset: float) -> str:
    return format_date(NOW + offset)


# --- what the origin says ---

TTLS = [
    (200, "", None),
    (200, "Cache-Control: max-age=60", 60),
    (200, "Cache-Control: max-age=60, s-maxage=30", 30),
    (200, f"Cache-Control: max-age=60 | Expires: {date(5)} | Date: {DATE}", 60),
    (200, f"Expires: {date(5)} | Date: {DATE}", 5),
    (200, f"Expires: {date(5)}", 5),
    (200, f"Expires: {date(5)} | Date: {date(-10)}", 15),
    (200, f"Expires: {date(-5)} | Date: {DATE}", 0),
    (200, "Expires: 0", 0),
    (200, "Expires: -1", 0),
    (200, f"Expires: {date(5)} | Expires: {date(5)}", 5),
    (200, f"Expires: {date(5)} | Expires: {date(6)}", 0),
    (200, "Cache-Control: max-age=x", 0),
    (200, f"Cache-Control: public | Expires: {date(5)}", 5),
    (200, "CDN-Cache-Control: max-age=5 | Cache-Control: max-age=60", 5),
    (200, "ISR-Cache-Control: max-age=4 | CDN-Cache-Control: max-age=5", 4),
    (200, "Surrogate-Control: max-age=6 | Cache-Control: no-store", 6),
    (200, "CDN-Cache-Control: | Cache-Control: max-age=60", 60),
    (200, f"CDN-Cache-Control: public | Expires: {date(5)}", None),
    (200, f"CDN-Cache-Control: public | Last-Modified: {date(-100)}", 10),
    (200, f"Last-Modified: {date(-1000)} | Date: {DATE}", 100),
    (200, f"Last-Modified: {date(-1000)}", 100),
    (200, f"Last-Modified: {date(-100 * DAY)}", DAY),
    (200, f"Last-Modified: {date(100)}", 0),
    (404, f"Last-Modified: {date(-1000)}", 100),
    (405, f"Last-Modified: {date(-1000)}", None),
    (302, f"Last-Modified: {date(-1000)}", None),
    (302, f"Cache-Control: public | Last-Modified: {date(-1000)}", 100),
    (403, f"Cache-Control: public | Last-Modified: {date(-1000)}", None),
    (403, "Cache-Control: max-age=5", 5),
]


@pytest.mark.parametrize(("status", "text", "ttl"), TTLS)
def test_the_ttl_an_origin_gives(status: int, text: str, ttl: float | None) -> None:
    assert read_origin_times(status, fields(text), NOW).ttl == ttl


STALE = [
    ("max-age=9", OriginTimes(9.0)),
    ("max-age=9, stale-while-revalidate=5", OriginTimes(9.0, stale_while_revalidate=5.0)),
    ("max-age=9, stale-if-error=5", OriginTimes(9.0, stale_if_error=5.0)),
    ("max-age=9, must-revalidate", OriginTimes(9.0, forbids_stale=True)),
    ("max-age=9, proxy-revalidate", OriginTimes(9.0, forbids_stale=True)),
    ("s-maxage=9", OriginTimes(9.0, forbids_stale=True)),
    (
        "s-maxage=9, stale-while-revalidate=5",
        OriginTimes(9.0, stale_while_revalidate=5.0, stale_if_error=0.0),
    ),
    ("max-age=9, no-cache", OriginTimes(9.0, must_validate=True)),
    ('max-age=9, no-cache="x"', OriginTimes(9.0)),
    ('max-age=9, no-cache="x", no-cache', OriginTimes(9.0, must_validate=True)),
    ('max-age=9, no-cache="not a name"', OriginTimes(9.0, must_validate=True)),
    (
        "max-age=9, must-revalidate, stale-while-revalidate=5",
        OriginTimes(9.0, stale_while_revalidate=5.0, forbids_stale=True),
    ),
]


@pytest.mark.parametrize(("text", "said"), STALE)
def test_what_an_origin_says_of_stale(text: str, said: OriginTimes) -> None:
    assert read_origin_times(200, fields(f"Cache-Control: {text}"), NOW) == said


AGES = [
    ("", 0, 0),
    (f"Date: {date(-7)}", 0, 7),
    (f"Date: {date(7)}", 0, 0),
    ("Date: yesterday", 0, 0),
    ("Age: 5", 0, 5),
    ("Age: 5", 2, 7),
    ("", 2, 2),
    ("Age: old", 2, 2),
    (f"Date: {date(-1)}", 2, 2),
    (f"Age: 5 | Date: {date(-60)}", 2, 60),
    ("Age: 5 | Age: 500", 0, 5),
    ("Age: 5, 500", 0, 5),
    ("Age: -5", 0, 0),
    ("Age: old", 0, 0),
    (f"Age: 1.5 | Date: {date(-60)}", 0, 60),
    (f"Age: {10**30}", 0, DELTA_SECONDS_MAX),
    ("Age: 5", -3, 5),  # the clock went back while the origin was asked
]


@pytest.mark.parametrize(("text", "delay", "age"), AGES)
def test_the_age_a_response_comes_with(text: str, delay: float, age: float) -> None:
    assert initial_age(fields(text), NOW - delay, NOW) == age


# --- what the route says ---

LIFETIMES = [
    (isr(60), 200, OriginTimes(5.0, 6.0, 7.0, forbids_stale=True), Lifetime(60, FOREVER, FOREVER)),
    (isr(60, stale_while_revalidate=1.0, stale_if_error=2.0), 200, OriginTimes(), Lifetime(60, 1, 2)),
    (isr(60), 404, OriginTimes(), Lifetime(10, FOREVER, FOREVER)),
    (isr(60), 302, OriginTimes(), Lifetime(60, FOREVER, FOREVER)),
    (replace(isr(), revalidate=NEVER), 200, OriginTimes(), Lifetime(FOREVER, FOREVER, FOREVER)),
    (replace(isr(), revalidate=NEVER), 404, OriginTimes(), Lifetime(10, FOREVER, FOREVER)),
    (by_origin(), 404, OriginTimes(5.0), Lifetime(5, 0, FOREVER)),
    (by_origin(), 200, OriginTimes(5.0, 6.0, 7.0), Lifetime(5, 6, 7)),
    (by_origin(stale_while_revalidate=1.0, stale_if_error=2.0), 200, OriginTimes(5.0), Lifetime(5, 1, 2)),
    (by_origin(stale_if_error=2.0), 200, OriginTimes(5.0, 6.0, 7.0, forbids_stale=True), Lifetime(5, 0, 0)),
    (by_origin(), 200, OriginTimes(5.0, must_validate=True), Lifetime(0, 0, 0)),
    (by_origin(), 200, OriginTimes(), Lifetime(0, 0, FOREVER)),
]


@pytest.mark.parametrize(("route", "status", "said", "expected"), LIFETIMES)
def test_whose_word_counts(route: Route, status: int, said: OriginTimes, expected: Lifetime) -> None:
    page = meta(status, **{name: getattr(said, name) for name in said.__struct_fields__})
    assert lifetime(page, route) == expected


@pytest.mark.parametrize(("status", "ttl"), [(404, 10), (410, 60), (301, 3600), (308, 3600), (200, 60)])
def test_status_ttl_comes_before_revalidate(status: int, ttl: float) -> None:
    assert status_ttl(status, isr(60)) == ttl


# --- the phases and their exact ends ---

WINDOWS = isr(60, stale_while_revalidate=30.0, stale_if_error=100.0)
TICK = 0.25
BOUNDARIES = [
    (WINDOWS, 0, Phase.FRESH),
    (WINDOWS, 60 - TICK, Phase.FRESH),
    (WINDOWS, 60, Phase.STALE),
    (WINDOWS, 90, Phase.STALE),
    (WINDOWS, 90 + TICK, Phase.ERROR_ONLY),
    (WINDOWS, 160, Phase.ERROR_ONLY),
    (WINDOWS, 160 + TICK, Phase.DEAD),
    (isr(60, stale_while_revalidate=0.0, stale_if_error=0.0), 60, Phase.DEAD),
    (isr(60, stale_while_revalidate=0.0), 60, Phase.ERROR_ONLY),
    (isr(60), 1e9, Phase.STALE),
    (replace(isr(), revalidate=NEVER), 1e9, Phase.FRESH),
]


def phase(route: Route, age: float, stale_at: float = math.inf, soft: float | None = None) -> Phase:
    state = State(1, NOW - age, stale_at=stale_at)
    return times(meta(), state, route, NOW, soft_purged_at=soft).phase


@pytest.mark.parametrize(("route", "age", "expected"), BOUNDARIES)
def test_where_each_phase_ends(route: Route, age: float, expected: Phase) -> None:
    assert phase(route, age) is expected


def test_every_phase_has_a_row() -> None:
    assert {expected for *_, expected in BOUNDARIES} == set(Phase)


PURGES = [
    (0, Phase.STALE),
    (-30, Phase.STALE),
    (-30 - TICK, Phase.ERROR_ONLY),
    (-101, Phase.DEAD),
    (5, Phase.STALE),  # another node's clock is ahead, or ours went back
]


@pytest.mark.parametrize(("purged", "expected"), PURGES)
def test_law_2_a_soft_purge_makes_stale_at_once_and_opens_the_windows(purged: float, expected: Phase) -> None:
    assert phase(WINDOWS, 40, soft=NOW + purged) is expected
    assert phase(WINDOWS, 40, stale_at=NOW + purged) is expected


def test_the_older_of_two_soft_purges_counts() -> None:
    assert phase(WINDOWS, 40, stale_at=NOW - 31, soft=NOW) is Phase.ERROR_ONLY


def test_a_soft_purge_reaches_a_page_that_is_fresh_until_purged() -> None:
    assert phase(replace(isr(), revalidate=NEVER), 5, soft=NOW) is Phase.STALE


def test_a_reload_changes_the_ttl_of_what_is_stored() -> None:
    assert phase(isr(60), 30) is Phase.FRESH
    assert phase(isr(20), 30) is Phase.STALE


@pytest.mark.parametrize(("back", "expected"), [(1, Phase.FRESH), (61, Phase.STALE), (1e9, Phase.STALE)])
def test_a_clock_that_went_back_keeps_no_page_fresh_for_years(back: float, expected: Phase) -> None:
    at = times(meta(), State(1, NOW + back), isr(60), NOW, soft_purged_at=None)
    assert (at.phase, at.age) == (expected, back)


# --- against a second, naive reading ---

SPAN = st.none() | st.sampled_from([0.0, 1.0, 30.0, FOREVER]) | st.floats(0, 1000)
SAID = st.builds(OriginTimes, SPAN, SPAN, SPAN, st.booleans(), st.booleans())
REVALIDATE = st.sampled_from(
    [*(Revalidate(RevalidateMode.TTL, ttl) for ttl in (1.0, 60.0)), NEVER, Revalidate(RevalidateMode.ORIGIN)]
)
ROUTES = st.builds(
    lambda how, swr, sie: Route("/**", revalidate=how, stale_while_revalidate=swr, stale_if_error=sie),
    REVALIDATE,
    SPAN,
    SPAN,
)


def naive_phase(route: Route, status: int, said: OriginTimes, age: float) -> Phase:
    """The contract's sentences, one after the other."""
    swr, sie = route.stale_while_revalidate, route.stale_if_error
    if route.revalidate.mode is RevalidateMode.ORIGIN:
        ttl = said.ttl if said.ttl is not None else 0.0
        swr = said.stale_while_revalidate if said.stale_while_revalidate is not None else (swr or 0.0)
        sie = said.stale_if_error if said.stale_if_error is not None else sie
        if said.must_validate:
            ttl = 0.0
        if said.must_validate or said.forbids_stale:
            swr = sie = 0.0
    else:
        ttl = dict(route.status_ttl).get(status, route.revalidate.ttl)
    if age < ttl:
        return Phase.FRESH
    late = age - ttl
    if swr != 0 and (swr is None or late <= swr):
        return Phase.STALE
    return Phase.ERROR_ONLY if sie != 0 and (sie is None or late <= sie) else Phase.DEAD


@given(ROUTES, st.sampled_from([200, 301, 404]), SAID, st.integers(0, 4000))
def test_the_phase_is_the_contracts(route: Route, status: int, said: OriginTimes, age: int) -> None:
    page = meta(status, **{name: getattr(said, name) for name in said.__struct_fields__})
    at = times(page, State(1, NOW - age), route, NOW, soft_purged_at=None)
    assert at.phase is naive_phase(route, status, said, float(age))


# --- what visitors are told ---


@given(st.floats(allow_nan=False))
def test_what_is_left_is_a_bounded_whole_number(ttl: float) -> None:
    assert -DELTA_SECONDS_MAX <= remaining(ttl) <= DELTA_SECONDS_MAX


LEFT = [(7.9, 7), (0.0, 0), (-0.5, -1), (-3.0, -3), (math.inf, DELTA_SECONDS_MAX)]


@pytest.mark.parametrize(("ttl", "said"), LEFT)
def test_what_is_left_is_rounded_down(ttl: float, said: int) -> None:
    assert remaining(ttl) == said
