"""How long a dead worker's seat stays empty: a function of how often somebody died there.

Knows instants only. Must not know processes. The first to die is replaced at once; those that die one after
the other are replaced ever later, so that a worker that cannot live does not eat the processor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

REMEMBERED_SECONDS: Final = 300.0
FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 30.0


def remembered(deaths: Sequence[float], now: float) -> tuple[float, ...]:
    """Return the deaths that still count."""
    return tuple(at for at in deaths if now - at < REMEMBERED_SECONDS)


def pause(deaths: Sequence[float], now: float) -> float:
    """Return for how long to wait after the last of these deaths, which has just happened."""
    count = len(remembered(deaths, now))
    if count <= 1:
        return 0.0
    return min(FIRST_PAUSE * 2.0 ** min(count - 2, 16), LONGEST_PAUSE)
