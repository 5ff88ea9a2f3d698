"""From an entry or an answer to what a visitor is told.

Knows which fields leave, which are made here (Age, Cache-Status, X-Cache, ETag, Vary) and how conditions
and encodings choose among them. Must not know sockets or the store.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from isr_proxy.core.admission import PRIVATE_FIELDS
from isr_proxy.core.chunks import forwardable
from isr_proxy.core.decision import Admit
from isr_proxy.core.entry import Meta, State
from isr_proxy.core.freshness import Times, remaining
from isr_proxy.core.http import (
    OWS,
    REASON_PHRASES,
    Fields,
    Head,
    Line,
    Request,
    choose_encoding,
    format_date,
    hop_names,
    is_not_modified,
    tokens,
)
from isr_proxy.core.ranges import Span
from isr_proxy.core.reason import Reason, XCache
from isr_proxy.core.settings import DEFAULT_CLIENT_CACHE_CONTROL, ORIGIN_OWN, Route
from isr_proxy.serve.compress import is_compressible
from isr_proxy.store.base import Entry

IDENTITY: Final = "identity"

# RFC 9211 §2.2: how each cause of asking the origin is spelled.
_FORWARD_WORDS: Final = {
    Reason.URI_MISS: "uri-miss",
    Reason.VARY_MISS: "vary-miss",
    Reason.STALE: "stale",
    Reason.MUST_VALIDATE: "stale",
    Reason.ORIGIN_FAILED: "stale",
    Reason.PURGED: "miss",
    Reason.REQUEST: "request",
    Reason.METHOD: "method",
    Reason.PARTIAL: "partial",
}
_REPLACED: Final = frozenset({b"age", b"x-cache", b"cache-status", b"content-length", b"content-encoding"})
_WHERE_ROUTE_DECIDES: Final = frozenset({b"cache-control", b"expires", b"pragma", b"cdn-cache-control"})
# RFC 9110 §15.4.5: what a 304 repeats, and what would lie about the body it does not have.
_NOT_IN_304: Final = frozenset({b"content-length", b"content-encoding", b"content-type", b"content-range"})


def hit_status(times: Times, reason: Reason) -> str:
    """Write Cache-Status for an answer from the store."""
    detail = "" if reason is Reason.FRESH else f"; detail={reason.value}"
    return f"isr-proxy; hit; ttl={remaining(times.ttl)}{detail}"


@lru_cache(maxsize=256)  # of a few dozen that are ever said
def forward_status(
    reason: Reason, *, status: int | None = None, outcome: Reason | None = None, detail: Reason | None = None
) -> str:
    """Write Cache-Status for an answer from the origin.

    `outcome` is STORED, or why it was not; `status` is the origin's; `detail` is said of a pass.
    """
    word = _FORWARD_WORDS.get(reason, "bypass")
    parts = [f"isr-proxy; fwd={word}"]
    if status is not None:
        parts.append(f"fwd-status={status}")
    if outcome is Reason.STORED:
        parts.append("stored")
    said = detail or (None if outcome is Reason.STORED else outcome)
    if said is None and word != reason.value:
        said = reason
    if said is not None:
        parts.append(f"detail={said.value}")
    return "; ".join(parts)


def validated_status(reason: Reason, status: int | None) -> str:
    """Write Cache-Status for a stored answer that the origin said is still right."""
    return f"isr-proxy; fwd={_FORWARD_WORDS.get(reason, 'miss')}; fwd-status={status}"


def collapsed_status(reason: Reason) -> str:
    """Write Cache-Status for an answer fetched for somebody else."""
    return f"isr-proxy; fwd={_FORWARD_WORDS.get(reason, 'miss')}; collapsed"


def entry_head(
    meta: Meta, state: State, route: Route, encoding: str, times: Times, status: str, x_cache: XCache
) -> Head:
    """Build the head of an answer from the store."""
    lines = _dated(_visible_lines(meta.fields, route), state)
    lines = _with_etag(lines, variant_etag(meta.etag, encoding))
    if encoding != IDENTITY:
        lines.append((b"Content-Encoding", encoding.encode()))
    elif (coding := meta.fields.first(b"content-encoding")) is not None:
        lines.append((b"Content-Encoding", coding.encode("latin-1")))
    if len(meta.bodies) > 1:
        lines = _varying_on_encoding(lines)
    if meta.status == 200 and not any(name.lower() == b"accept-ranges" for name, _ in lines):
        lines.append((b"Accept-Ranges", b"bytes"))
    lines += [
        (b"Age", b"%d" % int(times.age)),
        *_status_lines(meta.fields, status),
        (b"X-Cache", x_cache.value.encode()),
    ]
    return Head(meta.status, meta.reason, Fields(lines))


def _dated(lines: list[Line], state: State) -> list[Line]:
    """Say when the page was last known right: a freshened page has not kept its first Date."""
    if state.count == 0 and any(name.lower() == b"date" for name, _ in lines):
        return lines
    date = format_date(state.fetched_at - state.initial_age).encode()
    return [*(line for line in lines if line[0].lower() != b"date"), (b"Date", date)]


def opening_head(head: Head, admit: Admit, route: Route, status: str, x_cache: XCache, now: float) -> Head:
    """Build the head of an answer that is stored while it is sent."""
    lines = _visible_lines(admit.fields, route)
    if b"date" not in head.fields:
        lines.append((b"Date", format_date(now).encode()))
    if head.status == 200 and b"accept-ranges" not in head.fields:
        lines.append((b"Accept-Ranges", b"bytes"))
    coding = head.fields.first(b"content-encoding")
    if coding is not None:
        lines.append((b"Content-Encoding", coding.encode("latin-1")))
    if route.compress and is_compressible(head.fields):
        lines = _varying_on_encoding(lines)  # the copies that later visitors get are not made yet
    lines += [
        (b"Age", b"%d" % int(admit.initial_age)),
        *_status_lines(head.fields, status),
        (b"X-Cache", x_cache.value.encode()),
    ]
    return Head(head.status, head.reason, Fields(lines))


def relayed_head(head: Head, status: str, x_cache: XCache, now: float) -> Head:
    """Build the head of an answer that goes through: the origin's own, less what only caches read."""
    # RFC 9110 §8.6: the length in a 304 is that of the page, and no body follows to disagree with it.
    drops = _RELAY_DROPS_OF_304 if head.status == 304 else _RELAY_DROPS
    ended = hop_names(head.fields)
    lines = [line for line in head.fields.lines if not ((name := line[0].lower()) in drops or name in ended)]
    if b"date" not in head.fields or b"date" in ended:
        # RFC 9110 §6.6.1: whoever forwards it says when it came
        lines.append((b"Date", format_date(now).encode()))
    lines += _hop_lines(head)
    lines += _status_lines(head.fields, status)
    lines.append((b"X-Cache", x_cache._value_.encode()))
    return Head(head.status, head.reason, Fields(lines))


