"""What the workers of a host have to do with each other: each question and its answer.

Knows which part of a worker answers what, and that the first worker does what is done once a host. Must not
know how letters travel (coord/post.py).
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from isr_proxy.coord.flight import Flights
from isr_proxy.coord.host_log import HostPurgeLog
from isr_proxy.coord.placard import Placard
from isr_proxy.coord.post import DIED
from isr_proxy.coord.seat import Seat
from isr_proxy.coord.wires import MAX_BODY_BYTES
from isr_proxy.core.purges import Selector
from isr_proxy.core.settings import LogSettings
from isr_proxy.run.company import DOUBT, SETTLE
from isr_proxy.run.gathered import ProcessesOfAll, summed
from isr_proxy.serve import counts
from isr_proxy.serve.admin import HostStatus
from isr_proxy.serve.engine import Engine
from isr_proxy.serve.observe import Observation, Readings
from isr_proxy.serve.operations import Operations
from isr_proxy.serve.watchers import Event, Watchers
from isr_proxy.store.disk import DiskStore
from isr_proxy.store.memory import MemoryTier

_SPEAKER: Final = 0  # the seat of the first worker
_COUNT: Final = "count"
_KICK: Final = "kick"
_FLYING: Final = "flying"
_EVENT: Final = "event"
_TURNED: Final = "turned"
_PUBLISH: Final = "publish"
_SECONDS: Final = 5.0
_PUBLISH_SECONDS: Final = 1.0  # who is slower counts with what it published last
_PAGE_BYTES: Final = resource.getpagesize()

_encode = msgspec.msgpack.Encoder().encode


class _Hit(msgspec.Struct, array_like=True):
    """What a purge names, and its sequence."""

    selectors: tuple[Selector, ...]
    sequence: int


_decode_hit = msgspec.msgpack.Decoder(_Hit).decode
_decode_number = msgspec.msgpack.Decoder(int).decode
_decode_place = msgspec.msgpack.Decoder(tuple[str, str, str]).decode


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a worker that have to do with others."""

    disk: DiskStore
    store: MemoryTier
    purges: HostPurgeLog
    engine: Engine
    operations: Operations
    watchers: Watchers
    observation: Observation


