"""How fast a visitor is: whether he sends his body, and takes his answer, at the least rate.

Knows counts of bytes, at the moments when somebody looks. Must not know sockets, or what becomes of the slow.
"""

from __future__ import annotations

import time

from isr_proxy.core.limits import is_fast_enough
from isr_proxy.core.settings import LimitSettings


class Pace:
    """The pace of one connection. Each look compares with the one before it."""

    __slots__ = ("_body_bytes", "_limits", "_unsent_bytes")

    def __init__(self, limits: LimitSettings) -> None:
        self._limits = limits
        self._unsent_bytes = 0  # of the answer, when last looked at
        self._body_bytes = 0  # of the request's body, likewise

    def is_taking(self, unsent_bytes: int) -> bool:
        """Tell whether enough of what was unsent was taken since the last look: slow, not stalled."""
        taken_bytes = self._unsent_bytes - unsent_bytes
        self._unsent_bytes = unsent_bytes
        return unsent_bytes > 0 and is_fast_enough(taken_bytes, self._limits.send_timeout, self._limits)

    def is_sending(self, body_bytes: int) -> bool:
        """Tell whether enough of a body came since its deadline was set."""
        came_bytes = body_bytes - self._body_bytes
        return is_fast_enough(came_bytes, self._limits.body_timeout, self._limits)

    def send_deadline(self) -> float:
        """Return when to look at what is unsent."""
        return time.monotonic() + self._limits.send_timeout

    def body_deadline(self, body_bytes: int) -> float:
        """Return when to look at the body again, `body_bytes` of which are here now."""
        self._body_bytes = body_bytes
        return time.monotonic() + self._limits.body_timeout
