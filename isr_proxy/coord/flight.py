"""Collapse inside one process: many requests for one key, one fetch.

Knows flights by identity, the task of each and who waits for it. Must not know what is fetched. After
groupcache's singleflight; the re-check inside the flight is the fetch's own first step.

A flight belongs to nobody who waits for it: a visitor who hangs up cancels only his own waiting (law 3).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from isr_proxy.coord.eager import Work

T = TypeVar("T")


class Flight(Generic[T]):
    """One fetch under way. `opening` is set as soon as waiters can be told what they get."""

    __slots__ = ("end", "has_leader", "on_free", "opening", "place", "sequence", "task", "waiters")

    def __init__(self, sequence: int, opening: asyncio.Future[T], place: Hashable = None) -> None:
        self.sequence = sequence  # of the purge log, seen before the fetch began
        self.opening = opening
        self.place = place  # what several identities have in common
        self.end: T | None = None  # what came of it, where that is not what it opened with
        self.task: asyncio.Future[None] | None = None
        self.waiters = 0
        self.on_free: Callable[[], None] | None = None
        self.has_leader = False  # a visitor who started it is still there, to be given what is his alone

    def open(self, value: T) -> None:
        """Tell the waiters; the first telling counts."""
        if not self.opening.done():
            self.opening.set_result(value)

    def free(self, end: T) -> None:
        """Say, before it has landed, that nobody need wait for it any more: nothing will be stored."""
        self.end = end
        if self.on_free is not None:
            self.on_free()

    async def opened(self) -> T:
        """Wait for the opening; being cancelled here cancels nothing else."""
        self.waiters += 1
        try:
            return await asyncio.shield(self.opening)
        finally:
            self.waiters -= 1

    async def landed(self) -> None:
        """Wait for the end of the fetch and of all it stores."""
        if self.task is not None:
            await asyncio.wait([self.task])


Launch = Callable[[Flight[T]], Work]
Start = Callable[[Work, asyncio.AbstractEventLoop], asyncio.Future[None]]


def soon(work: Work, loop: asyncio.AbstractEventLoop) -> asyncio.Task[None]:
    """Begin with the loop's next turn; `EagerTask` begins at once."""
    return loop.create_task(work)


class Flights(Generic[T]):
    """The flights of one process, one a key and variant."""

    def __init__(self, on_crash: Callable[[BaseException], T]) -> None:
        self._flights: dict[bytes, Flight[T]] = {}
        self._flying: dict[Flight[T], None] = {}  # also those that nobody can join any more
        self._on_crash = on_crash

    def __len__(self) -> int:
        return len(self._flying)

    def tasks(self) -> set[asyncio.Future[None]]:
        """Return every fetch under way, joinable or not."""
        return {flight.task for flight in self._flying if flight.task is not None}

    def in_flight(self) -> tuple[Flight[T], ...]:
        """Return every fetch under way, joinable or not."""
        return tuple(self._flying)

    def find(self, identity: bytes) -> Flight[T] | None:
        return self._flights.get(identity)

    def is_flying(self, place: Hashable) -> bool:
        """Tell whether anything flies that was launched for this place, joinable or not."""
        return any(flight.place == place for flight in self._flying)

    def count(self, prefix: bytes) -> int:
        """Count the flights that can be joined whose identity begins so."""
        return sum(identity.startswith(prefix) for identity in self._flights)

    def launch(
        self, identity: bytes, sequence: int, run: Launch[T], place: Hashable = None, start: Start = soon
    ) -> Flight[T]:
        """Start a flight; one of the same identity, begun before a purge, flies on for its own waiters."""
        loop = asyncio.get_running_loop()
        flight: Flight[T] = Flight(sequence, loop.create_future(), place)
        self._flights[identity] = flight
        self._flying[flight] = None
        try:
            flight.task = start(run(flight), loop)
        except BaseException as error:  # of what ends the process
            self._leave(identity, flight)
            flight.open(self._on_crash(error))
            raise
        flight.task.add_done_callback(lambda done: self._land(identity, flight, done))
        return flight

    def _land(self, identity: bytes, flight: Flight[T], task: asyncio.Future[None]) -> None:
        self._leave(identity, flight)
        if task.cancelled():
            flight.open(self._on_crash(asyncio.CancelledError()))
        elif (error := task.exception()) is not None:
            flight.open(self._on_crash(error))
        elif not flight.opening.done():
            flight.open(self._on_crash(RuntimeError("the flight ended without an opening")))

    def _leave(self, identity: bytes, flight: Flight[T]) -> None:
        self._flying.pop(flight, None)
        if self._flights.get(identity) is flight:
            del self._flights[identity]

    def oldest_sequence(self, default: int) -> int:
        """Return the lowest purge sequence any flight still counts on."""
        return min((flight.sequence for flight in self._flying), default=default)

    async def drain(self, timeout: float) -> None:
        """Wait for all flights, cancel what is left after `timeout` seconds."""
        if tasks := self.tasks():
            await asyncio.wait(tasks, timeout=timeout)
        for task in (left := self.tasks()):
            task.cancel()
        if left:
            await asyncio.wait(left)
