"""The hot lane: what is ready to be sent again, and the exact request heads that it answers.

Knows when an answer may be prepared, which heads it was given for, and what makes it drop out: its page was
replaced, purged or let go by the hot tier, or the configuration changed. Must not know connections, nor how a
request becomes an answer: whatever is here was first decided the long way.

All of it is weighed as part of the hot tier's entries, so `store.memory` bounds it too (law 8): a page that
is let go takes its answers along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

from isr_proxy.core.freshness import Phase, Times, times
from isr_proxy.core.http import Request
from isr_proxy.core.purges import Verdict
from isr_proxy.core.settings import ClientDirectives, Route
from isr_proxy.serve.outcome import Observer, Outcome, Repeats
from isr_proxy.serve.ready import Kind, Ready
from isr_proxy.store.base import Entry
from isr_proxy.store.layout import Name, key_part

MAX_HEAD_BYTES: Final = 4096  # of a request head that is remembered
_MAX_PAGE_BYTES: Final = 512 * 1024  # of the heads that one answer is known by
_KNOWN_BYTES: Final = 320  # of the Python objects of one head, besides its bytes
_TOLD_BYTES: Final = 2048  # of what is told of each answer, where somebody listens
_SEEN: Final = 65536  # heads that came once are remembered in so many bytes


class Known:
    """One request head, what answers it, and who is told. `client` None: the connection's own peer."""

    __slots__ = ("client", "each", "ready", "repeats")

    def __init__(
        self, ready: Ready, repeats: Repeats, each: Callable[[str], None] | None, client: str | None
    ) -> None:
        self.ready = ready
        self.repeats = repeats
        self.each = each
        self.client = client


Heads = dict[bytes, Known]
NO_HEADS: Final[Mapping[bytes, Known]] = MappingProxyType({})


class HotTier(Protocol):
    """What the lane needs of the hot tier."""

    @property
    def stamps(self) -> Sequence[int]:
        """The stamps of all keys."""

    def holds(self, entry: Entry) -> bool:
        """Tell whether this very object is held."""

    def mark(self, entry: Entry) -> tuple[int, int] | None:
        """Return which stamp an entry's key has and what it was, None when this very object is not held."""

    def credit(self, entry: Entry, hits: int) -> None:
        """Count hits that were served without asking the tier."""

    def charge(self, entry: Entry, size_bytes: int) -> None:
        """Weigh an entry so much heavier, or lighter, as long as it is held."""

    def on_change(self, listener: Callable[[Name], None]) -> None:
        """Have a listener told, at once, which held entry is not the one to serve any more."""


class _Page:
    """What is ready of one key."""

    __slots__ = ("answers", "heads")

    def __init__(self) -> None:
        self.answers: dict[Kind, Ready] = {}
        self.heads: list[tuple[Heads, bytes]] = []  # in which tables they are


