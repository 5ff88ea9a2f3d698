"""Admission: what the origin answered is kept, relayed, or called a failure.

Knows every rule of storing and what a failure is (law 1). Must not know how anything is done: no I/O, no
clock (`now` is an argument), no logging. What an answer says of a page that is stored already is
validation.py's; what a visitor gets of what is stored is policy.py's.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from isr_proxy.core.decision import Admit, Failed, Relay
from isr_proxy.core.directives import CacheControl, effective_directives
from isr_proxy.core.entry import OriginTimes, State
from isr_proxy.core.forward import NEVER_VARYING
from isr_proxy.core.freshness import has_explicit_freshness, initial_age, read_origin_times
from isr_proxy.core.http import (
    NO_FIELDS,
    TOKEN,
    Fields,
    Head,
    delta_seconds,
    hop_names,
    made_once,
    parse_date,
    tokens,
)
from isr_proxy.core.key import PLAIN, Variant, variant_of
from isr_proxy.core.purges import group_tag, normal_tag
from isr_proxy.core.reason import Reason
from isr_proxy.core.routes import Match
from isr_proxy.core.settings import RequestCookie, Route, SetCookie, Veto
from isr_proxy.core.structured import parse_strings
from isr_proxy.core.value import Value


def is_negative(status: int) -> bool:
    """Tell whether an answer says "nothing here": it is never served stale while the origin lives, so
    that a page is seen as soon as it is published."""
    return status in (404, 410)


PERSONAL_HEADERS: Final = frozenset({"cookie", "authorization"})
_PERSONAL_FIELDS: Final = tuple(name.encode("latin-1") for name in sorted(PERSONAL_HEADERS))


@made_once
def is_personal(asked: Fields) -> bool:
    """Tell whether a request brings cookies or authorization."""
    return any(name in asked for name in _PERSONAL_FIELDS)


# Fields that carry tags or speak to us alone; they never leave.
TAG_FIELDS: Final = (b"cache-tag", b"surrogate-key", b"xkey", b"cache-groups")
PRIVATE_FIELDS: Final = frozenset(
    {*TAG_FIELDS, b"surrogate-control", b"isr-cache-control", b"cache-group-invalidation"}
)
_TAG_SEPARATORS: Final = {
    b"cache-tag": re.compile(","),
    b"surrogate-key": re.compile(r"\s+"),
    b"xkey": re.compile(r"[\s,]+"),
}
_MAX_TAGS: Final = 1024
_MAX_TAG_BYTES: Final = 1024

# What an ISR route keeps: pages, redirects, and the two answers that say there is no page.
_ISR_STATUSES: Final = frozenset({200, 203, 204, 300, 301, 302, 303, 307, 308, 404, 410})
_UNDERSTOOD: Final = frozenset({*_ISR_STATUSES, 206, 304, 400, 401, 403, 405, 406, 414, 451, 501})
_NEVER_STORED: Final = frozenset({428, 429, 431, 511})  # RFC 6585: each of them says so


class Asked(Value, frozen=True):
    """How the origin was asked: with the visitor's own fields, or neutral ones, and when."""

    match: Match
    fields: Fields  # what was sent
    requested_at: float
    answered_at: float
    has_stored: bool = False  # a good page is stored that this answer would replace
    varies_on: tuple[str, ...] = ()  # what other answers for this key are known to vary on
    stored_fields: Fields = NO_FIELDS  # of the page that is validated: a 304 leaves out what has not changed
    stored_status: int = 200
    stored_names: tuple[str, ...] = ()  # of the fields that its variant is made of
    site: tuple[str, str] = ("", "")  # scheme and host: cache groups are those of one origin


