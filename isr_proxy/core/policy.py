"""Policy: what to do with a request, and with what is stored for it.

Knows every rule of serving, as functions of values. Must not know how anything is done: no I/O, no clock
(`now` is an argument), no logging. What the origin answers is judged in admission.py.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Final
from urllib.parse import unquote_plus

from isr_proxy.core.admission import PERSONAL_HEADERS, is_negative
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
from isr_proxy.core.directives import CacheControl, parse_cache_control
from isr_proxy.core.forward import VIA_MAX, passages
from isr_proxy.core.freshness import Phase, Times, lifetime, times
from isr_proxy.core.http import Request, parse_cookies
from isr_proxy.core.key import PLAIN, Variant, derive, matches_any, variant_of
from isr_proxy.core.limits import STATUSES, body_refusal
from isr_proxy.core.reason import Reason
from isr_proxy.core.routes import Match, RouteTable, hides_delimiter, host_matches, target_problem
from isr_proxy.core.settings import ClientDirectives, FallbackKind, RevalidateMode, Route, Settings
from isr_proxy.core.value import Value

# --- before the store is asked ---


def on_arrival(request: Request, settings: Settings, routes: RouteTable) -> Plan:
    """Decide from the request alone: refuse it, pass it, or look it up, and under which key."""
    if settings.hosts and not any(host_matches(host, request.host) for host in settings.hosts):
        return Refuse(421, Reason.UNKNOWN_HOST)
    if (reason := body_refusal(request, settings.limits)) is not None:
        return Refuse(STATUSES[reason], reason)
    if passages(request.fields) >= VIA_MAX:
        return Refuse(508, Reason.LOOP)
    if request.method == "OPTIONS" and request.target == "*":
        return Pass(Reason.METHOD)
    if target_problem(request.path, request.query) is not None:
        return Refuse(400, Reason.BAD_TARGET)
    match = routes.match(request.host, request.path)
    if match is None:
        return Pass(Reason.NO_ROUTE)
    reason = pass_reason(request, match.route)
    if reason is not None:
        return Pass(reason, match)
    return LookUp(derive(request, match.route.key), match)


def pass_reason(request: Request, route: Route) -> Reason | None:
    """Say why a request passes on its route, or None when it may be looked up."""
    if request.upgrade is not None:
        return Reason.UPGRADE
    if request.method not in ("GET", "HEAD"):
        return Reason.METHOD
    if request.has_body:
        return Reason.REQUEST_BODY
    if route.revalidate.mode is RevalidateMode.PASS:
        return Reason.ROUTE_PASS
    if hides_delimiter(request.path):
        return Reason.ENCODED_PATH
    return _bypass_reason(request, route)


def _bypass_reason(request: Request, route: Route) -> Reason | None:
    rules = route.bypass
    if _has_header(request, rules.headers):
        return Reason.BYPASS_HEADER
    if rules.cookies and b"cookie" in request.fields:
        names = parse_cookies(request.fields.all(b"cookie"))
        if any(matches_any(name, rules.cookies) for name in names):
            return Reason.BYPASS_COOKIE
    if rules.query and request.query:
        names_asked = (pair.partition("=")[0] for pair in request.query.split("&"))
        if any(_is_named(name, rules.query) for name in names_asked):
            return Reason.BYPASS_QUERY
    return None


def _has_header(request: Request, patterns: tuple[str, ...]) -> bool:
    if any(pattern.encode("latin-1") in request.fields for pattern in patterns):
        return True
    if not any(pattern.endswith("*") for pattern in patterns):
        return False
    return any(matches_any(name.decode("latin-1").lower(), patterns) for name, _ in request.fields)


def _is_named(raw: str, patterns: tuple[str, ...]) -> bool:
    """Compare a parameter's name raw and decoded: the origin reads `%70review` as `preview`."""
    return matches_any(raw, patterns) or matches_any(unquote_plus(raw), patterns)


# --- with what the store has ---


class Surroundings(Value, frozen=True):
    """What counts beside the entry: the moment; and without one, what this process remembers of the key."""

    now: float
    is_hit_for_pass: bool = False
    is_too_large: bool = False  # it is passed for its size
    is_prerendered: bool = False  # the path is on the route's prerender list


