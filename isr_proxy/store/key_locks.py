"""Who may change a key's files: one at a time, in this process and in all others of the directory.

Knows locks. Must not know files. Within the process a lock is waited for in order; only whoever has it asks
for the other processes' lock, so that is asked for once a key.
"""

from __future__ import annotations

import asyncio
from types import TracebackType

from isr_proxy.store.company import Company


class KeyLocks:
    """The locks of one store."""

    def __init__(self, company: Company) -> None:
        self.company = company
        self._locks: dict[bytes, _CountedLock] = {}  # those that somebody holds, or waits for

    def of(self, digest: bytes) -> KeyLock:
        """Return a key's lock, to be held by `async with`."""
        return KeyLock(digest, self)

    async def acquire(self, digest: bytes) -> None:
        """Wait, in order, until nobody of this process holds it."""
        lock = self._locks.get(digest)
        if lock is None:
            lock = self._locks[digest] = _CountedLock()
        lock.users += 1
        try:
            await lock.acquire()
        except BaseException:
            self._leave(digest, lock)
            raise

    def release(self, digest: bytes) -> None:
        """Let the next have it."""
        lock = self._locks[digest]
        lock.release()
        self._leave(digest, lock)

    def _leave(self, digest: bytes, lock: _CountedLock) -> None:
        lock.users -= 1
        if not lock.users:
            del self._locks[digest]


class _CountedLock(asyncio.Lock):
    users = 0


class KeyLock:
    """StoreUnavailable when another process does not let go of it."""

    __slots__ = ("_digest", "_locks")

    def __init__(self, digest: bytes, locks: KeyLocks) -> None:
        self._digest = digest
        self._locks = locks

    async def __aenter__(self) -> None:
        await self._locks.acquire(self._digest)
        try:
            await self._locks.company.lock(self._digest)
        except BaseException:
            self._locks.release(self._digest)
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._locks.company.unlock(self._digest)
        finally:
            self._locks.release(self._digest)
