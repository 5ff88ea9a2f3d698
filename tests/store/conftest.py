"""A store in a temporary directory, and short ways to fill and ask it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from isr_proxy.core.entry import Meta, OriginTimes, State
from isr_proxy.core.http import Fields
from isr_proxy.core.key import PLAIN, Key, Variant, variant_of
from isr_proxy.core.settings import MIB, StoreSettings
from isr_proxy.store.base import Entry, Found, Store
from isr_proxy.store.changes import Row
from isr_proxy.store.disk import DiskStore
from isr_proxy.store.layout import Layout, name_of

NOTHING = Fields()


class Clock:
    """A clock that moves only when told to."""

    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def key(path: str = "/page", host: str = "site.test", query: str | None = None) -> Key:
    return Key("http", host, path, query)


def meta(key: Key, variant: Variant = PLAIN, tags: tuple[str, ...] = ()) -> Meta:
    return Meta(
        key.scheme,
        key.host,
        key.path,
        key.query,
        key.dimensions,
        variant.headers,
        200,
        "OK",
        ((b"Content-Type", b"text/html"),),
        tags,
        '"tag"',
        None,
        OriginTimes(),
        1.0,
    )


async def put(
    store: Store,
    key: Key,
    body: bytes,
    *,
    variant: Variant = PLAIN,
    encodings: Sequence[tuple[str, bytes]] = (),
    sequence: int = 1,
    tags: tuple[str, ...] = (),
) -> Entry:
    """Store a page in pieces of 64 KiB."""
    async with store.begin(key, variant) as writer:
        for start in range(0, len(body), 65536):
            await writer.write(body[start : start + 65536])
        return await writer.commit(meta(key, variant, tags), State(sequence, 1.0), encodings)


async def body_of(found: Found, encoding: str = "identity") -> bytes | None:
    """Return a found entry's whole body, None when nothing was found."""
    if not isinstance(found, Entry):
        return None
    resident = found.bodies.resident(encoding)
    if resident is not None:
        return resident
    return b"".join([chunk async for chunk in found.bodies.stream(encoding)])


async def read(store: Store, key: Key, fields: Fields = NOTHING) -> bytes | None:
    return await body_of(await store.lookup(key, fields))


def language(value: str) -> tuple[Fields, Variant]:
    """Return a request's fields and the variant they ask for, where Accept-Language is varied on."""
    fields = Fields([(b"Accept-Language", value.encode())])
    return fields, variant_of(["accept-language"], fields)


def file_of(settings: StoreSettings, key: Key, variant: Variant = PLAIN) -> Path:
    return Path(Layout(settings.path).page(name_of(key.digest, variant)))


def disk_usage(root: Path) -> int:
    """Return what `du` says of a directory."""
    return sum(path.lstat().st_blocks * 512 for path in [root, *root.rglob("*")])


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def settings(tmp_path: Path) -> StoreSettings:
    return StoreSettings(str(tmp_path / "store"), max_size=256 * MIB, fsync=False)


@pytest.fixture
async def store(settings: StoreSettings, clock: Clock) -> AsyncIterator[DiskStore]:
    store = DiskStore.open(settings, now=clock)
    yield store
    await store.aclose()


def row(name: bytes, tags: tuple[str, ...] = (), path: str = "/") -> Row:
    """Return a row of the catalog, as of a page that nothing has happened to."""
    return Row(
        name=name,
        scheme="http",
        host="a.test",
        path=path,
        query=None,
        variant="",
        encodings="",
        status=200,
        size_bytes=4096,
        body_bytes=1,
        inode=1,
        mtime_ns=1,
        sequence=1,
        generated_at=1.0,
        fetched_at=1.0,
        stale_at=math.inf,
        failures=0,
        last_error="",
        retry_at=0.0,
        served_at=1.0,
        tags=tags,
    )
