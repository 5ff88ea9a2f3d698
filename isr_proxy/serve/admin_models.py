"""The admin API's bodies: what it takes and what it answers. The OpenAPI document is made from these.

Knows shapes and their limits. Must not know HTTP or what is done. Unknown keys are refused.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from isr_proxy.core.purges import Strength
from isr_proxy.origin.client import OriginHealth
from isr_proxy.serve.batches import Batch, BatchState
from isr_proxy.serve.explain import Step
from isr_proxy.serve.inventory import Stocked
from isr_proxy.serve.on_demand import PageResult, Result
from isr_proxy.serve.selection import Selection
from isr_proxy.store.space import StoreStat


class Taken(BaseModel):
    """A request's body."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class SelectionBody(Taken):
    """What is selected: a union of selectors."""

    paths: tuple[str, ...] = ()
    prefixes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    all: bool = False

    def selection(self) -> Selection:
        return Selection(self.paths, self.prefixes, self.tags, self.hosts, self.all)


class PurgeBody(SelectionBody):
    soft: bool = False
    dry_run: bool = False

    @property
    def strength(self) -> Strength:
        return Strength.SOFT if self.soft else Strength.HARD


class RevalidateBody(SelectionBody):
    wait: bool = False


class PrerenderBody(Taken):
    paths: tuple[str, ...] = ()
    sitemap: str | None = None


class Answered(BaseModel):
    """A response's body."""

    model_config = ConfigDict(frozen=True)


class ErrorReply(Answered):
    """`errors` lists every one where there may be several."""

    error: str
    errors: list[str] | None = None


class PurgeReply(Answered):
    sequence: int
    matched: int


class RevalidateReply(PurgeReply):
    """`results` only where they were waited for; of very many, the first thousand."""

    job: str
    results: list[PageResult] | None = None


class JobReply(Answered):
    """`total` is final once `listed`; `done` is the sum of the counters. The first hundred `failures`."""

    id: str
    kind: str
    state: BatchState
    total: int
    listed: bool
    done: int
    regenerated: int
    unchanged: int
    fresh: int
    failed: int
    skipped: int
    started_at: float
    ended_at: float | None
    failures: list[PageResult]
    error: str | None

    @classmethod
    def of(cls, batch: Batch) -> JobReply:
        """Return the progress of a batch."""
        counted = {result.value: batch.counts[result] for result in Result}
        return cls(
            id=batch.id,
            kind=batch.kind,
            state=batch.state,
            total=batch.total,
            listed=batch.is_listed,
            done=batch.done,
            started_at=batch.started_at,
            ended_at=batch.ended_at,
            failures=list(batch.failures),
            error=batch.error,
            **counted,
        )


class JobsReply(Answered):
    jobs: list[JobReply]


class EntriesReply(Answered):
    """`complete` is false while the catalog is rebuilt: the list may lack pages."""

    entries: list[Stocked]
    cursor: str | None
    complete: bool


class EntryReply(Answered):
    url: str
    entries: list[Stocked]


class ExplainReply(Answered):
    url: str
    x_cache: str
    reason: str
    origin_asked: bool
    steps: list[Step]


class RegenerationsStatus(Answered):
    """`by_reason` counts fetches for the store since the start: `stored`, or why nothing was."""

    flying: int
    by_reason: dict[str, int]


class StatusReply(Answered):
    """Counters are since the start; `hit_ratio` is None before the first request."""

    version: str
    uptime: float
    workers: int
    workers_alive: int
    worker_restarts: int
    requests: dict[str, int]
    hit_ratio: float | None
    regenerations: RegenerationsStatus
    origins: list[OriginHealth]
    store: StoreStat
    purge_sequence: int


class ReloadReply(Answered):
    reloaded: bool = True
    needs_restart: list[str] = []


class HealthReply(Answered):
    status: str
