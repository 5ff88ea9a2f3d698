"""Other variants of a page that is wanted in a variant of its own: one of them may be just the same.

Knows how the origin is asked which (RFC 9111 §4.1, §4.3.1), and how a variant gets a copy, or a page another
place. Must not know visitors or flights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from msgspec import structs

from isr_proxy.core.entry import Meta
from isr_proxy.core.http import Head, weak_equal
from isr_proxy.core.key import Key, Variant
from isr_proxy.core.purges import Verdict
from isr_proxy.errors import StoreError, Superseded, TooManyVariants
from isr_proxy.store.base import Entry, Store


class Relatives:
    """The variants of one store."""

    def __init__(self, store: Store, verdict: Callable[[Entry], Verdict]) -> None:
        self._store = store
        self._verdict = verdict

    async def of(self, key: Key) -> list[Entry]:
        """Return the variants that may be asked about: not purged, and with an entity tag of the origin's."""
        found = await self._store.variants(key)
        return [each for each in found if b"etag" in each.meta.fields and not self._verdict(each).hidden]

    async def adopt(self, entry: Entry, variant: Variant) -> Entry:
        """Give another variant a copy of this one; where the disk refuses, it is served all the same."""
        meta = structs.replace(entry.meta, vary=variant.headers)
        copy = await self._copied(entry, meta)
        return replace(entry, variant=variant, meta=meta) if copy is None else copy

    async def move(self, entry: Entry, key: Key) -> Entry:
        """Keep a page under another key, which its No-Vary-Search has it under now; else it stays."""
        asked = entry.meta.asked_key.query
        meta = structs.replace(entry.meta, query=key.query, asked=None if asked == key.query else asked)
        moved = await self._copied(entry, meta)
        if moved is None:
            return entry
        with suppress(StoreError):
            await self._store.remove(entry)
        return moved

    async def _copied(self, entry: Entry, meta: Meta) -> Entry | None:
        """Store the same bodies with another meta, at that one's place; None where the disk refuses."""
        try:
            async with self._store.begin(meta.key, meta.variant) as writer:
                async for chunk in entry.bodies.stream("identity"):
                    await writer.write(chunk)
                copies = [(ref.encoding, await _whole(entry, ref.encoding)) for ref in meta.bodies[1:]]
                return await writer.commit(meta, entry.state, copies)
        except (StoreError, TooManyVariants, Superseded):
            return None


async def _whole(entry: Entry, encoding: str) -> bytes:
    return b"".join([chunk async for chunk in entry.bodies.stream(encoding)])


def meant_by(head: Head, entries: Sequence[Entry]) -> Entry | None:
    """Return the variant that a 304 names by its entity tag (RFC 9111 §4.3.4); the only one needs no name."""
    etag = head.fields.first(b"etag")
    if etag is None:
        return entries[0] if len(entries) == 1 else None
    return next((each for each in entries if weak_equal(etag, each.meta.etag)), None)
