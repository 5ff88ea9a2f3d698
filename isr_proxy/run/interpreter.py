"""Settings of the interpreter itself, for a process that serves.

Knows what its defaults cost here. Must not know what is served.
"""

from __future__ import annotations

import gc
from typing import Final

# A page that is stored makes some hundred objects, all of which stay: to look for garbage among them more
# often finds none, and takes half as long again.
_YOUNG: Final = 5000


def tune() -> None:
    """Have garbage looked for seldom, and never in what is there at the start."""
    gc.set_threshold(_YOUNG, *gc.get_threshold()[1:])
    gc.collect()
    gc.freeze()
