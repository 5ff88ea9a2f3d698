"""Values of the config that speak of caching: data becomes a pattern, a fallback, a keyed header.

Knows what each may be and why some are refused. Must not know other keys: what two keys mean together is
`config_checks`. Like `config_scalars`, every ValueError is a predicate that never repeats the value.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from isr_proxy.core.routes import compile_pattern, target_problem
from isr_proxy.core.settings import (
    FOREVER,
    Fallback,
    FallbackKind,
    PathSource,
    PathSourceKind,
    QueryMode,
    Revalidate,
    RevalidateMode,
)
from isr_proxy.run import config_scalars as scalars

# --- freshness and fallback ---

_MODES: Final[Mapping[str, Revalidate]] = {
    "origin": Revalidate(RevalidateMode.ORIGIN),
    "never": Revalidate(RevalidateMode.NEVER, FOREVER),
}


def revalidate(value: object) -> Revalidate:
    """Read a route's `revalidate`."""
    if (mode := _MODES.get(scalars.plain(value))) is not None:
        return mode
    try:
        ttl = scalars.duration(value)
    except ValueError:
        allowed = "a duration such as 60s, 0 (pass), never (until purged) or origin (obey its headers)"
        raise ValueError(f"is not a time to revalidate; allowed: {allowed}") from None
    return Revalidate(RevalidateMode.TTL, ttl) if ttl > 0 else Revalidate(RevalidateMode.PASS)


def fallback(value: object) -> Fallback:
    """Read what a visitor of a never generated path gets."""
    match value:
        case "blocking":
            return Fallback(FallbackKind.BLOCKING)
        case "not_found":
            return Fallback(FallbackKind.NOT_FOUND)
        case {"shell": shell, **rest} if not rest:
            return Fallback(FallbackKind.SHELL, _named("shell", shell))
        case _:
            raise ValueError("is not a fallback; allowed: blocking, not_found or {shell: /path}")


def path_source(value: object) -> PathSource:
    """Read one item of `prerender`."""
    match value:
        case str():
            return PathSource(PathSourceKind.PATH, url_path(value))
        case {"file": str(file), **rest} if file and not rest:
            return PathSource(PathSourceKind.FILE, file)
        case {"sitemap": sitemap, **rest} if not rest:
            return PathSource(PathSourceKind.SITEMAP, _named("sitemap", sitemap))
        case {"json": json, **rest} if not rest:
            return PathSource(PathSourceKind.JSON, _named("json", json))
        case _:
            allowed = "/path, {file: paths.txt}, {sitemap: /sitemap.xml} or {json: /api/paths}"
            raise ValueError(f"is not a source of paths; allowed: {allowed}")


def _named(name: str, value: object) -> str:
    try:
        return url_path(value)
    except ValueError as error:
        raise ValueError(f"has a `{name}` that {error}") from None


def url_path(value: object) -> str:
    """Read a raw path at the origin, with or without a query."""
    path, mark, query = scalars.plain(value).partition("?")
    problem = target_problem(path, query if mark else None)
    if problem is not None:
        raise ValueError(f"is not a path: {problem}; allowed: /path, percent-encoded")
    return path + mark + query


def pattern(value: object) -> str:
    """Read a route's `match`."""
    text = scalars.plain(value)
    try:
        compile_pattern(text)
    except ValueError as error:
        raise ValueError(f"is not a pattern: {error}") from None
    if re.search(r"[\x00-\x20?#\\]", text):
        raise ValueError("is not a pattern: it matches the path only; no space, `?`, `#` or backslash in it")
    return text


# --- names that make a key ---

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_STAR: Final = "*"

_USE_COOKIES: Final = "would make a page per visitor; name the cookies that matter in `key.cookies`"
_USE_BYPASS: Final = "would store a page per user; leave it in `bypass.headers`, so that such requests pass"
_OWN: Final = "belongs to each connection, so it says nothing about the page; leave it out"
_IN_KEY: Final = "is part of every key already; leave it out"
_REBUILT: Final = "is rebuilt by the proxy (scheme and host are part of every key already); leave it out"
_PARTIAL: Final = "asks for less than the whole page, which the proxy cuts from the stored one; leave it out"
_DIRECTIVE: Final = "speaks to caches, not to the app; see `client_directives`"
_ENCODING: Final = "is negotiated by the proxy itself; see `compress`"
_REFUSED_HEADERS: Final[Mapping[str, str]] = {
    "cookie": _USE_COOKIES,
    "set-cookie": "is a response's; leave it out",
    "authorization": _USE_BYPASS,
    "proxy-authorization": _USE_BYPASS,
    "host": _IN_KEY,
    **dict.fromkeys(("cache-control", "pragma"), _DIRECTIVE),
    "accept-encoding": _ENCODING,
    **dict.fromkeys(
        (
            "connection",
            "keep-alive",
            "proxy-connection",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "expect",
            "content-length",
        ),
        _OWN,
    ),
    **dict.fromkeys(("range", "if-range"), _PARTIAL),
    **dict.fromkeys(("if-match", "if-none-match", "if-modified-since", "if-unmodified-since"), _PARTIAL),
    **dict.fromkeys(
        (
            "via",
            "forwarded",
            "x-real-ip",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "x-forwarded-port",
            "x-forwarded-scheme",
            "x-forwarded-ssl",
        ),
        _REBUILT,
    ),
}


