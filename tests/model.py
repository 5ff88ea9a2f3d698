"""What a cached page should do, as simply as it can be said: the model of tests/test_model.py.

Knows times, purges and fetches as values. Must not know anything of isr_proxy: it is a second opinion.
Where the laws leave a choice (the jitter of a retry, two fetches that overlapped), a page has several
possible copies, and what a visitor sees next rules out the wrong ones.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from enum import Enum

FOREVER = math.inf
NEGATIVE_TTL = 10.0  # of a 404
RETRY_MIN, RETRY_MAX, JITTER = 3.0, 30.0, 1.2


class Kind(Enum):
    """How the origin writes a page."""

    CHANGING = "changing"  # another body at every fetch
    MARKED = "marked"  # the same body, another header
    VALIDATED = "validated"  # with an ETag, answered 304
    MUTE = "mute"  # the same body and the same head


class Way(Enum):
    """How a request is answered."""

    HIT = "hit"
    KEPT = "stale, and not time to try again"
    BEHIND = "stale, and regenerated behind"
    FALLBACK = "waits for a new one; the old one if that fails"
    WAIT = "waits for a new one"


@dataclass(frozen=True)
class Shown:
    """What tells one fetched page from another."""

    body: str
    mark: str | None
    status: int = 200


@dataclass(frozen=True)
class Copy:
    """What may lie in the store for a page."""

    shown: Shown
    fetched_at: float
    soft_first_at: float = FOREVER
    soft_last_at: float = FOREVER
    is_hidden: bool = False
    failures: int = 0
    failed_at: float = -FOREVER
    retry_first_at: float = -FOREVER
    retry_last_at: float = -FOREVER

    def purged(self, now: float) -> Copy:
        return replace(self, is_hidden=True)

    def softly_purged(self, now: float) -> Copy:
        return replace(self, soft_first_at=min(self.soft_first_at, now), soft_last_at=now)

    def failed(self, ttl: float, now: float) -> Copy:
        delay = min(max(ttl, RETRY_MIN), RETRY_MAX) * 2 ** min(self.failures, 6)
        return replace(
            self,
            failures=self.failures + 1,
            failed_at=now,
            retry_first_at=now + delay,
            retry_last_at=now + delay * JITTER,
        )

    def lefts(self, ttl: float, now: float) -> set[float]:
        """How long it is still fresh; two answers where several soft purges hit it."""
        left = ttl - (now - self.fetched_at)
        return {min(left, at - now) for at in (self.soft_first_at, self.soft_last_at)}

    def dues(self, now: float) -> set[bool]:
        """Whether the origin is asked again after a failure."""
        if now >= self.retry_last_at:
            return {True}
        is_lifted = self.failed_at < self.soft_last_at < FOREVER
        return {False, True} if is_lifted or now >= self.retry_first_at else {False}


@dataclass
class Fetching:
    """One request at the origin, and what it will answer."""

    shown: Shown
    is_failure: bool
    is_joinable: bool = True
    is_hidden: bool = False
    rivals: list[Fetching] = field(default_factory=list)  # were under way at the same time
    soft_first_at: float = FOREVER
    soft_last_at: float = FOREVER


@dataclass
class Page:
    """One path with its route's times and its tags; `copies` are what may be stored."""

    path: str
    kind: Kind
    ttl: float
    stale_while_revalidate: float
    stale_if_error: float
    tags: frozenset[str]
    copies: list[Copy | None] = field(default_factory=lambda: [None])
    flying: list[Fetching] = field(default_factory=list)

    @property
    def joinable(self) -> Fetching | None:
        return next((one for one in self.flying if one.is_joinable), None)

    def ttl_of(self, copy: Copy) -> float:
        return NEGATIVE_TTL if copy.shown.status == 404 else self.ttl

    def ways(self, copy: Copy | None, now: float) -> set[Way]:
        """How a request may be answered if this is stored."""
        if copy is None or copy.is_hidden:
            return {Way.WAIT}
        lefts, dues = copy.lefts(self.ttl_of(copy), now), copy.dues(now)
        return {self._way(copy.shown.status, left, is_due) for left in lefts for is_due in dues}

    def _way(self, status: int, left: float, is_due: bool) -> Way:
        if left > 0:
            return Way.HIT
        is_behind = 0 < self.stale_while_revalidate >= -left
        is_on_error = 0 < self.stale_if_error >= -left
        if not is_behind and not is_on_error:
            return Way.WAIT
        if not is_due:
            return Way.KEPT
        if is_behind and status != 404:
            return Way.BEHIND
        return Way.FALLBACK if is_on_error else Way.WAIT

    def begin(self, fetching: Fetching) -> None:
        for one in self.flying:
            one.is_joinable = False
        self.flying.append(fetching)
        if len(self.flying) > 1:
            for one in self.flying:
                one.rivals = [*one.rivals, *(other for other in self.flying if other is not one)]

    def land(self, fetching: Fetching, now: float) -> None:
        """Say what may be stored once a fetch has ended."""
        self.flying.remove(fetching)
        before = self.copies
        self.copies = list(self._landed(fetching, now))
        if fetching.rivals:  # the other one may have ended first, and each may undo the other's work
            self.copies += [*before, None]

    def _landed(self, fetching: Fetching, now: float) -> Iterator[Copy | None]:
        if fetching.is_failure:
            for copy in self.copies:
                yield copy and copy.failed(self.ttl_of(copy), now)
        elif fetching.is_hidden:
            yield from self.copies
        else:
            yield Copy(fetching.shown, now, fetching.soft_first_at, fetching.soft_last_at)

    def purge(self, now: float) -> None:
        self.copies = [copy and copy.purged(now) for copy in self.copies]
        for one in self.flying:
            one.is_hidden, one.is_joinable = True, False

    def purge_by_tag(self, now: float) -> None:
        """Which tags a page under way will have may not be known: joined perhaps, and left as it opens."""
        self.copies = [copy and copy.purged(now) for copy in self.copies]
        for one in self.flying:
            one.is_hidden = True

    def purge_softly(self, now: float) -> None:
        self.copies = [copy and copy.softly_purged(now) for copy in self.copies]
        for one in self.flying:
            one.soft_first_at, one.soft_last_at = min(one.soft_first_at, now), now