def on_response(asked: Asked, head: Head) -> Admit | Relay | Failed:
    """Judge an answer by its head: keep it, relay it, or call it a failure."""
    route = asked.match.route
    failed = failure_of(head, asked)
    if failed is not None:
        return failed
    if _is_error(head.status) and asked.has_stored:
        return Relay(Reason.CLIENT_ERROR)  # his to see, and no reason to lose a good page
    reason = _refusal(asked, head, route)
    if reason is not None:
        return Relay(reason)
    return Admit(
        variant=_variant(head, asked, route),
        fields=kept_fields(head, route),
        tags=tags_of(head.fields, asked),
        origin_times=times_said(asked, head.status, head.fields),
        initial_age=age_on_arrival(asked, head),
        answered_at=asked.answered_at,
    )


def times_said(asked: Asked, status: int, fields: Fields) -> OriginTimes:
    """Read what fields say of freshness, under the route's rule of guessing."""
    return read_origin_times(status, fields, asked.answered_at, asked.match.route.heuristic)


def age_on_arrival(asked: Asked, head: Head) -> float:
    """An ISR page is as old as its regeneration; otherwise RFC 9111 counts what caches before us say."""
    if asked.match.route.revalidate.is_isr:
        return 0.0
    return initial_age(head.fields, asked.requested_at, asked.answered_at)


def failure_of(head: Head, asked: Asked) -> Failed | None:
    """Say whether an answer is a failure (law 1): 5xx and 429 always, other 4xx where a page is stored.

    Where the origin decides, an error that it calls fresh is an answer, as long as no good page is stored.
    """
    if head.status in (206, 304):
        return Failed(Reason.BAD_RESPONSE)  # nobody asked for a part, or whether it is modified
    if head.status == 429:
        return Failed(Reason.TOO_MANY_REQUESTS, retry_after(head.fields, asked.answered_at))
    if head.status >= 500 and (asked.has_stored or not _is_called_fresh(head, asked)):
        return Failed(Reason.SERVER_ERROR, retry_after(head.fields, asked.answered_at))
    if _is_error(head.status) and asked.has_stored and asked.match.route.revalidate.is_isr:
        return Failed(Reason.CLIENT_ERROR)
    return None


def _is_error(status: int) -> bool:
    return status >= 400 and not is_negative(status)


def _is_called_fresh(head: Head, asked: Asked) -> bool:
    if asked.match.route.revalidate.is_isr:
        return False
    said = times_said(asked, head.status, head.fields)
    return bool(said.ttl) and not said.must_validate


def retry_after(fields: Fields, now: float) -> float | None:
    """Read Retry-After as seconds from now (RFC 9110 §10.2.3)."""
    value = fields.first(b"retry-after")
    seconds = delta_seconds(value)
    if seconds is not None:
        return float(seconds)
    instant = parse_date(value, now=now)
    return None if instant is None else max(0.0, instant - now)


def _refusal(asked: Asked, head: Head, route: Route) -> Reason | None:
    """Say why an answer is not stored, or None. In doubt it is not (law 9)."""
    control, _ = effective_directives(head.fields)
    if b"content-range" in head.fields and route.revalidate.is_isr:
        return Reason.PARTIAL
    if (head.fields.first(b"content-type") or "").lower().startswith("text/event-stream"):
        return Reason.EVENT_STREAM
    for reason in (
        veto(control, head.status, route),
        _vary_refusal(asked, head, route),
        cookie_refusal(head.fields, route),
        _mode_refusal(asked, head, route, control),
    ):
        if reason is not None:
            return reason
    return None


def veto(control: CacheControl, status: int, route: Route) -> Reason | None:
    """Say what the origin forbids storing by, or None."""
    if status in _NEVER_STORED:
        return Reason.STATUS
    must_understand = "must-understand" in control  # RFC 9111 §5.2.2.3
    understands = must_understand and status in _UNDERSTOOD
    if "no-store" in control and not understands and not _overrides(route, Veto.NO_STORE):
        return Reason.NO_STORE
    if must_understand and not understands:
        return Reason.STATUS
    if control.is_whole("private") and not _overrides(route, Veto.PRIVATE):
        return Reason.PRIVATE
    return None


