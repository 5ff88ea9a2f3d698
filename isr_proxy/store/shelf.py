"""The pages directory: finding a request's file, and putting files in each other's place.

Knows how a key with variants is laid out: an index at the key's own place, one file a variant. Must not
know asyncio, space or the catalog's file: what changed is returned. What changes anything here runs under
the key's lock and may block; OSError comes out as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import Final

import msgspec

from isr_proxy.core.entry import BODIES_OFFSET, Meta, State, VaryIndex, encode_vary_index
from isr_proxy.core.http import Fields
from isr_proxy.core.key import PLAIN, Key, Variant, variant_of
from isr_proxy.core.value import Value
from isr_proxy.core.variants import LANGUAGE, dated_at, speaks_for
from isr_proxy.errors import BadEntry, Superseded, TooManyVariants
from isr_proxy.store.base import Entry, Found, VaryMiss
from isr_proxy.store.changes import Change, Forgotten
from isr_proxy.store.layout import Layout, Name, is_variant, key_part, name_of
from isr_proxy.store.opened import FileBodies, FileId, OpenFile, ResidentBodies
from isr_proxy.store.peeking import Peeker
from isr_proxy.store.reading import (
    Bodies,
    BrokenFile,
    Loaded,
    Loader,
    Page,
    Verified,
    open_file,
    read_head,
    read_index,
    stamp_of,
)
from isr_proxy.store.rows import index_row, page_row
from isr_proxy.store.slices import FileSlice, Slices
from isr_proxy.store.writing import Identity, Temp, Workshop, file_id_of

_KEPT_BAD_FILES: Final = 100
_KEPT_BAD_FRACTION: Final = 64  # of max_size


def place_of(entry: Entry) -> tuple[Name, FileId]:
    """Return an entry's name, and which file it was read from; TypeError when it is not of a disk store."""
    bodies = entry.bodies
    if not isinstance(bodies, ResidentBodies | FileBodies):
        raise TypeError("not an entry of a disk store")
    return name_of(entry.key.digest, entry.variant), bodies.file_id


class Placed(Value, frozen=True):
    """A page in its place, and what that changed."""

    page: Page
    changes: tuple[Change, ...]
    shard_bytes: int


def same_bodies(entry: Entry, placed: Placed) -> ResidentBodies | FileBodies:
    """Keep bodies that are in memory; they are the new file's too."""
    if isinstance(entry.bodies, ResidentBodies):
        return ResidentBodies(entry.bodies.parts, placed.page.bodies.file_id)
    return placed.page.bodies


