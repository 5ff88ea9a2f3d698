"""The hot lane: what is ready to be sent again, and the exact request heads that it answers.

Knows when an answer may be prepared, which heads it was given for, and what makes it drop out: its page was
replaced, purged or let go by the hot tier, or the configuration changed. Must not know connections, nor how a
request becomes an answer: whatever is here was first decided the long way.

All of it is weighed as part of the hot tier's entries, so `store.memory` bounds it too (law 8): a page that
is let go takes its answers along. What is ready of a page that the tier does not hold is its head alone; it
is weighed beside the tier, as a part of the same memory.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, Protocol

from isr_proxy.core.freshness import Phase, Times, fresh_times, times
from isr_proxy.core.http import Request
from isr_proxy.core.purges import Verdict
from isr_proxy.core.settings import ClientDirectives, Route
from isr_proxy.serve.beside import Beside
from isr_proxy.serve.comebacks import Comebacks
from isr_proxy.serve.known_passes import KnownPass, KnownPasses
from isr_proxy.serve.outcome import Observer, Outcome, Repeats
from isr_proxy.serve.ready import Kind, Ready
from isr_proxy.store.base import Entry
from isr_proxy.store.layout import Name, key_part
from isr_proxy.store.slices import FileSlice

MAX_HEAD_BYTES: Final = 4096  # of a request head that is remembered
_MAX_PAGE_BYTES: Final = 512 * 1024  # of the heads that one answer is known by
_KNOWN_BYTES: Final = 320  # of the Python objects of one head, besides its bytes
_TOLD_BYTES: Final = 2048  # of what is told of each answer, where somebody listens
_PASSES_DIVISOR: Final = 4  # of what may be kept beside the tier
_ROOMY_PAGE_BYTES: Final = 32 * 1024  # of one answer's heads; beyond it room is always scarce
_CREDITED: Final = 8  # hits that the tier is told of at once
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


Heads = dict[bytes, Known | KnownPass]
NO_HEADS: Final[Mapping[bytes, Known | KnownPass]] = MappingProxyType({})


class HotTier(Protocol):
    """What the lane needs of the hot tier."""

    @property
    def stamps(self) -> Sequence[int]:
        """The stamps of all keys."""

    @property
    def is_roomy(self) -> bool:
        """Tell whether nothing need go for what is charged: a good part of the tier is empty."""

    def holds(self, entry: Entry) -> bool:
        """Tell whether this very object is held."""

    def mark(self, entry: Entry) -> tuple[int, int] | None:
        """Return which stamp an entry's key has and what it was, None when this very object is not held."""

    def credit(self, entry: Entry, hits: int) -> bool:
        """Count hits that were served without asking the tier; True: it would hold the entry by now."""

    @property
    def beside_bytes(self) -> int:
        """Return how much may be kept beside the tier, of pages that it does not hold."""

    def reserve(self, size_bytes: int) -> None:
        """Leave so much less room, or more, to what is held: it is taken beside the tier."""

    def place(self, digest: bytes) -> int:
        """Return which stamp a key has."""

    def slice_of(self, entry: Entry, encoding: str | None) -> FileSlice | None:
        """Return where a body lies, to be read again and again; None where it cannot be."""

    def charge(self, entry: Entry, size_bytes: int) -> None:
        """Weigh an entry so much heavier, or lighter, as long as it is held."""

    def on_change(self, listener: Callable[[Name], None]) -> None:
        """Have a listener told, at once, which held entry is not the one to serve any more."""

    def on_change_behind(self, listener: Callable[[Name], None]) -> None:
        """Have a listener told, at once, which file is not the same any more."""


