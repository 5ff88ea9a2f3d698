"""No-Vary-Search: which parts of a query make no difference (draft-ietf-httpbis-no-vary-search).

Knows the field and how it shortens a query. Must not know keys or entries. What is left of a query is in one
spelling, so that `%61=1` and `a=1` are the same; it says where a page lies, never what the origin is asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final
from urllib.parse import quote_plus, unquote_plus

from isr_proxy.core.http import Fields, made_once
from isr_proxy.core.structured import parse_dictionary

NO_VARY_SEARCH: Final = b"no-vary-search"


@dataclass(frozen=True, slots=True)
class SearchVariance:
    """`names` are the parameters that do not count, or, where `is_except`, the only ones that do."""

    names: frozenset[str] = frozenset()
    is_except: bool = False
    ignores_order: bool = False

    def counts(self, name: str) -> bool:
        """Tell whether a decoded parameter makes a difference."""
        return (name in self.names) is self.is_except

    def shortened(self, query: str) -> str | None:
        """Return what of a query makes a difference, None when nothing does."""
        pairs = [pair.partition("=") for pair in query.split("&") if pair]
        decoded = [(_decoded(name), _decoded(value)) for name, _, value in pairs]
        kept = [(name, value) for name, value in decoded if self.counts(name)]
        if self.ignores_order:
            kept.sort(key=lambda pair: pair[0])
        return "&".join(f"{_encoded(name)}={_encoded(value)}" for name, value in kept) or None


DEFAULT: Final = SearchVariance()  # every byte of a query counts


def _decoded(text: str) -> str:
    """Decode one half of a parameter; bytes that are no UTF-8 stay different from each other."""
    return unquote_plus(text, errors="surrogateescape")


def _encoded(text: str) -> str:
    return quote_plus(text, errors="surrogateescape")


@made_once
def search_variance(fields: Fields) -> SearchVariance:
    """Read a response's No-Vary-Search; what is malformed or unknown makes every difference count."""
    value = fields.get(NO_VARY_SEARCH)
    return DEFAULT if value is None else _parsed(value)


@lru_cache(maxsize=256)
def _parsed(value: str) -> SearchVariance:
    members = parse_dictionary(value) or {}
    order, params, rest = members.get("key-order", False), members.get("params", False), members.get("except")
    match order, params, rest:
        case bool(), bool(), None:
            return SearchVariance(is_except=params, ignores_order=order)
        case bool(), list(), None if _are_strings(params):
            return SearchVariance(frozenset(map(_decoded, params)), ignores_order=order)
        case bool(), True, list() if _are_strings(rest):
            return SearchVariance(frozenset(map(_decoded, rest)), is_except=True, ignores_order=order)
        case _:
            return DEFAULT


def _are_strings(items: list[object]) -> bool:
    return all(type(item) is str for item in items)
