"""What the origin is sent: a neutral request built from the key, or the visitor's own.

Knows which fields go along. Must not know connections; Host, Content-Length and Transfer-Encoding are the
connection's to write.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Final

from isr_proxy.core.entry import Meta
from isr_proxy.core.http import HOP_BY_HOP, OWS, TOKEN, Fields, Line, Request, end_to_end, hop_names, tokens
from isr_proxy.core.key import Dimension, Key, Variant

USER_AGENT: Final = b"isr-proxy"
_NAME: Final = "isr-proxy"  # in Via
VIA_MAX: Final = 8  # times that a request may have come through here, or through others of our name

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
_NOT_PASSED: Final = (HOP_BY_HOP | _REBUILT) - {b"via"}  # which is appended to
_IDENTITY: Final[Line] = (b"Accept-Encoding", b"identity")


def neutral_fields(key: Key, variant: Variant) -> Fields:
    """Build a regeneration's fields from the key alone (law 4)."""
    if key.dimensions or variant.headers:  # which visitors choose, and as long as they like
        return _neutral(key.scheme, key.host, key.dimensions, variant.headers)
    return _plain_neutral(key.scheme, key.host)


@lru_cache(maxsize=256)  # what is regenerated differs by its path most of all
def _plain_neutral(scheme: str, host: str) -> Fields:
    return _neutral(scheme, host, (), ())


def _neutral(scheme: str, host: str, dimensions: Sequence[Dimension], headers: Sequence[Dimension]) -> Fields:
    lines: list[Line] = [(b"User-Agent", USER_AGENT), (b"Accept", b"*/*"), _IDENTITY]
    sent = [*_headers(dimensions), *_headers(headers)]
    overridden = {name.lower() for name, _ in sent}
    lines = [line for line in lines if line[0].lower() not in overridden]
    lines += sent
    cookies = "; ".join(
        f"{name.removeprefix('cookie:')}={value}"
        for name, value in dimensions
        if name.startswith("cookie:") and value is not None
    )
    if cookies:
        lines.append((b"Cookie", cookies.encode("latin-1")))
    return Fields([*lines, *_forwarded(scheme, host, "", "1.1")])


def _headers(dimensions: Iterable[Dimension]) -> list[Line]:
    return [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in dimensions
        if value is not None and not name.startswith("cookie:") and not _is_in(name.encode("latin-1"), OURS)
    ]


def visitor_fields(request: Request) -> Fields:
    """Build a pass's fields: the visitor's own, with what only we can know rebuilt."""
    kept = _own_lines(request.fields)
    if left := forwards_left(request):
        kept = [(line[0], b"%d" % (left - 1)) if line[0].lower() == _MAX_FORWARDS else line for line in kept]
    return Fields([*kept, *_expectations(request), *_announced(request), *_ours(request)])


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
    return Fields([*kept, _IDENTITY, *_ours(request)])


def _own_lines(fields: Fields) -> list[Line]:
    ended = hop_names(fields) | _NOT_PASSED if b"connection" in fields else _NOT_PASSED
    return [
        line
        for line in fields.lines
        if not ((name := line[0].lower()) in ended or (b"_" in name and _is_twin(name)))
    ]


def _is_twin(name: bytes) -> bool:
    return name.replace(b"_", b"-") in _NOT_PASSED


def _is_in(name: bytes, names: frozenset[bytes]) -> bool:
    """Tell also of underscore twins (X_Forwarded_Host), which CGI-style origins read as the same."""
    return name in names or (b"_" in name and name.replace(b"_", b"-") in names)


def _expectations(request: Request) -> list[Line]:
    """Return what is expected besides 100-continue, which ends at each hop: the origin's to refuse."""
    if b"expect" not in request.fields:
        return []
    said = (item.strip(OWS) for item in (request.fields.get(b"expect") or "").split(","))
    others = [item for item in said if item and item.lower() != "100-continue"]
    return [(b"Expect", ", ".join(others).encode("latin-1"))] if others else []


