"""How many files and sockets the process may have open.

Knows the kernel's limit and what the settings may need of it. Must not know who opens them.
"""

from __future__ import annotations

import resource
from typing import Final

import structlog

from isr_proxy.core.settings import Settings

_log = structlog.get_logger("isr_proxy.descriptors")

_OWN: Final = 1536  # pages kept open, being read and written; the catalog, the admin port


def raise_limit(settings: Settings) -> None:
    """Allow as many as the kernel gives, and tell when `limits.max_connections` can ask for more.

    The customary 1024 is below any sane number of connections, and who cannot open a page cannot serve it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
        except (OSError, ValueError):
            pass
    wanted = needed(settings)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        _log.warning("fewer open files are allowed than connections may need", allowed=soft, needed=wanted)


def needed(settings: Settings) -> int:
    """Return how many descriptors are open when all that may come has come."""
    origins = len(settings.origin.urls) * settings.origin.max_connections
    return settings.limits.max_connections + origins + _OWN
