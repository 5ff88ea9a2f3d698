"""What the origin is sent: a neutral request built from the key, or the visitor's own.

Knows which fields go along. Must not know connections; Host, Content-Length and Transfer-Encoding are the
connection's to write.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from isr_proxy.core.entry import Meta
from isr_proxy.core.http import HOP_BY_HOP, Fields, Line, Request, end_to_end
from isr_proxy.core.key import Dimension, Key, Variant

USER_AGENT: Final = b"isr-proxy"
_VIA: Final = b"1.1 isr-proxy"

# Rebuilt here, whoever sent them; only what `trusted_proxies` said survives, inside the Request.
_REBUILT: Final = frozenset(
    {
        b"host",
        b"content-length",
        b"expect",
        b"via",
        b"forwarded",
        b"x-forwarded-for",
        b"x-forwarded-proto",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-scheme",
        b"x-forwarded-ssl",
        b"x-real-ip",
        b"proxy",  # CGI-style origins read it as their own HTTP_PROXY (httpoxy)
    }
)

# Known to change answers at common origins without being part of any key: web cache poisoning.
_UNKEYED: Final = frozenset(
    {
        b"x-host",
        b"x-forwarded-server",
        b"x-original-host",
        b"x-http-host-override",
        b"x-backend-host",
        # which path
        b"x-original-url",
        b"x-original-uri",
        b"x-rewrite-url",
        b"x-forwarded-prefix",
        b"x-forwarded-path",
        b"x-forwarded-uri",
        b"x-forwarded-url",
        b"x-http-destinationurl",
        b"x-proxy-url",
        b"base-url",
        b"request-uri",
        # which scheme
        b"x-forwarded-protocol",
        b"x-url-scheme",
        b"front-end-https",
        # which method
        b"x-http-method",
        b"x-http-method-override",
        b"x-method-override",
        # whose address
        b"true-client-ip",
        b"client-ip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"cf-connecting-ip",
        b"fastly-client-ip",
        # what Next.js tells itself
        b"x-matched-path",
        b"x-invoke-path",
        b"x-invoke-query",
        b"x-invoke-output",
        b"x-now-route-matches",
        b"x-middleware-subrequest",
        b"x-middleware-prefetch",
    }
)

# A cache asks for all of a page, unconditionally, in one coding.
_CONDITIONAL: Final = frozenset(
    {
        b"range",
        b"if-range",
        b"if-match",
        b"if-none-match",
        b"if-modified-since",
        b"if-unmodified-since",
        b"accept-encoding",
    }
)
# Never the visitor's on the way to the origin, keyed or not. What the origin may name of these in Vary is
# the same for everybody, or in the key.
OURS: Final = HOP_BY_HOP | _REBUILT | _CONDITIONAL
NEVER_VARYING: Final = OURS | _UNKEYED
_IDENTITY: Final[Line] = (b"Accept-Encoding", b"identity")


def neutral_fields(key: Key, variant: Variant) -> Fields:
    """Build a regeneration's fields from the key alone (law 4)."""
    lines: list[Line] = [(b"User-Agent", USER_AGENT), (b"Accept", b"*/*"), _IDENTITY]
    sent = [*_headers(key.dimensions), *_headers(variant.headers)]
    overridden = {name.lower() for name, _ in sent}
    lines = [line for line in lines if line[0].lower() not in overridden]
    lines += sent
    cookies = "; ".join(
        f"{name.removeprefix('cookie:')}={value}"
        for name, value in key.dimensions
        if name.startswith("cookie:") and value is not None
    )
    if cookies:
        lines.append((b"Cookie", cookies.encode("latin-1")))
    return Fields([*lines, *_forwarded(key.scheme, key.host, None)])


def _headers(dimensions: Iterable[Dimension]) -> list[Line]:
    return [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in dimensions
        if value is not None and not name.startswith("cookie:") and not _is_in(name.encode("latin-1"), OURS)
    ]


def visitor_fields(request: Request) -> Fields:
    """Build a pass's fields: the visitor's own, with what only we can know rebuilt."""
    kept = _own_lines(request.fields, _REBUILT)
    return Fields([*kept, *_forwarded(request.scheme, request.host, request.forwarded_for)])


def shared_fields(request: Request, keyed: Collection[str] = ()) -> Fields:
    """Build a fetch's fields where the origin decides what is shared (`revalidate: origin`).

    The visitor's own, without what would make the answer less than the whole page or poison it. What the
    route keys may stay. A name with an underscore may be read as another one, which is keyed or in Vary.
    """
    named = frozenset(name.encode("latin-1") for name in keyed) - OURS
    kept = [
        line
        for line in end_to_end(request.fields)
        if (name := line[0].lower()) in named or not (b"_" in name or name in NEVER_VARYING)
    ]
    return Fields([*kept, _IDENTITY, *_forwarded(request.scheme, request.host, request.forwarded_for)])


def _own_lines(fields: Fields, drop: frozenset[bytes]) -> list[Line]:
    return [line for line in end_to_end(fields) if not _is_in(line[0].lower(), drop | HOP_BY_HOP)]


def _is_in(name: bytes, names: frozenset[bytes]) -> bool:
    """Tell also of underscore twins (X_Forwarded_Host), which CGI-style origins read as the same."""
    return name in names or (b"_" in name and name.replace(b"_", b"-") in names)


def _forwarded(scheme: str, host: str, forwarded_for: str | None) -> list[Line]:
    lines = [
        (b"X-Forwarded-Proto", scheme.encode("latin-1")),
        (b"X-Forwarded-Host", host.encode("latin-1")),
        (b"Via", _VIA),
    ]
    if forwarded_for:
        lines.insert(0, (b"X-Forwarded-For", forwarded_for.encode("latin-1")))
    return lines


def which_of(metas: Iterable[Meta]) -> list[Line]:
    """Return the condition that asks whether one of several pages is right for another request (§4.1)."""
    etags = [etag for meta in metas if (etag := meta.fields.first(b"etag")) is not None]
    return [(b"If-None-Match", ", ".join(dict.fromkeys(etags)).encode("latin-1"))] if etags else []


def conditional_lines(meta: Meta) -> list[Line]:
    """Return the conditions that validate a stored page (RFC 9111 §4.3.1)."""
    etag = meta.fields.first(b"etag")
    lines: list[Line] = []
    if etag is not None:
        lines.append((b"If-None-Match", etag.encode("latin-1")))
    if meta.last_modified is not None:
        lines.append((b"If-Modified-Since", meta.last_modified.encode("latin-1")))
    return lines
