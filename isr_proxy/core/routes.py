"""Routes: a pattern becomes a match on host and raw path; the first that matches wins.

Knows pattern syntax and the order of routes. Must not know what a route's settings mean.

    /about            literal
    /blog/{slug}      one segment, captured
    /docs/{rest:path} the rest, captured, slashes included
    /blog/**          the rest, and /blog itself
    /img/*.webp       `*`: anything within one segment
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple
from urllib.parse import quote, unquote

from isr_proxy.core.settings import Route

_PIECE: Final = re.compile(r"\{([^{}]*)\}|\*\*|\*|[^{}*]+|[{}]")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CACHED_MATCHES: Final = 4096


@dataclass(frozen=True, slots=True)
class Pattern:
    """A compiled `match`. `captures` are its names in order."""

    text: str
    regex: re.Pattern[str]
    captures: tuple[str, ...]

    def match(self, path: str) -> Mapping[str, str] | None:
        """Return the captures of a raw path, still percent-encoded; None when it does not match."""
        found = self.regex.fullmatch(path)
        return None if found is None else found.groupdict()


def compile_pattern(text: str) -> Pattern:
    """Compile a route's `match`; ValueError says what is wrong and what is allowed."""
    if not text.startswith("/"):
        raise ValueError(f"a path pattern starts with `/`, got {text!r}")
    captures: list[str] = []
    if text.endswith("/**"):
        return Pattern(text, re.compile(_body(text[:-3], captures) + "(?:/.*)?", re.DOTALL), tuple(captures))
    return Pattern(text, re.compile(_body(text, captures), re.DOTALL), tuple(captures))


class _Piece(NamedTuple):
    """A part of a pattern. `shortest` is the regex of a wildcard that takes no more than it must."""

    regex: str
    shortest: str = ""

    @property
    def is_wild(self) -> bool:
        return bool(self.shortest)


def _body(text: str, captures: list[str]) -> str:
    pieces = [_piece(match, captures, is_last=match.end() == len(text)) for match in _PIECE.finditer(text)]
    return _without_backtracking(pieces)


def _without_backtracking(pieces: list[_Piece]) -> str:
    """Bind each wildcard but the last to the first place where the text after it stands.

    That finds a match whenever there is one, and in linear time, which matters as visitors choose the path.
    """
    wild = [place for place, piece in enumerate(pieces) if piece.is_wild]
    regex, begun = "", False
    for place, piece in enumerate(pieces):
        if begun and piece.is_wild:
            regex, begun = regex + ")", False
        if piece.is_wild and place != wild[-1]:
            regex, begun = f"{regex}(?>{piece.shortest}", True
        else:
            regex += piece.regex
    return regex


def _piece(match: re.Match[str], captures: list[str], *, is_last: bool) -> _Piece:
    piece, inner = match.group(0), match.group(1)
    if inner is not None:
        return _capture(inner, captures, is_last=is_last)
    if piece == "**":
        if not is_last:
            raise ValueError("`**` stands only at the end; use `*` or {name} for one segment")
        return _Piece(".*", ".*")
    if piece == "*":
        return _Piece("[^/]*", "[^/]*?")
    if piece in "{}":
        raise ValueError(f"unbalanced `{piece}`; a capture is written {{name}} or {{name:path}}")
    return _Piece(re.escape(quote(piece, safe="/%:@!$&'()*+,;=-._~")))


def _capture(inner: str, captures: list[str], *, is_last: bool) -> _Piece:
    name, colon, kind = inner.partition(":")
    if not _NAME.fullmatch(name):
        raise ValueError(f"{{{inner}}} is not a capture; a name is letters, digits and `_`")
    if name in captures:
        raise ValueError(f"capture {{{name}}} appears twice")
    if colon and kind != "path":
        raise ValueError(f"{{{inner}}}: the only kind is `path`, as in {{{name}:path}}")
    if colon and not is_last:
        raise ValueError(f"{{{inner}}} matches the rest, so it stands only at the end")
    captures.append(name)
    if colon:
        return _Piece(f"(?P<{name}>.*)", f"(?P<{name}>.*)")
    return _Piece(f"(?P<{name}>[^/]+)", f"(?P<{name}>[^/]+?)")


