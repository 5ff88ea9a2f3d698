"""Validation: what an answer without a body, a 304 or one to HEAD, says of a page that is stored.

Knows whether it is about that page, what changes, and who may have the result (law 4). Must not know how
the origin was asked. What answers with a body lead to is admission.py's.
"""

from __future__ import annotations

from typing import Final

from isr_proxy.core.admission import (
    PERSONAL_HEADERS,
    Asked,
    age_on_arrival,
    cookie_refusal,
    failure_of,
    fields_for_leader,
    is_different_for_all,
    is_negative,
    is_personal,
    kept_fields,
    personal_refusal,
    tags_of,
    times_said,
    varying,
    veto,
    withheld,
)
from isr_proxy.core.decision import Failed, Freshen, Lend, Outdated, Relay
from isr_proxy.core.directives import effective_directives
from isr_proxy.core.http import Fields, Head, Line, content_length, tokens, weak_equal
from isr_proxy.core.reason import Reason

_SET_COOKIE: Final = frozenset({b"set-cookie"})
# What the stored body, or its place among the variants, depends on.
_OF_THE_BODY: Final = frozenset({b"content-encoding", b"content-range", b"vary"})
_NOT_FRESHENED: Final = _OF_THE_BODY | _SET_COOKIE  # nobody else's cookie becomes everybody's by a 304


def on_304(asked: Asked, head: Head) -> Freshen | Lend | Failed:
    """RFC 9111 §4.3.4, §3.2: the 304's fields replace the stored ones, if it is about what is stored."""
    if _is_of_another(head.fields, asked.stored_fields):
        return Failed(Reason.OTHER_VALIDATOR)
    return _laid_over(asked, head)


def on_head(asked: Asked, head: Head, stored_bytes: int | None) -> Freshen | Lend | Outdated | Relay | Failed:
    """Say what an answer to HEAD tells of a stored page (RFC 9111 §4.3.5: of a 200 alone, by its fields).

    Any other status may be about HEAD only. A 404 or 410 is a hint: GET is asked before the next use.
    """
    failed = failure_of(head, asked)
    if failed is not None:
        return failed
    if is_negative(head.status):
        return Outdated()
    if head.status != 200:
        return Relay(Reason.HEAD_ONLY)
    judged = _laid_over(asked, head)
    if _is_another_page(asked, head, stored_bytes):
        is_his = isinstance(judged, Lend) and judged.may_stay
        return Relay(Reason.HEAD_ONLY) if is_his else Outdated()
    return judged


def _is_another_page(asked: Asked, head: Head, stored_bytes: int | None) -> bool:
    if asked.stored_status != 200 or content_length(head.fields) not in (None, stored_bytes):
        return True
    return any(_differs(name, head.fields, asked.stored_fields) for name in (b"etag", b"last-modified"))


def _differs(name: bytes, new: Fields, stored: Fields) -> bool:
    return name in new and new.first(name) != stored.first(name)


def _is_of_another(new: Fields, stored: Fields) -> bool:
    """Tell whether a validator names another representation than the stored one; the ETag decides."""
    etag, known = new.first(b"etag"), stored.first(b"etag")
    if etag is not None and not etag.startswith("W/"):
        return etag != known
    if etag is not None and known is not None:
        return not weak_equal(etag, known)
    return b"last-modified" in stored and _differs(b"last-modified", new, stored)


def _laid_over(asked: Asked, head: Head) -> Freshen | Lend:
    """Lay an answer's fields over the stored ones, and say whose the result is."""
    new = kept_fields(head, asked.match.route).without(_NOT_FRESHENED)
    names = _names(new)
    merged = asked.stored_fields.without(names).plus(*new)
    dated = merged if b"date" in names else merged.without(frozenset({b"date"}))
    freshen = Freshen(
        merged.without(withheld(merged)).lines,
        tags_of(merged, asked),
        times_said(asked, asked.stored_status, dated),
        age_on_arrival(asked, head),
        asked.answered_at,
        _own_lines(asked, head, merged),
    )
    return _for_whom(asked, head, merged, freshen)


def _names(fields: Fields) -> frozenset[bytes]:
    return frozenset(name.lower() for name, _ in fields)


def _own_lines(asked: Asked, head: Head, merged: Fields) -> tuple[Line, ...]:
    """Return the lines that are for whoever asked: his cookies, and what the directives name."""
    route = asked.match.route
    if route.revalidate.is_isr:
        return ()
    own = _SET_COOKIE | withheld(merged) | withheld(head.fields)
    lines = fields_for_leader(head, route).lines
    return tuple(line for line in lines if line[0].lower() in own - _OF_THE_BODY)


def _for_whom(asked: Asked, head: Head, merged: Fields, freshen: Freshen) -> Freshen | Lend:
    """Judge the merged response as if it had come whole: what would not be stored is not everybody's."""
    route = asked.match.route
    control, _ = effective_directives(merged)
    if not route.revalidate.is_isr:
        cookies = (line for line in head.fields if line[0].lower() == b"set-cookie")
        set_now = merged.without(_SET_COOKIE).plus(*cookies)
        his = personal_refusal(asked, control) or cookie_refusal(set_now, route)
        if his is not None:
            return Lend(freshen, his, may_stay=True)
    if (reason := veto(control, asked.stored_status, route)) is not None:
        return Lend(freshen, reason, may_stay=is_personal(asked.fields))
    reason = _vary_refusal(asked, head.fields)
    return freshen if reason is None else Lend(freshen, reason, may_stay=reason is Reason.VARY_COOKIE)


def _vary_refusal(asked: Asked, new: Fields) -> Reason | None:
    """Say why what is stored may not be served to whom it was: it is told now to vary on more (§4.1)."""
    route = asked.match.route
    said = tokens(new.get(b"vary"))
    if is_different_for_all(said, route):
        return Reason.VARY_STAR
    more = frozenset(varying(said, route)) - frozenset(asked.stored_names)
    if any(name in PERSONAL_HEADERS and name.encode("latin-1") in asked.fields for name in more):
        return Reason.VARY_COOKIE
    return Reason.VARY_MISS if more else None
