"""Leases between the workers of one host: a byte of a lock each (byte_locks.py).

Knows who waits for what, and when to look again. Must not know what is fetched. Nobody polls: whoever gives a
lease back tells the workers that wait for any, and the supervisor tells of a death. Should a letter be lost,
who waits looks again after a second, then less and less often.

The order keeps a release from being missed: who waits says so on the board, and then tries once more; who
releases gives back first, and then looks at the board.
"""

from __future__ import annotations

import asyncio
from hashlib import blake2b
from typing import Final

import msgspec

from isr_proxy.coord.board import Row
from isr_proxy.coord.byte_locks import ByteLocks
from isr_proxy.coord.post import DIED, Post

RELEASED: Final = "released"
_LOOK_AGAIN: Final = (1.0, 1.5, 2.0, 3.0, 5.0)  # seconds; the last one again and again


class _Released(msgspec.Struct, array_like=True):
    byte: int
    outcome: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Released).decode


class NoLeases:
    """Of one worker alone: its flights collapse all there is."""

    async def acquire(self, digest: bytes, patience: float) -> bytes | None:
        return None

    def release(self, digest: bytes, outcome: bytes = b"") -> None:
        pass


class HostLeases:
    """The leases of one worker among several."""

    def __init__(self, locks: ByteLocks, post: Post, rows: list[Row]) -> None:
        self._locks = locks
        self._post = post
        self._rows = rows
        self._waiting: dict[int, set[asyncio.Future[bytes]]] = {}
        post.on(RELEASED, self._heard)
        post.on(DIED, lambda sender, body: self._wake_all())

    async def acquire(self, digest: bytes, patience: float) -> bytes | None:
        byte = byte_of(digest)
        if self._locks.take(byte):
            return None
        row = self._rows[self._post.slot]
        row.waiting += 1
        try:
            async with asyncio.timeout(patience):
                return await self._wait(byte)
        finally:
            row.waiting -= 1

    async def _wait(self, byte: int) -> bytes | None:
        tries = 0
        while True:
            told: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._waiting.setdefault(byte, set()).add(told)
            try:
                if self._locks.take(byte):
                    return None
                outcome = await _within(told, _LOOK_AGAIN[min(tries, len(_LOOK_AGAIN) - 1)])
            finally:
                self._leave(byte, told)
            tries += 1
            if outcome:
                return outcome

    def _leave(self, byte: int, told: asyncio.Future[bytes]) -> None:
        waiting = self._waiting[byte]
        waiting.discard(told)
        if not waiting:
            del self._waiting[byte]

    def release(self, digest: bytes, outcome: bytes = b"") -> None:
        byte = byte_of(digest)
        self._locks.give_back(byte)
        self._wake(byte, outcome)
        for slot, row in enumerate(self._rows):
            if slot != self._post.slot and row.waiting:
                self._post.tell(slot, RELEASED, _encode(_Released(byte, outcome)))

    def _heard(self, sender: int, body: bytes) -> None:
        released = _decode(body)
        self._wake(released.byte, released.outcome)

    def _wake(self, byte: int, outcome: bytes) -> None:
        for told in self._waiting.get(byte, ()):
            if not told.done():
                told.set_result(outcome)

    def _wake_all(self) -> None:
        """Somebody died: whatever he had is free."""
        for byte in self._waiting:
            self._wake(byte, b"")


def byte_of(digest: bytes) -> int:
    """Return the byte that stands for a digest: in the lower half, the upper one is the store's."""
    return int.from_bytes(blake2b(digest, digest_size=8).digest()) >> 2


async def _within(told: asyncio.Future[bytes], seconds: float) -> bytes:
    try:
        async with asyncio.timeout(seconds):
            return await told
    except TimeoutError:
        return b""
