"""Freshness: how old an entry is, how long it is fresh, and the windows after that.

Knows RFC 9111 §4.2 and what a route says instead. Must not know what is done with a stale page.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Final

from isr_proxy.core.directives import CacheControl, effective_directives
from isr_proxy.core.entry import Meta, OriginTimes, State
from isr_proxy.core.http import DELTA_SECONDS_MAX, OWS, Fields, delta_seconds, parse_date
from isr_proxy.core.settings import FOREVER, Heuristic, Revalidate, RevalidateMode, Route
from isr_proxy.core.value import Value

# RFC 9110 §15.1: heuristically cacheable.
_HEURISTIC_PAGES: Final = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 410})
# Kept only where the route says so: whoever provokes an error would have it kept for the others.
_HEURISTIC_ERRORS: Final = frozenset({405, 414, 501})
_HEURISTIC_DIVISOR: Final = 10
_HEURISTIC_MAX: Final = 86400.0


class Phase(Enum):
    """Where in its life an entry is."""

    FRESH = "fresh"
    STALE = "stale"  # within stale_while_revalidate: serve, regenerate behind
    ERROR_ONLY = "error-only"  # beyond that, within stale_if_error: only when the origin fails
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Seconds of freshness, and of the two windows that both begin when it ends."""

    ttl: float
    stale_while_revalidate: float
    stale_if_error: float


class Times(Value, frozen=True):
    """One entry's times at one moment."""

    age: float
    ttl: float  # what is left; negative when stale
    phase: Phase


def times(meta: Meta, state: State, route: Route, now: float, *, soft_purged_at: float | None) -> Times:
    """Judge an entry now. The route as configured now counts, so a reload changes stored pages too.

    A clock that went back makes a page as old as it went back, so that none stays fresh for years.
    """
    life = lifetime(meta, route)
    age = state.initial_age + abs(now - state.fetched_at)
    left = life.ttl - age
    stale_at = state.stale_at if soft_purged_at is None else min(state.stale_at, soft_purged_at)
    if math.isfinite(stale_at):
        left = min(left, stale_at - now, 0.0)
    return Times(age, left, _phase(life, left))


def _phase(life: Lifetime, left: float) -> Phase:
    if left > 0:
        return Phase.FRESH
    if -left <= life.stale_while_revalidate and life.stale_while_revalidate > 0:
        return Phase.STALE
    if -left <= life.stale_if_error and life.stale_if_error > 0:
        return Phase.ERROR_ONLY
    return Phase.DEAD


def fresh_times(state: State, ttl: float, now: float) -> Times | None:
    """Judge again an entry that was fresh, with the ttl of its lifetime, as long as no purge came.

    None: it is not fresh any more, or the clock went back to before it was fetched.
    """
    age = state.initial_age + abs(now - state.fetched_at)
    left = ttl - age
    return Times(age, left, Phase.FRESH) if left > 0 and now >= state.fetched_at else None


def reads_the_same_until(at: Times, now: float) -> float:
    """Return the last instant at which a fresh page's age and ttl are the same in whole seconds.

    A ttl is rounded down, so it reads the same at the instant it turns whole; a page is not fresh at the
    instant its ttl ends.
    """
    age_turns_at = math.nextafter(now + 1.0 - at.age % 1.0, 0.0)
    if math.isinf(at.ttl):
        return age_turns_at
    ttl_turns_at = now + at.ttl % 1.0
    return min(age_turns_at, ttl_turns_at if at.ttl >= 1.0 else math.nextafter(ttl_turns_at, 0.0))


def lifetime(meta: Meta, route: Route) -> Lifetime:
    """Return the lifetime of an entry under a route."""
    if not route.revalidate.is_isr:
        return origin_lifetime(meta.origin_times, route)
    return Lifetime(
        status_ttl(meta.status, route),
        _or_default(route.stale_while_revalidate, FOREVER),
        _or_default(route.stale_if_error, FOREVER),
    )


def status_ttl(status: int, route: Route) -> float:
    """Return the ttl of a status on an ISR route: `status_ttl` where it names it, else `revalidate`."""
    for named, ttl in route.status_ttl:
        if named == status:
            return ttl
    return _route_ttl(route.revalidate)


def _route_ttl(revalidate: Revalidate) -> float:
    return FOREVER if revalidate.mode is RevalidateMode.NEVER else revalidate.ttl


