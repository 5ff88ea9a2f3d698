"""What became of a request, and of a regeneration: the one value behind log, metrics and headers (law 10).

Knows the facts. Must not know who reads them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from isr_proxy.core.http import Request
from isr_proxy.core.key import Key
from isr_proxy.core.purges import Strength
from isr_proxy.core.reason import Reason, XCache
from isr_proxy.core.value import Value


class Outcome(Value, frozen=True):
    """One answered request. `sent_bytes` is the body's; `seconds` from its arrival to its last byte."""

    request: Request
    route: str | None  # the pattern, None where none matched
    status: int
    x_cache: XCache
    reason: Reason
    sent_bytes: int
    seconds: float


class Regenerated(Value, frozen=True):
    """One fetch for the store. `reason` is STORED, or why nothing was."""

    key: Key
    route: str
    reason: Reason
    seconds: float
    is_unchanged: bool = False


@dataclass(frozen=True, slots=True)
class Purged:
    """One purge that is in force; `matched` stored entries were selected."""

    sequence: int
    matched: int
    strength: Strength


@dataclass(slots=True)
class Repeats:
    """Answers that were the same again, of which nobody makes an Outcome: they took no time to speak of."""

    count: int = 0
    sent_bytes: int = 0


class Observer(Protocol):
    """Whoever is told."""

    def visited(self, outcome: Outcome) -> None: ...

    def repeats(self, outcome: Outcome) -> Repeats:
        """Return where answers that are this one again are counted."""

    def listener(self, outcome: Outcome) -> Callable[[str], None] | None:
        """Return what is told of each of them, with the client's address; None where nobody listens."""

    def regenerated(self, regenerated: Regenerated) -> None: ...

    def purged(self, purged: Purged) -> None: ...
