"""One plain request, asked and answered without a task: every step is taken when bytes come.

Knows the kept connection that it begins with, and the one retry that a dead one is worth. Must not know who
takes the answer. A request with a body, with an upgrade, or for which no connection is at hand goes the
other way: `Client.fetch`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from isr_proxy.core.chunks import NO_TRAILERS
from isr_proxy.core.http import Fields, Head
from isr_proxy.errors import OriginError
from isr_proxy.origin.connection import Connection, Exchange
from isr_proxy.origin.incoming import Line
from isr_proxy.origin.outgoing import Deadlines
from isr_proxy.origin.turns import Origin


@dataclass(slots=True, eq=False)
class Question:
    """What is asked: a request that may be asked twice, and has no body."""

    method: str
    head: bytes
    on_interim: Callable[[Head], None]


class Taker(Protocol):
    """Who takes the answer to a call. Nothing here waits, and nothing is raised."""

    def begin(self, head: Head, body_bytes: int | None) -> None:
        """Take the head; `body_bytes` where the length of the body is told beforehand."""

    def feed(self, chunk: bytes) -> None:
        """Take a piece of the body."""

    def flush(self) -> None:
        """Take note that nothing more of the body is here just now."""

    def finish(self, trailers: Fields = NO_TRAILERS) -> None:
        """Take note that the answer is whole."""

    def fail(self, error: Exception) -> None:
        """Take note that nothing more comes, and why."""


class Switchboard(Protocol):
    """The client, as its calls see it."""

    deadlines: Deadlines

    def answered(self, origin: Origin) -> None:
        """Hear that a head came."""

    def died(self, origin: Origin, connection: Connection, error: BaseException) -> None:
        """Learn of an answer that did not come."""

    def retried_at(self, origin: Origin, connection: Connection, error: OriginError) -> Origin | None:
        """Say which origin gets the retry; None: there is none to make."""

    async def connect(self, origin: Origin) -> Connection:
        """Open a connection, or wait for one."""

    def hung_up(self, call: Call, error: Exception | None) -> Exception | None:
        """Hear that a call is over; returns the error as it is to be told."""


class Call:
    """A Receiver that hands on what comes to its taker, and asks once more where that is right."""

    __slots__ = (
        "_board",
        "_connection",
        "_has_head",
        "_is_second",
        "_origin",
        "_question",
        "_retry",
        "_taker",
        "feed",
        "flush",
        "line",
    )

    def __init__(self, board: Switchboard, question: Question, taker: Taker) -> None:
        self.line: Line | None = None
        self.feed, self.flush = taker.feed, taker.flush  # the body goes straight through
        self._board = board
        self._question = question
        self._taker = taker
        self._origin: Origin | None = None
        self._connection: Connection | None = None
        self._retry: asyncio.Task[None] | None = None
        self._has_head = False
        self._is_second = False

    def ask(self, origin: Origin, connection: Connection) -> None:
        """Send the request. OriginReset when the connection is gone already."""
        question, self._origin, self._connection = self._question, origin, connection
        exchange = Exchange(question.method, self._board.deadlines, self, question.on_interim)
        connection.ask(question.head, exchange)

    # --- the connection's side ---

    def begin(self, head: Head, body_bytes: int | None) -> None:
        self._has_head = True
        if self._origin is not None:
            self._board.answered(self._origin)
        self._taker.begin(head, body_bytes)

    def finish(self, trailers: Fields = NO_TRAILERS) -> None:
        self._board.hung_up(self, None)
        self._taker.finish(trailers)

    def fail(self, error: Exception) -> None:
        second = self._second(error)
        if second is None:
            self._taker.fail(self._board.hung_up(self, error) or error)
        else:
            self._retry = asyncio.get_running_loop().create_task(self._ask_again(second))

    def _second(self, error: Exception) -> Origin | None:
        origin, connection = self._origin, self._connection
        if self._has_head or origin is None or connection is None:
            return None
        self._board.died(origin, connection, error)
        if self._is_second or not isinstance(error, OriginError):
            return None
        return self._board.retried_at(origin, connection, error)

    async def _ask_again(self, origin: Origin) -> None:
        self._is_second = True
        try:
            self.ask(origin, await self._board.connect(origin))
        except Exception as error:  # whatever it is, whoever waits for the answer must hear of it
            self.fail(error)
        finally:
            self._retry = None

    # --- the taker's side ---

    def close(self) -> None:
        """Give up what has not come. Safe at any time, and twice."""
        line, self.line = self.line, None
        if self._retry is not None:
            self._retry.cancel()
        if line is not None:
            line.drop()
        self._board.hung_up(self, None)
