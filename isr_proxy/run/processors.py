"""How many processors this process may use: what `workers: auto` means.

Knows the affinity mask and the quota of a control group. Must not know workers.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Final

_QUOTA: Final = Path("/sys/fs/cgroup/cpu.max")  # as a container sees its own


def processors(quota: Path = _QUOTA) -> int:
    """Return for how many processors there is time: at least one."""
    allowed = len(os.sched_getaffinity(0))
    return max(1, min(allowed, math.ceil(_share(quota) or allowed)))


def _share(path: Path) -> float | None:
    """Return the quota in processors; None where there is none."""
    try:
        quota, period = path.read_text().split()
        return int(quota) / int(period)
    except (OSError, ValueError):  # `max 100000`, or no such file
        return None