def _hop_lines(head: Head) -> list[Line]:
    """Return what of the hop-by-hop fields is true of our own hop too."""
    if head.status == 426:  # RFC 9110 §15.5.22: says to which protocol; upgrades pass here
        asked = [(b"Upgrade", value.encode("latin-1")) for value in head.fields.all(b"upgrade")]
        return [*asked, (b"Connection", b"upgrade")]
    if b"transfer-encoding" in head.fields:  # RFC 9110 §6.6.2: announces trailers, which go on
        return [(b"Trailer", value.encode("latin-1")) for value in head.fields.all(b"trailer")]
    return []


def relayed_trailers(head: Head, trailers: Fields) -> Fields:
    """Return which trailers of an answer go on to the visitor."""
    if not len(trailers):
        return trailers
    named = frozenset(token.encode("latin-1") for token in tokens(head.fields.get(b"connection")))
    return forwardable(trailers, named | _RELAY_DROPS)


def reflected(request: Request, now: float) -> tuple[Head, bytes]:
    """Build the answer to a TRACE or OPTIONS that ends here; credentials are not repeated."""
    body = b""
    lines: list[Line] = [(b"Date", format_date(now).encode()), (b"Cache-Control", b"no-store")]
    if request.method == "TRACE":
        lines.append((b"Content-Type", b"message/http"))
        start = f"TRACE {request.target} HTTP/{request.version}\r\n".encode("utf-8", "surrogateescape")
        kept = request.fields.without(_CREDENTIALS)
        body = b"".join([start, *(b"%b: %b\r\n" % line for line in kept), b"\r\n"])
    lines.append((b"X-Cache", XCache.PASS.value.encode()))
    return Head(200, REASON_PHRASES[200], Fields(lines)), body


_CREDENTIALS: Final = frozenset({b"authorization", b"cookie", b"proxy-authorization"})


_RELAY_DROPS: Final = PRIVATE_FIELDS | {b"x-cache", b"cache-status", b"content-length"}
_RELAY_DROPS_OF_304: Final = _RELAY_DROPS - {b"content-length"}


def _visible_lines(fields: Fields, route: Route) -> list[Line]:
    drop = PRIVATE_FIELDS | _REPLACED
    told = client_cache_control(route)
    if told is not None:
        drop |= _WHERE_ROUTE_DECIDES
    lines = list(fields.without(drop))
    if told is not None:
        lines.append((b"Cache-Control", told.encode("latin-1")))
    return lines


def client_cache_control(route: Route) -> str | None:
    """Return the Cache-Control visitors get, None for the origin's own."""
    said = route.client_cache_control
    if said is None:
        return DEFAULT_CLIENT_CACHE_CONTROL if route.revalidate.is_isr else None
    return None if said == ORIGIN_OWN else said


def _status_lines(fields: Fields, status: str) -> list[Line]:
    """Append ours to the origin's own Cache-Status (RFC 9211 §2)."""
    ours = (b"Cache-Status", status.encode("latin-1"))
    if b"cache-status" not in fields:
        return [ours]
    return [*((b"Cache-Status", value.encode("latin-1")) for value in fields.all(b"cache-status")), ours]


