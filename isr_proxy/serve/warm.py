"""Prerender: pages made ahead of visitors, at start, at a reload, and on demand.

Knows which paths the config and operators list, and which of them are on a route's list (for `fallback:
not_found`). Must not know how a page is fetched or a source read. What is fresh is not fetched again, so a
restart in the middle just goes on.

Pages are made under every name in `hosts`, because a page's key has the host its visitors ask for. Without
`hosts` it is the host of an absolute URL where one is listed, else the origin's own: set `hosts`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Final

import structlog

from isr_proxy.core.reason import Reason
from isr_proxy.core.routes import Match
from isr_proxy.core.settings import PathSource, PathSourceKind, Route
from isr_proxy.origin.client import NOT_CONNECTED, Client
from isr_proxy.serve.batches import Batch, Batches
from isr_proxy.serve.engine import Engine
from isr_proxy.serve.job import Job
from isr_proxy.serve.on_demand import OnDemand, PageResult, Result
from isr_proxy.serve.path_sources import PathSources, SourceUnreadable
from isr_proxy.serve.targets import hosts_of, parse_target, request_of, site_of

_log = structlog.get_logger("isr_proxy.warm")

KIND: Final = "prerender"
_NOTHING: Final[frozenset[str]] = frozenset()
# Between attempts while the origin cannot be reached: it often starts together with us.
PATIENCE: Final = (1.0, 2.0, 4.0, 8.0, 16.0)
_SOURCE_RETRY: Final = (1.0, 5.0, 15.0, 60.0)  # the last one again and again

Listed = tuple[Route | None, str]  # a path or URL, and the route that lists it


class Warmer:
    """Makes pages ahead. `begin` again after each reload."""

    def __init__(
        self,
        engine: Engine,
        client: Client,
        batches: Batches,
        on_demand: OnDemand,
        patience: Sequence[float] = PATIENCE,
    ) -> None:
        self.client = client
        self.makes_pages = True  # False: only the lists are read, as another worker makes the pages
        self._engine = engine
        self._batches = batches
        self._on_demand = on_demand
        self._patience = patience
        self._lists: dict[int, frozenset[str] | None] = {}  # by the route's id: hashing one costs too much
        self._routes: tuple[Route, ...] = ()  # keeps those ids
        self._task: asyncio.Task[None] | None = None
        self._started: list[Batch] = []

    # --- which paths are listed ---

    def is_prerendered(self, match: Match, path: str) -> bool:
        """Tell whether a path is on its route's list; while the list cannot be read yet, any may be."""
        listed = self._lists.get(id(match.route), _NOTHING)
        return listed is None or path in listed

    def _adopt(self, routes: tuple[Route, ...]) -> None:
        """Take new routes; what the same sources listed before counts until they are read again."""
        known = {_identity(route): self._lists.get(id(route)) for route in self._routes}
        self._routes = routes
        self._lists = {id(route): known.get(_identity(route)) for route in routes if route.prerender}
        for route in routes:
            if route.prerender and all(source.kind is PathSourceKind.PATH for source in route.prerender):
                self._lists[id(route)] = _paths(source.value for source in route.prerender)

    # --- at start and at a reload ---

    def begin(self) -> None:
        """Read every route's sources, then make the pages, in the background."""
        if self._task is not None:
            self._task.cancel()
        for batch in self._started:
            batch.cancel()
        self._started = []
        self._adopt(self._engine.settings.routes)
        listing = [route for route in self._routes if route.prerender]
        if not listing:
            return
        site = site_of(self._engine.settings)
        if site.is_guessed:
            _log.warning("set `hosts`: prerendered pages are found only under the host", host=site.hosts[0])
        self._task = asyncio.get_running_loop().create_task(self._read_all(listing))

    async def _read_all(self, pending: list[Route]) -> None:
        """Read the lists and make their pages; those that cannot be read are tried again."""
        for attempt in range(2**31):
            listed: list[Listed] = []
            for route in list(pending):
                texts = await self._read(route)
                if texts is not None:
                    self._lists[id(route)] = _paths(texts)
                    listed += [(route, text) for text in texts]
                    pending.remove(route)
            if listed and self.makes_pages:
                self._started.append(self._start(_each(listed), self._patience))
            if not pending:
                return
            await asyncio.sleep(_SOURCE_RETRY[min(attempt, len(_SOURCE_RETRY) - 1)])

    async def _read(self, route: Route) -> list[str] | None:
        sources = PathSources(self._engine.settings, self.client)
        try:
            return [text for source in route.prerender for text in await sources.read(source)]
        except SourceUnreadable as error:
            _log.warning("a prerender list cannot be read yet", route=route.match, error=str(error))
            return None

    # --- on demand ---

    def prerender(self, paths: Sequence[str], sitemap: str | None) -> Batch:
        """Make these pages and those of a sitemap. ValueError for what is no path; TooManyBatches."""
        for text in (*paths, *([] if sitemap is None else [sitemap])):
            parse_target(text)
        self._batches.check_room()
        return self._start(self._given(paths, sitemap), ())

    async def _given(self, paths: Sequence[str], sitemap: str | None) -> AsyncIterator[Listed | PageResult]:
        for path in paths:
            yield None, path
        if sitemap is None:
            return
        sources = PathSources(self._engine.settings, self.client)
        try:
            for page in await sources.read(PathSource(PathSourceKind.SITEMAP, sitemap)):
                yield None, page
        except SourceUnreadable as error:
            yield PageResult(sitemap, Result.FAILED, str(error))

    # --- pages ---

    def _start(self, listed: AsyncIterator[Listed | PageResult], patience: Sequence[float]) -> Batch:
        async def make(wanted: Job | PageResult) -> PageResult:
            return await self._make(wanted, patience)

        batch = self._batches.new(KIND)
        self._batches.start(batch, self._wanted(listed), make, self._on_demand.at_once)
        return batch

    async def _wanted(self, listed: AsyncIterator[Listed | PageResult]) -> AsyncIterator[Job | PageResult]:
        """Turn what is listed into pages, one for each host it means."""
        async for item in listed:
            if isinstance(item, PageResult):
                yield item
                continue
            for wanted in self._plan(*item):
                yield wanted

    def _plan(self, route: Route | None, text: str) -> Iterator[Job | PageResult]:
        site = site_of(self._engine.settings)
        try:
            target = parse_target(text)
        except ValueError:
            yield PageResult(text, Result.FAILED, Reason.BAD_TARGET.value)
            return
        for host in hosts_of(target, site, None if route is None else route.host):
            yield self._on_demand.plan(request_of(target, host, site.scheme))

    async def _make(self, wanted: Job | PageResult, patience: Sequence[float]) -> PageResult:
        if isinstance(wanted, PageResult):
            return wanted
        result = await self._on_demand.generate(wanted)
        for seconds in patience:
            if result.result is not Result.FAILED or result.reason not in NOT_CONNECTED:
                break
            await asyncio.sleep(seconds)
            result = await self._on_demand.generate(wanted)
        return result

    async def aclose(self) -> None:
        """Stop reading lists; the batches are ended by their owner."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


async def _each(listed: Iterable[Listed]) -> AsyncIterator[Listed | PageResult]:
    for item in listed:
        yield item


def _identity(route: Route) -> tuple[object, ...]:
    return route.host, route.match, route.prerender


def _paths(texts: Iterable[str]) -> frozenset[str]:
    """Return the raw paths of what is listed, without queries; what is no path is on no list."""
    found = set()
    for text in texts:
        try:
            found.add(parse_target(text).path)
        except ValueError:
            continue
    return frozenset(found)