def _announced(request: Request) -> list[Line]:
    """Return which trailers are announced, where some may follow (RFC 9110 §6.6.2)."""
    if b"transfer-encoding" not in request.fields:
        return []
    return [(b"Trailer", value.encode("latin-1")) for value in request.fields.all(b"trailer")]


def accepts_trailers(request: Request) -> bool:
    """Tell whether the visitor can do with trailers (RFC 9110 §10.1.4)."""
    if b"te" not in request.fields or request.version == "1.0":
        return False
    return any(item.partition(";")[0].strip(OWS) == "trailers" for item in tokens(request.fields.get(b"te")))


def forwards_left(request: Request) -> int | None:
    """Return how many more times a TRACE or OPTIONS may be forwarded (RFC 9110 §7.6.2), None: as it likes."""
    if request.method not in ("TRACE", "OPTIONS"):
        return None
    value = request.fields.first(_MAX_FORWARDS) or ""
    return int(value) if len(value) <= _FORWARDS_DIGITS and value.isascii() and value.isdigit() else None


_MAX_FORWARDS: Final = b"max-forwards"
_FORWARDS_DIGITS: Final = 9  # more is no limit


def passages(fields: Fields) -> int:
    """Count how often a request came through here already, by its Via (RFC 9110 §7.6.3)."""
    if b"via" not in fields:
        return 0
    return sum(item.split()[1:2] == [_NAME] for item in tokens(fields.get(b"via")))


def _ours(request: Request) -> tuple[Line, ...]:
    return _forwarded(request.scheme, request.host, request.forwarded_for, request.version)


@lru_cache(maxsize=1024)  # visitors come again and again, and writing it costs more than all the rest
def _forwarded(scheme: str, host: str, chain: str, version: str) -> tuple[Line, ...]:
    lines = [
        ("X-Forwarded-For", chain),
        ("X-Forwarded-Proto", scheme),
        ("X-Forwarded-Host", host),
        ("X-Forwarded-Port", _port(scheme, host)),
        ("Forwarded", _elements(scheme, host, chain)),
        ("Via", f"{version} {_NAME}"),
    ]
    return tuple((name.encode("latin-1"), value.encode("latin-1")) for name, value in lines if value)


def _port(scheme: str, host: str) -> str:
    """Return the port that the visitor asked, which Host leaves out where it is the scheme's own."""
    _, colon, port = host.rpartition(":")
    if colon and port.isdigit():
        return port
    return "443" if scheme == "https" else "80"


def _elements(scheme: str, host: str, chain: str) -> str:
    """Write Forwarded (RFC 7239 §4) from the same chain as X-Forwarded-For: the two never differ."""
    what = f"host={_quoted(host)};proto={scheme}"
    first, *others = [f"for={_node(address)}" for address in chain.split(", ")] if chain else [""]
    return ", ".join([f"{first};{what}" if first else what, *others])


_V4: Final = re.compile(r"[0-9.]+")
_V6: Final = re.compile(r"\[?([0-9a-fA-F:.]*:[0-9a-fA-F:.]*)\]?")
_V4_PORT: Final = re.compile(r"[0-9.]+:[0-9]{1,5}|\[[0-9a-fA-F:.]+\]:[0-9]{1,5}")
_HIDDEN: Final = re.compile(r"_[0-9A-Za-z._-]+")


def _node(address: str) -> str:
    """Write an address as a node identifier (RFC 7239 §6); what is none is unknown."""
    if _V4.fullmatch(address) or _HIDDEN.fullmatch(address):
        return address
    if _V4_PORT.fullmatch(address):
        return f'"{address}"'
    found = _V6.fullmatch(address)
    return "unknown" if found is None else f'"[{found[1]}]"'


def _quoted(host: str) -> str:
    return host if TOKEN.fullmatch(host) else f'"{host}"'


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
