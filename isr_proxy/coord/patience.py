"""The same patience with each of many: `asyncio.timeout`, with one timer for all of them.

Knows tasks, and when each was begun. Must not know what they do. All may take equally long, so who began
first is late first: the timer is set for him alone, and nearly always has nothing to do when it rings.
"""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any


class Patience:
    """So many seconds for everybody. Use within one event loop."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._running: dict[Limit, None] = {}  # who began first comes first
        self._is_set = False

    def limit(self) -> Limit:
        """Return a limit of the time that what is done in it may take."""
        return Limit(self)

    def begin(self, limit: Limit) -> None:
        """Count from now on."""
        loop = asyncio.get_running_loop()
        limit.due_at = loop.time() + self.seconds
        self._running[limit] = None
        if not self._is_set:
            self._is_set = True
            loop.call_at(limit.due_at, self._look)

    def end(self, limit: Limit) -> None:
        """Count no more; safe to call twice."""
        self._running.pop(limit, None)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for limit in list(self._running):
            if limit.due_at > now:
                loop.call_at(limit.due_at, self._look)
                return
            limit.expire()
        self._is_set = False


class Limit:
    """`async with` it: TimeoutError from in there, once the time is over."""

    __slots__ = ("_cancels", "_is_over", "_patience", "_task", "due_at")

    def __init__(self, patience: Patience) -> None:
        self.due_at = 0.0
        self._patience = patience
        self._task: asyncio.Task[Any] | None = None
        self._cancels = 0
        self._is_over = False

    async def __aenter__(self) -> Limit:
        task = self._task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a limit is a task's")
        self._cancels = task.cancelling()
        self._patience.begin(self)
        return self

    def lift(self) -> None:
        """From now on there is no limit."""
        self._patience.end(self)

    def expire(self) -> None:
        """Cancel what is done, as the time is over."""
        self.lift()
        if self._task is not None:
            self._is_over = True
            self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.lift()
        task, self._task = self._task, None
        # Cancelled by somebody else as well, it stays cancelled.
        is_his = self._is_over and task is not None and task.uncancel() <= self._cancels
        if is_his and kind is asyncio.CancelledError:
            raise TimeoutError from error
