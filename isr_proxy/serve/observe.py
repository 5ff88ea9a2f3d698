"""What is observed: metrics and the access log, both fed by one Outcome a request (law 10).

Knows counts, histograms and their Prometheus names. Must not know how an answer came about, nor who
scrapes. `visited` is on the hot path, so it counts in plain Python; Prometheus families are made from the
counts when somebody asks. Labels are bounded: a route is its pattern from the config, never a path.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.registry import Collector

from isr_proxy import __version__
from isr_proxy.core.purges import Strength
from isr_proxy.core.reason import Reason, XCache
from isr_proxy.core.settings import LogFormat, LogSettings
from isr_proxy.serve.access_log import AccessLog, as_coloured_text, as_json, as_text
from isr_proxy.serve.families import Durations, counter, gauge, histogram, plain_counter
from isr_proxy.serve.outcome import Outcome, Purged, Regenerated, Repeats

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
NO_ROUTE: Final = "-"  # the label of requests that no route matched
STDOUT: Final = 1

# Seconds. A hit takes microseconds, a regeneration up to `regenerate_timeout`.
_VISIT_BOUNDS: Final = (
    0.0001,
    0.00025,
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
)
_REGENERATION_BOUNDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

_Visits = tuple[str | None, str, str, int]  # route, X-Cache, reason, hundreds of the status


@dataclass(frozen=True, slots=True)
class Readings:
    """Numbers that other rooms keep; the last two only ever grow."""

    flights: int = 0
    store_bytes: int = 0
    store_entries: int = 0
    bad_entries: int = 0
    store_failures: int = 0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The counts since the start, for `/v1/status`. Keys are X-Cache words and Reason words.

    `hit_ratio` is the share of HIT and STALE among HIT, STALE and MISS; None before the first of them.
    """

    requests: Mapping[str, int]
    hit_ratio: float | None
    sent_bytes: int
    regenerations: Mapping[str, int]
    unchanged: int
    origin_errors: Mapping[str, int]
    purges: int


class _Tally:
    """The requests of one set of labels."""

    __slots__ = ("_durations", "_sent_bytes", "repeats")

    def __init__(self) -> None:
        self._durations = Durations(_VISIT_BOUNDS)
        self._sent_bytes = 0
        self.repeats = Repeats()

    def add(self, seconds: float, sent_bytes: int) -> None:
        self._durations.add(seconds)
        self._sent_bytes += sent_bytes

    @property
    def durations(self) -> Durations:
        """Return how long they took; what was sent again took less than the least bound."""
        self._durations.counts[0] += self.repeats.count
        self.repeats.count = 0
        return self._durations

    @property
    def sent_bytes(self) -> int:
        return self._sent_bytes + self.repeats.sent_bytes


