"""The disk store: one file an entry, swapped in whole.

Knows how its parts work together: shelf (files), spool and writer (entries in the making), catalog, space.
Must not know policy. The disk is the cache and the kernel's page cache its memory: nothing is kept here
for each page, and a start does not look at them.

Whatever changes files of a key holds that key's lock, and is carried through once begun. What changed is
recorded in the catalog under the same lock, so that its rows come in the order of the files.
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar

import msgspec
import structlog

from isr_proxy.core.entry import Meta, State
from isr_proxy.core.http import Fields
from isr_proxy.core.key import Key, Variant
from isr_proxy.core.purges import Purge, Strength
from isr_proxy.core.settings import StoreSettings
from isr_proxy.errors import BadEntry, StoreError, StoreUnavailable
from isr_proxy.store.absent import Absent
from isr_proxy.store.base import PENDING, Entry, Found, Pending
from isr_proxy.store.catalog import Catalog
from isr_proxy.store.changes import Change
from isr_proxy.store.claim import claim, has_pages
from isr_proxy.store.company import Alone, Company
from isr_proxy.store.hands import Hands
from isr_proxy.store.key_locks import KeyLocks
from isr_proxy.store.layout import Layout, Name, key_part, name_of
from isr_proxy.store.opened import FileId, OpenFile
from isr_proxy.store.peeking import WouldWait
from isr_proxy.store.reading import BrokenFile, Verified, open_file, read_head
from isr_proxy.store.refusals import Refusals
from isr_proxy.store.rescan import rescan
from isr_proxy.store.rows import current, freshened
from isr_proxy.store.shelf import Placed, Shelf, place_of, same_bodies
from isr_proxy.store.slices import FileSlice
from isr_proxy.store.space import Reservation, Space, StoreStat
from isr_proxy.store.spool import Spool
from isr_proxy.store.writer import DiskWriter
from isr_proxy.store.writing import Identity, Workshop, bodies_bytes, left_to_write, overwrite_state

_log = structlog.get_logger("isr_proxy.store")

_REBUILD_AFTER: Final = 30.0
_COMMITS_AT_ONCE: Final = 16
_COMMITS_MAX: Final = 512  # with those that wait for their turn (law 8)
R = TypeVar("R")


class DiskStore:
    """See store/base.py for the contract. `catalog` answers what is listed and counted."""

    def __init__(
        self,
        layout: Layout,
        settings: StoreSettings,
        now: Callable[[], float],
        lock: OpenFile | None,
        refusals: Refusals,
        catalog: Catalog,
        company: Company,
    ) -> None:
        self.refusals = refusals
        self.catalog = catalog
        self._hands = Hands(refusals, fsync=settings.fsync)
        self.executor = self._hands.executor
        self.workshop = Workshop(layout, company.name or str(os.getpid()), fsync=settings.fsync)
        self.bad_entries = 0
        self._layout = layout
        self._settings = settings
        self._now = now
        self._lock = lock
        self._verified = Verified()
        self._shelf = Shelf(layout, self.workshop, self._verified, self.executor, settings.max_variants)
        self._space = Space(settings.max_size, catalog, company, self.drop)
        self.company = company
        self._absent = Absent(company)
        self._locks = KeyLocks(company)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._rescanner: asyncio.Task[None] | None = None
        self._commits = 0
        self._turns = asyncio.Semaphore(_COMMITS_AT_ONCE)
        self._listeners: list[Callable[[Name, Entry | None], None]] = []
        if company.is_first:
            self._space.measure(layout)
            self._space.bad_takes(self._shelf.bad_bytes())
        catalog.on_broken = self.fill_catalog
        self.fill_catalog()

    @classmethod
    def open(cls, settings: StoreSettings, *, now: Callable[[], float]) -> DiskStore:
        """Open or create the store of a directory; needs a running loop.

        StoreInUse when another process serves from it. A directory that cannot be written is served from
        as it is: commits raise StoreUnavailable.
        """
        refusals = Refusals(settings.path, now)
        lock = claim(Layout(os.path.abspath(settings.path)), refusals)
        return cls.joined(settings, refusals, lock, Alone(), now=now)

    @classmethod
    def joined(
        cls,
        settings: StoreSettings,
        refusals: Refusals,
        lock: OpenFile | None,
        company: Company,
        *,
        now: Callable[[], float],
    ) -> DiskStore:
        """Open the store of a directory that is claimed: `lock`, or None when it can only be read."""
        layout = Layout(os.path.abspath(settings.path))
        catalog = Catalog.open(
            ":memory:" if lock is None else layout.catalog,
            refusals,
            now,
            settings.max_size,
            company,
            pages_exist=has_pages(layout),
            current=partial(current, layout),
        )
        return cls(layout, settings, now, lock, refusals, catalog, company)

    # --- reading ---

    def peek(self, key: Key, fields: Fields) -> Found | Pending:
        """Look up in the page cache, without waiting; PENDING when only `lookup` can tell.

        Whoever serves what is found says so by `touch`.
        """
        if self._absent.has(key.digest):
            return None
        stamp = self._absent.stamp(key.digest)
        try:
            found = self._shelf.peek(key, fields)
        except (WouldWait, OSError, BadEntry):
            return PENDING
        if found is None:
            self._absent.note(key.digest, stamp)
        return found

    async def lookup(self, key: Key, fields: Fields) -> Found:
        """Look up in a thread. A broken file is moved aside and is a miss; so is a refusal of the disk."""
        try:
            found = await self._hands.run(lambda: self._shelf.find(key, fields))
        except BrokenFile as broken:
            await self._carried(self._move_aside(broken))
            return None
        except OSError as error:
            self.refusals.refused(error, "reading a page")
            return None
        if isinstance(found, Entry):
            self.touch(found)
        return found

    def slice_of(self, entry: Entry, encoding: str | None) -> FileSlice | None:
        """Return where a body of an entry lies, None where it cannot be read again and again like that."""
        return self._shelf.slice_of(entry, encoding)

    def touch(self, entry: Entry) -> None:
        """Note that it was served, for the order of eviction."""
        self.catalog.note_served(name_of(entry.key.digest, entry.variant))

    async def known(self, key: Key) -> bool:
        """Tell whether anything is stored for a key."""
        return await self._hands.run(lambda: self._shelf.exists(key))

    async def variants(self, key: Key) -> list[Entry]:
        """Return every variant of a key that can be read."""
        try:
            return await self._hands.run(lambda: self._shelf.variants(key))
        except BrokenFile as broken:
            await self._carried(self._move_aside(broken))
        except OSError as error:
            self.refusals.refused(error, "reading a page")
        return []

    async def has_room(self, key: Key, variant: Variant) -> bool:
        """Tell, before a body is fetched for nothing, whether `max_variants` allows this one."""
        try:
            return await self._hands.run(lambda: self._shelf.has_room(key, variant))
        except OSError:
            return True

    # --- writing ---

    def begin(self, key: Key, variant: Variant) -> DiskWriter:
        """Start an entry."""
        reservation = Reservation(self._space)
        spool = Spool(self, reservation.grow)
        return DiskWriter(key, variant, spool, reservation, self._commit, self._settings.max_entry)

    async def _commit(
        self, writer: DiskWriter, meta: Meta, state: State, encodings: Sequence[tuple[str, bytes]]
    ) -> Entry:
        work = self._commit_now(writer, meta, state, encodings)
        if self._is_prompt(writer.spool.identity(), encodings):
            return await work  # once it has its turn nothing in it waits, so nothing interrupts it
        return await self._carried(work)

    def _is_prompt(self, body: Identity, encodings: Sequence[tuple[str, bytes]]) -> bool:
        copies_bytes = sum(len(content) for _, content in encodings)
        return not body.spilled_bytes and self._hands.are_prompt(body.size_bytes + copies_bytes)

    async def _commit_now(
        self, writer: DiskWriter, meta: Meta, state: State, encodings: Sequence[tuple[str, bytes]]
    ) -> Entry:
        """Wait for a turn before any room is promised: else who waits would evict who is stored."""
        self._commits += 1
        try:
            if self._commits > _COMMITS_MAX:
                await writer.spool.forget_file()
                raise self.refusals.refused(OSError(errno.EBUSY, "too many pages at once"), "storing a page")
            async with self._turns:
                return await self._commit_in_turn(writer, meta, state, encodings)
        finally:
            self._commits -= 1
            writer.reservation.release()

    async def _commit_in_turn(
        self, writer: DiskWriter, meta: Meta, state: State, encodings: Sequence[tuple[str, bytes]]
    ) -> Entry:
        key, variant, body = writer.key, writer.variant, writer.spool.identity()
        try:
            await self.catalog.settle()
            await writer.reservation.grow(left_to_write(len(body.tail), meta, variant, encodings))
            async with self._locks.of(key.digest):
                place = partial(self._shelf.place, key, variant, body, encodings, meta, state, self._now())
                place = partial(place, is_new=self._absent.has(key.digest))
                if self._is_prompt(body, encodings):
                    placed = self._hands.write_now("storing a page", place)
                else:
                    placed = await self._hands.write("storing a page", place)
                entry = Entry(key, variant, placed.page.meta, placed.page.state, placed.page.bodies)
                self._note_placed(entry, placed)
        except BaseException:
            await writer.spool.forget_file()
            raise
        return entry

    def _note_placed(self, entry: Entry, placed: Placed) -> None:
        name = name_of(entry.key.digest, entry.variant)
        self._space.shard_takes(entry.key.digest[0], placed.shard_bytes)
        for change in placed.changes:
            self.catalog.record(change)
            if change.name != name:  # of which is told once, what lies there now
                self._tell(change.name, None)
        self._tell(name, entry)

    def _note(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self.catalog.record(change)
            self._tell(change.name, None)

    async def update(self, entry: Entry, state: State) -> Entry:
        """Write the state into its place in the file, unless that is another one by now."""
        try:
            return await self._carried(self._update_now(entry, state))
        except StoreError:  # another process holds the key
            return replace(entry, state=state)

    async def _update_now(self, entry: Entry, state: State) -> Entry:
        name, expected = place_of(entry)
        async with self._locks.of(entry.key.digest):
            try:
                fresh = await self._overwrite(name, expected, state)
            except StoreError:
                return await self._unsaved(name, expected, replace(entry, state=state))
            if fresh is None:
                return replace(entry, state=state)
            changed = replace(entry, state=fresh)
            self._tell(name, changed)
        return changed

    async def _unsaved(self, name: Name, expected: FileId, changed: Entry) -> Entry:
        """Have a tier in front remember what the disk refused, at least until the restart."""
        head = await self._hands.run(lambda: self._head(name))
        if head is not None and head[0] == expected:
            self._tell(name, changed)
        return changed

    async def _overwrite(self, name: Name, expected: FileId, state: State) -> State | None:
        done = await self._hands.write(
            "updating a page", lambda: overwrite_state(self._layout.page(name), expected, state)
        )
        if done is None:
            return None
        fresh, stamp = done
        self._verified.mark(name, stamp)
        self.catalog.record(freshened(name, fresh, stamp))
        return fresh

    async def rewrite(self, entry: Entry, meta: Meta, state: State) -> Entry:
        """Replace the file by one with the same bodies, unless it is another one by now."""
        meta = msgspec.structs.replace(meta, bodies=entry.meta.bodies)
        changed = replace(entry, meta=meta, state=state)
        try:
            return await self._carried(self._rewrite_now(entry, changed))
        except StoreError:
            return changed

    async def _rewrite_now(self, entry: Entry, changed: Entry) -> Entry:
        name, expected = place_of(entry)
        reservation = Reservation(self._space)
        try:
            await self.catalog.settle()
            await reservation.grow(left_to_write(bodies_bytes(entry.meta), changed.meta, entry.variant, ()))
            async with self._locks.of(entry.key.digest):
                placed = await self._hands.write(
                    "rewriting a page",
                    lambda: self._shelf.replace(name, expected, changed.meta, changed.state, self._now()),
                )
                if placed is not None:
                    changed = replace(changed, bodies=same_bodies(entry, placed))
                    self._note_placed(changed, placed)
        except StoreError:
            async with self._locks.of(entry.key.digest):
                return await self._unsaved(name, expected, changed)
        finally:
            reservation.release()
        return changed

    async def remove(self, entry: Entry) -> None:
        """Delete the entry's file, unless it is another one by now; StoreUnavailable if the disk refuses."""
        name, expected = place_of(entry)
        await self._carried(self._drop_now(name, expected))

    async def drop(self, name: Name) -> None:
        """Delete a page file by its name. StoreUnavailable when the disk refuses."""
        await self._carried(self._drop_now(name, None))

    async def _drop_now(self, name: Name, expected: FileId | None) -> None:
        async with self._locks.of(key_part(name)):
            self._note(await self._hands.write("deleting a page", lambda: self._shelf.remove(name, expected)))

    # --- purges ---

    async def sweep(self, purge: Purge) -> int:
        """Carry out one purge record on the entries fetched before it, durably; returns how many."""
        await self.catalog.wait_complete()
        swept, after = 0, ("", 0)
        while found := await self.catalog.older(purge.selector, purge.sequence, after):
            names = [name for name, _, _ in found]
            for name in names:
                swept += await self._carried(self._sweep_one(name, purge))
            await self._hands.write("sweeping", partial(self._shelf.settle, names))
            after = found[-1][1:]
        return swept

    async def _sweep_one(self, name: Name, purge: Purge) -> int:
        """Look and act under one lock: a state written in between would be lost, or its page deleted."""
        async with self._locks.of(key_part(name)):
            read = await self._hands.write("sweeping", lambda: self._head(name))
            if read is None or read[1].sequence >= purge.sequence:
                return 0
            file_id, state = read
            if purge.selector.strength is Strength.HARD:
                self._note(await self._hands.write("sweeping", lambda: self._shelf.remove(name, file_id)))
            elif state.stale_at > purge.at:
                await self._overwrite(name, file_id, replace(state, stale_at=purge.at))
                self._tell(name, None)
                await self._hands.write("sweeping", lambda: self._shelf.settle_page(name))
            return 1

    def _head(self, name: Name) -> tuple[FileId, State] | None:
        try:
            file = open_file(self._layout.page(name))
            file_id, state = read_head(file) if file is not None else (None, None)
        except (BadEntry, OSError):
            return None  # whoever looks it up says so, and moves it aside
        return None if file_id is None or state is None else (file_id, state)

    def on_change(self, listener: Callable[[Name, Entry | None], None]) -> None:
        """Have a tier in front told what lies at a name from now on; None: look again. In order, at once.

        Of what other processes change, only the key's stamp tells.
        """
        self._listeners.append(listener)

    def _tell(self, name: Name, entry: Entry | None) -> None:
        self.company.changed(key_part(name))
        self._absent.forget(key_part(name))
        self._shelf.changed(name)
        for listener in self._listeners:
            listener(name, entry)

    # --- broken files, lost catalogs ---

    async def _move_aside(self, broken: BrokenFile) -> None:
        self.bad_entries += 1
        _log.warning(
            "a broken page file is moved aside", file=self._layout.page(broken.name), why=str(broken)
        )
        with suppress(StoreUnavailable):
            async with self._locks.of(key_part(broken.name)):
                changes, bad_bytes = await self._hands.write(
                    "moving a broken file aside",
                    lambda: self._shelf.move_aside(broken, self._settings.max_size),
                )
                self._space.bad_takes(bad_bytes)
                self._note(changes)

    def fill_catalog(self) -> None:
        """Scan the pages in the background, if the catalog may lack any and this is who does it for all."""
        is_ours = self.company.is_first and self.is_writable and not self.catalog.is_complete
        if is_ours and (self._rescanner is None or self._rescanner.done()):
            self._rescanner = asyncio.get_running_loop().create_task(self._rescan())

    async def _rescan(self) -> None:
        """Scan the pages until the catalog has them all, however often the disk refuses meanwhile."""
        while not self.catalog.is_complete:
            try:
                await self._rescan_once()
            except (OSError, sqlite3.Error) as error:
                self.refusals.refused(error, "filling the catalog")
                await asyncio.sleep(_REBUILD_AFTER)
        try:
            await self._space.make_room()
        except StoreUnavailable:
            pass  # said already; the next commit tries again

    async def _rescan_once(self) -> None:
        if self.catalog.is_broken:
            await asyncio.sleep(_REBUILD_AFTER)
            await self.catalog.reopen(self._layout.catalog)
        doubts = self.catalog.doubts()
        await rescan(self._layout, self.catalog, self.executor, self._move_aside)
        if not self.catalog.is_broken:
            self.catalog.completed(doubts)

    # --- the rest ---

    @property
    def is_writable(self) -> bool:
        """Tell whether the directory could be written when it was opened."""
        return self._lock is not None

    @property
    def failures(self) -> int:
        """How often the disk refused."""
        return self.refusals.count

    def stat(self) -> StoreStat:
        """Return the store in numbers, as of the catalog's last batch."""
        totals = self.catalog.totals
        return StoreStat(
            totals.entries,
            totals.size_bytes,
            self._settings.max_size,
            self.catalog.is_complete,
            self.is_writable,
            self.bad_entries,
            self.failures,
            self._space.evictions,
        )

    async def _carried(self, work: Coroutine[Any, Any, R]) -> R:
        """Carry work through even when whoever asked for it is cancelled: threads cannot be stopped."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._carried_through)
        return await asyncio.shield(task)

    def _carried_through(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # whoever asked may be gone; then nobody else looks at it

    async def aclose(self) -> None:
        """Finish what was begun, write the catalog, release the directory."""
        if self._rescanner is not None:
            self._rescanner.cancel()
            await asyncio.gather(self._rescanner, return_exceptions=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.catalog.close()
        await asyncio.to_thread(self.executor.shutdown)
        if self._lock is not None:
            self._lock.close()
