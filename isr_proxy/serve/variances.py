"""What the store knows of No-Vary-Search: one rule a path, kept as a page without a body beside the others.

Knows where a rule lies and when it still counts. Must not know how a query is shortened
(core/search_variance.py). Only a miss asks here, so a hit pays nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from isr_proxy.core.entry import Meta, OriginTimes, State
from isr_proxy.core.http import Fields
from isr_proxy.core.key import NO_VARY_SEARCH_RULE, PLAIN, Key
from isr_proxy.core.purges import RULE_TAG
from isr_proxy.core.search_variance import DEFAULT, NO_VARY_SEARCH, SearchVariance, search_variance
from isr_proxy.errors import StoreError
from isr_proxy.store.base import PENDING, Entry, Found, Store

_NO_FIELDS: Final = Fields()


class Variances:
    """The rules of one store."""

    def __init__(self, store: Store, now: Callable[[], float]) -> None:
        self._store = store
        self._now = now

    async def shortened(self, key: Key) -> Key:
        """Return the key that a query's page is kept under, as far as this key's path has a rule."""
        if key.query is None:
            return key
        return _under(await self._rule(key), key)

    async def learn(self, key: Key, fields: Fields, sequence: int) -> Key:
        """Keep the rule that an answer brings, or forget the one it does not; returns its page's key."""
        variance = search_variance(fields)
        if variance != await self._rule(key):
            await self._keep(key, fields.get(NO_VARY_SEARCH) if variance != DEFAULT else None, sequence)
        return _under(variance, key)

    async def _rule(self, key: Key) -> SearchVariance:
        found: Found | object = self._store.peek(_place(key), _NO_FIELDS)
        if found is PENDING:
            found = await self._store.lookup(_place(key), _NO_FIELDS)
        return search_variance(found.meta.fields) if isinstance(found, Entry) else DEFAULT

    async def _keep(self, key: Key, value: str | None, sequence: int) -> None:
        """Write a rule down. A disk that refuses costs a fetch for each spelling of a query, no more."""
        place = _place(key)
        lines = () if value is None else ((b"No-Vary-Search", value.encode("latin-1")),)
        try:
            async with self._store.begin(place, PLAIN) as writer:
                await writer.finish()
                state = State(sequence, self._now())
                await writer.commit(_meta(place, lines, self._now()), state)
        except StoreError:
            pass


def _place(key: Key) -> Key:
    return Key(key.scheme, key.host, key.path, None, (NO_VARY_SEARCH_RULE,))


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


def is_kept_by(entry: Entry, key: Key) -> bool:
    """Tell whether an entry found under a shortened key answers for the whole one: its own rule says so."""
    return entry.key == key or _under(search_variance(entry.meta.fields), key) == entry.key
