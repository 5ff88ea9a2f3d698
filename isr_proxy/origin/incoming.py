"""One answer on its way in: its head, its chunks, its end or its failure.

Knows the bytes that have arrived and who waits for them. Must not know HTTP or sockets: its connection
feeds it, and leaves it alone (`line` is None) as soon as the last byte is in.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from isr_proxy.core.chunks import NO_TRAILERS
from isr_proxy.core.http import Fields, Head
from isr_proxy.core.reason import Reason
from isr_proxy.errors import OriginReset

HIGH_WATER_BYTES: Final = 64 * 1024  # more than this unread stops the origin


class Line(Protocol):
    """The connection, as its answer sees it."""

    def pause(self) -> None:
        """Read no more: what was received is not taken fast enough."""

    def resume(self) -> None:
        """Read on: everything received has been taken."""

    def drop(self) -> None:
        """Nobody wants the rest."""


class Receiver(Protocol):
    """Who takes an answer, told by its connection as the bytes come: `begin`, `feed`..., then an end.

    After each read that does not end it comes `flush`: what came together may go on together.

    `fail` may come at any time, `finish` once the body is whole; nothing comes after either. None of them
    waits. `line` is the connection, until the last byte is in.
    """

    line: Line | None

    def begin(self, head: Head, body_bytes: int | None) -> None:
        """Take the head; `body_bytes` where the length of the body is told beforehand."""

    def feed(self, chunk: bytes) -> None:
        """Take a piece of the body, which is not empty."""

    def flush(self) -> None:
        """Take note that nothing more of the body is here just now."""

    def finish(self, trailers: Fields = NO_TRAILERS) -> None:
        """Take note that the answer is whole."""

    def fail(self, error: Exception) -> None:
        """Take note that nothing more comes, and why."""


class Incoming:
    """A Receiver that keeps what comes for one reader, who waits for it."""

    __slots__ = (
        "_chunks",
        "_error",
        "_is_ended",
        "_on_failure",
        "_waiter",
        "body_bytes",
        "buffered_bytes",
        "head",
        "line",
        "trailers",
    )

    def __init__(self) -> None:
        self.line: Line | None = None
        self.head: Head | None = None
        self.body_bytes: int | None = None  # of the whole body, where its length is told beforehand
        self.buffered_bytes = 0
        self.trailers = NO_TRAILERS  # of a body that is whole
        self._chunks: deque[bytes] = deque()
        self._error: Exception | None = None
        self._is_ended = False
        self._waiter: asyncio.Future[None] | None = None
        self._on_failure: Callable[[Exception], None] | None = None

    # --- the connection's side ---

    def begin(self, head: Head, body_bytes: int | None) -> None:
        self.head = head
        self.body_bytes = body_bytes
        self._wake()

    def feed(self, chunk: bytes) -> None:
        self._chunks.append(chunk)
        self.buffered_bytes += len(chunk)
        if self.buffered_bytes > HIGH_WATER_BYTES and self.line is not None:
            self.line.pause()
        self._wake()

    def flush(self) -> None:
        """There is nothing to do: the reader takes all there is."""

    def finish(self, trailers: Fields = NO_TRAILERS) -> None:
        self.trailers = trailers
        self._is_ended = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """End it with an error, which the reader gets after the chunks that had arrived."""
        self._error = error
        self._is_ended = True
        self._wake()
        if self._on_failure is not None:
            self._on_failure(error)

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # --- the reader's side ---

    async def read_head(self) -> Head:
        """Wait for the head; raises what the connection failed with."""
        while self.head is None:
            if self._error is not None:
                raise self._error
            await self._wait()
        return self.head

    async def read(self) -> bytes:
        """Return the next chunk, b"" at the end; raises what the connection failed with."""
        while not self._chunks:
            if self._error is not None:
                raise self._error
            if self._is_ended:
                return b""
            await self._wait()
        chunk = self._chunks.popleft()
        self.buffered_bytes -= len(chunk)
        if not self._chunks and self.line is not None:
            self.line.resume()
        return chunk

    async def _wait(self) -> None:
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def watch(self, on_failure: Callable[[Exception], None]) -> None:
        """Tell of a failure that comes from now on, or came unseen together with the head."""
        if self._error is None:
            self._on_failure = on_failure
        else:
            on_failure(self._error)

    def close(self) -> None:
        """Give up what has not arrived. Safe at any time, and twice."""
        line, self.line = self.line, None
        if line is not None:
            self._error = OriginReset(Reason.RESET.value, "the answer was closed unread", answered=True)
            self._wake()
            line.drop()
