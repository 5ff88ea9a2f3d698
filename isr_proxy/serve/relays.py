"""Heads of answers that go through, written again where the origin said the very same.

Knows what was made of which head, and for how long that holds: a second, where the Date is ours. Must not
know which answers are relayed, nor to whom.
"""

from __future__ import annotations

from typing import Final

from isr_proxy.core.http import Head, Line
from isr_proxy.core.reason import XCache
from isr_proxy.serve.respond import relayed_head

_MOST: Final = 256
_BYTES_MAX: Final = 2048  # of a head; what is longer comes again in no other object either (origin/parser.py)

Written = dict[tuple[Line, ...], bytes]  # by the lines that say how this visitor's answer is framed


class Relay:
    """What a visitor gets of one head of the origin's."""

    __slots__ = ("_of", "_second", "_status", "head", "written")

    def __init__(self, of: Head, status: str, now: float) -> None:
        self.head = relayed_head(of, status, XCache.PASS, now)
        self.written: Written = {}
        self._of = of
        self._status = status
        self._second = int(now)

    def is_of(self, head: Head, status: str, now: float) -> bool:
        """Tell whether it would be made the same again."""
        return self._of is head and self._status == status and self._second == int(now)


class Relays:
    """The relays of late, by the very objects they were made of."""

    def __init__(self) -> None:
        self._relays: dict[int, Relay] = {}

    def of(self, head: Head, status: str, now: float) -> Relay:
        relay = self._relays.get(id(head))
        if relay is not None and relay.is_of(head, status, now):
            return relay
        relay = Relay(head, status, now)
        if sum(len(name) + len(value) for name, value in head.fields) <= _BYTES_MAX:
            if len(self._relays) >= _MOST:
                self._relays.clear()
            self._relays[id(head)] = relay
        return relay
