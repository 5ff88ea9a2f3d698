"""Request heads whose requests are passed on: the very bytes again are the very request again.

Knows what was made of such a head, and how much all of it may take. Must not know connections, nor what is
passed: an answer is never kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from isr_proxy.core.decision import Pass
from isr_proxy.core.http import Request
from isr_proxy.core.value import Value
from isr_proxy.serve.beside import Beside

_OBJECTS_BYTES: Final = 3000  # the Python objects of one, besides texts: some twenty fields, four times


class PassedOn(Value, frozen=True):
    """What became of a plain request: why it is passed, and the head that the origin gets."""

    plan: Pass
    head: bytes


class KnownPass:
    """One request head that is passed on. It comes from `peer`, who is named to the origin."""

    __slots__ = ("is_used", "passed", "peer", "request")

    def __init__(self, request: Request, passed: PassedOn, peer: str) -> None:
        self.request = request
        self.passed = passed
        self.peer = peer
        self.is_used = False  # since somebody wanted its room


class KnownPasses:
    """The heads of all tables, so that the one that nobody sends any more gives way."""

    def __init__(self, max_bytes: int, reserve: Callable[[int], None]) -> None:
        self._tables: dict[bytes, dict[bytes, Any]] = {}
        self._weights = Beside(max_bytes, self._let_go, reserve)

    def __len__(self) -> int:
        return len(self._tables)

    def learn(self, heads: dict[bytes, Any], raw: bytes, known: KnownPass) -> None:
        """Remember a head in this table; of several tables or peers, it is of the one that came last."""
        self._forget(raw)
        if raw in heads:  # an answer is ready for it
            return
        heads[raw] = known
        self._tables[raw] = heads
        self._weights.charge(raw, 4 * len(raw) + len(known.passed.head) + _OBJECTS_BYTES)

    def _let_go(self, raw: bytes) -> bool:
        known = self._tables[raw][raw]
        if known.is_used:
            known.is_used = False
            return False
        self._forget(raw)
        return True

    def _forget(self, raw: bytes) -> None:
        heads = self._tables.pop(raw, None)
        if heads is not None:
            del heads[raw]
            self._weights.forget(raw)

    def clear(self) -> None:
        """Forget everything: what was decided would be decided anew."""
        for raw in list(self._tables):
            self._forget(raw)
