"""The metrics of all workers as one: their counts added up, and what is told of their processes together.

Knows what adds up. Must not know how the counts came here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from isr_proxy.core.settings import LogSettings
from isr_proxy.serve.counts import Counts, added
from isr_proxy.serve.observe import Observation, Readings


def summed(each: Iterable[Counts], readings: Readings, processes: Collector) -> Observation:
    """Return an observation that has seen what all of these have."""
    together = Observation(LogSettings(access=False), process=processes)
    for one in each:
        together.resume(one)
    together.watch(lambda: readings)
    return together


class ProcessesOfAll(Collector):
    """What prometheus-client tells of one process, of all workers together."""

    def __init__(self, each: Sequence[Counts], alive: Sequence[Counts]) -> None:
        self._each = each
        self._alive = alive

    def collect(self) -> Iterable[Metric]:
        gauges = [one.gauges for one in self._alive]
        cpu = "Seconds of processor time, of all workers, the dead included"
        yield CounterMetricFamily("process_cpu_seconds", cpu, value=added(self._each, "cpu_seconds"))
        resident = sum(one.resident_bytes for one in gauges)
        yield GaugeMetricFamily("process_resident_memory_bytes", "Memory of all workers", value=resident)
        files = sum(one.open_files for one in gauges)
        yield GaugeMetricFamily("process_open_fds", "Open files of all workers", value=files)
