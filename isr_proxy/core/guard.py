"""The guard of a route: what a body must be like to replace a stored page (law 1).

Knows the rules, and how to look for texts in a body that comes in pieces. Must not know where it is kept.
"""

from __future__ import annotations

from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import Guard


class GuardScan:
    """Follow one body piece by piece; what is remembered is bounded by the longest text looked for."""

    __slots__ = ("_forbidden", "_guard", "_has_forbidden", "_missing", "_overlap", "_size_bytes", "_tail")

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._missing = {text.encode() for text in guard.contains}
        self._forbidden = [text.encode() for text in guard.forbids]
        self._overlap = max(map(len, (*self._missing, *self._forbidden)), default=1) - 1
        self._tail = b""
        self._has_forbidden = False
        self._size_bytes = 0

    def feed(self, chunk: bytes) -> None:
        self._size_bytes += len(chunk)
        if not self._missing and not self._forbidden:
            return
        window = self._tail + chunk
        self._missing = {text for text in self._missing if text not in window}
        self._has_forbidden = self._has_forbidden or any(text in window for text in self._forbidden)
        self._tail = window[-self._overlap :] if self._overlap else b""

    def problem(self, content_type: str | None, stored_bytes: int | None) -> Reason | None:
        """Say which rule the whole body breaks, or None. `stored_bytes`: size of the page it replaces."""
        guard = self._guard
        if self._size_bytes < guard.min_bytes:
            return Reason.GUARD_SIZE
        if _is_shrunk(guard, self._size_bytes, stored_bytes):
            return Reason.GUARD_SHRINK
        if guard.content_type and not (content_type or "").lower().startswith(guard.content_type.lower()):
            return Reason.GUARD_TYPE
        if self._missing:
            return Reason.GUARD_CONTAINS
        return Reason.GUARD_FORBIDS if self._has_forbidden else None


def _is_shrunk(guard: Guard, size_bytes: int, stored_bytes: int | None) -> bool:
    return (
        guard.max_shrink is not None
        and stored_bytes is not None
        and size_bytes < stored_bytes * (1 - guard.max_shrink)
    )
