"""A worker's share: what its supervisor gives it, all made before the fork.

Knows what is shared and what is the worker's alone. Must not know what becomes of it.
"""

from __future__ import annotations

import math
import socket
from dataclasses import dataclass, replace
from typing import Final

from isr_proxy.coord.board import Board
from isr_proxy.coord.placard import Placard
from isr_proxy.coord.wires import Wires
from isr_proxy.core.settings import Settings
from isr_proxy.store.opened import OpenFile

# What the supervisor and its workers write to each other.
READY: Final = "ready"
CUT: Final = "cut"
RELOAD: Final = "reload"
ADOPT: Final = "adopt"  # serve the queues of a seat that is empty
GIVE_BACK: Final = "give back"
LEAVING: Final = "leaving"  # from a worker that was told to end by somebody else


@dataclass(frozen=True, slots=True)
class Share:
    """One worker's. What is bound for a seat is bound while the supervisor lives, whoever sits there."""

    slot: int
    started_at: float  # the supervisor
    incarnation: int  # how many workers were started before this one, in any seat
    board: Board
    wires: Wires
    listen: list[list[list[socket.socket]]]  # by seat, then by address
    admin: list[socket.socket]
    claim: OpenFile | None  # of the store's directory; None: it can only be read
    counts: list[Placard]  # by seat
    settings: Placard  # the config of the last reload
    lifeline: int  # ends when the supervisor does

    @property
    def workers(self) -> int:
        return len(self.listen)

    def close_sockets(self) -> None:
        """Let go of every socket: nobody listens any more once all workers have."""
        for seats in (*self.listen, [self.admin]):
            for sockets in seats:
                for sock in sockets:
                    sock.close()


def for_successors(read: Settings, running: Settings) -> Settings:
    """Return by what a worker is started after a reload: what needs a restart is as it was at the start."""
    tls = {str(address): address.tls for address in read.listen}
    listen = tuple(
        replace(address, tls=tls.get(str(address)) or address.tls) if address.tls is not None else address
        for address in running.listen
    )
    admin = replace(read.admin, listen=running.admin.listen)
    return replace(read, listen=listen, workers=running.workers, admin=admin, store=running.store)


def settings_of_one(settings: Settings, workers: int) -> Settings:
    """Return one worker's part of what the config gives all of them together: so many are there."""
    origin = replace(
        settings.origin,
        max_connections=math.ceil(settings.origin.max_connections / workers),
        max_queue=math.ceil(settings.origin.max_queue / workers),
        max_regenerations=math.ceil(settings.origin.max_regenerations / workers),
    )
    store = replace(settings.store, memory=settings.store.memory // workers)
    return replace(settings, origin=origin, store=store)