class HotLane:
    """One a process; emptied, never replaced, so that every connection may keep the tables it looks in."""

    def __init__(
        self, tier: HotTier, epochs: Sequence[int], observer: Observer, verdict: Callable[[Entry], Verdict]
    ) -> None:
        self.epochs = epochs  # of the purge log: what was judged holds while it is the same
        self.stamps = tier.stamps  # of keys: what another worker changes has another one
        self._tier = tier
        self._observer = observer
        self._verdict = verdict
        self._pages: dict[bytes, _Page] = {}
        self._tables: dict[tuple[str, bool], Heads] = {}
        self._seen = bytearray(_SEEN)
        tier.on_change(lambda name: self.forget(key_part(name)))

    def __len__(self) -> int:
        """Return how many request heads are known."""
        return sum(len(table) for table in self._tables.values())

    def heads(self, scheme: str, *, is_trusted: bool) -> Heads:
        """Return the table of the connections on which a head means the same.

        The same bytes are another request over TLS, and from a proxy whose X-Forwarded-* is believed.
        """
        return self._tables.setdefault((scheme, is_trusted), {})

    def clear(self) -> None:
        """Forget everything: what was decided would be decided anew."""
        for digest in list(self._pages):
            self.forget(digest)

    def forget(self, digest: bytes) -> None:
        """Drop what is ready of a key."""
        page = self._pages.pop(digest, None)
        if page is None:
            return
        for table, raw in page.heads:
            del table[raw]
        for ready in page.answers.values():
            self._tier.charge(ready.entry, -ready.taken_bytes)

    # --- answers ---

    def find(self, entry: Entry, route: Route, kind: Kind) -> Ready | None:
        """Return what is ready of an entry."""
        page = self._pages.get(entry.key.digest)
        ready = None if page is None else page.answers.get(kind)
        if ready is None or ready.entry is not entry or ready.route is not route:
            return None
        return ready

    def may_keep(self, entry: Entry) -> bool:
        """Tell whether answers from an entry may be kept: the hot tier holds it."""
        return self._tier.holds(entry)

    def keep(self, ready: Ready) -> None:
        """Keep an answer, if its entry is held by the hot tier."""
        digest = ready.entry.key.digest
        mark = self._tier.mark(ready.entry)
        if mark is None:
            return
        ready.place, ready.stamp = mark
        if ready.kind in self._page(digest).answers:  # made by a route that was configured otherwise
            self.forget(digest)
        self._page(digest).answers[ready.kind] = ready
        self._tier.charge(ready.entry, ready.taken_bytes)

    def _page(self, digest: bytes) -> _Page:
        page = self._pages.get(digest)
        if page is None:
            page = self._pages[digest] = _Page()
        return page

    def renew(self, ready: Ready, now: float) -> bool:
        """Bring an answer up to date: about once a second, and after each purge. False: it is over."""
        entry, epoch = ready.entry, self.epochs[0]  # before it is judged: what comes meanwhile is noticed
        verdict = self._verdict(entry)
        at = times(entry.meta, entry.state, ready.route, now, soft_purged_at=verdict.stale_at)
        mark = self._tier.mark(entry)
        if verdict.hidden or mark is None or not may_repeat(entry, at, now):
            self.forget(entry.key.digest)
            return False
        ready.place, ready.stamp = mark
        self._tier.credit(entry, ready.hits)
        ready.hits = 0
        ready.renew(at, now, epoch)
        return True

    # --- request heads ---

    def learn(self, heads: Heads, raw: bytes, ready: Ready, outcome: Outcome) -> None:
        """Remember a head that came for the second time: most that never come again are never kept."""
        page = self._pages.get(ready.entry.key.digest)
        if page is None or page.answers.get(ready.kind) is not ready:
            return
        # One that is pipelined is parsed, known or not.
        if raw in heads or len(raw) > MAX_HEAD_BYTES or not self._has_come_before(raw):
            return
        each = self._observer.listener(outcome)
        request = outcome.request
        client = request.client if ", " in request.forwarded_for else None  # some proxy named him
        heads[raw] = Known(ready, self._observer.repeats(outcome), each, client)
        page.heads.append((heads, raw))
        taken_bytes = len(raw) + _KNOWN_BYTES + (_TOLD_BYTES if each is not None else 0)
        ready.taken_bytes += taken_bytes
        self._tier.charge(ready.entry, taken_bytes)
        if ready.taken_bytes > _MAX_PAGE_BYTES:
            self.forget(ready.entry.key.digest)

    def _has_come_before(self, raw: bytes) -> bool:
        """Tell whether a head came lately; one byte each, and a few are taken for another."""
        number = hash(raw)
        place, mark = number % _SEEN, (number >> 20) % 255 + 1
        if self._seen[place] == mark:
            return True
        self._seen[place] = mark
        return False


def may_repeat(entry: Entry, at: Times, now: float) -> bool:
    """Tell whether an answer grows old evenly: fresh, by a clock that did not go back."""
    return at.phase is Phase.FRESH and now >= entry.state.fetched_at


def is_plain(request: Request, route: Route) -> bool:
    """Tell whether the moment has no say in how a request is answered from a fresh page."""
    if b"range" in request.fields:
        return False
    if route.client_directives is ClientDirectives.IGNORE:
        return True
    return b"cache-control" not in request.fields and b"pragma" not in request.fields
