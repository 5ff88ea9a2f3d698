"""What a store is: the contract of reading, writing whole, and changing state.

Knows entries, keys and their file handles only as something that can be read. Must not know policy: a
store never asks whether an entry is fresh, purged or wanted.

The write contract (law 5): `begin` gives a Writer that nobody else sees; `write` appends; `commit` makes
the entry visible in one step, `discard` (or leaving the block) forgets all of it. Readers see the old
entry or the new one, whole, and one that was opened stays readable after it is replaced.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from enum import Enum
from types import TracebackType
from typing import Final, Protocol, Self

from isr_proxy.core.entry import Meta, State
from isr_proxy.core.http import Fields
from isr_proxy.core.key import Key, Variant
from isr_proxy.core.purges import Purge
from isr_proxy.core.value import Value


class Pending(Enum):
    """Answer of `peek`: it cannot be known without waiting for the disk."""

    PENDING = "pending"


PENDING: Final = Pending.PENDING


class Readable(Protocol):
    """The bodies of one opened entry; stays readable after the entry is replaced or removed."""

    def resident(self, encoding: str) -> bytes | None:
        """Return a body that is in memory, None when it must be streamed."""

    def stream(self, encoding: str, start: int = 0, stop: int | None = None) -> AsyncIterator[bytes]:
        """Yield the bytes [start, stop) of a body in chunks; StoreUnavailable when the disk fails."""

    async def load(self) -> Readable:
        """Return the same bodies in memory; StoreUnavailable when the disk fails."""


class BodyStream(Protocol):
    """A growing body as one reader sees it; an asynchronous iterator of its pieces."""

    def __aiter__(self) -> Self: ...

    async def __anext__(self) -> bytes: ...

    async def aclose(self) -> None:
        """Stop reading; a pipe's writer does not wait for this reader any more."""


class Entry(Value, frozen=True):
    """One stored response, verified and open."""

    key: Key
    variant: Variant
    meta: Meta
    state: State
    bodies: Readable


class VaryMiss(Value, frozen=True):
    """The key is stored; none of its variants is this request's. `names` are what it varies on."""

    names: tuple[str, ...]


Found = Entry | VaryMiss | None


class Writer(Protocol):
    """One entry in the making. Use as an async context manager; without commit nothing remains.

    `write`... then `finish`, then `commit`; or `fail`. A body that will not be stored goes on as a pipe
    to its readers: after `abandon`, or by itself when the disk refuses (`is_abandoned`).
    """

    @property
    def size_bytes(self) -> int:
        """Bytes written so far."""

    @property
    def checksum(self) -> bytes:
        """Checksum of the identity body, as in `Meta.body_checksum`; empty before `finish`."""

    @property
    def is_abandoned(self) -> bool:
        """Tell whether it is a pipe: `commit` would raise why."""

    async def write(self, chunk: bytes) -> None:
        """Append to the identity body.

        EntryTooLarge when it would pass `max_entry`: the chunk was not taken; `abandon` and write it
        again, or leave. In a pipe it waits for the slowest reader, and raises when none is left:
        VisitorGone, or StoreUnavailable when it was the disk that made it a pipe.
        """

    def resident(self) -> bytes | None:
        """Return the body so far, None when part of it is on disk only (beyond 1 MiB)."""

    def complete(self) -> bytes | None:
        """Return the whole body, None while it grows or where it is not in memory."""

    def reader(self, start: int = 0, stop: int | None = None) -> BodyStream:
        """Yield the bytes [start, stop) of what is written, following the writer until it ends or fails.

        A slow reader costs the writer nothing. StoreError when a pipe has dropped the first of them already.
        """

    async def finish(self) -> None:
        """Say that the body is complete: readers end, the checksum is known. `commit` implies it."""

    def fail(self, error: Exception) -> None:
        """End the body with an error, which readers raise after the bytes that came."""

    def abandon(self) -> None:
        """Never store it, and go on as a pipe to whoever reads."""

    async def commit(self, meta: Meta, state: State, encodings: Sequence[tuple[str, bytes]] = ()) -> Entry:
        """Make it visible, with the encoded copies behind the identity body.

        `meta.bodies` is filled in here. StoreUnavailable when the disk refuses, TooManyVariants when the
        key is full: the old entry stays. Once begun it is carried through, also when its task is cancelled.
        """

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Store(Protocol):
    """Where entries lie. Every method but `peek` may wait for the disk; none raises for a broken file."""

    def peek(self, key: Key, fields: Fields) -> Found | Pending:
        """Look up without waiting; PENDING when only `lookup` can tell."""

    async def lookup(self, key: Key, fields: Fields) -> Found:
        """Return the entry for a request with these fields. A bad file is a miss, moved aside."""

    def begin(self, key: Key, variant: Variant) -> Writer:
        """Start an entry."""

    async def update(self, entry: Entry, state: State) -> Entry:
        """Change the state in place, without touching the body; returns the entry as it is now.

        An entry that was replaced or removed meanwhile is left alone, and a refusal of the disk is only
        counted: what is returned has the new state all the same.
        """

    async def rewrite(self, entry: Entry, meta: Meta, state: State) -> Entry:
        """Change the meta, keeping the bodies (a 304 that brought new header fields). Else as `update`."""

    async def remove(self, entry: Entry) -> None:
        """Delete it, unless it was replaced meanwhile."""

    async def sweep(self, purge: Purge) -> int:
        """Carry a purge out on the entries fetched before it; returns how many it hit.

        Hard: delete them. Soft: write into their state that they are stale. When it returns, this is
        durable, so the record may be pruned once no fetch that began before it can still commit. It may
        wait long: until every page is known again after a catalog was lost.
        """

    async def known(self, key: Key) -> bool:
        """Tell whether anything at all is stored for a key, hidden or not."""

    async def variants(self, key: Key) -> list[Entry]:
        """Return every variant of a key that can be read, hidden or not; none where it does not vary."""

    async def has_room(self, key: Key, variant: Variant) -> bool:
        """Tell, before a body is fetched for nothing, whether `max_variants` allows this one."""

    def touch(self, entry: Entry) -> None:
        """Note that the entry was served, for the order of eviction; cheap, and never changes freshness."""

    async def aclose(self) -> None: ...


async def look(store: Store, key: Key, fields: Fields) -> Found:
    """Look up, in a thread only where that would wait for the disk."""
    found = store.peek(key, fields)
    return await store.lookup(key, fields) if isinstance(found, Pending) else found
