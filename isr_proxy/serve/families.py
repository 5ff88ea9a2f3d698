"""Prometheus families, made from plain counts.

Knows names, labels and cumulated buckets. Must not know what is counted, or when.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)


class Durations:
    """A histogram in the making: how many, how long together, and how many up to each bound."""

    __slots__ = ("bounds", "counts", "seconds")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.seconds += seconds

    def merge(self, other: Durations) -> None:
        """Add another histogram of the same bounds."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, other.counts, strict=True)]
        self.seconds += other.seconds

    @property
    def count(self) -> int:
        return sum(self.counts)

    def buckets(self) -> list[tuple[str, float]]:
        """Return cumulated counts by upper bound, as Prometheus wants them."""
        total, cumulated = 0, []
        for bound, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            total += count
            cumulated.append(("+Inf" if bound == float("inf") else str(float(bound)), float(total)))
        return cumulated


def counter(
    name: str, text: str, labels: tuple[str, ...], values: Iterable[tuple[tuple[str, ...], int]]
) -> Metric:
    """Return a counter of several label sets; Prometheus text adds `_total`."""
    family = CounterMetricFamily(f"isr_proxy_{name}", text, labels=labels)
    for names, value in values:
        family.add_metric(names, value)
    return family


def plain_counter(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(f"isr_proxy_{name}", text, value=value)


def gauge(name: str, text: str, value: float, **labels: str) -> Metric:
    family = GaugeMetricFamily(f"isr_proxy_{name}", text, labels=tuple(labels))
    family.add_metric(tuple(labels.values()), value)
    return family


def histogram(
    name: str,
    text: str,
    labels: tuple[str, ...],
    values: Iterable[tuple[tuple[str, ...], Durations]],
) -> Metric:
    family = HistogramMetricFamily(f"isr_proxy_{name}", text, labels=labels)
    for names, durations in values:
        family.add_metric(names, buckets=durations.buckets(), sum_value=durations.seconds)
    return family
