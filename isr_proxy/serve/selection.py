"""What an operator selects: paths, prefixes, tags, hosts, or all; and which stored entries that is.

Knows selectors, and how the catalog lists what one names. Must not know what is done with the entries.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final

from isr_proxy.core.arrival import normal_host
from isr_proxy.core.purges import Scope, Selector, Strength, normal_tag
from isr_proxy.serve.targets import parse_target
from isr_proxy.store.catalog import Catalog
from isr_proxy.store.changes import Row

_PAGE: Final = 200  # rows asked of the catalog at once


@dataclass(frozen=True, slots=True)
class Selection:
    """What is selected; several selectors are a union."""

    paths: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    is_all: bool = False

    def selectors(self, strength: Strength) -> tuple[Selector, ...]:
        """Return the selectors, none twice. ValueError for what cannot be one."""
        found = [
            *(_path(path, strength) for path in self.paths),
            *(_prefix(prefix, strength) for prefix in self.prefixes),
            *(_tag(tag, strength) for tag in self.tags),
            *(_host(host, strength) for host in self.hosts),
        ]
        if self.is_all:
            found.append(Selector(Scope.ALL, strength=strength))
        return tuple(dict.fromkeys(found))


def _path(text: str, strength: Strength) -> Selector:
    target = parse_target(text)
    if target.query is None:
        return Selector(Scope.PATH, target.path, target.host, strength)
    return Selector(Scope.TARGET, f"{target.path}?{target.query}", target.host, strength)


def _prefix(text: str, strength: Strength) -> Selector:
    target = parse_target(text)
    if target.query is not None:
        raise ValueError(f"{text!r}: a prefix is one of paths, so it has no query")
    return Selector(Scope.PREFIX, target.path, target.host, strength)


def _tag(text: str, strength: Strength) -> Selector:
    tag = normal_tag(text)
    if not tag:
        raise ValueError("a tag is not empty")
    return Selector(Scope.TAG, tag, strength=strength)


def _host(text: str, strength: Strength) -> Selector:
    host = normal_host(text, "http")
    if host is None:
        raise ValueError(f"{text!r} is not a host; one as in www.example.org is wanted, without scheme")
    return Selector(Scope.HOST, host, strength=strength)


async def rows(catalog: Catalog, selectors: Sequence[Selector]) -> AsyncIterator[Row]:
    """Yield every stored entry that is selected, once; a few hundred are in memory at a time."""
    for position, selector in enumerate(selectors):
        async for row in _rows_of(catalog, selector):
            if not any(names(earlier, row) for earlier in selectors[:position]):
                yield row


async def _rows_of(catalog: Catalog, selector: Selector) -> AsyncIterator[Row]:
    """Yield what one selector names. The list is in the order of paths, so an exact one comes first."""
    path = _listed_prefix(selector)
    tag = selector.value if selector.scope is Scope.TAG else None
    is_exact = selector.scope in (Scope.PATH, Scope.TARGET)
    cursor: str | None = None
    while True:
        listing = await catalog.listing(prefix=path, tag=tag, cursor=cursor, limit=_PAGE)
        for row in listing.rows:
            if is_exact and row.path != path:
                return
            if names(selector, row):
                yield row
        cursor = listing.cursor
        if cursor is None:
            return


def _listed_prefix(selector: Selector) -> str:
    match selector.scope:
        case Scope.PATH | Scope.PREFIX:
            return selector.value
        case Scope.TARGET:
            return selector.value.partition("?")[0]
        case Scope.ALL | Scope.HOST | Scope.TAG:
            return ""


def names(selector: Selector, row: Row) -> bool:
    """Tell whether a selector names an entry, as a purge with it would."""
    if selector.host not in (None, row.host):
        return False
    match selector.scope:
        case Scope.ALL:
            return True
        case Scope.HOST:
            return row.host == selector.value
        case Scope.PATH:
            return row.path == selector.value
        case Scope.TARGET:
            return selector.value == (row.path if row.query is None else f"{row.path}?{row.query}")
        case Scope.PREFIX:
            return row.path.startswith(selector.value)
        case Scope.TAG:
            return selector.value in row.tags
