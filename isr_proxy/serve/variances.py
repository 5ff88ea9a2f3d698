"""What the store knows of No-Vary-Search: one rule a path, kept as a page without a body beside the others.

Knows where a page and a rule lie and when a rule still counts. Must not know how a query is shortened
(core/search_variance.py), nor what the origin is asked: that is always what the visitor asked. A page that
lies where it was asked for costs no look at the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

from isr_proxy.core.entry import Meta, OriginTimes, State
from isr_proxy.core.http import NO_FIELDS, Fields
from isr_proxy.core.key import NO_VARY_SEARCH_RULE, PLAIN, Key
from isr_proxy.core.purges import RULE_TAG, Scope, Selector, Verdict
from isr_proxy.core.search_variance import DEFAULT, NO_VARY_SEARCH, SearchVariance, search_variance
from isr_proxy.errors import StoreError
from isr_proxy.store.base import Entry, Found, Store, look

RULE_QUERY: Final = ""  # no request has it, so a purge of a path without a query names no rule


@dataclass(frozen=True, slots=True)
class _Rule:
    """`sequence` and `fetched_at` are those of the page that brought it."""

    variance: SearchVariance = DEFAULT
    sequence: int = 0
    fetched_at: float = 0.0

    def is_younger_than(self, entry: Entry) -> bool:
        """Tell whether a page may have escaped a purge of a query, which went by another rule."""
        return entry.state.sequence < self.sequence or entry.state.fetched_at < self.fetched_at


_NO_RULE: Final = _Rule()


class Variances:
    """The rules of one store."""

    def __init__(self, store: Store, verdict: Callable[[Entry], Verdict]) -> None:
        self._store = store
        self._verdict = verdict

    async def find(self, asked: Key, fields: Fields) -> tuple[Key, Found]:
        """Look a page up where it was asked for, then where its path's rule has it; tells where that is."""
        found = await self.look(asked, fields)
        if found is not None or asked.query is None:
            return asked, found
        rule = await self._rule(asked)
        place = _under(rule.variance, asked)
        if place == asked:
            return asked, None
        found = await look(self._store, place, fields)
        if isinstance(found, Entry) and (rule.is_younger_than(found) or not covers(found, asked)):
            return asked, None
        return place, found

    async def look(self, asked: Key, fields: Fields) -> Found:
        """Look a page up where it was asked for."""
        found = await look(self._store, asked, fields)
        return None if isinstance(found, Entry) and not covers(found, asked) else found

    async def shortened(self, key: Key) -> Key:
        """Return the key that a query's page is kept under, as far as this key's path has a rule."""
        return key if key.query is None else _under((await self._rule(key)).variance, key)

    async def learn(self, asked: Key, fields: Fields, replaced: Entry | None, state: State) -> None:
        """Keep the rule that a page brings; forget one that is not in a page which replaces one that had it.

        An answer to another query without the field says nothing of the rule.
        """
        variance = search_variance(fields)
        had_one = replaced is not None and has_rule(replaced.meta)
        if (variance == DEFAULT and not had_one) or variance == (await self._rule(asked)).variance:
            return
        await self._keep(asked, None if variance == DEFAULT else fields.get(NO_VARY_SEARCH), state)

    async def kept_under(self, selector: Selector, hosts: Iterable[str]) -> list[Selector]:
        """Return what selects the pages that answer for a selected query, where they lie elsewhere."""
        path, _, query = selector.value.partition("?")
        if selector.scope is not Scope.TARGET or not query:
            return []
        asked = [Key(scheme, host, path, query) for scheme in ("http", "https") for host in hosts]
        kept = [await self.shortened(each) for each in asked]
        found = [replace(selector, value=each.target, host=each.host) for each in kept if each.query != query]
        return list(dict.fromkeys(found))

    async def _rule(self, key: Key) -> _Rule:
        found = await look(self._store, _place(key), NO_FIELDS)
        if not isinstance(found, Entry) or self._verdict(found).hidden:
            return _NO_RULE
        self._store.touch(found)
        return _Rule(search_variance(found.meta.fields), found.state.sequence, found.state.fetched_at)

    async def _keep(self, key: Key, value: str | None, state: State) -> None:
        """Write a rule down. A disk that refuses costs a fetch for each spelling of a query, no more."""
        place = _place(key)
        lines = () if value is None else ((b"No-Vary-Search", value.encode("latin-1")),)
        try:
            async with self._store.begin(place, PLAIN) as writer:
                await writer.finish()
                await writer.commit(_meta(place, lines, state.fetched_at), state)
        except StoreError:
            pass


def has_rule(meta: Meta) -> bool:
    """Tell whether a page answers for more than one query."""
    return search_variance(meta.fields) != DEFAULT


def kept_key(asked: Key, fields: Fields) -> Key:
    """Return the key that an answer with these fields is kept under."""
    return _under(search_variance(fields), asked)


def is_answer_to(wanted: Key, fields: Fields, asked: Key) -> bool:
    """Tell whether what the origin said to one URL answers another: the answer's own rule says so."""
    return wanted == asked or kept_key(wanted, fields) == kept_key(asked, fields)


def covers(entry: Entry, asked: Key) -> bool:
    """Tell whether an entry answers for a URL, which may not be the one that it was fetched from."""
    is_plain = entry.meta.asked is None and entry.key == asked
    return is_plain or is_answer_to(entry.meta.asked_key, entry.meta.fields, asked)


def _place(key: Key) -> Key:
    return Key(key.scheme, key.host, key.path, RULE_QUERY, (NO_VARY_SEARCH_RULE,))


def _under(variance: SearchVariance, key: Key) -> Key:
    if variance == DEFAULT or key.query is None:
        return key
    return replace(key, query=variance.shortened(key.query))


def _meta(place: Key, lines: tuple[tuple[bytes, bytes], ...], now: float) -> Meta:
    return Meta(
        place.scheme,
        place.host,
        place.path,
        place.query,
        place.dimensions,
        (),
        204,
        "No Content",
        lines,
        (RULE_TAG,),
        "",
        None,
        OriginTimes(),
        now,
    )
