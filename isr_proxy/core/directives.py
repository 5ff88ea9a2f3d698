"""Cache directives: of Cache-Control, and of the fields that speak to us alone (RFC 9111 §5.2, RFC 9213).

Knows the two grammars, and which of several fields counts. Must not know what a directive leads to.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Final

import http_sf

from isr_proxy.core.http import TOKEN, Fields, delta_seconds, made_once, tokens
from isr_proxy.core.structured import parse_dictionary
from isr_proxy.core.value import Value

# A quoted string that does not end is not one: its commas separate, so nothing hides behind it. Nor does
# anything behind a semicolon, which some origins write where a comma belongs.
_MEMBER: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*+"|[^,;])+', re.DOTALL)
_DIRECTIVE: Final = re.compile(
    r"""\s*([!#$%&'*+\-.^_`|~0-9A-Za-z]+)                  # name
        (?:=(?:"((?:[^"\\]|\\.)*+)"|([^\s"]*))\s*$)?       # quoted or plain argument, and nothing else""",
    re.VERBOSE | re.DOTALL,
)
_WORD: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
# Never lost in a member that cannot be read, as where a blank stands for the comma: `max-age=60 private`.
_NEVER_LOST: Final = frozenset({"no-store", "private", "no-cache", "must-revalidate", "proxy-revalidate"})
_QUALIFIABLE: Final = frozenset({"no-cache", "private"})  # RFC 9111 §5.2.2.4, §5.2.2.7


class CacheControl(Value, frozen=True):
    """Directives by lower-case name; None where a directive has no argument.

    Of a repeated directive with different arguments, the most restrictive reading counts:
    the smallest number of seconds (RFC 9111 §4.2.1 lets a cache consider the response stale).
    """

    directives: Mapping[str, str | None]

    def __contains__(self, name: str) -> bool:
        return name in self.directives

    def seconds(self, name: str) -> int | None:
        """Return the delta-seconds of a directive, 0 when it cannot be read, None when absent."""
        if name not in self.directives:
            return None
        return delta_seconds(self.directives[name]) or 0

    def is_whole(self, name: str) -> bool:
        """Tell whether `no-cache` or `private` is said of the response, not of some of its fields."""
        return name in self.directives and not self.fields(name)

    def fields(self, name: str) -> frozenset[bytes]:
        """Return the header fields that `no-cache` or `private` is said of; none when it is all of them."""
        named = tokens(self.directives.get(name))
        if not all(TOKEN.fullmatch(field) for field in named):
            return frozenset()
        return frozenset(field.encode("latin-1") for field in named)


def parse_cache_control(values: Iterable[str]) -> CacheControl:
    """Parse the Cache-Control lines of one message."""
    found: dict[str, str | None] = {}
    for value in values:
        for name, argument in _directives(value):
            found[name] = _stricter(name, found[name], argument) if name in found else argument
    return CacheControl(found)


def _directives(value: str) -> Iterator[tuple[str, str | None]]:
    for member in _MEMBER.findall(value):
        match = _DIRECTIVE.match(member)
        if match is not None:
            name, quoted, plain = match.groups()
            yield name.lower(), plain if quoted is None else quoted
        rest = member[0 if match is None else match.end() :]
        for word in _WORD.findall(rest):
            if word.lower() in _NEVER_LOST:
                yield word.lower(), None


def _stricter(name: str, one: str | None, other: str | None) -> str | None:
    if name in _QUALIFIABLE:
        return f"{one}, {other}" if one and other else None
    first, second = delta_seconds(one), delta_seconds(other)
    if first is None or second is None:
        return one if first is None else other
    return one if first <= second else other


# --- targeted fields (RFC 9213) ---

SURROGATE_CONTROL: Final = b"surrogate-control"
# The target list, the most specific first. The first that is valid and not empty replaces Cache-Control and
# Expires.
TARGETED_FIELDS: Final = (b"isr-cache-control", b"cdn-cache-control", SURROGATE_CONTROL)
_OF_STORING: Final = frozenset({"max-age", "s-maxage", "no-store", "private", "no-cache"})
_SECONDS: Final = frozenset({"max-age", "s-maxage", "stale-while-revalidate", "stale-if-error"})


@made_once
def effective_directives(fields: Fields) -> tuple[CacheControl, bool]:
    """Return the directives that count for us, and whether a targeted field gave them (Expires is void)."""
    for name in TARGETED_FIELDS:
        if name in fields and (control := _targeted(name, fields.all(name))) is not None:
            return control, True
    return _parsed(*fields.all(b"cache-control")), False


@lru_cache(maxsize=256)  # an origin says the same few things of all its pages, and they are read often
def _parsed(*values: str) -> CacheControl:
    return parse_cache_control(values)


def _targeted(name: bytes, values: list[str]) -> CacheControl | None:
    if not values:
        return None
    return _surrogate_control(values) if name == SURROGATE_CONTROL else parse_targeted(", ".join(values))


def parse_targeted(value: str) -> CacheControl | None:
    """Parse a targeted field as the Structured Dictionary that it is; None when it is malformed or empty.

    RFC 9213 §2.1: a value of a type that its directive does not have is not consumed.
    """
    members = parse_dictionary(value)
    if not members:
        return None
    return CacheControl(
        {name: _argument(item) for name, item in members.items() if _is_of_its_type(name, item)}
    )


def _is_of_its_type(name: str, item: object) -> bool:
    if name in _SECONDS:
        return isinstance(item, int) and not isinstance(item, bool)
    return item is True or isinstance(item, int | str | http_sf.Token)


def _argument(item: object) -> str | None:
    return None if item is True else str(item)


def _surrogate_control(values: list[str]) -> CacheControl | None:
    """Read Surrogate-Control (Edge Architecture 1.0), whose `max-age=60+30` is fresh, then stale, seconds."""
    said = dict(parse_cache_control(values).directives)
    if not said.keys() & _OF_STORING:  # what it says of content leaves Cache-Control in force
        return None
    fresh, plus, stale = (said.get("max-age") or "").partition("+")
    if plus:
        said.update({"max-age": fresh, "stale-while-revalidate": stale, "stale-if-error": stale})
    return CacheControl(said)
