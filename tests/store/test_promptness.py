"""A small page is written by the loop itself, as long as the disk does not make it wait."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest

from isr_proxy.core.entry import State
from isr_proxy.core.key import PLAIN
from isr_proxy.core.settings import StoreSettings
from isr_proxy.store.disk import DiskStore
from isr_proxy.store.promptness import SLOW_SECONDS, SMALL_BYTES, Promptness
from isr_proxy.store.shelf import Placed, Shelf
from tests.store.conftest import Clock, key, meta


class Stopwatch:
    """A clock that every write moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def writing(self, promptness: Promptness, seconds: float) -> None:
        def write() -> None:
            self.now += seconds

        promptness.run(write)


def test_what_syncs_is_never_prompt() -> None:
    assert not Promptness(fsync=True).is_prompt(1)


def test_only_small_pages_are() -> None:
    promptness = Promptness(fsync=False)
    assert promptness.is_prompt(SMALL_BYTES)
    assert not promptness.is_prompt(SMALL_BYTES + 1)


def test_a_slow_disk_is_left_to_threads_for_a_while() -> None:
    watch = Stopwatch()
    promptness = Promptness(fsync=False, clock=watch)
    watch.writing(promptness, SLOW_SECONDS / 2)
    assert promptness.is_prompt(1)
    watch.writing(promptness, 0.5)
    assert not promptness.is_prompt(1)
    watch.now += 5.1
    assert promptness.is_prompt(1)


@pytest.mark.parametrize(("slow", "rest"), [(1, 5.0), (2, 10.0), (3, 20.0), (20, 0.5 * 10 * 2**8)])
def test_one_that_stays_slow_is_tried_ever_less(slow: int, rest: float) -> None:
    watch = Stopwatch()
    promptness = Promptness(fsync=False, clock=watch)
    for _ in range(slow):
        watch.writing(promptness, 0.5)
    watch.now += rest - 0.1
    assert not promptness.is_prompt(1)
    watch.now += 0.2
    assert promptness.is_prompt(1)


def test_a_quick_write_is_forgiven_all() -> None:
    watch = Stopwatch()
    promptness = Promptness(fsync=False, clock=watch)
    for seconds in (0.5, 0.5, 0.0, 0.5):
        watch.writing(promptness, seconds)
    watch.now += 5.1
    assert promptness.is_prompt(1)


def test_a_write_that_fails_slowly_counts_too() -> None:
    watch = Stopwatch()
    promptness = Promptness(fsync=False, clock=watch)

    def write() -> None:
        watch.now += 0.5
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        promptness.run(write)
    assert not promptness.is_prompt(1)


@pytest.mark.parametrize(
    ("fsync", "size_bytes", "is_in_loop"),
    [(False, 1000, True), (False, SMALL_BYTES + 1, False), (True, 1000, False)],
)
async def test_who_writes(
    settings: StoreSettings,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    fsync: bool,
    size_bytes: int,
    is_in_loop: bool,
) -> None:
    threads: list[threading.Thread] = []
    place = Shelf.place

    def placing(self: Shelf, *what: Any, **how: Any) -> Placed:
        threads.append(threading.current_thread())
        return place(self, *what, **how)

    monkeypatch.setattr(Shelf, "place", placing)
    monkeypatch.setattr("isr_proxy.store.promptness.SLOW_SECONDS", 60.0)  # whatever else this machine does
    store = DiskStore.open(replace(settings, fsync=fsync), now=clock)
    async with store.begin(key(), PLAIN) as writer:
        await writer.write(b"x" * size_bytes)
        await writer.commit(meta(key()), State(1, 1.0))
    assert [thread is threading.main_thread() for thread in threads] == [is_in_loop]
    await store.aclose()
