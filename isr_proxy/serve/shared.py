"""What all connections of a process share, as one of them sees it.

Knows the shape only; front.py is it. Must not know connections.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Protocol, TypeVar

from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import LimitSettings, Network
from isr_proxy.serve.door import Ticket
from isr_proxy.serve.exchange import Exchange, Flow
from isr_proxy.serve.hot_lane import HotLane
from isr_proxy.serve.known_lines import KnownLines
from isr_proxy.serve.loans import Loans
from isr_proxy.serve.refusal import Refusal

Handler = Callable[[Exchange], Coroutine[Any, Any, None] | Flow | None]  # None: it is answered


C = TypeVar("C")


class Shared(Protocol[C]):
    """The Front, as a connection sees it."""

    handle: Handler
    limits: LimitSettings
    trusted: tuple[Network, ...]
    default_host: str
    is_draining: bool
    looked_at: float
    connections: set[C]
    idle: dict[C, int]
    turned_away: set[C]
    now: Callable[[], float]
    hot: HotLane | None
    lines: KnownLines
    loans: Loans

    def enter(self, peer: str) -> Ticket | Reason: ...

    def forget(self, connection: C) -> None: ...

    def tell(self, refusal: Refusal, scheme: str, peer: str) -> None: ...
