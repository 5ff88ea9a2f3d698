"""A stored page changes without a new body: after a 304, an answer to HEAD, or a failure.

Knows what of the meta and the state changes, and that a younger fetch wins. Must not know how the origin was
asked, or what a visitor is told.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from msgspec import structs

from isr_proxy.coord.base import PurgeLog
from isr_proxy.core.admission import on_failure
from isr_proxy.core.decision import Failed, Freshen, Lend
from isr_proxy.core.entry import Meta, State
from isr_proxy.core.freshness import lifetime
from isr_proxy.core.http import NO_FIELDS, Fields, Line
from isr_proxy.core.key import Key, Variant
from isr_proxy.core.settings import Route
from isr_proxy.core.variants import dated_at
from isr_proxy.errors import StoreError
from isr_proxy.store.base import Entry, Store, look

_CHANGES_EVERY_TIME: Final = frozenset({b"date", b"expires", b"x-request-id", b"server-timing"})


class Freshening:
    """Writes down what was learned of stored pages. `sequence` is the purge log's, seen before the fetch."""

    def __init__(self, store: Store, purges: PurgeLog, now: Callable[[], float]) -> None:
        self._store = store
        self._purges = purges
        self._now = now

    async def freshen(self, stored: Entry, freshen: Freshen, sequence: int) -> Entry:
        """Take in what the origin says of a page that is still right; returns it as it is now."""
        state = State(sequence, freshen.answered_at, freshen.initial_age)
        return await self.keep(stored, replace_lines(stored.meta, freshen), state)

    async def lend(self, stored: Entry, lend: Lend, sequence: int) -> Entry:
        """Return a stored page as one visitor may have it; what is stored stays as it is, or goes (law 4)."""
        freshen = lend.freshen
        if not lend.may_stay:
            with suppress(StoreError):  # it stays, to be validated each time, until the disk lets go of it
                await self._store.remove(stored)
        state = State(sequence, freshen.answered_at, freshen.initial_age, count=stored.state.count + 1)
        return with_own(replace(stored, meta=replace_lines(stored.meta, freshen), state=state), freshen.own)

    async def keep(self, stored: Entry, meta: Meta, fetched: State) -> Entry:
        """Freshen a stored page: its state, and its meta only where that says something new."""
        state = replace(fetched, count=stored.state.count + 1)
        if await self._is_overtaken(stored.key, stored.variant, fetched.sequence):
            return replace(stored, state=state)
        if says_the_same(meta, stored.meta):
            return await self._store.update(stored, state)
        return await self._store.rewrite(stored, meta, state)

    async def note_failure(self, stored: Entry, route: Route, failed: Failed, sequence: int) -> None:
        """Law 1: whatever is stored stays; only the time to try again is noted."""
        if await self._is_overtaken(stored.key, stored.variant, sequence):
            return
        ttl = lifetime(stored.meta, route).ttl
        state = on_failure(stored.state, failed, ttl, self._now(), random.random())
        await self._store.update(stored, state)

    async def note_stale(self, stored: Entry, sequence: int) -> None:
        """Note that a page is not what the origin has now (RFC 9111 §4.3.5)."""
        if not await self._is_overtaken(stored.key, stored.variant, sequence):
            state = replace(stored.state, stale_at=min(stored.state.stale_at, self._now()))
            await self._store.update(stored, replace(state, count=state.count + 1))

    async def is_older(self, stored: Entry | None, key: Key, meta: Meta, state: State) -> bool:
        """Tell whether a newer answer was stored while this one came: it counts (RFC 9111 §4).

        Only then are dates compared: an origin whose clock went back is believed all the same.
        """
        found = await look(self._store, key, variant_fields(meta.variant))
        if not isinstance(found, Entry) or found.variant != meta.variant:
            return False
        is_new = stored is None or found.state.fetched_at != stored.state.fetched_at
        return is_new and dated_at(found.meta, found.state) > dated_at(meta, state)

    async def _is_overtaken(self, key: Key, variant: Variant, sequence: int) -> bool:
        """Tell whether a fetch that began after a later purge has stored its page: the younger wins."""
        if self._purges.index.sequence <= sequence:
            return False
        found = await look(self._store, key, variant_fields(variant))
        return isinstance(found, Entry) and found.state.sequence > sequence


def replace_lines(meta: Meta, freshen: Freshen) -> Meta:
    """Take what a validation says into a meta (RFC 9111 §3.2)."""
    merged = Fields(freshen.lines)
    return structs.replace(
        meta,
        lines=freshen.lines,
        tags=freshen.tags,
        origin_times=freshen.origin_times,
        etag=merged.first(b"etag") or meta.etag,
        last_modified=merged.first(b"last-modified"),
    )


def with_own(entry: Entry, own: tuple[Line, ...]) -> Entry:
    """Return a page as whoever asked for it gets it: with the lines that are his."""
    if not own:
        return entry
    names = frozenset(name.lower() for name, _ in own)
    lines = entry.meta.fields.without(names).plus(*own).lines
    return replace(entry, meta=structs.replace(entry.meta, lines=lines))


def says_the_same(one: Meta, other: Meta) -> bool:
    """Tell whether two metas differ in nothing worth writing."""
    same_lines = one.fields.without(_CHANGES_EVERY_TIME) == other.fields.without(_CHANGES_EVERY_TIME)
    return same_lines and one.tags == other.tags and one.origin_times == other.origin_times


def variant_fields(variant: Variant) -> Fields:
    """Return the request's fields that a variant stands for."""
    if not variant.headers:
        return NO_FIELDS
    return Fields(
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in variant.headers
        if value is not None
    )
