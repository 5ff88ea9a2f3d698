"""Who may change a key's files: one at a time, in this process and in all others of the directory.

Knows locks. Must not know files. Within the process a lock is waited for in order; only whoever has it asks
for the other processes' lock, so that is asked for once a key.
"""

from __future__ import annotations

import asyncio
import weakref
from types import TracebackType

from isr_proxy.store.company import Company


class KeyLocks:
    """The locks of one store."""

    def __init__(self, company: Company) -> None:
        self._company = company
        self._locks: weakref.WeakValueDictionary[bytes, asyncio.Lock] = weakref.WeakValueDictionary()

    def of(self, digest: bytes) -> KeyLock:
        """Return a key's lock, to be held by `async with`."""
        lock = self._locks.get(digest)
        if lock is None:
            lock = self._locks[digest] = asyncio.Lock()
        return KeyLock(digest, lock, self._company)


class KeyLock:
    """StoreUnavailable when another process does not let go of it."""

    __slots__ = ("_company", "_digest", "_lock")

    def __init__(self, digest: bytes, lock: asyncio.Lock, company: Company) -> None:
        self._digest = digest
        self._lock = lock
        self._company = company

    async def __aenter__(self) -> None:
        await self._lock.acquire()
        try:
            await self._company.lock(self._digest)
        except BaseException:
            self._lock.release()
            raise

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._company.unlock(self._digest)
        finally:
            self._lock.release()