def keyed_header(value: object) -> str:
    """Read a header name that becomes part of the key, in lower case."""
    name = _name(value, "a header name").lower()
    if (why := _REFUSED_HEADERS.get(name.replace("_", "-"))) is not None:
        raise ValueError(f"cannot be keyed: it {why}")
    return name


def keyed_cookie(value: object) -> str:
    """Read a cookie name that becomes part of the key."""
    return _name(value, "a cookie name")


def header_pattern(value: object) -> str:
    """Read a header name, or its beginning and `*`, in lower case."""
    return _name_pattern(value, "a header name").lower()


def cookie_pattern(value: object) -> str:
    """Read a cookie name, or its beginning and `*`."""
    return _name_pattern(value, "a cookie name")


def query_pattern(value: object) -> str:
    """Read a query parameter's name, or its beginning and `*`."""
    text = scalars.plain(value)
    if not text or re.search(r"[\x00-\x20&=#]", text) or _STAR in text[:-1]:
        raise ValueError(
            "is not the name of a query parameter; allowed: page, or utm_* for all that begin so"
        )
    return text


def _name(value: object, noun: str) -> str:
    text = scalars.plain(value)
    if not _TOKEN.fullmatch(text) or _STAR in text:
        raise ValueError(f"is not {noun}; allowed: letters, digits and - _ . without spaces")
    return text


def _name_pattern(value: object, noun: str) -> str:
    text = scalars.plain(value)
    if not _TOKEN.fullmatch(text) or _STAR in text[:-1]:
        raise ValueError(f"is not {noun}; allowed: a name, or name* for all that begin so")
    return text


def query(value: object) -> tuple[QueryMode, tuple[str, ...]]:
    """Read which query parameters are part of the key."""
    match value:
        case "all":
            return QueryMode.ALL, ()
        case "none" | []:
            return QueryMode.NONE, ()
        case list() if all(isinstance(name, str) and name and _STAR not in name for name in value):
            return QueryMode.LISTED, tuple(value)
        case _:
            raise ValueError("is not a choice of query parameters; allowed: all, none or a list of names")


# --- what goes into headers ---

_TAG: Final = re.compile(r"[!-+\--~]+")  # printable, no space and no comma: both separate tags in headers
_FIELD_VALUE: Final = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_LONGEST_TAG: Final = 1024
_SHORTEST_TOKEN: Final = 32
LEVELS: Final = ("debug", "info", "warning", "error", "critical")


def tag(value: object) -> str:
    """Read a tag, which may hold {captures}."""
    text = scalars.plain(value)
    if not _TAG.fullmatch(text) or len(text) > _LONGEST_TAG:
        raise ValueError("is not a tag; allowed: blog or post:{slug}, printable, without spaces and commas")
    return text


def field_value(value: object) -> str:
    """Read the value of a response header."""
    text = scalars.plain(value)
    if not _FIELD_VALUE.fullmatch(text):
        raise ValueError("is not a header value; allowed: origin, or text such as public, max-age=60")
    return text


def token(value: object) -> str | None:
    """Read the admin token; empty text is none, as `${ISR_ADMIN_TOKEN:-}` gives."""
    if value is None or value == "":
        return None
    text = scalars.plain(value)
    if len(text) < _SHORTEST_TOKEN:
        raise ValueError(f"is too short; allowed: at least {_SHORTEST_TOKEN} characters")
    if not re.fullmatch("[!-~]+", text):
        raise ValueError("cannot be sent in a header; allowed: printable ASCII without spaces")
    return text


def level(value: object) -> str:
    """Read the least level that is logged."""
    text = scalars.plain(value).lower()
    if text not in LEVELS:
        raise ValueError(f"is not a log level; allowed: {', '.join(LEVELS)}")
    return text