def _overrides(route: Route, veto: Veto) -> bool:
    return bool(route.ignore_origin) and route.revalidate.is_isr and veto in route.ignore_origin


def _vary_refusal(asked: Asked, head: Head, route: Route) -> Reason | None:
    names = tokens(head.fields.get(b"vary"))
    if is_different_for_all(names, route):
        return Reason.VARY_STAR
    personal = [name for name in varying(names, route) if name in PERSONAL_HEADERS]
    if any(name.encode("latin-1") in asked.fields for name in personal):
        return Reason.VARY_COOKIE
    return None


def is_different_for_all(names: Iterable[str], route: Route) -> bool:
    """Tell whether no later request can be known to get the same: `*`, what is not a name, or an address.

    So many names that hardly two requests agree in all of them are the same in effect.
    """
    if _overrides(route, Veto.VARY):
        return False
    names = frozenset(names)
    if len(names) > _VARY_NAMES_MAX:
        return True
    addresses = frozenset() if route.revalidate.is_isr else _ADDRESSES
    return any(name == "*" or not TOKEN.fullmatch(name) or name in addresses for name in names)


_VARY_NAMES_MAX: Final = 32  # Next.js names six
_ADDRESSES: Final = frozenset({"x-forwarded-for"})  # told to the origin where it decides what is shared


def cookie_refusal(fields: Fields, route: Route) -> Reason | None:
    """Say whether the cookies that an answer sets make it one visitor's."""
    if b"set-cookie" not in fields or b"set-cookie" in withheld(fields):
        return None
    match route.set_cookie:
        case SetCookie.DROP:
            return None
        case SetCookie.STORE if not route.revalidate.is_isr and has_explicit_freshness(fields):
            return None
        case SetCookie.REFUSE | SetCookie.STORE:
            return Reason.SET_COOKIE


def _mode_refusal(asked: Asked, head: Head, route: Route, control: CacheControl) -> Reason | None:
    if route.revalidate.is_isr:
        named = any(status == head.status for status, _ in route.status_ttl)
        return None if head.status in _ISR_STATUSES or named else Reason.STATUS
    if (reason := personal_refusal(asked, control)) is not None:
        return reason
    said = times_said(asked, head.status, head.fields)
    return None if _is_worth_keeping(said, head) else Reason.NO_FRESHNESS


def personal_refusal(asked: Asked, control: CacheControl) -> Reason | None:
    """Say why an answer to one visitor's own request is his, or None: everybody's (RFC 9111 §3.5)."""
    route = asked.match.route
    if b"authorization" in asked.fields and not _is_shared(control, "must-revalidate"):
        return Reason.AUTHORIZATION
    is_his = b"cookie" in asked.fields and route.request_cookie is RequestCookie.REFUSE
    return Reason.REQUEST_COOKIE if is_his and not _is_shared(control) else None


def _is_shared(control: CacheControl, *more: str) -> bool:
    """Tell whether the origin says that a shared cache may keep what one visitor's request brought."""
    return any(name in control for name in ("public", "s-maxage", *more))


def _is_worth_keeping(said: OriginTimes, head: Head) -> bool:
    """Fresh for a while, or at least able to be validated."""
    if said.ttl is None and not said.must_validate:
        return False
    return bool(said.ttl) or b"etag" in head.fields or b"last-modified" in head.fields


def _variant(head: Head, asked: Asked, route: Route) -> Variant:
    """Return the variant an answer is stored under.

    A request that had one of the key's varying headers gets an answer for such requests, though the answer
    has no Vary (Next.js redirects so): it must not be shown to those who sent none.
    """
    names = varying(tokens(head.fields.get(b"vary")), route)
    if any(name.encode("latin-1") in asked.fields for name in asked.varies_on):
        names += varying(asked.varies_on, route)
    return variant_of(names, asked.fields) if names else PLAIN