def on_request(
    request: Request, match: Match, found: Stored | VaryMissed | None, around: Surroundings
) -> Decision:
    """Decide with what is stored; what is not to be stored is asked for by passing (RFC 9111 §5.2.1.5)."""
    asked = _asked(request, match.route)
    decision = _on_found(request, asked, match.route, found, around)
    if "no-store" in asked and not isinstance(decision, Serve | ServeStale | Refuse):
        return Pass(Reason.REQUEST)
    if isinstance(decision, Fetch) and _has_condition_for_origin(request, match.route):
        return Pass(Reason.REQUEST)
    return decision


def _has_condition_for_origin(request: Request, route: Route) -> bool:
    """Tell whether only the origin can evaluate what is asked (RFC 9110 §13.1.1, §13.1.4)."""
    return not route.revalidate.is_isr and any(name in request.fields for name in _FOR_ORIGIN)


_FOR_ORIGIN: Final = (b"if-match", b"if-unmodified-since")


def _on_found(
    request: Request,
    asked: CacheControl,
    route: Route,
    found: Stored | VaryMissed | None,
    around: Surroundings,
) -> Decision:
    match found:
        case Stored() if not found.verdict.hidden:
            return _for_method(request, route, _on_stored(request, asked, route, found, around))
        case _ if "only-if-cached" in asked:
            return Refuse(504, Reason.ONLY_IF_CACHED)
        case Stored():
            return Fetch(Reason.PURGED, _own_variant(request, found))
        case None | VaryMissed() if around.is_hit_for_pass and not _may_fetch_alone(request, route, around):
            return Pass(Reason.HIT_FOR_PASS)
        case VaryMissed(names):
            return _alone(_on_vary_miss(request, names), around)
        case None:
            return _alone(_on_miss(request, route, around), around)


def _may_fetch_alone(request: Request, route: Route, around: Surroundings) -> bool:
    """Tell whether what was uncacheable may be fetched as if it were not: its answer may have changed.

    Varnish calls it hit-for-miss. A HEAD, a condition or a range is better answered by the origin itself.
    """
    is_plain = request.method == "GET" and not any(name in request.fields for name in _ASKS_FOR_LESS)
    return is_plain and not route.revalidate.is_isr and not around.is_too_large


_ASKS_FOR_LESS: Final = (b"if-none-match", b"if-modified-since", b"range")


def _alone(decision: Decision, around: Surroundings) -> Decision:
    """Let nobody wait for an answer that is most likely not for him."""
    if isinstance(decision, Fetch) and around.is_hit_for_pass:
        return replace(decision, is_alone=True, is_doubtful=True)
    return decision


def _for_method(request: Request, route: Route, decision: Decision) -> Decision:
    """Where the origin decides, a HEAD is asked as HEAD: what is stored may prove right without its body."""
    if isinstance(decision, Fetch) and request.method == "HEAD" and not route.revalidate.is_isr:
        return replace(decision, is_head=True)
    return decision


def _asked(request: Request, route: Route) -> CacheControl:
    """Return the request's own directives, none where they do not count (RFC 9111 §5.2.1, §5.4)."""
    if route.client_directives is ClientDirectives.IGNORE:
        return _NOTHING_ASKED
    control = parse_cache_control(request.fields.all(b"cache-control"))
    if not control.directives and "no-cache" in parse_cache_control(request.fields.all(b"pragma")):
        return CacheControl({"no-cache": None})
    return control


_NOTHING_ASKED: Final = CacheControl({})


def _on_miss(request: Request, route: Route, around: Surroundings) -> Decision:
    match route.fallback.kind:
        case FallbackKind.NOT_FOUND if not around.is_prerendered:
            return Refuse(404, Reason.PRERENDERED_ONLY)
        case FallbackKind.SHELL if route.fallback.shell not in (None, request.path):
            if not is_crawler(request.fields.get(b"user-agent")):
                return ServeShell(route.fallback.shell or "/")
    return Fetch(Reason.URI_MISS, PLAIN)


def _on_vary_miss(request: Request, names: tuple[str, ...]) -> Decision:
    if any(name.encode("latin-1") in request.fields for name in names if name in PERSONAL_HEADERS):
        return Pass(Reason.VARY_COOKIE)
    return Fetch(Reason.VARY_MISS, variant_of(names, request.fields))


def _own_variant(request: Request, found: Stored) -> Variant:
    """Return what this request would be stored under: the page found may be another's, in his language."""
    names = found.meta.variant.names
    return variant_of(names, request.fields) if names else PLAIN


