"""What `isr-proxy routes` prints: the route table, and which route and key a URL gets, and why.

Knows how settings read as words, and which Reason means what before the store is asked. Must not know
terminals; the same values become a table or JSON.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, assert_never
from urllib.parse import quote, urlsplit

from isr_proxy.core.arrival import Arrived, settle
from isr_proxy.core.decision import LookUp, Pass, Refuse
from isr_proxy.core.http import Fields, Request
from isr_proxy.core.key import canonical_query
from isr_proxy.core.policy import on_arrival
from isr_proxy.core.reason import Reason
from isr_proxy.core.routes import Match, RouteTable, target_problem
from isr_proxy.core.settings import FallbackKind, Revalidate, RevalidateMode, Route, Settings

DEFAULT_HOST: Final = "localhost"

_MEANINGS: Final = {
    Reason.NO_ROUTE: "no route matches, so the request passes",
    Reason.ROUTE_PASS: "the route says `revalidate: 0`",
    Reason.ENCODED_PATH: "a percent sign hides one of / \\ ; # ? in the path, which origins read differently",
    Reason.BYPASS_QUERY: "a query parameter is on the route's bypass list",
    Reason.UNKNOWN_HOST: "the host is not one of `hosts`",
}


@dataclass(frozen=True, slots=True)
class RouteRow:
    """One route in words. `number` is its place in the file, from 1."""

    number: int
    match: str
    host: str
    revalidate: str
    stale_while_revalidate: str
    stale_if_error: str
    fallback: str
    key: str
    tags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UrlRow:
    """What one URL gets. `action` is look-up, pass or refuse; `key` is set for look-up only."""

    url: str
    action: str
    route: str | None
    number: int | None
    key: str | None
    tags: tuple[str, ...]
    why: str


# --- the table ---


def route_rows(settings: Settings) -> list[RouteRow]:
    """Return the routes in the order in which they are tried."""
    return [_route_row(number, route) for number, route in enumerate(settings.routes, 1)]


def _route_row(number: int, route: Route) -> RouteRow:
    return RouteRow(
        number,
        route.match,
        route.host or "any",
        revalidate_words(route.revalidate),
        _window(route.stale_while_revalidate, route),
        _window(route.stale_if_error, route),
        _fallback(route),
        _key(route),
        route.tags,
    )


def revalidate_words(revalidate: Revalidate) -> str:
    match revalidate.mode:
        case RevalidateMode.TTL:
            return duration_words(revalidate.ttl)
        case RevalidateMode.PASS:
            return "0 (pass)"
        case RevalidateMode.NEVER:
            return "never"
        case RevalidateMode.ORIGIN:
            return "origin"


def duration_words(seconds: float) -> str:
    """Write seconds as the config would: 90 is 1m30s."""
    if math.isinf(seconds):
        return "forever"
    if seconds != int(seconds):
        return f"{round(seconds * 1000)}ms" if seconds < 60 else f"{seconds:g}s"
    rest, words = int(seconds), ""
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        words += f"{count}{unit}" if count else ""
    return words or "0s"


def _window(seconds: float | None, route: Route) -> str:
    if route.revalidate.mode is RevalidateMode.PASS:
        return "-"
    if seconds is None:
        return "forever" if route.revalidate.is_isr else "origin"
    return duration_words(seconds)


def _fallback(route: Route) -> str:
    if route.fallback.kind is FallbackKind.SHELL:
        return f"shell {route.fallback.shell}"
    kind: str = route.fallback.kind.value
    return kind


def _key(route: Route) -> str:
    rules = route.key
    query = ", ".join(rules.query_names) if rules.query_names else rules.query_mode.value
    parts = [f"query: {query}"]
    if rules.headers:
        parts.append(f"headers: {', '.join(rules.headers)}")
    if rules.cookies:
        parts.append(f"cookies: {', '.join(rules.cookies)}")
    return "; ".join(parts)


# --- the URLs ---


def url_rows(settings: Settings, urls: list[str]) -> list[UrlRow]:
    """Return what a plain GET of each URL gets; a URL may be a path alone."""
    table = RouteTable(settings.routes)
    return [_url_row(settings, table, url) for url in urls]


def _url_row(settings: Settings, table: RouteTable, url: str) -> UrlRow:
    request = request_of(url, settings)
    if isinstance(request, str):
        return UrlRow(url, "refuse", None, None, None, (), f"400 {Reason.BAD_REQUEST.value}: {request}")
    plan = on_arrival(request, settings, table)
    match plan:
        case Refuse(status, reason):
            return UrlRow(
                url, "refuse", None, None, None, (), f"{status} {reason.value}: {_refusal(request, reason)}"
            )
        case Pass(reason, match):
            why = f"{reason.value}: {_MEANINGS.get(reason, 'the request passes')}"
            return UrlRow(url, "pass", _pattern(match), _number(settings, match), None, (), why)
        case LookUp(key, match):
            why = _look_up_words(settings, match, request)
            return UrlRow(
                url, "look-up", _pattern(match), _number(settings, match), key.url, match.tags(), why
            )
        case _:
            assert_never(plan)


def request_of(url: str, settings: Settings) -> Request | str:
    """Return the GET that a browser would send for a URL, or why there is none."""
    raw = quote(url.partition("#")[0], safe="/%:@!$&'()*+,;=-._~?[]\\\"<>^`{|}")
    scheme = urlsplit(raw).scheme.lower() if "://" in raw else "http"
    host = next((host for host in settings.hosts if "*" not in host), DEFAULT_HOST)
    arrived = Arrived("GET", raw, Fields(), scheme, "", has_body=False)
    return settle(arrived, (), host)


def _refusal(request: Request, reason: Reason) -> str:
    if reason is Reason.BAD_TARGET:
        return target_problem(request.path, request.query) or "the target is refused"
    return _MEANINGS.get(reason, "the request is refused")


def _pattern(match: Match | None) -> str | None:
    return None if match is None else match.route.match


def _number(settings: Settings, match: Match | None) -> int | None:
    if match is None:
        return None
    return next(number for number, route in enumerate(settings.routes, 1) if route is match.route)


def _look_up_words(settings: Settings, match: Match, request: Request) -> str:
    words = [f"route {_number(settings, match)} is the first that matches"]
    words += [f"{name} = {value}" for name, value in match.captures.items()]
    dropped = _dropped(request, match)
    if dropped:
        words.append(f"not in the key: {', '.join(dropped)}")
    if match.route.revalidate.mode is RevalidateMode.ORIGIN:
        words.append("the origin's headers decide whether it is stored")
    return "; ".join(words)


def _dropped(request: Request, match: Match) -> list[str]:
    """Name the query parameters that the key ignores."""
    asked = (request.query or "").split("&")
    kept = (canonical_query(request.query, match.route.key) or "").split("&")
    return list(dict.fromkeys(pair.partition("=")[0] for pair in asked if pair not in kept))
