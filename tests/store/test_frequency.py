"""The sketch never forgets but by halving, and is mostly right about who is asked for more."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.store.frequency import MOST, Frequencies

names = st.lists(st.binary(min_size=1, max_size=3), max_size=200)


@given(names)
def test_an_estimate_is_never_too_low(asked: list[bytes]) -> None:
    sketch = Frequencies(256)
    for name in asked:
        assert sketch.add(name) >= 1
    assert all(sketch.estimate(name) >= min(count, MOST) for name, count in Counter(asked).items())


@given(names)
def test_where_there_is_room_it_is_exact(asked: list[bytes]) -> None:
    sketch = Frequencies(1 << 16)
    for name in asked:
        sketch.add(name)
    counts = Counter(asked)
    wrong = [name for name, count in counts.items() if sketch.estimate(name) != count]
    assert len(wrong) <= 1  # by chance, once in a long while
    assert sketch.estimate(b"never asked for") <= 1


def test_halving_halves() -> None:
    sketch = Frequencies(1024)
    for _ in range(9):
        sketch.add(b"name")
    seen = []
    while count := sketch.estimate(b"name"):
        seen.append(count)
        sketch.halve()
    assert seen == [9, 4, 2, 1]


def test_law_8_counts_end_somewhere() -> None:
    sketch = Frequencies(1024)
    assert [sketch.add(b"name") for _ in range(MOST + 5)][-3:] == [MOST] * 3


@pytest.mark.parametrize(("width", "size"), [(0, 8), (1, 8), (64, 256), (65, 512), (32768, 131072)])
def test_law_8_its_size_is_given(width: int, size: int) -> None:
    sketch = Frequencies(width)
    assert sketch.size_bytes == size
    for number in range(1000):
        sketch.add(b"%d" % number)
    assert sketch.size_bytes == size == sum(map(len, sketch._rows))


def test_it_halves_by_itself_before_it_is_full() -> None:
    sketch = Frequencies(64)
    for number in range(64):
        sketch.add(b"name" if number < 20 else b"%d" % number)
    assert 10 <= sketch.estimate(b"name") < 20


def test_a_crowd_of_strangers_does_not_look_popular() -> None:
    sketch, random = Frequencies(4096), Random(1)
    for number in range(8000):
        sketch.add(b"stranger%d" % number)
    for name in random.choices([b"a", b"b", b"c"], k=60):
        sketch.add(name)
    strangers = [sketch.estimate(b"stranger%d" % number) for number in range(8000)]
    assert sum(strangers) / len(strangers) < 3
    assert min(sketch.estimate(name) for name in (b"a", b"b", b"c")) > 10
