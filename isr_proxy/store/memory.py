"""The hot tier: a byte-bounded store in memory, in front of another store.

Knows what it holds and in which order to let it go. Must not know files. Whatever is not here is asked of
the store behind, which alone decides what is true; what changes there is changed or forgotten here.

Two queues make it hard for a crawler to push the popular pages out: an entry begins on probation, and a
second request makes it protected. What is let go first is the oldest on probation.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from isr_proxy.core.entry import Meta, State
from isr_proxy.core.http import Fields
from isr_proxy.core.key import Key, Variant, variant_of
from isr_proxy.core.purges import Purge
from isr_proxy.store.base import Entry, Found, Pending, Store, Writer
from isr_proxy.store.layout import Name, is_variant, key_part, name_of

_MAX_ENTRY_BYTES: Final = 1024 * 1024
_PROTECTED_FRACTION: Final = 0.8
_OVERHEAD_BYTES: Final = 2048  # of the Python objects of one entry, besides what is counted
_LINE_BYTES: Final = 160  # of one field line's
_TOUCH_EVERY: Final = 8  # hits between two notes of serving to the store behind


class Behind(Store, Protocol):
    """A store that tells of every change of its files, in their order."""

    def on_change(self, listener: Callable[[Name, Entry | None], None]) -> None: ...


@dataclass(slots=True)
class _Slot:
    """One held entry."""

    entry: Entry
    size_bytes: int
    hits: int = 0


@dataclass(slots=True)
class _Varying:
    """What a key varies on, and which of its variants are held."""

    names: tuple[str, ...]
    held: set[Name]


class _Read:
    """A look-up behind that is under way; forgotten when its key changes meanwhile."""


class MemoryTier:
    """See store/base.py for the contract. `size_bytes` never exceeds `max_bytes`."""

    def __init__(self, behind: Behind, max_bytes: int) -> None:
        self.size_bytes = 0
        self._behind = behind
        self._max_bytes = max_bytes
        self._protected_bytes = 0
        self._probation: OrderedDict[Name, _Slot] = OrderedDict()
        self._protected: OrderedDict[Name, _Slot] = OrderedDict()
        self._varying: dict[bytes, _Varying] = {}
        self._reads: dict[bytes, _Read] = {}
        self._on_let_go: Callable[[bytes], None] = lambda digest: None
        behind.on_change(self._changed)

    def __len__(self) -> int:
        return len(self._probation) + len(self._protected)

    # --- reading ---

    def peek(self, key: Key, fields: Fields) -> Found | Pending:
        """Answer from memory, else ask the store behind without waiting."""
        name = self._name_for(key, fields)
        slot = self._probation.get(name) or self._protected.get(name)
        if slot is not None and slot.entry.key == key:
            self._hit(name, slot)
            return slot.entry
        found = self._behind.peek(key, fields)
        if isinstance(found, Entry):
            self._admit(found)
        return found

    async def lookup(self, key: Key, fields: Fields) -> Found:
        """Ask the store behind, and keep what it finds, unless that changed meanwhile."""
        read = self._reads.setdefault(key.digest, _Read())
        found = await self._behind.lookup(key, fields)
        if self._reads.get(key.digest) is read:
            del self._reads[key.digest]
            if isinstance(found, Entry):
                self._admit(found)
        return found

    async def known(self, key: Key) -> bool:
        return await self._behind.known(key)

    async def variants(self, key: Key) -> list[Entry]:
        return await self._behind.variants(key)

    async def has_room(self, key: Key, variant: Variant) -> bool:
        return await self._behind.has_room(key, variant)

    def touch(self, entry: Entry) -> None:
        self._behind.touch(entry)

    def _name_for(self, key: Key, fields: Fields) -> Name:
        varying = self._varying.get(key.digest)
        if varying is None:
            return key.digest
        return name_of(key.digest, variant_of(varying.names, fields))

    def _hit(self, name: Name, slot: _Slot) -> None:
        if slot.hits % _TOUCH_EVERY == 0:
            self._behind.touch(slot.entry)
        slot.hits += 1
        if name in self._protected:
            self._protected.move_to_end(name)
        else:
            self._protect(name)

    # --- what answers are made of ---

    def on_let_go(self, listener: Callable[[bytes], None]) -> None:
        """Tell of every key, by its digest, of which an entry changed or is not held any more."""
        self._on_let_go = listener

    def again(self, entry: Entry) -> bool:
        """Note that an entry was served again; False when it is not held any more."""
        name = name_of(entry.key.digest, entry.variant)
        slot = self._probation.get(name) or self._protected.get(name)
        if slot is None or slot.entry is not entry:
            return False
        self._hit(name, slot)
        return True

    def charge(self, entry: Entry, size_bytes: int) -> None:
        """Weigh an entry so much heavier, or lighter, as long as it is held."""
        name = name_of(entry.key.digest, entry.variant)
        slot = self._probation.get(name) or self._protected.get(name)
        if slot is not None and slot.entry is entry:
            self._resize(name, slot, replace(slot, size_bytes=slot.size_bytes + size_bytes))

    # --- writing: done behind, heard of through _changed in the order it was done ---

    def begin(self, key: Key, variant: Variant) -> Writer:
        return self._behind.begin(key, variant)

    async def update(self, entry: Entry, state: State) -> Entry:
        return await self._behind.update(entry, state)

    async def rewrite(self, entry: Entry, meta: Meta, state: State) -> Entry:
        return await self._behind.rewrite(entry, meta, state)

    async def remove(self, entry: Entry) -> None:
        await self._behind.remove(entry)

    async def sweep(self, purge: Purge) -> int:
        return await self._behind.sweep(purge)

    def _changed(self, name: Name, entry: Entry | None) -> None:
        """Hold what lies behind from now on; None: nothing does, or it must be looked at again."""
        self._reads.pop(key_part(name), None)
        slot = self._probation.get(name) or self._protected.get(name)
        weight = _weight(entry) if entry is not None else None
        if slot is not None and entry is not None and weight is not None:
            self._resize(name, slot, replace(slot, entry=entry, size_bytes=weight))
            self._on_let_go(key_part(name))
            return
        self.forget(name)
        if entry is not None:
            self._admit(entry)

    # --- what is held ---

    def _admit(self, entry: Entry) -> None:
        weight = _weight(entry)
        name = name_of(entry.key.digest, entry.variant)
        self.forget(name)
        if weight is None or weight > self._max_bytes:
            return
        if entry.variant.headers:
            self._vary(entry).held.add(name)
        self._probation[name] = _Slot(entry, weight)
        self.size_bytes += weight
        self._shrink()

    def _resize(self, name: Name, old: _Slot, new: _Slot) -> None:
        growth = new.size_bytes - old.size_bytes
        self.size_bytes += growth
        if name in self._protected:
            self._protected[name] = new
            self._protected_bytes += growth
        else:
            self._probation[name] = new
        self._shrink()

    def _protect(self, name: Name) -> None:
        slot = self._probation.pop(name)
        self._protected[name] = slot
        self._protected_bytes += slot.size_bytes
        while self._protected_bytes > self._max_bytes * _PROTECTED_FRACTION and len(self._protected) > 1:
            oldest, demoted = self._protected.popitem(last=False)
            self._protected_bytes -= demoted.size_bytes
            self._probation[oldest] = demoted

    def _shrink(self) -> None:
        while self.size_bytes > self._max_bytes:
            queue = self._probation or self._protected
            self.forget(next(iter(queue)))

    def forget(self, name: Name) -> None:
        """Let an entry go, and every look-up of its key that is under way."""
        digest = key_part(name)
        self._reads.pop(digest, None)
        slot = self._probation.pop(name, None)
        if slot is None:
            slot = self._protected.pop(name, None)
            self._protected_bytes -= slot.size_bytes if slot is not None else 0
        if slot is None:
            return
        self.size_bytes -= slot.size_bytes
        if is_variant(name):
            self._forget_variant(digest, name)
        self._on_let_go(digest)

    def _forget_variant(self, digest: bytes, name: Name) -> None:
        varying = self._varying[digest]
        varying.held.discard(name)
        if not varying.held:
            del self._varying[digest]

    def _vary(self, entry: Entry) -> _Varying:
        """Return what the entry's key varies on, forgetting variants by other names."""
        digest = entry.key.digest
        varying = self._varying.get(digest)
        if varying is not None and varying.names != entry.variant.names:
            for name in list(varying.held):
                self.forget(name)
            varying = None
        if varying is None:
            varying = self._varying[digest] = _Varying(entry.variant.names, set())
        return varying

    async def aclose(self) -> None:
        await self._behind.aclose()


def _weight(entry: Entry) -> int | None:
    """Return what holding an entry takes in memory; None for one that is not held."""
    weight = _OVERHEAD_BYTES
    for ref in entry.meta.bodies:
        if entry.bodies.resident(ref.encoding) is None:
            return None
        weight += ref.size
    if weight > _MAX_ENTRY_BYTES + _OVERHEAD_BYTES:
        return None
    weight += sum(_LINE_BYTES + len(name) + len(value) for name, value in entry.meta.lines)
    return weight + sum(_LINE_BYTES + len(tag) for tag in entry.meta.tags)
