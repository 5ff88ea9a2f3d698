"""Who does the disk's work: a thread, or for a small page the loop itself.

Knows threads and how a refusal becomes an error. Must not know files.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from isr_proxy.store.promptness import Promptness
from isr_proxy.store.refusals import Refusals

_THREADS: Final = 8

R = TypeVar("R")


class Hands:
    """The workers of one store. OSError of what is written is counted, and becomes StoreUnavailable."""

    def __init__(self, refusals: Refusals, *, fsync: bool) -> None:
        self.executor = ThreadPoolExecutor(_THREADS, "store")
        self._promptness = Promptness(fsync=fsync)
        self._refusals = refusals

    def are_prompt(self, size_bytes: int) -> bool:
        """Tell whether so much may be written by the loop."""
        return self._promptness.is_prompt(size_bytes)

    async def run(self, work: Callable[[], R]) -> R:
        """Do something in a thread."""
        return await asyncio.get_running_loop().run_in_executor(self.executor, work)

    async def write(self, doing: str, work: Callable[[], R]) -> R:
        """Do something in a thread that changes files."""
        try:
            return await self.run(work)
        except OSError as error:
            raise self._refusals.refused(error, doing) from error

    def write_now(self, doing: str, work: Callable[[], R]) -> R:
        """Do it here."""
        try:
            return self._promptness.run(work)
        except OSError as error:
            raise self._refusals.refused(error, doing) from error
