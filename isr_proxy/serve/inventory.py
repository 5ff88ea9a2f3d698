"""What is stored, as operators see it.

Knows how a row of the catalog and the page's own meta become a line of a list. Must not know HTTP. What a
page is right now (fresh, stale, purged) is judged by the same functions that judge it for visitors.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final

from isr_proxy.core.entry import Meta, State, VaryIndex
from isr_proxy.core.freshness import Phase, Times, times
from isr_proxy.core.key import canonical_query
from isr_proxy.core.purges import Subject, Verdict, is_page, normal_tag, visible_tags
from isr_proxy.errors import BadEntry
from isr_proxy.serve.engine import Engine
from isr_proxy.serve.targets import Site, parse_target, site_of
from isr_proxy.store.catalog import Catalog
from isr_proxy.store.changes import Row
from isr_proxy.store.layout import Layout
from isr_proxy.store.reading import open_file, read_summary

_LOOKED_AT: Final = 5000  # rows in one question that filters by condition


class Condition(Enum):
    """What a stored page is right now."""

    FRESH = "fresh"
    STALE = "stale"
    PURGED = "purged"  # hidden, and deleted soon
    ERROR = "error"  # its last regeneration failed; the old page is served
    UNROUTED = "unrouted"  # no route of the present config leads to it


@dataclass(frozen=True, slots=True)
class Stocked:
    """One stored page. Instants are Unix times; `ttl` is what is left, None: for ever."""

    url: str
    state: Condition
    status: int
    route: str | None
    age: float
    ttl: float | None
    generated_at: float
    fetched_at: float
    body_bytes: int
    size_bytes: int
    encodings: tuple[str, ...]
    tags: tuple[str, ...]
    dimensions: dict[str, str | None]
    vary: dict[str, str | None]
    etag: str
    last_error: str | None
    failures: int
    failed_at: float | None
    retry_at: float | None
    served_at: float | None


Summary = tuple[Meta, State]


class Inventory:
    """Lists one store. `root` is its directory."""

    def __init__(self, engine: Engine, catalog: Catalog, root: str, now: Callable[[], float]) -> None:
        self._engine = engine
        self._catalog = catalog
        self._layout = Layout(os.path.abspath(root))
        self._now = now

    async def entries(
        self, prefix: str, tag: str | None, state: Condition | None, limit: int, cursor: str | None
    ) -> tuple[list[Stocked], str | None]:
        """Return a page of the list and the next one's cursor; ValueError for a cursor that is not ours.

        With a `state`, one question looks at a bounded number of pages: fewer than `limit`, even none, may
        come with a cursor to go on with.
        """
        wanted = normal_tag(tag) if tag else None
        found: list[Stocked] = []
        looked_at = 0
        while True:
            listing = await self._catalog.listing(
                prefix=prefix, tag=wanted, cursor=cursor, limit=limit - len(found)
            )
            stocked = await self.described(listing.rows)
            found += [each for each in stocked if state in (None, each.state)]
            looked_at += len(listing.rows)
            cursor = listing.cursor
            if cursor is None or len(found) >= limit or looked_at >= _LOOKED_AT:
                return found, cursor

    async def entry(self, text: str) -> list[Stocked]:
        """Return everything stored for a URL, or for a path under every host; ValueError if it is neither."""
        target = parse_target(text)
        host = target.host or site_of(self._engine.settings).hosts[0]
        match = self._engine.routes.match(host, target.path)
        query = target.query if match is None else canonical_query(target.query, match.route.key)
        return await self.described(await self._catalog.at(target.path, query, target.host))

    async def site_for(self, path: str) -> Site:
        """Return the site of a path named without a host: where it was last served, if anywhere."""
        site = site_of(self._engine.settings)
        if not site.is_guessed:
            return site
        rows = await self._catalog.at(path, None)
        newest = max(rows, key=lambda row: row.served_at, default=None)
        return site if newest is None else replace(site, scheme=newest.scheme, hosts=(newest.host,))

    async def described(self, rows: Sequence[Row]) -> list[Stocked]:
        """Describe rows, without those that are no pages or whose page is gone by now."""
        rows = [row for row in rows if is_page(row.tags)]
        summaries = await asyncio.to_thread(self._read, rows)
        return [
            self._describe(row, *summary)
            for row, summary in zip(rows, summaries, strict=True)
            if summary is not None
        ]

    async def meta(self, row: Row) -> Meta | None:
        """Return the meta of one row's page, None when it is gone by now."""
        (summary,) = await asyncio.to_thread(self._read, [row])
        return None if summary is None else summary[0]

    def _read(self, rows: Sequence[Row]) -> list[Summary | None]:
        return [self._read_one(row) for row in rows]

    def _read_one(self, row: Row) -> Summary | None:
        try:
            file = open_file(self._layout.page(row.name))
            if file is None:
                return None
            summary = read_summary(file)
        except (OSError, BadEntry):
            return None
        return None if isinstance(summary, VaryIndex) else summary

    def _describe(self, row: Row, meta: Meta, state: State) -> Stocked:
        match = self._engine.routes.match(meta.host, meta.path)
        subject = Subject(meta.host, meta.path, meta.query, meta.tags, meta.asked)
        verdict = self._engine.purges.index.verdict(subject, state.sequence)
        now = self._now()
        at = None
        if match is not None:
            at = times(meta, state, match.route, now, soft_purged_at=verdict.stale_at)
        return Stocked(
            url=meta.key.url,
            state=_condition(at, state, verdict),
            status=meta.status,
            route=None if match is None else match.route.match,
            age=max(0.0, state.initial_age + now - state.fetched_at),
            ttl=None if at is None or math.isinf(at.ttl) else at.ttl,
            generated_at=meta.generated_at,
            fetched_at=state.fetched_at,
            body_bytes=meta.body_bytes,
            size_bytes=row.size_bytes,
            encodings=tuple(ref.encoding for ref in meta.bodies),
            tags=visible_tags(meta.tags),
            dimensions=dict(meta.dimensions),
            vary=dict(meta.vary),
            etag=meta.etag,
            last_error=state.last_error or None,
            failures=state.failures,
            failed_at=state.failed_at or None,
            retry_at=state.retry_at or None,
            served_at=row.served_at if 0 < row.served_at < math.inf else None,
        )


def _condition(at: Times | None, state: State, verdict: Verdict) -> Condition:
    if verdict.hidden:
        return Condition.PURGED
    if state.failures:
        return Condition.ERROR
    if at is None:
        return Condition.UNROUTED
    return Condition.FRESH if at.phase is Phase.FRESH else Condition.STALE
