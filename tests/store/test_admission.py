"""What the hot tier holds on to: popular pages, whoever crawls through the rest."""

from __future__ import annotations

import itertools
from bisect import bisect
from collections import OrderedDict
from collections.abc import Callable, Iterator
from random import Random
from typing import cast

import msgspec
import pytest

from isr_proxy.core.entry import BodyRef, State
from isr_proxy.core.http import Fields
from isr_proxy.core.key import PLAIN, Key
from isr_proxy.core.settings import KIB
from isr_proxy.store.base import Entry
from isr_proxy.store.company import Alone
from isr_proxy.store.layout import Name
from isr_proxy.store.memory import Behind, MemoryTier
from isr_proxy.store.opened import FileId, ResidentBodies
from tests.store.conftest import NOTHING, key, meta

PAGES = 4000
HELD = 200
REQUESTS = 20_000
WARM = REQUESTS // 3
BODY = bytes(4 * KIB)
WEIGHT = 6302  # of one such page

Traffic = Iterator[tuple[Key, bool]]  # (what is asked for, whether it counts)


class Everything:
    """A store that has every page, each of one size."""

    def __init__(self) -> None:
        self.company = Alone()
        self.asked = 0
        self.company = Alone()
        self.sizes: dict[Name, int] = {}

    def peek(self, key: Key, fields: Fields) -> Entry:
        self.asked += 1
        body = bytes(self.sizes.get(key.digest, len(BODY)))
        refs = (BodyRef("identity", 320, len(body), b""),)
        stored = msgspec.structs.replace(meta(key), bodies=refs)
        bodies = ResidentBodies({"identity": body}, FileId(1, b""))
        return Entry(key, PLAIN, stored, State(1, 1.0), bodies)

    def touch(self, entry: Entry) -> None:
        pass

    def on_change(self, listener: Callable[[Name, Entry | None], None]) -> None:
        pass


class SegmentedLru:
    """What the tier would be without a look at frequency: it takes in whatever is asked for."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._probation: OrderedDict[Key, None] = OrderedDict()
        self._protected: OrderedDict[Key, None] = OrderedDict()

    def ask(self, key: Key) -> bool:
        is_held = key in self._probation or key in self._protected
        self._probation.pop(key, None)
        self._protected.pop(key, None)
        (self._protected if is_held else self._probation)[key] = None
        while len(self._protected) > 0.8 * self._room:
            self._probation[self._protected.popitem(last=False)[0]] = None
        while len(self._probation) + len(self._protected) > self._room:
            (self._probation or self._protected).popitem(last=False)
        return is_held


def tier_over(store: Everything) -> MemoryTier:
    return MemoryTier(cast(Behind, store), HELD * WEIGHT)


def hit_ratio(ask: Callable[[Key], bool], traffic: Traffic) -> float:
    """Return how many of the requests that count were answered from memory."""
    hits = [ask(asked) for asked, counts in traffic if counts or ask(asked) is None]
    return sum(hits) / len(hits)


def of_tier() -> Callable[[Key], bool]:
    store = Everything()
    tier = tier_over(store)

    def ask(asked: Key) -> bool:
        before = store.asked
        tier.peek(asked, NOTHING)
        assert tier.size_bytes <= HELD * WEIGHT
        return store.asked == before

    return ask


def zipf(random: Random, prefix: str = "") -> Iterator[Key]:
    """Ask for pages as often as their rank says, Zipf's law with exponent 1."""
    pages = [key(f"/{prefix}{number}") for number in range(PAGES)]
    weights = list(itertools.accumulate(1 / rank for rank in range(1, PAGES + 1)))
    while True:
        yield pages[bisect(weights, random.random() * weights[-1])]


def visitors(scan: float) -> Traffic:
    """Yield visitors' requests, and a crawler's between them: this part of all, each page once."""
    random = Random(7)
    popular = zipf(random)
    for number in range(REQUESTS):
        yield next(popular), number > WARM
        while random.random() < scan:
            yield key(f"/cold/{random.getrandbits(64)}"), False


def after_a_change() -> Traffic:
    """Yield requests for one site, then for another, of which the last half counts."""
    random = Random(7)
    old, new = zipf(random), zipf(random, "new/")
    yield from ((next(old), False) for _ in range(REQUESTS // 2))
    yield from ((next(new), number > REQUESTS // 2) for number in range(REQUESTS))


@pytest.mark.parametrize(("scan", "loss"), [(0.5, 0.015), (0.8, 0.03)])
def test_law_8_a_scan_costs_the_popular_pages_little(scan: float, loss: float) -> None:
    undisturbed = hit_ratio(of_tier(), visitors(0.0))
    scanned = hit_ratio(of_tier(), visitors(scan))
    assert scanned > undisturbed - loss
    assert scanned > hit_ratio(SegmentedLru(HELD).ask, visitors(scan))


def test_without_a_scan_it_is_better_than_recency_alone() -> None:
    assert hit_ratio(of_tier(), visitors(0.0)) > hit_ratio(SegmentedLru(HELD).ask, visitors(0.0))


def test_a_change_of_what_is_popular_is_followed() -> None:
    assert hit_ratio(of_tier(), after_a_change()) > hit_ratio(of_tier(), visitors(0.0)) - 0.03


def test_a_million_cold_pages_push_out_nobody() -> None:
    """A fiftieth of a million here, at night: none comes in, so more of them change nothing."""
    store = Everything()
    tier = tier_over(store)
    popular = [key(f"/{number}") for number in range(HELD - 10)]
    held = [tier.peek(page, NOTHING) for page in popular * 20][-len(popular) :]
    for number in range(20_000):
        tier.peek(key(f"/cold/{number}"), NOTHING)
    lost = [page for page, entry in zip(popular, held, strict=True) if tier.peek(page, NOTHING) is not entry]
    assert len(lost) <= HELD // 50


def test_a_large_page_must_be_worth_all_that_it_pushes_out() -> None:
    store = Everything()
    tier = tier_over(store)
    large = key("/large")
    store.sizes[large.digest] = 20 * WEIGHT
    for number in range(2 * HELD):
        tier.peek(key(f"/{number}"), NOTHING)
    before = len(tier)
    for _ in range(3):
        tier.peek(large, NOTHING)
    assert len(tier) == before
    for _ in range(60):
        tier.peek(large, NOTHING)
    assert len(tier) < before
    asked = store.asked
    tier.peek(large, NOTHING)
    assert store.asked == asked
