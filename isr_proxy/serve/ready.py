"""An answer that is ready to be sent again: head and body as bytes, and for how long they read the same.

Knows where in a head the two numbers stand that grow old: Age, and the ttl of Cache-Status. Must not know
which requests it answers (hot_lane.py), nor whether its page is still the one to serve.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from isr_proxy.core.freshness import Times, lifetime, reads_the_same_until, remaining
from isr_proxy.core.key import Variant
from isr_proxy.core.settings import Route
from isr_proxy.serve.respond import Validators
from isr_proxy.store.base import Entry
from isr_proxy.store.opened import FileBodies, ResidentBodies
from isr_proxy.store.slices import FileSlice

_AGE: Final = b"\r\nAge: "
_TTL: Final = b"\r\nCache-Status: isr-proxy; hit; ttl="
# Of the Python objects of one, besides its head, measured (tests/lanes/test_hot_weight.py).
_OVERHEAD_BYTES: Final = 400
_FILE_BYTES: Final = 3400  # its key, meta and state, and where its body lies
_TAG_BYTES: Final = 72


class Kind(NamedTuple):
    """Which of the answers that one key has."""

    variant: Variant
    encoding: str
    method: str
    is_304: bool


class Ready:
    """One answer to whoever speaks HTTP/1.1 and stays: a page, its head alone, or a 304.

    It reads as it should from `since` to `until`, both included, as long as no purge came after `sequence`.
    The body of a page that the hot tier does not hold is read from its `file`, each time.
    """

    __slots__ = (
        "_parts",
        "body",
        "body_bytes",
        "entry",
        "file",
        "head",
        "hits",
        "kind",
        "place",
        "route",
        "sequence",
        "since",
        "stamp",
        "taken_bytes",
        "ttl",
        "until",
        "validators",
        "was_asked_for",
    )

    def __init__(
        self, entry: Entry, route: Route, kind: Kind, head: bytes, body: bytes | FileSlice, has: Validators
    ) -> None:
        """`head` is that of a hit, whatever its Age and ttl."""
        self.entry = entry
        self.route = route
        self.kind = kind
        self.head = head
        self.body = body if isinstance(body, bytes) else b""
        self.file = None if isinstance(body, bytes) else body
        self.body_bytes = len(body) if isinstance(body, bytes) else body.size_bytes
        self.ttl = lifetime(entry.meta, route).ttl
        self._parts = _around_what_ages(head)
        self.hits = 0  # that the tier was not told of
        self.was_asked_for = False  # since somebody wanted its room, beside those
        self.validators = has
        self.since = self.until = float("-inf")
        self.sequence = -1
        self.place = self.stamp = 0
        # Of memory, with the request heads it is known by.
        self.taken_bytes = _OVERHEAD_BYTES + 2 * len(head)
        if self.file is not None:  # nobody else weighs what it is made of
            self.taken_bytes += _FILE_BYTES + sum(_TAG_BYTES + len(tag) for tag in entry.meta.tags)

    def is_of(self, entry: Entry, route: Route) -> bool:
        """Tell whether it was made of this entry: the very object, or one read from the same file."""
        if self.route is not route:
            return False
        if self.file is None:
            return self.entry is entry
        bodies = entry.bodies
        if not isinstance(bodies, ResidentBodies | FileBodies):
            return False
        return self.file.is_of(bodies.file_id.header, entry.state)

    def holds(self, now: float, sequence: int) -> bool:
        """Tell whether it may be sent as it is."""
        return self.since <= now <= self.until and self.sequence == sequence

    def renew(self, at: Times, now: float, sequence: int) -> None:
        """Say how old the page is now."""
        before, between, after = self._parts
        self.head = b"%b%d%b%d%b" % (before, int(at.age), between, remaining(at.ttl), after)
        self.since, self.until = now, reads_the_same_until(at, now)
        self.sequence = sequence
        self.let_go()

    def let_go(self) -> None:
        """Close its file for now."""
        if self.file is not None:
            self.file.let_go()


def _around_what_ages(head: bytes) -> tuple[bytes, bytes, bytes]:
    """Return what stands before the age, between it and the ttl, and behind that."""
    before, _, rest = head.rpartition(_AGE)
    between, _, after = rest.rpartition(_TTL)
    _, line_break, more = between.partition(b"\r\n")
    return before + _AGE, line_break + more + _TTL, after[after.index(b"\r\n") :]
