"""Work on many pages: run at a bounded rate, with its progress to look at.

Knows counters, the newest batches, and their end. Must not know pages' meaning or where they come from.
What the API calls a job is a batch here, because a Job is one regeneration.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, TypeVar

import structlog

from isr_proxy.serve.on_demand import PageResult, Result

_log = structlog.get_logger("isr_proxy.batches")

REMEMBERED: Final = 100
MAX_RUNNING: Final = 16
MAX_FAILURES: Final = 100  # listed; all are counted
MAX_RESULTS: Final = 1000  # listed; all are counted

T = TypeVar("T")


class TooManyBatches(Exception):
    """As many run as may; try again later."""


class BatchState(Enum):
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"  # it could not be carried to its end
    CANCELLED = "cancelled"


@dataclass(slots=True, eq=False)
class Batch:
    """One batch; `total` grows while the pages are still being listed."""

    id: str
    kind: str
    started_at: float
    state: BatchState = BatchState.RUNNING
    ended_at: float | None = None
    total: int = 0
    is_listed: bool = False
    counts: Counter[Result] = field(default_factory=Counter)
    failures: list[PageResult] = field(default_factory=list)
    results: list[PageResult] = field(default_factory=list)
    error: str | None = None
    task: asyncio.Task[None] | None = None

    @property
    def done(self) -> int:
        return self.counts.total()

    def add(self, result: PageResult) -> None:
        """Count what came of one page."""
        self.counts[result.result] += 1
        if result.result is Result.FAILED and len(self.failures) < MAX_FAILURES:
            self.failures.append(result)
        if len(self.results) < MAX_RESULTS:
            self.results.append(result)

    async def ended(self) -> None:
        """Wait for the end; being cancelled here cancels nothing else."""
        if self.task is not None:
            await asyncio.wait([self.task])

    def abandon(self, now: float) -> None:
        """Say that it never began."""
        self.state, self.ended_at = BatchState.CANCELLED, now

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()


class Batches:
    """The newest batches of this process, at most REMEMBERED."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._batches: dict[str, Batch] = {}

    def find(self, batch_id: str) -> Batch | None:
        return self._batches.get(batch_id)

    def newest(self) -> list[Batch]:
        return list(reversed(self._batches.values()))

    def check_room(self) -> None:
        """Raise TooManyBatches when an operator may not start another one now."""
        running = [batch for batch in self._batches.values() if batch.state is BatchState.RUNNING]
        if len(running) >= MAX_RUNNING:
            raise TooManyBatches(f"{MAX_RUNNING} jobs run already")

    def new(self, kind: str) -> Batch:
        """Make a batch that is not started yet."""
        batch = Batch(secrets.token_hex(4), kind, self._now())
        self._batches[batch.id] = batch
        self._forget_oldest()
        return batch

    def _forget_oldest(self) -> None:
        excess = len(self._batches) - REMEMBERED
        ended = [batch.id for batch in self._batches.values() if batch.state is not BatchState.RUNNING]
        for batch_id in ended[: max(0, excess)]:
            del self._batches[batch_id]

    def start(
        self,
        batch: Batch,
        items: AsyncIterator[T],
        work: Callable[[T], Awaitable[PageResult]],
        width: int,
    ) -> None:
        """Work on every item, `width` at once."""
        batch.task = asyncio.get_running_loop().create_task(self._run(batch, items, work, width))

    async def _run(
        self,
        batch: Batch,
        items: AsyncIterator[T],
        work: Callable[[T], Awaitable[PageResult]],
        width: int,
    ) -> None:
        try:
            await _each(batch, items, work, width)
            batch.state = BatchState.DONE
        except asyncio.CancelledError:
            batch.state = BatchState.CANCELLED
            raise
        except Exception as error:
            _log.error("a job ended early", kind=batch.kind, exc_info=error)
            batch.state, batch.error = BatchState.FAILED, str(error)
        finally:
            batch.ended_at = self._now()

    async def aclose(self) -> None:
        """Cancel what runs."""
        tasks = [batch.task for batch in self._batches.values() if batch.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _each(
    batch: Batch, items: AsyncIterator[T], work: Callable[[T], Awaitable[PageResult]], width: int
) -> None:
    """Feed `width` workers through a short queue, so that a long list is never in memory."""
    queue: asyncio.Queue[T | None] = asyncio.Queue(width)

    async def worker() -> None:
        while (item := await queue.get()) is not None:
            batch.add(await work(item))

    async with asyncio.TaskGroup() as group:
        for _ in range(width):
            group.create_task(worker())
        async for item in items:
            batch.total += 1
            await queue.put(item)
        batch.is_listed = True
        for _ in range(width):
            await queue.put(None)