def _on_stored(
    request: Request, asked: CacheControl, route: Route, found: Stored, around: Surroundings
) -> Decision:
    at = times(found.meta, found.state, route, around.now, soft_purged_at=found.verdict.stale_at)
    if at.phase is Phase.FRESH and not asked.directives:
        return Serve(at)
    variant = _own_variant(request, found)
    fallback = _error_fallback(asked, at, found, route)
    wanted = _on_client_directives(asked, at, variant, found, fallback)
    if wanted is not None:
        return wanted
    match at.phase:
        case Phase.FRESH:
            return Serve(at)
        case _ if _is_stale_enough(asked, at, found):
            return ServeStale(at, Reason.REQUEST)
        case Phase.STALE if not is_negative(found.meta.status):
            return _on_stale(found, at, around)
        case Phase.STALE | Phase.ERROR_ONLY:
            if _must_wait_for_retry(found, around.now):
                return ServeStale(at, Reason.RETRY_LATER)
            return Fetch(Reason.STALE, variant, fallback)
        case Phase.DEAD:
            said = found.meta.origin_times
            is_alone = said.is_for_one and not route.revalidate.is_isr
            reason = Reason.MUST_VALIDATE if is_alone and said.must_validate else Reason.STALE
            return Fetch(reason, variant, fallback, is_alone=is_alone)


def _on_stale(found: Stored, at: Times, around: Surroundings) -> Decision:
    if _must_wait_for_retry(found, around.now):
        return ServeStale(at, Reason.RETRY_LATER)
    return ServeAndRegenerate(at)


def _must_wait_for_retry(found: Stored, now: float) -> bool:
    """Tell whether a failed regeneration's retry time is still to come.

    A younger soft purge lifts it, and so does a clock that went back before the failure.
    """
    state = found.state
    swept_at = None if math.isinf(state.stale_at) else state.stale_at
    if any(at is not None and at > state.failed_at for at in (found.verdict.stale_at, swept_at)):
        return False
    return state.failed_at <= now < state.retry_at


def _error_fallback(asked: CacheControl, at: Times, found: Stored, route: Route) -> Times | None:
    """Return the times of what is served should the origin fail; a request may allow more (RFC 5861 §4)."""
    window = lifetime(found.meta, route).stale_if_error
    if not _is_stale_forbidden(found):
        window = max(window, asked.seconds("stale-if-error") or 0)
    return at if window > 0 and -at.ttl <= window else None


def _on_client_directives(
    asked: CacheControl, at: Times, variant: Variant, found: Stored, fallback: Times | None
) -> Decision | None:
    """Honor what the request asks of a stored page (RFC 9111 §5.2.1)."""
    is_wanted_new = "no-cache" in asked or _is_too_old(asked, at)
    if "only-if-cached" in asked:
        is_usable = at.phase is Phase.FRESH or _is_stale_enough(asked, at, found)
        return None if is_usable and not is_wanted_new else Refuse(504, Reason.ONLY_IF_CACHED)
    return Fetch(Reason.REQUEST, variant, fallback) if is_wanted_new else None


def _is_too_old(control: CacheControl, at: Times) -> bool:
    max_age, min_fresh = control.seconds("max-age"), control.seconds("min-fresh")
    return (max_age is not None and at.age > max_age) or (min_fresh is not None and at.ttl < min_fresh)


def _allows_stale(asked: CacheControl, at: Times) -> bool:
    """Tell whether the request takes a page this stale: `max-stale` without a number takes any."""
    if "max-stale" not in asked or "min-fresh" in asked:
        return False
    return asked.directives["max-stale"] is None or -at.ttl <= (asked.seconds("max-stale") or 0)


def _is_stale_enough(asked: CacheControl, at: Times, found: Stored) -> bool:
    """RFC 9111 §5.2.1.2: what the origin forbids, and what a purge made stale, no request brings back."""
    return _allows_stale(asked, at) and not _is_stale_forbidden(found)


def _is_stale_forbidden(found: Stored) -> bool:
    return found.meta.origin_times.is_validated_only or found.verdict.stale_at is not None


# Search engines and link previews must see the page, not its shell (Next.js does the same).
_CRAWLERS: Final = (
    "bot",
    "crawl",
    "spider",
    "slurp",
    "facebookexternalhit",
    "embedly",
    "quora link preview",
    "whatsapp",
    "lighthouse",
    "google-inspectiontool",
    "mediapartners-google",
    "bingpreview",
    "ia_archiver",
)


def is_crawler(user_agent: str | None) -> bool:
    """Tell whether a User-Agent is a search engine's or a link preview's."""
    lowered = (user_agent or "").lower()
    return any(word in lowered for word in _CRAWLERS)
