"""The hot tier: a byte-bounded store in memory, in front of another store.

Knows what it holds, how often it is asked for, and in which order to let it go. Must not know files. Whatever
is not here is asked of the store behind, which alone decides what is true; what changes there is changed or
forgotten here.

Two queues say what would be let go first: an entry begins on probation, a hit makes it protected, and the
oldest on probation is next. Whether it does go is a question of frequency: who would come in must have been
asked for more often, lately, than all together that it would push out. So a crawler that asks for a million
pages once pushes out nobody (the admission of TinyLFU). Requests for what is held are counted beside it, all
others in a sketch (frequency.py); both are halved now and then, so that yesterday's popular pages give way.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final, Protocol

from isr_proxy.core.entry import Meta, State
from isr_proxy.core.http import Fields
from isr_proxy.core.key import Key, Variant, variant_of
from isr_proxy.core.purges import Purge
from isr_proxy.errors import StoreError
from isr_proxy.store.base import Entry, Found, Pending, Store, Writer
from isr_proxy.store.company import Company
from isr_proxy.store.frequency import MOST, Frequencies
from isr_proxy.store.layout import Name, is_variant, key_part, name_of
from isr_proxy.store.slices import FileSlice

_MAX_WEIGHT: Final = (1024 + 64) * 1024  # of one entry: a body of 1 MiB, and all that it may have of head
_PROTECTED_FRACTION: Final = 0.8
_ROOMY_FRACTION: Final = 0.75
_BESIDE_DIVISOR: Final = 2  # of the tier
_BESIDE_NOTHING: Final = 8 * 1024 * 1024  # where there is no tier
_TOUCH_EVERY: Final = 8  # hits between two notes of serving to the store behind
_BYTES_A_COUNTER: Final = 256  # of the tier, for each counter in a row of the sketch, which takes 1.6 % of it
_MAX_COUNTERS: Final = 1024 * 1024
_PERIOD: Final = 10  # requests for each entry that is held, between two halvings
_MIN_PERIOD: Final = 1000

# What holding takes besides texts and bodies, of 64-bit CPython, measured (tests/store/test_weight.py).
_ENTRY_BYTES: Final = 1700
_BODY_BYTES: Final = 270
_LINE_BYTES: Final = 136
_TAG_BYTES: Final = 72


class Behind(Store, Protocol):
    """A store that tells of every change of its files, in their order."""

    def slice_of(self, entry: Entry, encoding: str | None) -> FileSlice | None:
        """Return where a body of an entry lies; see slices.py."""

    @property
    def company(self) -> Company:
        """The other processes that change files there: what they do changes the stamp of its key."""

    def on_change(self, listener: Callable[[Name, Entry | None], None]) -> None: ...


@dataclass(slots=True)
class _Slot:
    """One held entry."""

    entry: Entry
    size_bytes: int
    hits: int  # halved at the end of each period; looked at seldom, so that is made up for then
    period: int
    place: int  # of its key's stamp
    stamp: int  # while it is the same, no other process has changed what lies behind


@dataclass(slots=True)
class _Varying:
    """What a key varies on, and which of its variants are held."""

    names: tuple[str, ...]
    held: set[Name]


class _Read:
    """A look-up behind that is under way; forgotten when its key changes meanwhile."""


class MemoryTier:
    """See store/base.py for the contract. `size_bytes` never exceeds `max_bytes`; 0 turns it off."""

    def __init__(self, behind: Behind, max_bytes: int) -> None:
        self.size_bytes = 0
        self._behind = behind
        self._asked = Frequencies(min(max_bytes // _BYTES_A_COUNTER, _MAX_COUNTERS))
        self._max_bytes = self._all_bytes = max(0, max_bytes - self._asked.size_bytes)
        self._is_on = max_bytes > 0
        self._beside_bytes = 0  # are not ours to fill
        self._requests = 0  # in this period
        self._period = 0
        self._protected_bytes = 0
        self._probation: OrderedDict[Name, _Slot] = OrderedDict()
        self._protected: OrderedDict[Name, _Slot] = OrderedDict()
        self._varying: dict[bytes, _Varying] = {}
        self._reads: dict[bytes, _Read] = {}
        self.place = behind.company.place  # which stamp a key has
        self.stamps = behind.company.stamps  # what was made of an entry is true while its stamp is the same
        self._loading: asyncio.Task[None] | None = None
        self._listeners: list[Callable[[Name], None]] = []
        if self._all_bytes:
            behind.on_change(self._changed)

    def __len__(self) -> int:
        return len(self._probation) + len(self._protected)

    def on_change(self, listener: Callable[[Name], None]) -> None:
        """Have a listener told, at once and in order, which held entry is not the one to serve any more.

        It was replaced, changed, removed or let go. While `holds` is true of an entry and its name was not
        told since, it is what the store has. A listener calls nothing of the tier but `charge` and `reserve`,
        to lighten.
        """
        self._listeners.append(listener)

    def on_change_behind(self, listener: Callable[[Name], None]) -> None:
        """Have a listener told, at once and in order, which file is not the same any more."""
        self._behind.on_change(lambda name, _: listener(name))

    # --- reading ---

    def peek(self, key: Key, fields: Fields) -> Found | Pending:
        """Answer from memory, else ask the store behind without waiting."""
        if not self._all_bytes:
            return self._behind.peek(key, fields)
        name = self._name_for(key, fields) if self._varying else key.digest
        slot = self._protected.get(name) or self._probation.get(name)
        if slot is not None and slot.stamp != self.stamps[slot.place]:
            self.forget(name)
        elif slot is not None and slot.entry.key == key:
            self._hit(name, slot)
            return slot.entry
        stamp = self._stamp(key.digest)  # before it is read: what changes from now on is noticed
        found = self._behind.peek(key, fields)
        if isinstance(found, Entry):
            self._offer(found, stamp)
        return found

    async def lookup(self, key: Key, fields: Fields) -> Found:
        """Ask the store behind, and keep what it finds, unless that changed meanwhile."""
        read = self._reads.setdefault(key.digest, _Read())
        stamp = self._stamp(key.digest)
        found = await self._behind.lookup(key, fields)
        if self._is_still(key.digest, read) and isinstance(found, Entry):
            self._offer(found, stamp)
        return found

    def _stamp(self, digest: bytes) -> int:
        return self.stamps[self.place(digest)]

    def _is_still(self, digest: bytes, read: _Read) -> bool:
        """Tell, once, whether nothing of a key has changed since a look-up began."""
        if self._reads.get(digest) is not read:
            return False
        del self._reads[digest]
        return True

    def credit(self, entry: Entry, hits: int) -> bool:
        """Count hits of an entry that were served without a `peek`; True: it would be held by now."""
        name = name_of(entry.key.digest, entry.variant)
        slot = self._slot(name)
        if hits > 0:
            self._behind.touch(entry)
        if slot is None:
            return bool(self._all_bytes) and self._would_admit(name, entry, hits)
        if slot.entry is not entry:
            return True
        if hits > 0:
            slot.hits += hits - 1
            self._requests += hits - 1
            self._hit(name, slot)
        return False

    def _would_admit(self, name: Name, entry: Entry, hits: int) -> bool:
        for _ in range(min(hits, MOST)):
            self._asked.add(name)
        return self._victims(_weight(entry), self._asked.estimate(name)) is not None

    @property
    def beside_bytes(self) -> int:
        """Return how much may be kept beside the tier, of pages that it does not hold."""
        return self._all_bytes // _BESIDE_DIVISOR if self._is_on else _BESIDE_NOTHING

    def reserve(self, size_bytes: int) -> None:
        """Leave so much less room, or more, to what is held: it is taken beside the tier."""
        self._beside_bytes += size_bytes
        self._max_bytes = max(0, self._all_bytes - self._beside_bytes)
        self._shrink()

    def slice_of(self, entry: Entry, encoding: str | None) -> FileSlice | None:
        return self._behind.slice_of(entry, encoding)

    def charge(self, entry: Entry, size_bytes: int) -> None:
        """Weigh an entry so much heavier, or lighter, as long as it is held: what is kept beside it."""
        name = name_of(entry.key.digest, entry.variant)
        slot = self._slot(name)
        if slot is None or slot.entry is not entry:
            return
        slot.size_bytes += size_bytes
        self.size_bytes += size_bytes
        self._protected_bytes += size_bytes if name in self._protected else 0
        self._shrink()

    @property
    def is_roomy(self) -> bool:
        """Tell whether nothing need go for what is charged: a good part of the tier is empty."""
        return not self._is_on or self.size_bytes < self._max_bytes * _ROOMY_FRACTION

    def holds(self, entry: Entry) -> bool:
        """Tell whether this very object is held."""
        return self.mark(entry) is not None

    def mark(self, entry: Entry) -> tuple[int, int] | None:
        """Return which stamp an entry's key has and what it was, None when this very object is not held."""
        slot = self._slot(name_of(entry.key.digest, entry.variant))
        if slot is None or slot.entry is not entry or slot.stamp != self.stamps[slot.place]:
            return None
        return slot.place, slot.stamp

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

    def _slot(self, name: Name) -> _Slot | None:
        return self._protected.get(name) or self._probation.get(name)

    def _hit(self, name: Name, slot: _Slot) -> None:
        if slot.hits % _TOUCH_EVERY == 0:
            self._behind.touch(slot.entry)
        slot.hits += 1
        self._requests += 1
        if name in self._protected:
            self._protected.move_to_end(name)
        else:
            self._protect(name)

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
        self._take(name, entry, self._stamp(key_part(name)))

    def _take(self, name: Name, entry: Entry | None, stamp: int) -> None:
        if self._slot(name) is not None:
            if entry is not None and _is_resident(entry):
                self._replace(name, entry, stamp)
                return
            self.forget(name)
        if entry is not None:
            self._offer(entry, stamp)

    # --- what is held ---

    def _offer(self, entry: Entry, stamp: int) -> None:
        """Hold what was found or stored behind, if it is asked for more than what it would push out."""
        name = name_of(entry.key.digest, entry.variant)
        if (slot := self._slot(name)) is not None:
            if (slot.entry.state, slot.entry.meta) == (entry.state, entry.meta):
                slot.stamp = stamp
                return
            self._reads.pop(key_part(name), None)
            self._take(name, entry, stamp)
            return
        asked = self._asked.add(name)
        if asked > 1:  # a crawler asks once, and makes nobody older
            self._requests += 1
        if self._requests > max(_MIN_PERIOD, _PERIOD * len(self)):
            self._end_period()
        if _is_resident(entry):
            self._admit(name, entry, asked, stamp)
        elif asked > 1 and self._loading is None and self._victims(_weight(entry), asked) is not None:
            read = self._reads.setdefault(key_part(name), _Read())  # it may change before the task begins
            self._loading = asyncio.get_running_loop().create_task(self._load(name, entry, read, stamp))

    async def _load(self, name: Name, entry: Entry, read: _Read, stamp: int) -> None:
        """Read the bodies of a page that is asked for again, and hold it unless it changed meanwhile."""
        try:
            bodies = await entry.bodies.load()
        except StoreError:
            return  # whoever is sent it finds out too
        finally:
            self._loading = None
        if self._is_still(key_part(name), read):
            self._admit(name, replace(entry, bodies=bodies), self._asked.estimate(name), stamp)

    def _admit(self, name: Name, entry: Entry, asked: int, stamp: int) -> None:
        weight = _weight(entry)
        victims = self._victims(weight, asked)
        if victims is None:
            return
        for victim in victims:
            self.forget(victim)
        if entry.variant.headers:
            self._vary(entry).held.add(name)
        elif (varying := self._varying.get(name)) is not None:  # not any more
            for variant in list(varying.held):
                self.forget(variant)
        self._probation[name] = _Slot(entry, weight, asked, self._period, self.place(entry.key.digest), stamp)
        self.size_bytes += weight

    def _victims(self, weight: int, asked: int) -> list[Name] | None:
        """Choose who goes for an entry asked for so often; None when they are worth more than it."""
        missing = self.size_bytes + weight - self._max_bytes
        victims: list[Name] = []
        if weight > min(self._max_bytes, _MAX_WEIGHT):
            return None
        if missing <= 0:
            return victims
        for name, slot in chain(self._probation.items(), self._protected.items()):
            if missing <= 0:
                break
            asked -= self._hits(slot)
            if asked <= 0:
                return None
            victims.append(name)
            missing -= slot.size_bytes
        return victims

    def _hits(self, slot: _Slot) -> int:
        """Return how often an entry was asked for lately, on the scale of the sketch."""
        slot.hits >>= self._period - slot.period
        slot.period = self._period
        return min(slot.hits, MOST)

    def _end_period(self) -> None:
        self._requests = 0
        self._period += 1
        self._asked.halve()

    def _replace(self, name: Name, entry: Entry, stamp: int) -> None:
        """Put an entry in the place of the held one, which was asked for just as often."""
        slot, weight = self._slot(name), _weight(entry)
        assert slot is not None, "only what is held is replaced"
        growth = weight - slot.size_bytes
        self.size_bytes += growth
        self._protected_bytes += growth if name in self._protected else 0
        slot.entry, slot.size_bytes, slot.stamp = entry, weight, stamp
        self._tell(name)
        if weight > _MAX_WEIGHT:
            self.forget(name)
        self._shrink()

    def _shrink(self) -> None:
        while self.size_bytes > self._max_bytes:
            self.forget(next(iter(self._probation or self._protected)))

    def _tell(self, name: Name) -> None:
        for listener in self._listeners:
            listener(name)

    def _protect(self, name: Name) -> None:
        slot = self._probation.pop(name)
        self._protected[name] = slot
        self._protected_bytes += slot.size_bytes
        while self._protected_bytes > self._max_bytes * _PROTECTED_FRACTION and len(self._protected) > 1:
            oldest, demoted = self._protected.popitem(last=False)
            self._protected_bytes -= demoted.size_bytes
            self._probation[oldest] = demoted

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
        self._tell(name)

    def clear(self) -> None:
        """Let everything go: somebody may have changed it who could not say so any more."""
        self._reads.clear()
        for name in [*self._probation, *self._protected]:
            self.forget(name)

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
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.gather(self._loading, return_exceptions=True)
        await self._behind.aclose()


def _is_resident(entry: Entry) -> bool:
    return all(entry.bodies.resident(ref.encoding) is not None for ref in entry.meta.bodies)


def _weight(entry: Entry) -> int:
    """Return what holding an entry takes in memory."""
    meta = entry.meta
    weight = _ENTRY_BYTES + sum(_BODY_BYTES + ref.size for ref in meta.bodies)
    weight += sum(_LINE_BYTES + len(name) + len(value) for name, value in meta.lines)
    return weight + sum(_TAG_BYTES + len(tag) for tag in meta.tags)
