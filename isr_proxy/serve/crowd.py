"""All visitors' connections of a process: whose time is up, who still runs, how they end.

Knows deadlines and the drain. Must not know bytes, HTTP, or who was let in (door.py).
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Generic, Protocol, TypeVar

from isr_proxy.serve.exchange import Flow


class Member(Protocol):
    """One connection, as the crowd sees it."""

    deadline: float  # monotonic seconds
    task: asyncio.Task[None] | Flow | None  # what answers the request of now

    def expire(self) -> None:
        """The deadline has passed."""

    def close_when_idle(self) -> None: ...

    def abort(self) -> None: ...


M = TypeVar("M", bound=Member)


class Crowd(Generic[M]):
    """The connections of one process."""

    def __init__(self) -> None:
        self.connections: set[M] = set()
        self.turned_away: set[M] = set()  # not let in, and still taking their answer
        self.idle: dict[M, int] = {}  # between two requests, the longest first; how many each had taken
        self.looked_at = time.monotonic()  # when deadlines were looked at, about a second ago at most
        self.is_draining = False
        self._all_closed = asyncio.Event()
        self._sweeper: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Look at deadlines from now on."""
        if self._sweeper is None:
            self._sweep()

    def _sweep(self) -> None:
        """Once a second, look at whoever is past his deadline: one timer for all connections."""
        now = self.looked_at = time.monotonic()
        for connection in [one for one in (*self.connections, *self.turned_away) if one.deadline < now]:
            connection.expire()
        self._sweeper = asyncio.get_running_loop().call_later(1.0, self._sweep)

    def running(self) -> set[asyncio.Task[None]]:
        """Return the tasks that answer requests now."""
        tasks = (connection.task for connection in self.connections)
        return {task for task in tasks if isinstance(task, asyncio.Task)}

    async def drain(self, timeout: float) -> None:
        """Let running requests end, up to `timeout` seconds, then cut what is left."""
        self.is_draining = True
        for connection in list(self.connections):
            connection.close_when_idle()
        if self.connections:
            self._all_closed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_closed.wait(), timeout)
        self.cut()

    def forget(self, connection: M) -> None:
        """Note that a connection is closed."""
        self.turned_away.discard(connection)
        self.idle.pop(connection, None)
        self.connections.discard(connection)
        if not self.connections:
            self._all_closed.set()

    def cut(self) -> None:
        """Close every connection now."""
        for connection in (*self.connections, *self.turned_away):
            connection.abort()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
