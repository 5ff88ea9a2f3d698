"""What coordination is: who may regenerate, and what was purged.

Knows keys, leases and purge records. Must not know stores, origins or HTTP.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from isr_proxy.core.purges import PurgeIndex, Selector


@dataclass(frozen=True, slots=True)
class Lease:
    """The timed right to regenerate one key. Of two writers the lower `token` loses."""

    digest: bytes
    token: int


class Leases(Protocol):
    """One lease a key, over all who share the store (law 3)."""

    async def acquire(self, digest: bytes) -> Lease | None:
        """Take the lease, or None while another holds it."""

    async def released(self, digest: bytes) -> None:
        """Wait until the present holder of a lease gives it up or dies."""

    def release(self, lease: Lease) -> None: ...


class PurgeLog(Protocol):
    """Ordered, durable purge records that every worker follows (laws 2 and 7)."""

    @property
    def index(self) -> PurgeIndex:
        """The records in force, for lookups."""

    async def append(self, selectors: tuple[Selector, ...], *, now: float) -> int:
        """Record a purge; returns its sequence once it is durable and in force for every worker."""

    async def prune(self, sequence: int) -> None:
        """Forget records up to `sequence`, whose entries have all been swept."""

    async def aclose(self) -> None: ...
