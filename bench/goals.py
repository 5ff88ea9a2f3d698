"""What isr-proxy is to reach, as ratios of one run.

Knows the goals, and reads results. Must not know how they were measured. The goals of a store with a million
pages are in million.py, which measures them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final

from bench.cases import LATENCY
from bench.configs import Setup
from bench.results import Results, ratio
from bench.servers import Kind, Variant

_OURS: Final = Variant(Kind.ISR_PROXY)
_NGINX: Final = Variant(Kind.NGINX)


class Measure(Enum):
    """What is compared."""

    CPU = "CPU per request"
    P99 = "p99"


@dataclass(frozen=True, slots=True)
class Goal:
    """`mine` of a case is at most `limit` times `theirs`."""

    case: str
    limit: float
    theirs: Variant = _NGINX
    mine: Variant = _OURS
    measure: Measure = Measure.CPU

    def reached(self, results: Results) -> float | None:
        """Return the measured ratio, None where one of the two was not measured."""
        if self.measure is Measure.P99:
            mine, theirs = results.latency(self.mine.name), results.latency(self.theirs.name)
            if mine is None or theirs is None or not (mine.is_kept and theirs.is_kept):
                return None  # where the client was late, it was not the server that was measured
            return ratio(mine.p99, theirs.p99)
        return ratio(results.cpu(self.case, self.mine.name), results.cpu(self.case, self.theirs.name))


def _workers(count: int) -> Goal:
    return Goal("workers", 1.1, theirs=_OURS, mine=Variant(Kind.ISR_PROXY, Setup(workers=count)))


GOALS: Final = (
    Goal("hit-10k", 0.8),
    Goal("hit-10k", 0.45, theirs=Variant(Kind.VARNISH)),
    Goal("hit-10k", 0.02, theirs=Variant(Kind.NEXT)),
    Goal("chrome", 0.85),
    Goal("304", 0.95),
    Goal("crowd", 1.0),
    Goal("disk", 1.5),
    Goal("hit-1m", 1.2),
    Goal(LATENCY, 1.5, measure=Measure.P99),
    _workers(2),
    _workers(4),
    Goal("miss", 3.0),
    Goal("miss-tmpfs", 3.0),
    Goal("pass", 3.0),
)
