"""Short ways to make the values that the tables of this folder are about."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from isr_proxy.core.admission import Asked
from isr_proxy.core.decision import Stored
from isr_proxy.core.entry import Meta, OriginTimes, State
from isr_proxy.core.http import Fields, Head, Line, Request
from isr_proxy.core.purges import CLEAN, Verdict
from isr_proxy.core.routes import Match
from isr_proxy.core.settings import Revalidate, RevalidateMode, Route

NOW = 1_800_000_000.0
NEVER = Revalidate(RevalidateMode.NEVER, float("inf"))
PASS = Revalidate(RevalidateMode.PASS)


def lines(text: str = "") -> tuple[Line, ...]:
    """Read `Name: value` lines, separated by newlines or by ` | `."""
    pairs = (line.split(":", 1) for line in text.replace(" | ", "\n").splitlines() if line.strip())
    return tuple((name.strip().encode(), value.strip().encode("latin-1")) for name, value in pairs)


def fields(text: str = "") -> Fields:
    return Fields(lines(text))


def head(status: int = 200, text: str = "") -> Head:
    return Head(status, "", fields(text))


def isr(ttl: float = 60.0, **settings: Any) -> Route:
    return Route("/**", revalidate=Revalidate(RevalidateMode.TTL, ttl), **settings)


def by_origin(**settings: Any) -> Route:
    return Route("/**", **settings)


def matched(route: Route, **captures: str) -> Match:
    return Match(route, captures)


def request(target: str = "/page", text: str = "", **more: Any) -> Request:
    path, question, query = target.partition("?")
    asked = Request("GET", "http", "example.org", path, query if question else None, fields(text))
    return replace(asked, **more)


def asked(route: Route, text: str = "", **more: Any) -> Asked:
    return replace(Asked(matched(route), fields(text), NOW, NOW), **more)


def meta(status: int = 200, *, tags: tuple[str, ...] = (), **origin: Any) -> Meta:
    return Meta(
        scheme="http",
        host="example.org",
        path="/page",
        query=None,
        dimensions=(),
        vary=(),
        status=status,
        reason="OK",
        lines=(),
        tags=tags,
        etag='"e"',
        last_modified=None,
        origin_times=OriginTimes(**origin),
        generated_at=NOW,
    )


def stored(
    age: float = 0.0, status: int = 200, verdict: Verdict = CLEAN, state: State | None = None, **origin: Any
) -> Stored:
    """A page fetched `age` seconds before NOW; `state` is what else is known of it."""
    known = replace(state or State(1, 0.0), fetched_at=NOW - age)
    return Stored(meta(status, **origin), known, verdict)