def origin_lifetime(said: OriginTimes, route: Route) -> Lifetime:
    """Return the lifetime the origin gave (RFC 9111 §4.2, RFC 5861), widened by the route's own windows."""
    if said.forbids_stale or said.must_validate:
        return Lifetime(0.0 if said.must_validate else said.ttl or 0.0, 0.0, 0.0)
    behind = said.stale_while_revalidate
    on_error = said.stale_if_error
    return Lifetime(
        said.ttl or 0.0,
        _or_default(behind, _or_default(route.stale_while_revalidate, 0.0)),
        _or_default(on_error, _or_default(route.stale_if_error, FOREVER)),
    )


def _or_default(value: float | None, default: float) -> float:
    return default if value is None else value


# --- what the origin says (RFC 9111 §5.2, §5.3; RFC 9213; RFC 5861) ---


def read_origin_times(
    status: int, fields: Fields, now: float, heuristic: Heuristic = Heuristic.PAGES
) -> OriginTimes:
    """Read how long a response is fresh and how long it may be served stale."""
    control, _ = effective_directives(fields)
    return OriginTimes(
        ttl=_explicit_ttl(control, fields, now)
        if has_explicit_freshness(fields)
        else _heuristic_ttl(status, fields, control, now, heuristic),
        stale_while_revalidate=_seconds(control, "stale-while-revalidate"),
        stale_if_error=_stale_if_error(control),
        forbids_stale=_forbids_stale(control),
        must_validate=control.is_whole("no-cache"),
    )


def _stale_if_error(control: CacheControl) -> float | None:
    """RFC 9111 §5.2.2.10: s-maxage means proxy-revalidate, so what it does not permit is forbidden."""
    said = _seconds(control, "stale-if-error")
    permits_less = "s-maxage" in control and "stale-while-revalidate" in control
    return 0.0 if said is None and permits_less else said


def _forbids_stale(control: CacheControl) -> bool:
    """Tell whether stale is forbidden (RFC 9111 §4.2.4); its own stale-while-revalidate says otherwise."""
    if "must-revalidate" in control or "proxy-revalidate" in control:
        return True
    permits = "stale-while-revalidate" in control or "stale-if-error" in control
    return "s-maxage" in control and not permits


def has_explicit_freshness(fields: Fields) -> bool:
    """Tell whether the origin itself says how long a response is fresh."""
    control, is_targeted = effective_directives(fields)
    return "s-maxage" in control or "max-age" in control or (not is_targeted and b"expires" in fields)


def _explicit_ttl(control: CacheControl, fields: Fields, now: float) -> float:
    for name in ("s-maxage", "max-age"):
        if (seconds := control.seconds(name)) is not None:
            return float(seconds)
    expires = parse_date(fields.first(b"expires"), now=now)
    if expires is None or len(set(fields.all(b"expires"))) > 1:  # two that say the same are one
        return 0.0
    dated = parse_date(fields.first(b"date"), now=now)
    return max(0.0, expires - (now if dated is None else dated))


def _heuristic_ttl(
    status: int, fields: Fields, control: CacheControl, now: float, heuristic: Heuristic
) -> float | None:
    """RFC 9111 §4.2.2: a tenth of the time since Last-Modified, at most a day."""
    if not _may_guess(status, control, heuristic):
        return None
    modified = parse_date(fields.first(b"last-modified"), now=now)
    if modified is None:
        return None
    dated = parse_date(fields.first(b"date"), now=now)
    since = (now if dated is None else dated) - modified
    return min(max(0.0, since / _HEURISTIC_DIVISOR), _HEURISTIC_MAX)


def _may_guess(status: int, control: CacheControl, heuristic: Heuristic) -> bool:
    match heuristic:
        case Heuristic.OFF:
            return False
        case Heuristic.PAGES:
            return status in _HEURISTIC_PAGES or ("public" in control and status < 400)
        case Heuristic.ALL:
            return status in _HEURISTIC_PAGES | _HEURISTIC_ERRORS or "public" in control


def _seconds(control: CacheControl, name: str) -> float | None:
    seconds = control.seconds(name)
    return None if seconds is None else float(seconds)


def initial_age(fields: Fields, requested_at: float, answered_at: float) -> float:
    """Return corrected_initial_age (RFC 9111 §4.2.3).

    Of several Age values the first counts, and one that cannot be read is none (§5.1). Without one it counts
    as 0, and what the answer took on its way is added all the same.
    """
    dated = parse_date(fields.first(b"date"), now=answered_at)
    apparent = 0.0 if dated is None else max(0.0, answered_at - dated)
    said = delta_seconds((fields.first(b"age") or "").partition(",")[0].strip(OWS))
    return max(apparent, (said or 0) + max(0.0, answered_at - requested_at))


def remaining(ttl: float) -> int:
    """Return what Cache-Status says of a ttl: whole seconds, bounded for FOREVER."""
    return math.floor(min(max(ttl, -DELTA_SECONDS_MAX), DELTA_SECONDS_MAX))
