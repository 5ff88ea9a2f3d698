"""A worker's seat among the workers of its host: all that it shares with them.

Knows the parts of it and how they are made, after the fork. Must not know what they are used for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from isr_proxy.coord.board import Board, Row
from isr_proxy.coord.byte_locks import ByteLocks
from isr_proxy.coord.post import Post
from isr_proxy.coord.wires import Wires

LOG_BYTE: Final = (1 << 62) - 1  # of the lock file: who appends to the purge log


@dataclass(frozen=True, slots=True)
class Seat:
    """One worker's. Seat 0 is the first worker's, which speaks for all: it does what is done once a host."""

    slot: int
    board: Board
    post: Post
    locks: ByteLocks

    @classmethod
    def taken(cls, slot: int, board: Board, wires: Wires) -> Seat:
        """Sit down, in the process that will serve there."""
        return cls(slot, board, Post(wires, board, slot), ByteLocks(board.descriptor))

    @property
    def is_first(self) -> bool:
        return self.slot == 0

    @property
    def row(self) -> Row:
        return self.board.row(self.slot)

    def rows(self) -> list[Row]:
        """Return every worker's row."""
        return [self.board.row(slot) for slot in range(self.post.workers)]

    async def aclose(self) -> None:
        """Stand up: give back every lock, read no more letters."""
        await self.post.aclose()
        self.locks.close()