class Shelf:
    """The page files of one store."""

    def __init__(
        self, layout: Layout, workshop: Workshop, verified: Verified, executor: Executor, max_variants: int
    ) -> None:
        self.layout = layout
        self._workshop = workshop
        self._verified = verified
        self._executor = executor
        self._max_variants = max_variants
        self._loader = Loader(layout, verified, executor)
        self._peeker = Peeker(layout, verified, executor)
        self._slices = Slices()

    # --- finding ---

    def peek(self, key: Key, fields: Fields) -> Found:
        """Find without waiting; WouldWait, OSError or BadEntry when that cannot be."""
        return self._find(key, fields, self._peeker.peek)

    def find(self, key: Key, fields: Fields) -> Found:
        """Find, verifying what was never verified; BrokenFile or OSError."""
        return self._find(key, fields, self._loader.load)

    def _find(self, key: Key, fields: Fields, load: Callable[[Name], Loaded | None]) -> Found:
        loaded = load(key.digest)
        if loaded is None:
            return None
        if isinstance(loaded, VaryIndex):
            return self._find_variant(key, fields, loaded, load) if _is_of(loaded, key) else None
        meta, state, bodies = loaded
        return None if meta.vary or not _is_of(meta, key) else Entry(key, PLAIN, meta, state, bodies)

    def _find_variant(
        self, key: Key, fields: Fields, index: VaryIndex, load: Callable[[Name], Loaded | None]
    ) -> Found:
        wanted = variant_of(index.names, fields)
        if wanted.digest in index.variants:
            page = self._load_variant(key, wanted.digest, load)
            if page is not None and page.meta.vary == wanted.headers:
                return _entry(key, page)
        if LANGUAGE not in index.names:
            return VaryMiss(index.names)
        pages = (self._load_variant(key, digest, load) for digest in index.variants)
        fitting = [page for page in pages if page is not None and speaks_for(page.meta, wanted)]
        newest = max(fitting, key=lambda page: dated_at(page.meta, page.state), default=None)
        return VaryMiss(index.names) if newest is None else _entry(key, newest)

    def _load_variant(self, key: Key, digest: bytes, load: Callable[[Name], Loaded | None]) -> Page | None:
        name = key.digest + digest
        page = load(name)
        return page if isinstance(page, Page) and _is_of(page.meta, key) else None

    def variants(self, key: Key) -> list[Entry]:
        """Load every variant of a key; BrokenFile or OSError."""
        index = self._loader.load(key.digest)
        if not isinstance(index, VaryIndex) or not _is_of(index, key):
            return []
        pages = (self._load_variant(key, digest, self._loader.load) for digest in index.variants)
        return [_entry(key, page) for page in pages if page is not None]

    def exists(self, key: Key) -> bool:
        return os.path.exists(self.layout.page(key.digest))

    def has_room(self, key: Key, variant: Variant) -> bool:
        """Tell whether a page of this variant could be placed under `max_variants`."""
        index = self._index(key.digest)
        return (
            index is None
            or not variant.headers
            or index.names != variant.names
            or variant.digest in index.variants
            or len(index.variants) < self._max_variants
        )

    def _index(self, digest: bytes) -> VaryIndex | None:
        file = open_file(self.layout.page(digest))
        try:
            return None if file is None else read_index(file)
        except BadEntry:
            return None

    def changed(self, name: Name) -> None:
        """Let go of what was kept open of a file that changed: what was deleted shall free its room."""
        self._peeker.forget(name)

    def slice_of(self, entry: Entry, encoding: str | None) -> FileSlice | None:
        """Return where a body lies, None: no body, but the same file; see slices.py.

        None where that cannot be told. Of a key that varies another file says which variant is whose.
        """
        name, file_id = place_of(entry)
        if is_variant(name):
            return None
        offset, size_bytes = BODIES_OFFSET, 0
        if encoding is not None:
            ref = entry.meta.body(encoding)
            offset, size_bytes = ref.offset, ref.size
        return self._slices.of(self.layout.page(name), file_id.header, entry.state, offset, size_bytes)

    # --- placing ---

    def place(
        self,
        key: Key,
        variant: Variant,
        body: Identity,
        encodings: Sequence[tuple[str, bytes]],
        meta: Meta,
        state: State,
        now: float,
        *,
        is_new: bool,
    ) -> Placed:
        """Make a page's file and put it in its place; `is_new`: it is known that nothing lies there.

        TooManyVariants and Superseded leave everything as it was.
        """
        name = name_of(key.digest, variant)
        old = None if is_new else self._replaced_index(key, name, state)
        index = self._with_variant(key, variant, old)
        temp, meta = self._workshop.make_page(body, encodings, meta, state)
        parts = {"identity": body.tail, **dict(encodings)} if not body.spilled_bytes else None
        status = os.fstat(temp.file.descriptor)
        page = self._opened(temp, status.st_ino, meta, state, parts)
        changes = [page_row(name, meta, state, status, now), *self._install(temp, name, old, index)]
        self._verified.mark(name, stamp_of(status))
        return Placed(page, tuple(changes), self.shard_bytes(name))

    def _replaced_index(self, key: Key, name: Name, state: State) -> VaryIndex | None:
        """Return the index that a new page's key has, if any.

        The purge sequence is the fencing token: a fetch that began before the one that is stored comes too
        late.
        """
        sequence = self._sequence_at(name)
        if sequence is not None and sequence > state.sequence:
            raise Superseded(f"{key.url} has been fetched since")
        return None if sequence is None and name == key.digest else self._index(key.digest)

    def _sequence_at(self, name: Name) -> int | None:
        """Return the sequence of what lies at a name, 0 where it cannot be read; None: nothing lies there."""
        try:
            file = open_file(self.layout.page(name))
            if file is None:
                return None
            state = read_head(file)[1]
        except (BadEntry, OSError):
            return 0
        return 0 if state is None else state.sequence

    def _with_variant(self, key: Key, variant: Variant, old: VaryIndex | None) -> VaryIndex | None:
        if not variant.headers:
            return None
        known = old.variants if old is not None and old.names == variant.names else ()
        if variant.digest in known:
            return old
        if len(known) >= self._max_variants:
            raise TooManyVariants(f"{key.url} has {len(known)} variants")
        variants = (*known, variant.digest)
        return VaryIndex(key.scheme, key.host, key.path, key.query, key.dimensions, variant.names, variants)

    def _opened(
        self,
        temp: Temp,
        inode: int,
        meta: Meta,
        state: State,
        parts: dict[str, bytes | bytearray | memoryview] | None,
    ) -> Page:
        file_id = file_id_of(temp.file.descriptor, inode)
        bodies: Bodies
        if parts is None:
            bodies = FileBodies(temp.file, meta.bodies, file_id, self._executor)
        else:
            bodies = ResidentBodies({encoding: bytes(part) for encoding, part in parts.items()}, file_id)
        return Page(meta, state, bodies)

    def _install(
        self, temp: Temp, name: Name, old: VaryIndex | None, index: VaryIndex | None
    ) -> list[Change]:
        """Rename into place, the index after its variant, and drop the variants it does not name."""
        base = key_part(name)
        changes: list[Change] = []
        if index is not None and index != old:
            changes.append(self._install_with_index(temp, name, base, index))
        else:
            self._install_one(temp, name)
        kept = index.variants if index is not None else ()
        dropped = [digest for digest in old.variants if digest not in kept] if old is not None else []
        return [*changes, *(self._unlink(base + digest) for digest in dropped)]

    def _install_one(self, temp: Temp, name: Name) -> None:
        try:
            self._workshop.install(temp, self.layout.page(name))
        except BaseException:
            temp.discard()
            raise

    def _install_with_index(self, temp: Temp, name: Name, base: Name, index: VaryIndex) -> Change:
        try:
            index_temp = self._workshop.make_raw(encode_vary_index(index))
        except BaseException:
            temp.discard()
            raise
        row = index_row(base, index, index_temp.file)
        try:
            self._install_one(temp, name)
            self._install_one(index_temp, base)
        except BaseException:
            index_temp.discard()
            self._unlink(name)  # a variant that no index names would never be found
            raise
        return row

    def shard_bytes(self, name: Name) -> int:
        """Return what the directory of a name takes."""
        return os.stat(self.layout.shard(name)).st_blocks * 512

    # --- changing and removing ---

    def replace(self, name: Name, expected: FileId, meta: Meta, state: State, now: float) -> Placed | None:
        """Put a page with the same bodies and another meta in this one's place; None: it is not there."""
        source = self._same(name, expected)
        if source is None:
            return None
        temp = self._workshop.make_copy(source, meta, state)
        status = os.fstat(temp.file.descriptor)
        page = self._opened(temp, status.st_ino, meta, state, None)
        row = page_row(name, meta, state, status, now)
        self._install_one(temp, name)
        self._verified.mark(name, stamp_of(status))
        return Placed(page, (row,), self.shard_bytes(name))

    def remove(self, name: Name, expected: FileId | None = None) -> tuple[Change, ...]:
        """Delete a file, and name it no more in its key's index; nothing when it is not the expected one."""
        if expected is not None and self._same(name, expected) is None:
            return ()
        changes = [self._unlink(name)]
        index = self._index(key_part(name)) if is_variant(name) else None
        if index is not None:
            changes.append(self._without_variant(index, name))
        return tuple(changes)

    def _without_variant(self, index: VaryIndex, name: Name) -> Change:
        base = key_part(name)
        left = tuple(digest for digest in index.variants if base + digest != name)
        if not left:
            return self._unlink(base)
        smaller = msgspec.structs.replace(index, variants=left)
        temp = self._workshop.make_raw(encode_vary_index(smaller))
        row = index_row(base, smaller, temp.file)
        self._install_one(temp, base)
        return row

    def _same(self, name: Name, expected: FileId) -> OpenFile | None:
        file = open_file(self.layout.page(name))
        if file is None or read_head(file)[0] != expected:
            return None
        return file

    def _unlink(self, name: Name) -> Change:
        self._verified.forget(name)
        try:
            os.unlink(self.layout.page(name))
        except FileNotFoundError:
            pass
        return Forgotten(name)

    def settle_page(self, name: Name) -> None:
        """Make a state written in place durable."""
        file = open_file(self.layout.page(name))
        if file is not None:
            self._workshop.settle(file.descriptor)

    def settle(self, names: Sequence[Name]) -> None:
        """Make the removal of these files durable."""
        for shard in {self.layout.shard(name) for name in names}:
            if os.path.isdir(shard):
                self._workshop.settle_directory(shard)

    # --- broken files ---

    def move_aside(self, broken: BrokenFile, max_size: int) -> tuple[tuple[Change, ...], int]:
        """Move a broken file to bad/, unless it was replaced; returns changes and what bad/ takes."""
        path = self.layout.page(broken.name)
        try:
            if os.stat(path).st_ino != broken.inode:
                return (), self.bad_bytes()
            os.rename(path, f"{self.layout.bad}/{os.path.basename(path)}.{broken.inode}")
        except FileNotFoundError:
            return (), self.bad_bytes()
        self._verified.forget(broken.name)
        self._trim_bad(max_size // _KEPT_BAD_FRACTION)
        return (Forgotten(broken.name),), self.bad_bytes()

    def _trim_bad(self, budget: int) -> None:
        """Keep the youngest of bad/, boundedly in number and bytes."""
        files = sorted(os.scandir(self.layout.bad), key=lambda file: file.stat().st_ctime_ns, reverse=True)
        for number, file in enumerate(files):
            budget -= file.stat().st_blocks * 512
            if number >= _KEPT_BAD_FILES or budget < 0:
                os.unlink(file.path)

    def bad_bytes(self) -> int:
        """Return what bad/ takes, which is bounded."""
        if not os.path.isdir(self.layout.bad):
            return 0
        return sum(file.stat().st_blocks * 512 for file in os.scandir(self.layout.bad))


def _entry(key: Key, page: Page) -> Entry:
    return Entry(key, page.meta.variant, page.meta, page.state, page.bodies)


def _is_of(stored: Meta | VaryIndex, key: Key) -> bool:
    """Compare the whole key: two keys may share a digest."""
    return (
        stored.path == key.path
        and stored.host == key.host
        and stored.query == key.query
        and stored.scheme == key.scheme
        and stored.dimensions == key.dimensions
    )
