"""The shell of a route: a page that stands in for those that are not generated yet.

Knows how a shell is had by its key, generated now where it must be. Must not know visitors.
"""

from __future__ import annotations

from collections.abc import Callable

from isr_proxy.core.freshness import Times, times
from isr_proxy.core.http import NO_FIELDS
from isr_proxy.core.key import PLAIN, Key
from isr_proxy.core.purges import Verdict
from isr_proxy.core.reason import Reason
from isr_proxy.core.routes import Match, RouteTable
from isr_proxy.serve.boarding import Boarding
from isr_proxy.serve.job import Job
from isr_proxy.serve.variances import Variances
from isr_proxy.store.base import Entry


class Shells:
    """Gets the shells of routes."""

    def __init__(
        self,
        variances: Variances,
        boarding: Boarding,
        verdict: Callable[[Entry], Verdict],
        regenerate_behind: Callable[[Job], Reason],
        now: Callable[[], float],
    ) -> None:
        self._variances = variances
        self._boarding = boarding
        self._verdict = verdict
        self._regenerate_behind = regenerate_behind
        self._now = now

    async def obtain(self, key: Key, routes: RouteTable) -> tuple[Entry, Match, Times] | None:
        """Return a 200 by its key, generated now if it must be; None when the origin will not give it."""
        match = routes.match(key.host, key.path)
        if match is None or not match.route.revalidate.is_isr:
            return None
        for _ in range(2):
            found = await self._variances.look(key, NO_FIELDS)
            if isinstance(found, Entry) and not self._verdict(found).hidden:
                if found.meta.status != 200:
                    return None
                at = times(found.meta, found.state, match.route, self._now(), soft_purged_at=None)
                if at.ttl <= 0:
                    self._regenerate_behind(Job(key, found.variant, match, found))
                return found, match, at
            await self._boarding.regenerate(Job(key, PLAIN, match), since=0)
        return None