def variant_etag(etag: str, encoding: str) -> str:
    """Return the entity tag of one encoding: each representation has its own (RFC 9110 §8.8.3.3)."""
    if encoding == IDENTITY or not etag.endswith('"'):
        return etag
    return f'{etag[:-1]}-{encoding}"'


def _with_etag(lines: list[Line], etag: str) -> list[Line]:
    if not etag:
        return lines
    return [*(line for line in lines if line[0].lower() != b"etag"), (b"ETag", etag.encode("latin-1"))]


def _varying_on_encoding(lines: list[Line]) -> list[Line]:
    said = Fields(lines).get(b"vary")
    if said is not None and ("accept-encoding" in said.lower() or said.strip(OWS) == "*"):
        return lines
    return [*lines, (b"Vary", b"Accept-Encoding")]


def pick_encoding(request: Request, meta: Meta) -> str:
    """Choose among the copies an entry has; the first in the file is identity, of which parts are given."""
    if len(meta.bodies) < 2 or b"range" in request.fields:
        return IDENTITY
    accept = request.fields.get(b"accept-encoding")
    return choose_encoding(accept, [ref.encoding for ref in meta.bodies[1:]])


def not_modified(head: Head) -> Head:
    """Return the 304 that answers instead of this 200 (RFC 9110 §15.4.5)."""
    return Head(304, "Not Modified", head.fields.without(_NOT_IN_304))


def partial_head(head: Head, spans: tuple[Span, ...], whole: int, boundary: str = "") -> Head:
    """Return the head that answers instead of this 200: 206, or 416 where no span lies inside.

    A 416 is about the request, not the page: nobody may keep it for as long as the page.
    """
    head = Head(head.status, head.reason, head.fields.without(frozenset({b"content-range"})))
    if not spans:
        said = ((b"Content-Range", b"bytes */%d" % whole), (b"Cache-Control", b"no-store"))
        return Head(416, REASON_PHRASES[416], head.fields.without(_OF_THE_PAGE).plus(*said))
    if len(spans) == 1:
        part = (b"Content-Range", spans[0].content_range(whole).encode())
        return Head(206, REASON_PHRASES[206], head.fields.plus(part))
    kind = (b"Content-Type", f"multipart/byteranges; boundary={boundary}".encode())
    return Head(206, REASON_PHRASES[206], head.fields.without(frozenset({b"content-type"})).plus(kind))


_OF_THE_PAGE: Final = frozenset(
    {
        *(b"content-type", b"content-encoding", b"content-language", b"content-location"),
        *(b"etag", b"last-modified", b"age", *_WHERE_ROUTE_DECIDES),
    }
)


def part_head(span: Span, whole: int, kind: str | None, boundary: str) -> bytes:
    """Write what precedes one part of multipart/byteranges (RFC 9110 §14.6)."""
    lines = [f"\r\n--{boundary}", f"Content-Range: {span.content_range(whole)}"]
    if kind is not None:
        lines.insert(1, f"Content-Type: {kind}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@dataclass(frozen=True, slots=True)
class Validators:
    """What an answer's conditions are compared with; `etags` are those of all its encodings."""

    status: int
    etags: tuple[str | None, ...]
    last_modified: str | None


def validators(head: Head, meta: Meta | None = None) -> Validators:
    """Return the validators of an answer; whoever holds any encoding of a stored page holds the page."""
    etags = () if meta is None else tuple(variant_etag(meta.etag, ref.encoding) for ref in meta.bodies)
    modified = head.fields.first(b"last-modified") or head.fields.first(b"date")  # RFC 9111 §4.3.2
    return Validators(head.status, (head.fields.first(b"etag"), *etags), modified)


def is_unchanged(asked: Fields, has: Validators) -> bool:
    """Tell whether a visitor's conditions make this answer a 304: any successful one (RFC 9110 §13.2.1)."""
    if not 200 <= has.status < 300 or not (b"if-none-match" in asked or b"if-modified-since" in asked):
        return False
    return any(is_not_modified(asked, etag, has.last_modified) for etag in has.etags)


def whole_body(entry: Entry, encoding: str, most_bytes: int) -> bytes | None:
    """Return a body that is sent in one write; None for one that is not in memory, or larger."""
    body = entry.bodies.resident(encoding)
    return None if body is None or len(body) > most_bytes else body


def error_head(
    status: int, reason: Reason, x_cache: XCache, now: float, retry_after: int | None = None
) -> tuple[Head, bytes]:
    """Build a small plain error; it is never stored, and names its Reason (law 10)."""
    phrase = REASON_PHRASES.get(status, "Error")
    lines: list[Line] = [
        (b"Date", format_date(now).encode()),
        (b"Content-Type", b"text/plain; charset=utf-8"),
        (b"Cache-Control", b"no-store"),
        (b"X-Cache", x_cache.value.encode()),
        (b"X-Cache-Reason", reason.value.encode()),
    ]
    if retry_after is not None:
        lines.append((b"Retry-After", b"%d" % retry_after))
    return Head(status, phrase, Fields(lines)), f"{status} {phrase}: {reason.value}\n".encode()
