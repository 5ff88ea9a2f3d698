"""An answer that is ready to be sent again: head and body as bytes, and for how long they read the same.

Knows where in a head the two numbers stand that grow old: Age, and the ttl of Cache-Status. Must not know
which requests it answers (hot_lane.py), nor whether its page is still the one to serve.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from isr_proxy.core.freshness import Times, reads_the_same_until, remaining
from isr_proxy.core.key import Variant
from isr_proxy.core.settings import Route
from isr_proxy.serve.respond import Validators
from isr_proxy.store.base import Entry

_AGE: Final = b"\r\nAge: "
_TTL: Final = b"\r\nCache-Status: isr-proxy; hit; ttl="
_OVERHEAD_BYTES: Final = 400  # of the Python objects of one, besides its head


class Kind(NamedTuple):
    """Which of the answers that one key has."""

    variant: Variant
    encoding: str
    method: str
    is_304: bool


class Ready:
    """One answer from the hot tier to whoever speaks HTTP/1.1 and stays: a page, its head alone, or a 304.

    It reads as it should from `since` to `until`, both included, as long as no purge came after `sequence`.
    """

    __slots__ = (
        "body",
        "entry",
        "head",
        "hits",
        "kind",
        "place",
        "route",
        "sequence",
        "since",
        "stamp",
        "taken_bytes",
        "until",
        "validators",
    )

    def __init__(
        self, entry: Entry, route: Route, kind: Kind, head: bytes, body: bytes, has: Validators
    ) -> None:
        """`head` is that of a hit, whatever its Age and ttl."""
        self.entry = entry
        self.route = route
        self.kind = kind
        self.head = head
        self.body = body
        self.hits = 0  # that the tier was not told of
        self.validators = has
        self.since = self.until = float("-inf")
        self.sequence = -1
        self.place = self.stamp = 0
        self.taken_bytes = _OVERHEAD_BYTES + len(head)  # of memory, with the request heads it is known by

    def holds(self, now: float, sequence: int) -> bool:
        """Tell whether it may be sent as it is."""
        return self.since <= now <= self.until and self.sequence == sequence

    def renew(self, at: Times, now: float, sequence: int) -> None:
        """Say how old the page is now."""
        before, _, rest = self.head.rpartition(_AGE)
        between, _, tail = rest.rpartition(_TTL)
        between = between[between.find(b"\r\n") :] if b"\r\n" in between else b""
        after = tail[tail.index(b"\r\n") :]
        parts = (before, _AGE, b"%d" % int(at.age), between, _TTL, b"%d" % remaining(at.ttl), after)
        self.head = b"".join(parts)
        self.since, self.until = now, reads_the_same_until(at, now)
        self.sequence = sequence
