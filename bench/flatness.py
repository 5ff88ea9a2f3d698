"""Whether a series of samples is flat: does it grow, or does it only go up and down?

Knows numbers in their order. Must not know what they count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True, slots=True)
class Flatness:
    """The first third warms up; what grows from the second to the last is growth."""

    before: float  # median of the second third
    after: float  # median of the last
    most_before: float
    most_after: float
    first: float
    last: float

    def grows(self, share: float, allowance: float) -> bool:
        """Tell whether the median, or the highest sample, rose by more than a share and an allowance.

        The allowance is for small numbers, of which a share is less than one.
        """
        by_median = self.after > self.before * (1 + share) + allowance
        by_most = self.most_after > self.most_before * (1 + 2 * share) + 2 * allowance
        return by_median or by_most


def flatness(samples: Sequence[float]) -> Flatness:
    """Judge samples taken at even times; ValueError when there are too few to tell."""
    if len(samples) < 9:
        raise ValueError("it takes nine samples to tell growth from noise")
    third = len(samples) // 3
    middle, last = samples[third : 2 * third], samples[2 * third :]
    return Flatness(median(middle), median(last), max(middle), max(last), samples[0], samples[-1])
