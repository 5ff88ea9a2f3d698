"""What was measured: runs by case and server, and what could not be.

Knows numbers and names. Must not know how they came about, nor how they are shown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from bench.pacing import Paced

_OWN_PLACE: Final = re.compile(r"/\S*/isr-bench-[^/\s]+/\d+/")  # which is gone, and nobody's business


@dataclass(frozen=True, slots=True)
class Run:
    """One run of one case on one server."""

    per_second: float
    cpu_microseconds: float  # of the server's processes, per request


@dataclass(frozen=True, slots=True)
class Latency:
    """Medians over the runs at half of a server's maximum; seconds."""

    rate: float
    sent_rate: float
    p50: float
    p99: float
    p999: float
    late_p99: float

    @property
    def is_kept(self) -> bool:
        """Tell whether it was the server that was measured: the client sent in time."""
        return self.sent_rate >= 0.99 * self.rate and self.late_p99 <= self.p99 / 2


@dataclass(slots=True)
class Results:
    """Everything of one `make bench`, by the names of cases and servers."""

    runs: dict[tuple[str, str], list[Run]] = field(default_factory=dict)
    paced: dict[str, list[Paced]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def add(self, case: str, server: str, run: Run) -> None:
        self.runs.setdefault((case, server), []).append(run)

    def note(self, text: str) -> None:
        """Remember once what could not be measured, and why."""
        line = " ".join(_OWN_PLACE.sub("", text).split())
        if line not in self.notes:
            self.notes.append(line)

    def cpu(self, case: str, server: str) -> float | None:
        """Return the median of CPU microseconds per request."""
        runs = self.runs.get((case, server))
        return median(run.cpu_microseconds for run in runs) if runs else None

    def per_second(self, case: str, server: str) -> float | None:
        """Return the median of requests per second."""
        runs = self.runs.get((case, server))
        return median(run.per_second for run in runs) if runs else None

    def spread(self, case: str, server: str) -> float | None:
        """Return the middle half of the runs' CPU times, as a share of their median."""
        runs = sorted(run.cpu_microseconds for run in self.runs.get((case, server), ()))
        if len(runs) < 3:
            return None
        return (runs[len(runs) * 3 // 4] - runs[len(runs) // 4]) / median(runs)

    def latency(self, server: str) -> Latency | None:
        runs = self.paced.get(server)
        if not runs:
            return None
        return Latency(
            *(
                median(getattr(run, name) for run in runs)
                for name in ("rate", "sent_rate", "p50", "p99", "p999", "late_p99")
            )
        )

    def cases(self) -> list[str]:
        return list(dict.fromkeys(case for case, _ in self.runs))

    def servers(self, case: str) -> list[str]:
        return [server for each, server in self.runs if each == case]


def ratio(mine: float | None, theirs: float | None) -> float | None:
    """Return how many times theirs mine is; None where one is not known."""
    return None if mine is None or not theirs else mine / theirs
