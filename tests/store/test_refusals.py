"""A disk that refuses costs freshness, never an answer."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from isr_proxy.core.entry import State
from isr_proxy.core.key import PLAIN
from isr_proxy.core.settings import KIB, MIB, StoreSettings
from isr_proxy.errors import StoreUnavailable
from isr_proxy.store.base import Entry
from isr_proxy.store.disk import DiskStore
from tests.store.conftest import NOTHING, Clock, key, meta, put, read


def _mount(*arguments: str) -> None:
    if subprocess.run(["mount", *arguments], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")


def _unmount(path: str) -> None:
    subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    _mount("-t", "tmpfs", "-o", "size=4m", "none", str(path))
    yield path
    _unmount(str(path))


async def test_law_5_a_full_disk_keeps_the_old_page(small_disk: Path, clock: Clock) -> None:
    store = DiskStore.open(StoreSettings(str(small_disk)), now=clock)
    await put(store, key(), b"old")
    (small_disk / "filler").write_bytes(b"")
    _fill(small_disk / "filler")
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="No space left"):
            await put(store, key(), b"new" * 30 * KIB)
    assert await read(store, key()) == b"old"
    assert (os.listdir(small_disk / "tmp"), store.failures) == ([], 3)
    (small_disk / "filler").unlink()
    await put(store, key(), b"new")
    assert await read(store, key()) == b"new"
    await store.aclose()


def _fill(path: Path) -> None:
    with path.open("wb") as file:
        try:
            while True:
                os.write(file.fileno(), b"x" * 4096)
        except OSError:
            pass


async def test_law_5_the_visitor_gets_all_of_a_body_that_the_disk_refused(
    small_disk: Path, clock: Clock
) -> None:
    store = DiskStore.open(StoreSettings(str(small_disk)), now=clock)
    body = os.urandom(12 * MIB)

    async def receive() -> bytes:
        return b"".join([chunk async for chunk in reader])

    async with store.begin(key(), PLAIN) as writer:
        reader = writer.reader()
        receiving = asyncio.get_running_loop().create_task(receive())
        for start in range(0, len(body), 64 * KIB):
            await writer.write(body[start : start + 64 * KIB])
        with pytest.raises(StoreUnavailable):
            await writer.commit(meta(key()), State(1, 1.0))
        assert await receiving == body
        assert writer.is_abandoned
    assert await read(store, key()) is None
    await store.aclose()


async def test_law_5_nobody_reading_a_refused_body_ends_the_fetch(small_disk: Path, clock: Clock) -> None:
    store = DiskStore.open(StoreSettings(str(small_disk)), now=clock)
    async with store.begin(key(), PLAIN) as writer:
        with pytest.raises(StoreUnavailable):
            await writer.write(b"x" * 12 * MIB)
    await store.aclose()


async def test_law_5_a_read_only_disk_is_served_from(
    settings: StoreSettings, clock: Clock, tmp_path: Path
) -> None:
    first = DiskStore.open(settings, now=clock)
    await put(first, key(), b"page")
    await first.aclose()
    path = str(tmp_path / "store")
    _mount("--bind", path, path)
    try:
        _mount("-o", "remount,ro,bind", path)
        store = DiskStore.open(settings, now=clock)
        assert not store.is_writable
        found = await store.lookup(key(), NOTHING)
        assert isinstance(found, Entry)
        assert (await store.update(found, State(9, 9.0))).state.sequence == 9
        with pytest.raises(StoreUnavailable, match="Read-only"):
            await put(store, key("/new"), b"new")
        await store.aclose()
    finally:
        _unmount(path)


SCRIPT = """
import asyncio, os, resource, sys, time
from isr_proxy.core.settings import StoreSettings
from isr_proxy.errors import StoreUnavailable
from isr_proxy.store.disk import DiskStore
from tests.store.conftest import key, put, read, NOTHING
from isr_proxy.store.base import PENDING

async def main():
    store = DiskStore.open(StoreSettings(sys.argv[1], fsync=False), now=time.monotonic)
    await put(store, key(), b"page")
    await read(store, key())
    {limit}
    try:
        await put(store, key("/new"), b"x" * 500_000)
    except StoreUnavailable as error:
        print(error)
    {after}
    await store.aclose()

asyncio.run(main())
"""


def _run(limit: str, after: str, path: str) -> str:
    script = SCRIPT.format(limit=limit, after=after)
    done = subprocess.run(
        [sys.executable, "-c", script, path], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_law_5_without_free_descriptors_everything_is_a_miss(tmp_path: Path) -> None:
    after = (
        "print(store.peek(key(), NOTHING) is PENDING, await read(store, key()));"
        " resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096)); print(await read(store, key()))"
    )
    said = _run("resource.setrlimit(resource.RLIMIT_NOFILE, (3, 4096))", after, str(tmp_path))
    assert "Too many open files" in said
    assert said.splitlines()[-2:] == ["True None", "b'page'"]


def test_law_5_a_limit_of_file_sizes_is_a_refusal(tmp_path: Path) -> None:
    limit = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limit += " resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    said = _run(limit, "print(await read(store, key()), os.listdir(sys.argv[1] + '/tmp'))", str(tmp_path))
    assert "File too large" in said
    assert "b'page' []" in said