class Neighbours:
    """One worker's view of the others."""

    def __init__(self, seat: Seat, parts: Parts, placards: list[Placard]) -> None:
        self._seat = seat
        self._post = seat.post
        self._parts = parts
        self._placards = placards
        self._before = counts.decode(placards[seat.slot].read())  # of who sat here before
        self.all = Observation(LogSettings(access=False))  # what all have counted, as of the last gathering
        parts.observation.resume(self._before)
        self._answer()
        self._listen()
        if seat.is_first:
            parts.operations.sweeper.oldest = self._oldest
            seat.board.watched[0] = 0  # whoever watched a predecessor has been cut off
        else:
            parts.operations.count_and_sweep = self._count
            parts.operations.kick = lambda sequence: self._post.tell(_SPEAKER, _KICK, _encode(sequence))
            parts.watchers.send = self._send
        parts.watchers.is_watched = seat.board.watched

    def _answer(self) -> None:
        post, parts = self._post, self._parts
        post.answer(SETTLE, self._settle)
        post.answer(_PUBLISH, self._publish)
        post.answer(_FLYING, self._says_whether_flying)
        if self._seat.is_first:
            post.answer(_COUNT, self._count_for_another)
            post.on(_KICK, lambda sender, body: parts.operations.sweeper.kick(_decode_number(body)))
            post.on(DOUBT, lambda sender, body: parts.disk.fill_catalog())
            post.on(_EVENT, lambda sender, body: parts.watchers.take(json.loads(body)))

    def _listen(self) -> None:
        self._parts.purges.on_change(self._parts.engine.purged)
        self._post.on(DIED, self._died)
        self._post.on(_TURNED, lambda sender, body: self._clear_hot_lane())

    def _died(self, sender: int, body: bytes) -> None:
        """Whoever died may have changed a page and not have said so."""
        self._parts.store.clear()
        self._parts.disk.fill_catalog()

    # --- the store and its sweeper ---

    async def _settle(self, _: bytes) -> bytes:
        """Write down what was changed here; tell the oldest sequence that a fetch here began at."""
        parts = self._parts
        oldest = parts.engine.flights.oldest_sequence(parts.purges.index.sequence)
        await parts.disk.catalog.flush()
        return _encode(oldest)

    async def _oldest(self, default: int) -> int:
        """Return the oldest sequence of all workers' fetches; of one that does not say, none is certain."""
        answers = await self._post.ask_others(SETTLE, timeout=_SECONDS)
        elsewhere = [0 if answer is None else _decode_number(answer) for answer in answers.values()]
        return min(self._parts.engine.flights.oldest_sequence(default), *elsewhere, default)

    async def _count(self, selectors: tuple[Selector, ...], sequence: int) -> int:
        """Have the first worker count and sweep; without it, count here what is known."""
        body = _encode(_Hit(selectors, sequence))
        answer = None
        if len(body) <= MAX_BODY_BYTES:
            answer = await self._post.ask(_SPEAKER, _COUNT, body, timeout=_SECONDS)
        if answer is not None:
            return _decode_number(answer)
        self._parts.operations.kick(sequence)
        return await self._parts.disk.catalog.matched(selectors)

    async def _count_for_another(self, body: bytes) -> bytes:
        hit = _decode_hit(body)
        return _encode(await self._parts.operations.count_here(hit.selectors, hit.sequence))

    # --- flights ---

    async def is_flying(self, place: Hashable) -> bool:
        """Tell whether any worker fetches anything of a place; who does not say may."""
        if self._parts.engine.flights.is_flying(place):
            return True
        answers = await self._post.ask_others(_FLYING, _encode(place), timeout=_SECONDS)
        return any(answer != _encode(0) for answer in answers.values())

    async def _says_whether_flying(self, body: bytes) -> bytes:
        return _encode(int(self._parts.engine.flights.is_flying(_decode_place(body))))

    # --- events and numbers ---

    def turned(self) -> None:
        """Say that events are wanted from now on, or not any more: answers that are ready tell it or not."""
        self._clear_hot_lane()
        self._post.tell_others(_TURNED)

    def _clear_hot_lane(self) -> None:
        if self._parts.engine.hot is not None:
            self._parts.engine.hot.clear()

    def _send(self, event: Event) -> None:
        """Send an event to where it is watched."""
        body = json.dumps(event).encode()
        if len(body) <= MAX_BODY_BYTES:
            self._post.tell(_SPEAKER, _EVENT, body)

    async def _publish(self, _: bytes) -> bytes:
        self.publish()
        return b""

    def publish(self) -> None:
        """Write down what was counted here, for whoever adds up and for whoever sits here next."""
        self._placards[self._seat.slot].write(counts.encode(self.counted()))

    def counted(self) -> counts.Counts:
        """Return all that was counted in this seat."""
        parts, before = self._parts, self._before
        counted, stat, times = parts.observation.counts(), parts.disk.stat(), os.times()
        counted.bad_entries = before.bad_entries + stat.bad_entries
        counted.store_failures = before.store_failures + stat.failures
        counted.evictions = before.evictions + stat.evictions
        counted.cpu_seconds = before.cpu_seconds + times.user + times.system
        counted.gauges = counts.Gauges(len(parts.engine.flights), _resident_bytes(), _open_files())
        return counted

    async def gather(self) -> HostStatus:
        """Have every worker publish its numbers, and add them up; of the dead, what they published last."""
        await asyncio.gather(self._publish(b""), self._post.ask_others(_PUBLISH, timeout=_PUBLISH_SECONDS))
        each = [counts.decode(placard.read()) for placard in self._placards]
        rows = self._seat.rows()
        alive = [one for one, row in zip(each, rows, strict=True) if row.is_taken]
        board = self._seat.board
        status = HostStatus(
            sum(row.is_ready for row in rows),
            board.restarts,
            sum(one.gauges.flights for one in alive),
            counts.added(each, "bad_entries"),
            counts.added(each, "store_failures"),
            counts.added(each, "evictions"),
        )
        stat = self._parts.disk.stat()
        readings = Readings(
            status.flying,
            stat.size_bytes,
            stat.entries,
            status.bad_entries,
            status.failures,
            status.workers_alive,
            status.worker_restarts,
        )
        self.all = summed(each, readings, ProcessesOfAll(each, alive))
        return status


def is_flying_here(flights: Flights[Any]) -> Callable[[Hashable], Any]:
    """Return the question of one worker that is alone."""

    async def is_flying(place: Hashable) -> bool:
        return flights.is_flying(place)

    return is_flying


def _resident_bytes() -> int:
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0


def _open_files() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0
