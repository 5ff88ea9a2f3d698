"""Invalidation: after an unsafe request, what it may have changed is not served any more.

Knows how to find out whether anything is stored at all, so that a site full of POSTs does not fill the purge
log. Must not know which URLs are meant (core/invalidation.py) or how a purge is made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence

from isr_proxy.core.http import Head, Request
from isr_proxy.core.invalidation import (
    invalidated_groups,
    invalidated_urls,
    is_invalidated,
    is_unsafe,
)
from isr_proxy.core.key import Key, derive
from isr_proxy.core.partial import key_of_parts
from isr_proxy.core.purges import Scope, Selector
from isr_proxy.core.routes import RouteTable
from isr_proxy.core.settings import RevalidateMode
from isr_proxy.serve.variances import Variances
from isr_proxy.store.base import Store

Purge = Callable[[tuple[Selector, ...]], Awaitable[None]]


class Invalidation:
    """Called with each answer that passes, before its visitor sees it."""

    def __init__(
        self,
        routes: Callable[[], RouteTable],
        store: Store,
        variances: Variances,
        is_flying: Callable[[Hashable], Awaitable[bool]],
        purge: Purge,
    ) -> None:
        self._routes = routes
        self._store = store
        self._variances = variances
        self._is_flying = is_flying
        self._purge = purge

    async def after(self, request: Request, head: Head) -> None:
        """Purge what this answer invalidates; returns when it is in force (law 2)."""
        if not is_unsafe(request):
            return
        selectors = [*invalidated_groups(request, head)]
        for url in invalidated_urls(request, head):
            selectors += await self._selectors(url)
        if selectors:
            await self._purge(tuple(dict.fromkeys(selectors)))

    async def _selectors(self, url: Request) -> Sequence[Selector]:
        match = self._routes().match(url.host, url.path)
        if match is None or match.route.revalidate.mode is RevalidateMode.PASS:
            return ()
        if not is_invalidated(match.route):
            return ()
        key = derive(url, match.route.key)
        # A keyed header or cookie makes many keys of one URL, of which this request's is only one. Who flies
        # comes first: once landed, it has written its rule down.
        if key.dimensions or await self._is_flying(key.place) or await self._is_stored(key):
            return (Selector(Scope.TARGET, key.target, key.host),)
        return ()

    async def _is_stored(self, key: Key) -> bool:
        """Tell whether a page is stored for a key, or parts of one, or a page that answers for it too."""
        for each in (key, key_of_parts(key)):
            if await self._store.known(each):
                return True
        shorter = await self._variances.shortened(key)
        return shorter != key and await self._store.known(shorter)
