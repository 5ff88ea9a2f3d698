"""What coordination is: who may regenerate, and what was purged.

Knows keys, leases and purge records. Must not know stores, origins or HTTP.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from isr_proxy.core.purges import PurgeIndex, Selector


class Leases(Protocol):
    """The right to fetch what a digest stands for: one holder over all workers of the host (law 3).

    A holder who dies gives it back by that. What `release` says came of it is for whoever waits, and may be
    lost on the way: b"" then, and he tries for himself. Late writers are told by the purge sequence, which is
    the fencing token.
    """

    async def acquire(self, digest: bytes, patience: float) -> bytes | None:
        """Take the lease: None. Or return what the one before came to, which is not to be tried again.

        Waits while another worker has it, TimeoutError after `patience` seconds. Who is cancelled has none.
        """

    def release(self, digest: bytes, outcome: bytes = b"") -> None:
        """Give it back; `outcome` is what came of it for all others, b"" when they are to look again."""


class PurgeLog(Protocol):
    """Ordered, durable purge records that every worker follows (laws 2 and 7)."""

    @property
    def index(self) -> PurgeIndex:
        """The records in force anywhere on this host, for lookups: brought up to date before it is given."""

    @property
    def epochs(self) -> Sequence[int]:
        """One number, which changes whenever a record is put in force anywhere on this host.

        What was judged by the index after it was read still holds while it is the same.
        """

    async def append(self, selectors: tuple[Selector, ...], *, now: float) -> int:
        """Record a purge; returns its sequence once it is durable and in force for every worker."""

    async def prune(self, sequence: int) -> None:
        """Forget records up to `sequence`, whose entries have all been swept."""

    async def aclose(self) -> None: ...
