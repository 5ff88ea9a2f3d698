"""What would happen to a request, and why, step by step.

Knows the order of the decisions. Must not take one itself: it asks the same functions as a visitor's
request, and does nothing to the origin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, assert_never

from isr_proxy.core.arrival import normal_host, split_absolute
from isr_proxy.core.decision import (
    Decision,
    Fetch,
    LookUp,
    Pass,
    Refuse,
    Serve,
    ServeAndRegenerate,
    ServeShell,
    ServeStale,
)
from isr_proxy.core.freshness import Times, remaining, times
from isr_proxy.core.http import Fields, Request, parse_cookies
from isr_proxy.core.policy import on_arrival
from isr_proxy.core.reason import Reason, XCache
from isr_proxy.core.routes import Match
from isr_proxy.serve.engine import Engine
from isr_proxy.serve.inventory import Inventory
from isr_proxy.serve.regenerate import subject_of
from isr_proxy.serve.targets import Target, request_of
from isr_proxy.serve.visit import Foreseen
from isr_proxy.store.base import Entry, Found, VaryMiss

_OWN_FIELDS: Final = frozenset({b"host", b"connection"})


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is looked at, and what comes of it."""

    step: str
    result: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """`x_cache` is what a visitor would read, `reason` a Reason's word; `origin_asked`: while he waits."""

    url: str
    steps: tuple[Step, ...]
    x_cache: str
    reason: str
    origin_asked: bool


@dataclass(frozen=True, slots=True)
class _Ending:
    x_cache: XCache
    reason: Reason
    result: str
    is_asking: bool = False


class Explainer:
    """Explains requests to one engine."""

    def __init__(self, engine: Engine, inventory: Inventory, now: Callable[[], float]) -> None:
        self._engine = engine
        self._inventory = inventory
        self._now = now

    async def explain(self, url: str, headers: Fields) -> Explanation:
        """Say what a GET of this URL with these header fields would get. ValueError for what is no URL."""
        request = await self._request(url, headers)
        steps = [Step("request", f"GET {request.target}, host {request.host}, scheme {request.scheme}")]
        if b"cookie" in headers:
            named = ", ".join(parse_cookies(headers.all(b"cookie"))) or "none that can be read"
            steps.append(Step("cookies", named))
        ending = await self._follow(request, steps)
        steps.append(Step("decision", ending.result))
        address = f"{request.scheme}://{request.host}{request.target}"
        return Explanation(address, tuple(steps), ending.x_cache.value, ending.reason.value, ending.is_asking)

    async def _request(self, url: str, headers: Fields) -> Request:
        """Read the URL as it is: what is wrong with its path is the first thing to explain.

        A path alone is taken under the host that its stored page was last served for.
        """
        target, authority = split_absolute(url)
        site = await self._inventory.site_for(target.partition("?")[0])
        said = authority or headers.first(b"host")
        scheme = url.partition("://")[0].lower() if authority is not None else site.scheme
        host = normal_host(said, scheme) if said else site.hosts[0]
        if host is None or not target.startswith("/"):
            raise ValueError(f"{url!r} is neither a path nor an absolute URL")
        path, question, query = target.partition("?")
        visible = headers.without(_OWN_FIELDS)
        return request_of(Target(host, path, query if question else None), host, scheme, visible)

    async def _follow(self, request: Request, steps: list[Step]) -> _Ending:
        plan = on_arrival(request, self._engine.settings, self._engine.routes)
        match plan:
            case Refuse(status, reason):
                return _Ending(XCache.ERROR, reason, f"refused with {status}: {reason.value}")
            case Pass(reason, match):
                steps.append(_route_step(match))
                return _passed(reason)
            case LookUp(key, match):
                steps += [_route_step(match), Step("key", f"{key.url} {_dimensions(key.dimensions)}".strip())]
                found, decision = await self._engine.foresee(Foreseen(request, key, match))
                steps.append(Step("store", self._found(found)))
                if isinstance(found, Entry):
                    steps += self._judged(found, match)
                return _ending(decision)
            case _:
                assert_never(plan)

    def _found(self, found: Found) -> str:
        match found:
            case None:
                return "nothing is stored under this key"
            case VaryMiss(names):
                return f"stored, but not for these values of {', '.join(names)}"
            case Entry():
                variant = _dimensions(found.variant.headers)
                size = f"{found.meta.body_bytes} bytes"
                return f"a page, status {found.meta.status}, {size} {variant}".strip()

    def _judged(self, entry: Entry, match: Match) -> list[Step]:
        verdict = self._engine.purges.index.verdict(subject_of(entry), entry.state.sequence)
        if verdict.hidden:
            return [Step("purges", "hidden: it was purged after it was fetched")]
        said = "none names it" if verdict.stale_at is None else "a soft purge made it stale"
        at = times(entry.meta, entry.state, match.route, self._now(), soft_purged_at=verdict.stale_at)
        steps = [Step("purges", said), Step("times", _times(at))]
        if entry.state.failures:
            wait = max(0.0, entry.state.retry_at - self._now())
            failed = f"{entry.state.failures} in a row, the last: {entry.state.last_error}"
            steps.append(Step("failures", f"{failed}; next try in {wait:.0f} s"))
        return steps


def _route_step(match: Match | None) -> Step:
    if match is None:
        return Step("route", "none matches")
    captures = ", ".join(f"{name}={value}" for name, value in match.captures.items())
    mode = match.route.revalidate
    ttl = f" {remaining(mode.ttl)} s" if mode.ttl else ""
    said = f"{match.route.match}, revalidate {mode.mode.value}{ttl}"
    return Step("route", f"{said}, {captures}" if captures else said)


def _dimensions(dimensions: tuple[tuple[str, str | None], ...]) -> str:
    return " ".join(f"{name}={'(absent)' if value is None else value}" for name, value in dimensions)


def _times(at: Times) -> str:
    return f"age {at.age:.0f} s, ttl {remaining(at.ttl)} s, {at.phase.value}"


def _passed(reason: Reason) -> _Ending:
    said = f"passed to the origin with the visitor's own request: {reason.value}"
    return _Ending(XCache.PASS, reason, said, is_asking=True)


def _ending(decision: Decision) -> _Ending:
    match decision:
        case Serve(_, reason):
            return _Ending(XCache.HIT, reason, f"served from the store: {reason.value}")
        case ServeStale(_, reason):
            return _Ending(XCache.STALE, reason, f"the old page is served: {reason.value}")
        case ServeAndRegenerate():
            reason = Reason.REGENERATING
            return _Ending(XCache.STALE, reason, "the old page is served at once, and regenerated behind")
        case Fetch(reason, _, fallback):
            kept = "" if fallback is None else "; the old page is served if the origin fails"
            return _Ending(XCache.MISS, reason, f"fetched now: {reason.value}{kept}", is_asking=True)
        case ServeShell(path):
            said = f"the shell {path} is served, and the page generated behind"
            return _Ending(XCache.FALLBACK, Reason.SHELL, said)
        case Pass(reason):
            return _passed(reason)
        case Refuse(status, reason):
            x_cache = XCache.FALLBACK if reason is Reason.PRERENDERED_ONLY else XCache.ERROR
            return _Ending(x_cache, reason, f"answered here with {status}: {reason.value}")
        case _:
            assert_never(decision)
