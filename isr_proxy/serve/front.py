"""HTTP in: what all visitors' connections of one process share.

Knows who answers, the limits, who is let in, and what is ready to be answered at once. Must not know bytes:
a connection is connection.py's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import LimitSettings, Network
from isr_proxy.serve.connection import Connection
from isr_proxy.serve.crowd import Crowd
from isr_proxy.serve.door import Door, Ticket
from isr_proxy.serve.front_parser import require_c_parser
from isr_proxy.serve.hot_lane import HotLane
from isr_proxy.serve.known_lines import KnownLines
from isr_proxy.serve.loans import Loans
from isr_proxy.serve.outcome import Observer
from isr_proxy.serve.refusal import Refusal
from isr_proxy.serve.shared import Handler

_DEFAULT_LIMITS: Final = LimitSettings()
_MAX_TURNS: Final = 64  # looked at for who is idle the longest


class Front(Crowd[Connection]):
    """What all connections of one process share. `handle` answers an Exchange."""

    def __init__(
        self,
        handle: Handler,
        *,
        limits: LimitSettings = _DEFAULT_LIMITS,
        observer: Observer | None = None,
        hot: HotLane | None = None,
        now: Callable[[], float] = time.time,  # noqa: TID251  when hits are sent again, by the wall clock
    ) -> None:
        """`observer` is told of what is refused before anybody could handle it; `hot` is kept by `handle`."""
        require_c_parser()
        super().__init__()
        self.handle = handle
        self.limits = limits  # of connections that begin from now on
        self.door = Door()
        self._observer = observer
        self.hot = hot
        self.lines = KnownLines(limits)
        self.now = now
        self.loans = Loans()
        self.trusted: tuple[Network, ...] = ()
        self.default_host = "localhost"

    def connection(self, ticket: Ticket | None = None) -> Connection:
        """Make the protocol of a new connection; with a ticket it is counted already."""
        self.watch()
        return Connection(self, asyncio.get_running_loop(), ticket)

    def enter(self, peer: str) -> Ticket | Reason:
        """Let one more connection in, or say why not; where all are taken, the longest idle one gives way."""
        ticket = self.door.enter(peer, self.limits, self.trusted)
        if ticket is Reason.TOO_MANY_CONNECTIONS and self.idle:
            self._longest_idle().give_way()
            ticket = self.door.enter(peer, self.limits, self.trusted)
        return ticket

    def _longest_idle(self) -> Connection:
        """Return who is idle for the longest time; being answered by a known head made nobody last."""
        for _ in range(min(len(self.idle), _MAX_TURNS)):
            connection, taken = next(iter(self.idle.items()))
            if connection.requests_taken == taken:
                return connection
            del self.idle[connection]
            self.idle[connection] = connection.requests_taken
        return next(iter(self.idle))

    def reconfigure(self, limits: LimitSettings, trusted: tuple[Network, ...], default_host: str) -> None:
        """Take new settings; the limits count for connections that begin from now on."""
        self.limits, self.trusted, self.default_host = limits, trusted, default_host
        self.lines = KnownLines(limits)
        for connection in self.connections:
            connection.reconfigured()

    def tell(self, refusal: Refusal, scheme: str, peer: str) -> None:
        """Tell of an answer that was given without asking anybody (law 10)."""
        if self._observer is not None:
            self._observer.visited(refusal.outcome(scheme, peer))