class _Page:
    """What is ready of one key."""

    __slots__ = ("answers", "heads", "is_held")

    def __init__(self, *, is_held: bool) -> None:
        self.is_held = is_held  # by the hot tier
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
        self._comebacks = Comebacks(_SEEN)
        self._beside = Beside(tier.beside_bytes, self._let_go, tier.reserve)
        self._passes = KnownPasses(tier.beside_bytes // _PASSES_DIVISOR, tier.reserve)
        tier.on_change(lambda name: self.forget(key_part(name)))
        tier.on_change_behind(self._forget_beside)

    def __len__(self) -> int:
        """Return for how many request heads an answer is ready."""
        return sum(len(table) for table in self._tables.values()) - len(self._passes)

    def heads(self, scheme: str, *, is_trusted: bool) -> Heads:
        """Return the table of the connections on which a head means the same.

        The same bytes are another request over TLS, and from a proxy whose X-Forwarded-* is believed.
        """
        return self._tables.setdefault((scheme, is_trusted), {})

    def clear(self) -> None:
        """Forget everything: what was decided would be decided anew."""
        self._passes.clear()
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
            ready.let_go()
        if not page.is_held:
            self._beside.forget(digest)
            return
        for ready in page.answers.values():
            self._tier.charge(ready.entry, -ready.taken_bytes)

    def _forget_beside(self, name: Name) -> None:
        page = self._pages.get(key_part(name))
        if page is not None and not page.is_held:
            self.forget(key_part(name))

    def _let_go(self, digest: bytes) -> bool:
        """Make room beside the tier; False: somebody asked for this page since it was tried before."""
        page = self._pages[digest]
        was_asked_for = any(ready.hits or ready.was_asked_for for ready in page.answers.values())
        for ready in page.answers.values():
            self._tier.credit(ready.entry, ready.hits)
            ready.hits, ready.was_asked_for = 0, False
        if not was_asked_for:
            self.forget(digest)
        return not was_asked_for

    # --- answers ---

    def find(self, entry: Entry, route: Route, kind: Kind) -> Ready | None:
        """Return what is ready of an entry."""
        page = self._pages.get(entry.key.digest)
        ready = None if page is None else page.answers.get(kind)
        return ready if ready is not None and ready.is_of(entry, route) else None

    def is_held(self, entry: Entry) -> bool:
        """Tell whether the hot tier holds an entry."""
        return self._tier.holds(entry)

    def slice_of(self, entry: Entry, encoding: str | None) -> FileSlice | None:
        """Return where a body lies of an entry that the tier does not hold.

        None where nobody can tell; and where room is scarce, at first: most pages never come again.
        """
        if not (self._comebacks.is_one(entry.key.digest) or self._is_roomy(is_held=False)):
            return None
        return self._tier.slice_of(entry, encoding)

    def keep(self, ready: Ready) -> None:
        """Keep an answer: from an entry that the hot tier holds, or from a file."""
        digest, is_held = ready.entry.key.digest, ready.file is None
        mark = self._mark(ready)
        if mark is None:
            return
        ready.place, ready.stamp = mark
        page = self._pages.get(digest)
        # Another one of its kind was made of what is not there any more.
        if page is not None and (page.is_held is not is_held or ready.kind in page.answers):
            self.forget(digest)
            page = None
        if page is None:
            page = self._pages[digest] = _Page(is_held=is_held)
        page.answers[ready.kind] = ready
        self._charge(page, ready, ready.taken_bytes)

    def _mark(self, ready: Ready) -> tuple[int, int] | None:
        """Return which stamp its key has, and what that was; None: it is not to be served any more."""
        if ready.file is None:
            return self._tier.mark(ready.entry)
        place = self._tier.place(ready.entry.key.digest)
        return place, self.stamps[place]

    def _charge(self, page: _Page, ready: Ready, size_bytes: int) -> None:
        if page.is_held:
            self._tier.charge(ready.entry, size_bytes)
        else:
            self._beside.charge(ready.entry.key.digest, size_bytes)

    def renew(self, ready: Ready, now: float) -> bool:
        """Bring an answer up to date: about once a second, and after each purge. False: it is over."""
        if ready.sequence != self.epochs[0] or ready.stamp != self.stamps[ready.place]:
            return self._judge(ready, now)
        at = fresh_times(ready.entry.state, ready.ttl, now)
        if at is None:
            self.forget(ready.entry.key.digest)
            return False
        ready.renew(at, now, ready.sequence)
        return ready.hits < _CREDITED or self._credit(ready)

    def _credit(self, ready: Ready) -> bool:
        """Tell the tier of hits; False: it would hold the page by now, so that it is asked again."""
        hits, ready.hits = ready.hits, 0
        ready.was_asked_for = ready.was_asked_for or hits > 0
        if not self._tier.credit(ready.entry, hits):
            return True
        self.forget(ready.entry.key.digest)
        return False

    def _judge(self, ready: Ready, now: float) -> bool:
        """Judge a page anew: there was a purge, or its key may have changed."""
        entry, epoch = ready.entry, self.epochs[0]  # before it is judged: what comes meanwhile is noticed
        verdict = self._verdict(entry)
        at = times(entry.meta, entry.state, ready.route, now, soft_purged_at=verdict.stale_at)
        mark = self._mark(ready)
        if verdict.hidden or mark is None or not may_repeat(entry, at, now):
            self.forget(entry.key.digest)
            return False
        ready.place, ready.stamp = mark
        ready.renew(at, now, epoch)
        return self._credit(ready)

    # --- request heads ---

    def learn(self, heads: Heads, raw: bytes, ready: Ready, outcome: Outcome) -> None:
        """Remember a head. Where room is scarce, only one that came before: most never come again."""
        page = self._pages.get(ready.entry.key.digest)
        if page is None or page.answers.get(ready.kind) is not ready:
            return
        # One that is pipelined comes here, known or not.
        if raw in heads or len(raw) > MAX_HEAD_BYTES:
            return
        is_roomy = ready.taken_bytes < _ROOMY_PAGE_BYTES and self._is_roomy(is_held=page.is_held)
        if not (self._comebacks.is_one(raw) or is_roomy):
            return
        each = self._observer.listener(outcome)
        request = outcome.request
        client = request.client if ", " in request.forwarded_for else None  # some proxy named him
        heads[raw] = Known(ready, self._observer.repeats(outcome), each, client)
        page.heads.append((heads, raw))
        taken_bytes = len(raw) + _KNOWN_BYTES + (_TOLD_BYTES if each is not None else 0)
        ready.taken_bytes += taken_bytes
        self._charge(page, ready, taken_bytes)
        if ready.taken_bytes > _MAX_PAGE_BYTES:
            self.forget(ready.entry.key.digest)

    def learn_pass(self, heads: Heads, raw: bytes, known: KnownPass) -> None:
        """Remember a head that came before and is passed on."""
        if len(raw) <= MAX_HEAD_BYTES and self._comebacks.is_one(raw):
            self._passes.learn(heads, raw, known)

    def _is_roomy(self, *, is_held: bool) -> bool:
        """Tell whether nobody need go; what is beside the tier takes the tier's room."""
        return self._tier.is_roomy and (is_held or self._beside.is_roomy)


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
