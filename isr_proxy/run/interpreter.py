"""Settings of the interpreter itself, for a process that serves.

Knows what its defaults cost here. Must not know what is served.
"""

from __future__ import annotations

import gc
import sys
from typing import Final

# What a thread waits for a busy loop. With Python's 5 ms the catalog falls behind the pages that are stored,
# and what the loop itself waits for a thread looks like a slow disk.
_SWITCH_SECONDS: Final = 0.0005
# A page that is stored makes some hundred objects, all of which stay: to look for garbage among them more
# often finds none.
_YOUNG: Final = 5000


def tune() -> None:
    """Have threads get their turns soon; look for garbage seldom, and never in what is there at the start."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
    gc.collect()
    gc.freeze()
