"""A crowd: which of many pages each visitor wants, and with which head he asks.

Knows Zipf's law and a seed. Must not know who answers.
"""

from __future__ import annotations

from itertools import accumulate
from random import Random
from typing import Final

from bench.heads import BROWSERS, chrome

_SEED: Final = 20_26


def paths(count: int) -> list[str]:
    """Return the crowd's pages, the most wanted first; their numbers say nothing of that."""
    numbers = list(range(count))
    Random(_SEED).shuffle(numbers)
    return [f"/crowd/{number}" for number in numbers]


def heads(count: int) -> list[bytes]:
    """Return one head for each page, the most wanted first: pages differ, and so do browsers."""
    random = Random(_SEED + 1)
    return [chrome(path, random.randrange(BROWSERS)) for path in paths(count)]


def draws(count: int, size: int, exponent: float = 1.0) -> list[int]:
    """Return `size` draws of a rank below `count`, rank r with a weight of 1 / (r + 1) ** exponent."""
    weights = list(accumulate((rank + 1) ** -exponent for rank in range(count)))
    return Random(_SEED + 2).choices(range(count), cum_weights=weights, k=size)


def share_of_first(first: int, count: int, exponent: float = 1.0) -> float:
    """Return which share of all draws the `first` most wanted of `count` pages get."""
    weights = [float((rank + 1) ** -exponent) for rank in range(count)]
    return sum(weights[:first]) / sum(weights)
