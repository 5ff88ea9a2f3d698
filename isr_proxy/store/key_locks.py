"""Who may change a key's files: one at a time, in this process and in all others of the directory.

Knows locks. Must not know files. Within the process a lock is waited for in order; only whoever has it asks
for the other processes' lock, so that is asked for once a key.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from isr_proxy.store.company import Company


class KeyLocks:
    """The locks of one store."""

    def __init__(self, company: Company) -> None:
        self._company = company
        self._locks: weakref.WeakValueDictionary[bytes, asyncio.Lock] = weakref.WeakValueDictionary()

    @asynccontextmanager
    async def of(self, digest: bytes) -> AsyncIterator[None]:
        """Hold a key's lock; StoreUnavailable when another process does not let go of it."""
        lock = self._locks.get(digest)
        if lock is None:
            lock = self._locks[digest] = asyncio.Lock()
        async with lock:
            await self._company.lock(digest)
            try:
                yield
            finally:
                self._company.unlock(digest)