def varying(names: Iterable[str], route: Route) -> list[str]:
    """Return the Vary names that make a variant.

    Not those we write ourselves (Accept-Encoding: the origin is always asked for identity). Not what the
    route keys: it is in the key. So are an ISR route's cookies, as no other cookie is sent to the origin.
    """
    if _overrides(route, Veto.VARY):
        return []
    settled = {*route.key.headers}
    if route.key.cookies and route.revalidate.is_isr:
        settled.add("cookie")
    return [name for name in names if name not in settled and name.encode("latin-1") not in NEVER_VARYING]


def kept_fields(head: Head, route: Route) -> Fields:
    """Return the fields of an answer that everybody may have."""
    drop = hop_names(head.fields) | withheld(head.fields) | _OF_THIS_ANSWER
    if route.set_cookie is not SetCookie.STORE:
        drop |= _SET_COOKIE
    return head.fields.without(drop)


_OF_THIS_ANSWER: Final = frozenset({b"content-length", b"age"})
_SET_COOKIE: Final = frozenset({b"set-cookie"})


def fields_for_leader(head: Head, route: Route) -> Fields:
    """Return the fields that whoever asked first gets: where the origin decides, it is the answer to him."""
    if route.revalidate.is_isr:
        return kept_fields(head, route)
    drop = hop_names(head.fields) | _OF_THIS_ANSWER
    if route.set_cookie is SetCookie.DROP:
        drop |= _SET_COOKIE
    return head.fields.without(drop)


def withheld(fields: Fields) -> frozenset[bytes]:
    """Return the fields that `private` and `no-cache` name: the rest may be kept without them."""
    control, _ = effective_directives(fields)
    if "private" not in control and "no-cache" not in control:
        return _NOTHING
    return control.fields("private") | control.fields("no-cache")


_NOTHING: Final[frozenset[bytes]] = frozenset()


def tags_of(fields: Fields, asked: Asked) -> tuple[str, ...]:
    """Collect the tags of the route and of the origin's fields, in the form they are compared in."""
    found = [normal_tag(tag) for tag in asked.match.tags()]
    for name, separator in _TAG_SEPARATORS.items():
        for value in fields.all(name) if name in fields else ():
            found += [normal_tag(tag.strip(_QUOTED)) for tag in separator.split(_text(value))]
    if b"cache-groups" in fields:
        groups = parse_strings(fields.all(b"cache-groups"))
        found += [normal_tag(group) for group in groups]
        found += [group_tag(*asked.site, group) for group in groups]
    return tuple(tag for tag in dict.fromkeys(found) if tag and len(tag) <= _MAX_TAG_BYTES)[:_MAX_TAGS]


_QUOTED: Final = ' \t"'


def _text(value: str) -> str:
    """Read a field value as UTF-8 where it is that, as a purge's JSON is."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return value


# --- after a failure ---

RETRY_MIN: Final = 3.0  # seconds; Next.js re-arms for min(max(revalidate, 3), 30)
RETRY_MAX: Final = 30.0
_BACKOFF_DOUBLINGS: Final = 6
_RETRY_AFTER_MAX: Final = 3600.0


def on_failure(state: State, failed: Failed, ttl: float, now: float, jitter: float) -> State:
    """Return the state of a page whose regeneration failed: nothing changes but when to try again.

    The retry comes after clamp(ttl, 3 s, 30 s), doubled for each failure in a row, or after the origin's
    Retry-After if that is longer. `jitter` in [0, 1) spreads it by up to a fifth.
    """
    base = min(max(ttl, RETRY_MIN), RETRY_MAX)
    delay = base * 2 ** min(state.failures, _BACKOFF_DOUBLINGS) * (1 + jitter / 5)
    delay = max(delay, min(failed.retry_after or 0.0, _RETRY_AFTER_MAX))
    return replace(
        state,
        retry_at=now + delay,
        failed_at=now,
        failures=state.failures + 1,
        last_error=failed.reason.value,
        count=state.count + 1,
    )