class Observation:
    """The one Observer of a worker. Not for several threads."""

    def __init__(
        self,
        settings: LogSettings,
        *,
        fd: int = STDOUT,
        now: Callable[[], float] = time.time,  # noqa: TID251  log lines carry the wall clock
    ) -> None:
        """Observe; `fd` is where the access log goes, if the settings want one."""
        self._fd = fd
        self._now = now
        self._visits: dict[_Visits, _Tally] = {}
        self._regenerations: Counter[tuple[str, Reason]] = Counter()
        self._unchanged: Counter[str] = Counter()
        self._regeneration = Durations(_REGENERATION_BOUNDS)
        self._origin_errors: Counter[Reason] = Counter()
        self._purges: Counter[Strength] = Counter()
        self._read: Callable[[], Readings] = Readings
        self._settings = settings
        self._access = self._open_access_log()
        self._dropped = 0  # by access logs that a reload closed
        self._registry = CollectorRegistry()
        self._registry.register(_Families(self))
        ProcessCollector(registry=self._registry)

    def reconfigure(self, settings: LogSettings) -> None:
        """Take new log settings; the counts go on."""
        if settings == self._settings:
            return
        self.close()
        self._settings = settings
        self._access = self._open_access_log()

    def watch(self, read: Callable[[], Readings]) -> None:
        """Take the function that reads what other rooms count; it is called at every scrape."""
        self._read = read

    def close(self) -> None:
        """Write out the access log."""
        if self._access is not None:
            self._access.close()
            self._dropped += self._access.dropped
            self._access = None

    # --- what happened ---

    def visited(self, outcome: Outcome) -> None:
        self._tally(outcome).add(outcome.seconds, outcome.sent_bytes)
        if self._access is not None:
            self._access.write(outcome)

    def repeats(self, outcome: Outcome) -> Repeats:
        return self._tally(outcome).repeats

    def listener(self, outcome: Outcome) -> Callable[[str], None] | None:
        return None if self._access is None else self._access.repeated(outcome)

    def _tally(self, outcome: Outcome) -> _Tally:
        # `_value_`, because Enum's own hash and `.value` are Python code in 3.11.
        key = (outcome.route, outcome.x_cache._value_, outcome.reason._value_, outcome.status // 100)
        tally = self._visits.get(key)
        if tally is None:
            tally = self._visits[key] = _Tally()
        return tally

    def regenerated(self, regenerated: Regenerated) -> None:
        self._regenerations[regenerated.route, regenerated.reason] += 1
        self._regeneration.add(regenerated.seconds)
        if regenerated.is_unchanged:
            self._unchanged[regenerated.route] += 1

    def origin_failed(self, reason: Reason) -> None:
        """Count a failure of the origin, seen by a visitor's request or by a regeneration."""
        self._origin_errors[reason] += 1

    def purged(self, purged: Purged) -> None:
        self._purges[purged.strength] += 1

    def render(self) -> bytes:
        """Return all metrics as Prometheus text, of CONTENT_TYPE."""
        return generate_latest(self._registry)

    def snapshot(self) -> Snapshot:
        """Return the counts since the start."""
        requests = Counter({x_cache.value: 0 for x_cache in XCache})
        for (_, x_cache, _, _), tally in self._visits.items():
            requests[x_cache] += tally.durations.count
        regenerations: Counter[str] = Counter()
        for (_, reason), count in self._regenerations.items():
            regenerations[reason.value] += count
        return Snapshot(
            requests=dict(requests),
            hit_ratio=_hit_ratio(requests),
            sent_bytes=sum(tally.sent_bytes for tally in self._visits.values()),
            regenerations=dict(regenerations),
            unchanged=self._unchanged.total(),
            origin_errors={reason.value: count for reason, count in self._origin_errors.items()},
            purges=self._purges.total(),
        )

    def collect(self) -> Iterable[Metric]:
        """Yield the Prometheus families."""
        yield from _visit_families(self._visits)
        yield from self._regeneration_families()
        yield counter(
            "origin_errors",
            "Failures of the origin",
            ("reason",),
            [((reason.value,), count) for reason, count in self._origin_errors.items()],
        )
        yield counter(
            "purges", "Purges", ("strength",), [((one.value,), self._purges[one]) for one in Strength]
        )
        yield from self._reading_families(self._read())
        yield gauge("build_info", "Version of isr-proxy", 1, version=__version__)

    def _regeneration_families(self) -> Iterable[Metric]:
        yield counter(
            "regenerations",
            "Fetches for the store, by what became of them",
            ("route", "outcome"),
            [((route, reason.value), count) for (route, reason), count in self._regenerations.items()],
        )
        yield counter(
            "regenerations_unchanged",
            "Regenerations whose page had not changed",
            ("route",),
            [((route,), count) for route, count in self._unchanged.items()],
        )
        yield histogram(
            "regeneration_duration_seconds",
            "How long regenerations took",
            (),
            [((), self._regeneration)],
        )

    def _reading_families(self, readings: Readings) -> Iterable[Metric]:
        yield gauge("flights", "Fetches for the store under way", readings.flights)
        yield gauge("store_bytes", "Bytes of disk that stored pages take", readings.store_bytes)
        yield gauge("store_entries", "Stored pages", readings.store_entries)
        yield plain_counter("store_bad_entries", "Broken files, moved aside", readings.bad_entries)
        yield plain_counter("store_failures", "Times the disk refused", readings.store_failures)
        dropped = self._dropped + (0 if self._access is None else self._access.dropped)
        yield plain_counter("log_lines_dropped", "Lines of the access log nobody took", dropped)

    def _open_access_log(self) -> AccessLog | None:
        if not self._settings.access:
            return None
        is_terminal = os.isatty(self._fd)
        match self._settings.format:
            case LogFormat.JSON:
                form = as_json
            case LogFormat.AUTO if not is_terminal:
                form = as_json
            case LogFormat.AUTO | LogFormat.CONSOLE:
                form = as_coloured_text if is_terminal else as_text
        return AccessLog(self._fd, form, self._now)


class _Families(Collector):
    """An Observation as prometheus-client sees it; its collectors are asked by subclass, not by shape."""

    def __init__(self, observation: Observation) -> None:
        self._observation = observation

    def collect(self) -> Iterable[Metric]:
        return self._observation.collect()


def _hit_ratio(requests: Mapping[str, int]) -> float | None:
    hits = requests["HIT"] + requests["STALE"]
    looked_up = hits + requests["MISS"]
    return hits / looked_up if looked_up else None


def _visit_families(visits: Mapping[_Visits, _Tally]) -> Iterable[Metric]:
    counts: Counter[tuple[str, ...]] = Counter()
    reasons: Counter[tuple[str, ...]] = Counter()
    sent: Counter[tuple[str, ...]] = Counter()
    latencies: dict[tuple[str, ...], Durations] = {}
    for (route, x_cache, reason, hundreds), tally in visits.items():
        label = route or NO_ROUTE
        counts[label, x_cache, f"{hundreds}xx"] += tally.durations.count
        reasons[x_cache, reason] += tally.durations.count
        sent[label, x_cache] += tally.sent_bytes
        latencies.setdefault((x_cache,), Durations(_VISIT_BOUNDS)).merge(tally.durations)
    yield counter("requests", "Answered requests", ("route", "result", "status"), counts.items())
    yield counter("answers", "Answered requests, by their reason", ("result", "reason"), reasons.items())
    yield counter("response_bytes", "Bytes of bodies sent to visitors", ("route", "result"), sent.items())
    yield histogram(
        "request_duration_seconds",
        "From a request's arrival to its last byte",
        ("result",),
        latencies.items(),
    )
