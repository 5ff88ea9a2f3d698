"""Raw bytes both ways, after an upgrade.

Knows how two raw connections are joined: back-pressure, and how the end of one side reaches the other.
Must not know HTTP, or how a connection is read.
"""

from __future__ import annotations

import asyncio
from typing import Final, Protocol

from isr_proxy.errors import VisitorGone
from isr_proxy.serve.exchange import Tunnel

_BUFFER_BYTES: Final = 256 * 1024
HALF_CLOSED_SECONDS: Final = 60.0  # without a byte, once one side has ended


class Raw(Protocol):
    """What a tunnel needs of the visitor's connection."""

    def write(self, data: bytes) -> None:
        """Send; VisitorGone when nobody is there."""

    def write_eof(self) -> bool:
        """End our side of it; False where one side cannot end alone."""

    async def drained(self) -> None:
        """Wait until the visitor has taken what was written."""

    def close_tunnel(self) -> None:
        """Close once what was written is sent."""

    def hold_reading(self) -> None: ...

    def release_reading(self) -> None: ...


class VisitorTunnel:
    """The visitor's side after a 101."""

    def __init__(self, raw: Raw) -> None:
        self._raw = raw
        self._buffer = bytearray()
        self._has_eof = False
        self._is_lost = False
        self._more = asyncio.Event()

    def feed(self, data: bytes | bytearray) -> None:
        self._buffer += data
        self._more.set()
        if len(self._buffer) > _BUFFER_BYTES:
            self._raw.hold_reading()

    def feed_eof(self) -> None:
        self._has_eof = True
        self._more.set()

    def lose(self) -> None:
        """Note that he is gone: nothing can be sent to him either."""
        self._is_lost = True
        self._more.set()

    async def read(self) -> bytes:
        """Return what came, b"" once he has ended his side. VisitorGone when he hung up."""
        while not self._buffer:
            if self._is_lost:
                raise VisitorGone("the visitor hung up")
            if self._has_eof:
                return b""
            self._more.clear()
            await self._more.wait()
        data = bytes(self._buffer)
        self._buffer.clear()
        self._raw.release_reading()
        return data

    def write(self, data: bytes) -> None:
        self._raw.write(data)

    def write_eof(self) -> bool:
        return self._raw.write_eof()

    async def drain(self) -> None:
        await self._raw.drained()

    def close(self) -> None:
        self._raw.close_tunnel()


class _Pump:
    """One direction."""

    def __init__(self, source: Tunnel, sink: Tunnel) -> None:
        self._source = source
        self._sink = sink
        self.moved_bytes = 0

    async def run(self) -> bool:
        """Move bytes until the source ends; tells whether the sink could be told of it."""
        while data := await self._source.read():
            self.moved_bytes += len(data)
            self._sink.write(data)
            await self._sink.drain()
        return self._sink.write_eof()


async def join(visitor: Tunnel, origin: Tunnel) -> None:
    """Carry bytes both ways until both sides have ended, or one broke.

    A side that ends alone may still be waiting for the other's last words; they come soon, or never.
    """
    pumps = (_Pump(visitor, origin), _Pump(origin, visitor))
    tasks = {asyncio.ensure_future(pump.run()): pump for pump in pumps}
    try:
        ended, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if all(task.exception() is None and task.result() for task in ended):
            for task in rest:
                await _last_words(task, tasks[task])
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _last_words(task: asyncio.Task[bool], pump: _Pump) -> None:
    """Wait for the other direction as long as it moves."""
    moved_bytes = -1
    while not task.done() and pump.moved_bytes != moved_bytes:
        moved_bytes = pump.moved_bytes
        await asyncio.wait([task], timeout=HALF_CLOSED_SECONDS)
