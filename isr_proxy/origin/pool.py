"""The connections to one origin: idle ones for reuse, and a limit on all of them.

Knows who holds a slot and who waits for one. Must not know HTTP, retries or health.

A slot is taken before a connection is opened and freed when it is lost, so `max_connections` holds at
every moment. Who waits gets, in order of arrival, either a free connection or the slot of a lost one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from isr_proxy.core.reason import Reason
from isr_proxy.errors import OriginTimeout, OriginUnreachable
from isr_proxy.origin.connection import Connection
from isr_proxy.origin.endpoint import Endpoint, dial

QUEUE_DEFAULT: Final = 1000

Waiter = asyncio.Future[Connection | None]


class Pool:
    """Keeper of all connections to one endpoint; at most `limit` of them, and `queue` who wait for one."""

    def __init__(self, endpoint: Endpoint, limit: int, queue: int = QUEUE_DEFAULT) -> None:
        self._endpoint = endpoint
        self._limit = limit
        self._queue_limit = queue
        self._slots_taken = 0
        self._idle: list[Connection] = []  # the last used is used first: the rest may age out
        self._connections: set[Connection] = set()
        self._waiters: deque[Waiter] = deque()
        self._is_closed = False

    def __repr__(self) -> str:
        return (
            f"<Pool {self._slots_taken}/{self._limit}, {len(self._idle)} idle, {len(self._waiters)} waiting>"
        )

    def take_idle(self) -> Connection | None:
        """Return a connection that may carry a request now."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection
            connection.close()
        return None

    async def acquire(self, timeout: float) -> Connection:
        """Return an idle connection or a new one; `timeout` seconds for the wait, and again to connect.

        OriginTimeout (BUSY, QUEUE_FULL, CONNECT_TIMEOUT) or OriginUnreachable.
        """
        return self.take_idle() or await self.acquire_new(timeout)

    async def acquire_new(self, timeout: float) -> Connection:
        """Return a new connection, or one that was in use until just now."""
        self._refuse_when_closed()
        if self._slots_taken >= self._limit and self._idle:
            self._idle[0].close()  # the oldest gives its slot
        if self._slots_taken < self._limit:
            self._slots_taken += 1
        elif (handed := await self._queue(timeout)) is not None:
            return handed
        return await self._connect(timeout)

    def _refuse_when_closed(self) -> None:
        if self._is_closed:
            raise OriginUnreachable(Reason.DRAINING.value, "the client is closed")

    async def _connect(self, timeout: float) -> Connection:
        """Open a connection into a slot that is already ours."""
        connection = Connection(self, asyncio.get_running_loop())
        self._connections.add(connection)
        try:
            await dial(self._endpoint, connection, timeout)
        except BaseException:
            connection.close()
            raise
        if not connection.is_usable:
            connection.close()
            raise OriginUnreachable(Reason.REFUSED.value, "closed as soon as it was open")
        return connection

    async def _queue(self, timeout: float) -> Connection | None:
        """Wait in line for a connection, or for a slot (None)."""
        if len(self._waiters) >= self._queue_limit:
            raise OriginTimeout(Reason.QUEUE_FULL.value, f"{len(self._waiters)} requests wait already")
        try:
            async with asyncio.timeout(timeout):
                return await self._wait()
        except TimeoutError as error:
            raise OriginTimeout(
                Reason.BUSY.value, f"none of {self._limit} connections came free within {timeout:g} s"
            ) from error

    async def _wait(self) -> Connection | None:
        while True:
            waiter: Waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                handed = await waiter
            except BaseException:
                self._leave(waiter)
                raise
            if handed is None or handed.is_usable:
                return handed
            handed.close()

    def _leave(self, waiter: Waiter) -> None:
        """Give up a place in the queue, and pass on what was handed over meanwhile."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        elif waiter.done() and not waiter.cancelled() and waiter.exception() is None:
            handed = waiter.result()
            if handed is None:
                self._free_slot()
            else:
                self.give_back(handed)

    def _next_waiter(self) -> Waiter | None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                return waiter
        return None

    # --- the connections' side (Keeper) ---

    def give_back(self, connection: Connection) -> None:
        """Hand a free connection to whoever waits longest, or keep it idle."""
        if self._is_closed or not connection.is_usable:
            connection.close()
        elif (waiter := self._next_waiter()) is not None:
            waiter.set_result(connection)
        else:
            self._idle.append(connection)

    def lost(self, connection: Connection) -> None:
        """Free the slot of a connection that is closed."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._free_slot()

    def _free_slot(self) -> None:
        waiter = self._next_waiter()
        if waiter is None:
            self._slots_taken -= 1
        else:
            waiter.set_result(None)

    def close(self) -> None:
        """Close every connection, used or not; who waits is refused."""
        self._is_closed = True
        while (waiter := self._next_waiter()) is not None:
            waiter.set_exception(OriginUnreachable(Reason.DRAINING.value, "the client was closed"))
        for connection in tuple(self._connections):
            connection.close()
