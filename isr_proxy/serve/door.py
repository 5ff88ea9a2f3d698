"""Who may come in: visitors' connections, counted in all and for each client (law 8).

Knows counts. Must not know sockets or HTTP. Whoever came in holds a Ticket and gives it back when he leaves.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from isr_proxy.core.limits import client_of
from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import LimitSettings, Network


class Ticket:
    """One connection that is counted, until it leaves; leaving twice counts once."""

    __slots__ = ("_client", "_door")

    def __init__(self, door: Door, client: str | None) -> None:
        self._door: Door | None = door
        self._client = client

    def leave(self) -> None:
        door, self._door = self._door, None
        if door is not None:
            door.left(self._client)


class Door:
    """Counts who is in."""

    def __init__(self) -> None:
        self.count = 0
        self._of_client: Counter[str] = Counter()

    def enter(self, peer: str, limits: LimitSettings, trusted: Sequence[Network]) -> Ticket | Reason:
        """Count one more connection from an address, or say why it is not let in."""
        if self.count >= limits.max_connections:
            return Reason.TOO_MANY_CONNECTIONS
        client: str | None = None
        if limits.max_connections_per_client is not None and (client := client_of(peer, trusted)) is not None:
            if self._of_client[client] >= limits.max_connections_per_client:
                return Reason.TOO_MANY_OF_CLIENT
            self._of_client[client] += 1
        self.count += 1
        return Ticket(self, client)

    def left(self, client: str | None) -> None:
        """Count one less."""
        self.count -= 1
        if client is not None:
            self._of_client[client] -= 1
            if self._of_client[client] <= 0:
                del self._of_client[client]