@dataclass(frozen=True, slots=True)
class Match:
    """A route and what its pattern captured."""

    route: Route
    captures: Mapping[str, str]

    def tags(self) -> tuple[str, ...]:
        """Return the route's tags with the captures filled in, decoded: purges name them as people do."""
        return tuple(fill(tag, self.captures) for tag in self.route.tags)


def fill(template: str, captures: Mapping[str, str]) -> str:
    """Replace each {name} of a tag by its capture, percent-decoded where that is UTF-8."""
    return _BRACED.sub(lambda found: _decoded(captures.get(found[1], found[0])), template)


_BRACED: Final = re.compile(r"\{([^{}]*)\}")


def _decoded(raw: str) -> str:
    try:
        return unquote(raw, errors="strict")
    except UnicodeDecodeError:
        return raw


class RouteTable:
    """The routes of one config, in order. Remembers its last answers, boundedly."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self.routes = routes
        self._compiled = tuple((route, compile_pattern(route.match)) for route in routes)
        self._answers: dict[tuple[str, str], Match | None] = {}

    def match(self, host: str, path: str) -> Match | None:
        """Return the first route for a lower-case host and a raw path."""
        asked = (host, path)
        if asked in self._answers:
            return self._answers[asked]
        if len(self._answers) >= _CACHED_MATCHES:
            self._answers.clear()
        answer = self._answers[asked] = self._search(host, path)
        return answer

    def _search(self, host: str, path: str) -> Match | None:
        for route, pattern in self._compiled:
            if host_matches(route.host, host) and (captures := pattern.match(path)) is not None:
                return Match(route, captures)
        return None


def host_matches(pattern: str | None, host: str) -> bool:
    """Tell whether a host, with or without port, is the pattern's; `*.example.org` is any name below."""
    if pattern is None:
        return True
    bare = pattern if _has_port(pattern) else None
    name = host if bare else _without_port(host)
    if pattern.startswith("*."):
        return name.endswith(pattern[1:])
    return name == pattern


def _has_port(host: str) -> bool:
    return _without_port(host) != host


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host


# --- the raw target ---

# Surrogates stand for bytes that are not UTF-8.
_FORBIDDEN: Final = re.compile(r"[\x00-\x20\x7f\ud800-\udfff#\\]|%00|%(?![0-9A-Fa-f]{2})")
_DOT_SEGMENT: Final = re.compile(
    r"/(?:\.|%2e){1,2}(?=[/;]|$)", re.IGNORECASE
)  # `/..;/` climbs at servlet containers
_ENCODED_DELIMITER: Final = re.compile(r"%(?:2f|5c|3b|23|3f)", re.IGNORECASE)
_FORBIDDEN_IN_QUERY: Final = re.compile(r"[\x00-\x20\x7f\ud800-\udfff#]|%00")


def target_problem(path: str, query: str | None) -> str | None:
    """Say why a raw target is refused, or None.

    One string serves routing, key and origin, so whatever servers read differently is refused: raw `#`
    and backslash, NUL and control bytes, dot segments plain or encoded, a `%` without two hex digits.
    """
    if not path.startswith("/"):
        return "the path does not start with /"
    if _FORBIDDEN.search(path):
        return "the path has a byte that is not allowed there"
    if _DOT_SEGMENT.search(path):
        return "the path has a dot segment"
    if query is not None and _FORBIDDEN_IN_QUERY.search(query):
        return "the query has a byte that is not allowed there"
    return None


def hides_delimiter(path: str) -> bool:
    """Tell whether a percent sign hides one of / \\ ; # ? which origins read differently."""
    return "%" in path and _ENCODED_DELIMITER.search(path) is not None
