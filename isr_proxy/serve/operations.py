"""What an operator can do: purge, revalidate, prerender, look and ask why. Without HTTP.

Knows the parts that do it, and in which order a purge is made. Must not know tokens, JSON or sockets:
admin.py speaks for it over HTTP.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from isr_proxy.coord.local import LocalPurgeLog
from isr_proxy.core.http import NO_FIELDS
from isr_proxy.core.key import PLAIN, Key
from isr_proxy.core.partial import is_of_parts
from isr_proxy.core.purges import Scope, Selector, Strength, is_page
from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import RevalidateMode
from isr_proxy.errors import StoreUnavailable
from isr_proxy.origin.client import Client
from isr_proxy.serve.batches import Batch, Batches
from isr_proxy.serve.engine import Engine
from isr_proxy.serve.explain import Explainer
from isr_proxy.serve.inventory import Inventory
from isr_proxy.serve.job import Job
from isr_proxy.serve.on_demand import OnDemand, PageResult, Result
from isr_proxy.serve.outcome import Purged
from isr_proxy.serve.selection import Selection, rows
from isr_proxy.serve.sweep import Sweeper
from isr_proxy.serve.targets import Target, hosts_of, parse_target, request_of, site_of
from isr_proxy.serve.variances import RULE_QUERY
from isr_proxy.serve.warm import Warmer
from isr_proxy.serve.watchers import Watchers
from isr_proxy.store.changes import Row
from isr_proxy.store.disk import DiskStore
from isr_proxy.store.layout import key_part

_log = structlog.get_logger("isr_proxy.operations")

_COUNT_AFTER: Final = 2.0  # seconds that a count waits for sweeps under way


class NothingSelected(ValueError):
    """A purge or revalidation without a selector."""


@dataclass(frozen=True, slots=True)
class PurgeResult:
    """`sequence` of the log; `matched`: stored entries that were selected and not purged already."""

    sequence: int
    matched: int


class Operations:
    """One a process, beside its engine."""

    def __init__(
        self,
        engine: Engine,
        disk: DiskStore,
        purges: LocalPurgeLog,
        client: Client,
        watchers: Watchers,
        now: Callable[[], float],
    ) -> None:
        self.engine = engine
        self.disk = disk
        self.client = client
        self.watchers = watchers
        self.now = now
        self.started_at = now()
        self.batches = Batches(now)
        self.on_demand = OnDemand(engine, now)
        self.sweeper = Sweeper(purges, disk, engine.flights, now)
        self.warmer = Warmer(engine, client, self.batches, self.on_demand)
        self.inventory = Inventory(engine, disk.catalog, engine.settings.store.path, now)
        self.explainer = Explainer(engine, self.inventory, now)
        self._purges = purges
        self._counting = asyncio.Lock()
        # Where several workers serve, one of them counts and sweeps for all.
        self.count_and_sweep: Callable[[tuple[Selector, ...], int], Awaitable[int]] = self.count_here
        self.kick: Callable[[int], None] = self.sweeper.kick

    def start(self) -> None:
        """Sweep what the log holds, and make the pages that routes list."""
        self.engine.prerendered = self.warmer.is_prerendered
        self.sweeper.start()
        self.warmer.begin()

    def follow(self) -> None:
        """Learn only which pages routes list: another worker sweeps, and makes them."""
        self.engine.prerendered = self.warmer.is_prerendered
        self.warmer.makes_pages = False
        self.warmer.begin()

    def reconfigured(self, client: Client) -> None:
        """Hear that the engine has new settings; `client` asks their origin."""
        self.client = self.warmer.client = client
        self.warmer.begin()

    # --- purge ---

    async def purge(self, selection: Selection, strength: Strength) -> PurgeResult:
        """Purge; returns when it is in force for every worker, and durable.

        NothingSelected or another ValueError; StoreUnavailable: in force, but lost at a restart.
        """
        return await self._purge(_chosen(selection, strength))

    async def _purge(self, selectors: tuple[Selector, ...]) -> PurgeResult:
        try:
            sequence, in_force = await self._put_in_force(selectors)
        except StoreUnavailable:
            self.kick(self._purges.index.sequence)
            raise
        matched = await self.count_and_sweep(in_force, sequence)
        self.watchers.purged(Purged(sequence, matched, selectors[0].strength))
        _log.info("purged", sequence=sequence, matched=matched, selectors=len(selectors))
        return PurgeResult(sequence, matched)

    async def count_here(self, selectors: tuple[Selector, ...], sequence: int) -> int:
        """Count what a purge in force has hit, then have it swept."""
        async with self._counting:
            matched = await self._count(selectors)
            self.sweeper.kick(sequence, matched)
        return matched

    async def _put_in_force(self, selectors: tuple[Selector, ...]) -> tuple[int, tuple[Selector, ...]]:
        """Append to the log what is selected, then what answers for it under another key.

        In this order: a page's rule is written down before the page, so it is known by now, or whoever
        stores the page sees that its query was purged.
        """
        try:
            sequence = await self._purges.append(selectors, now=self.now())
        finally:
            more = await self._kept_under(selectors)
            if more:
                sequence = await self._purges.append(more, now=self.now())
        return sequence, (*selectors, *more)

    async def _kept_under(self, selectors: Sequence[Selector]) -> tuple[Selector, ...]:
        """Return what No-Vary-Search adds to selected queries; without a whole catalog, all of their path."""
        found: list[Selector] = []
        for selector in selectors:
            path, _, query = selector.value.partition("?")
            if selector.scope is not Scope.TARGET or not query:
                continue
            hosts = {selector.host} if selector.host is not None else await self._hosts_with_a_rule(path)
            if hosts is None:
                found.append(replace(selector, scope=Scope.PATH, value=path))
            else:
                found += await self.engine.variances.kept_under(selector, hosts)
        return tuple(found)

    async def _hosts_with_a_rule(self, path: str) -> set[str] | None:
        rows = await self.disk.catalog.at(path, RULE_QUERY)
        if not self.disk.catalog.is_complete:
            return None
        return {row.host for row in rows}

    async def invalidate(self, selectors: tuple[Selector, ...]) -> None:
        """Purge what an unsafe request changed; if the disk refuses, it is in force until a restart."""
        try:
            sequence, _ = await self._put_in_force(selectors)
        except StoreUnavailable as error:
            _log.error("an invalidation is lost at a restart", error=str(error))
            sequence = self._purges.index.sequence
        self.kick(sequence)

    async def dry_run(self, selection: Selection, strength: Strength) -> PurgeResult:
        """Say what a purge would hit."""
        selectors = _chosen(selection, strength)
        async with self._counting:
            matched = await self._count((*selectors, *await self._kept_under(selectors)))
            return PurgeResult(self._purges.index.sequence, matched)

    async def _count(self, selectors: tuple[Selector, ...]) -> int:
        """Count what is stored; what an earlier purge hid is swept first, so that it does not count.

        A long sweep is not waited for, nor any for more than two seconds: what it has yet to delete counts.
        """
        await self.sweeper.caught_up(_COUNT_AFTER)
        return await self.disk.catalog.matched(selectors)

    # --- revalidate ---

    async def revalidate(self, selection: Selection) -> tuple[PurgeResult, Batch]:
        """Purge softly, then make the selected pages anew, in the background.

        ValueError and StoreUnavailable as `purge`; TooManyBatches before anything is done.
        """
        selectors = _chosen(selection, Strength.SOFT)
        self.batches.check_room()
        batch = self.batches.new("revalidate")
        try:
            purged = await self._purge(selectors)
        except BaseException:
            batch.abandon(self.now())
            raise

        async def make(wanted: Job | PageResult) -> PageResult:
            if isinstance(wanted, PageResult):
                return wanted
            return await self.on_demand.regenerate(wanted, purged.sequence)

        width = self.on_demand.at_once
        self.batches.start(batch, self._wanted(selectors), make, width)
        return purged, batch

    async def _wanted(self, selectors: Sequence[Selector]) -> AsyncIterator[Job | PageResult]:
        """Yield what is stored of the selection, then the paths that were named and are stored nowhere."""
        stored: set[str] = set()
        async for row in rows(self.disk.catalog, (*selectors, *await self._kept_under(selectors))):
            if not is_page(row.tags):
                continue
            stored.add(row.path)
            yield await self._job(row)
        for selector in selectors:
            is_path = selector.scope in (Scope.PATH, Scope.TARGET)
            if is_path and (selector.host is not None or _target(selector).path not in stored):
                async for job in self._missing(_target(selector)):
                    yield job

    async def _job(self, row: Row) -> Job | PageResult:
        """Read from a row which page it is; what is keyed by more than its URL says so in its file."""
        key, variant = Key(row.scheme, row.host, row.path, row.query), PLAIN
        if key.digest != row.name:
            meta = await self.inventory.meta(row)
            if meta is None or meta.key.digest != key_part(row.name):
                return PageResult(key.url, Result.SKIPPED, Reason.URI_MISS.value)
            key, variant = meta.key, meta.variant
            if is_of_parts(key):  # nobody waits for the rest of it: the next who wants a part validates
                return PageResult(key.url, Result.SKIPPED, Reason.PARTIAL.value)
        match = self.engine.routes.match(key.host, key.path)
        if match is None:
            return PageResult(key.url, Result.SKIPPED, Reason.NO_ROUTE.value)
        if match.route.revalidate.mode is RevalidateMode.PASS:
            return PageResult(key.url, Result.SKIPPED, Reason.ROUTE_PASS.value)
        return Job(key, variant, match)

    async def _missing(self, target: Target) -> AsyncIterator[Job | PageResult]:
        site = site_of(self.engine.settings)
        for host in hosts_of(target, site):
            job = self.on_demand.plan(request_of(target, host, site.scheme))
            if isinstance(job, PageResult):
                yield job
            elif not job.match.route.revalidate.is_isr:
                continue
            elif (await self.engine.variances.find(job.key, NO_FIELDS))[1] is None:
                yield job

    async def aclose(self) -> None:
        """Stop everything that runs behind; purges that were made stay made."""
        await self.warmer.aclose()
        await self.batches.aclose()
        await self.sweeper.aclose()


def _chosen(selection: Selection, strength: Strength) -> tuple[Selector, ...]:
    selectors = selection.selectors(strength)
    if not selectors:
        raise NothingSelected("nothing is selected; give paths, prefixes, tags, hosts, or all: true")
    return selectors


def _target(selector: Selector) -> Target:
    host_less = parse_target(selector.value)
    return Target(selector.host, host_less.path, host_less.query)
