"""A hit from the page cache: no thread, few system calls, and never what is not true any more."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from isr_proxy.core.entry import State
from isr_proxy.core.settings import KIB, MIB, StoreSettings
from isr_proxy.store.base import PENDING, Entry
from isr_proxy.store.disk import DiskStore
from isr_proxy.store.opened import FileId, ResidentBodies
from isr_proxy.store.peeking import Peeker
from isr_proxy.store.reading import Stamp, Verified
from isr_proxy.store.writing import overwrite_state
from tests.store.conftest import NOTHING, Clock, body_of, file_of, key, language, put, read

SIZES = [0, 100, 60 * KIB, 100 * KIB, 2 * MIB]


def peeker_of(store: DiskStore) -> Peeker:
    return store._shelf._peeker


def peeked(store: DiskStore, path: str = "/page") -> Entry:
    """Look, as often as it takes for the file to be kept open."""
    store.peek(key(path), NOTHING)
    found = store.peek(key(path), NOTHING)
    assert isinstance(found, Entry)
    return found


def settle(store: DiskStore) -> None:
    """Let so much time pass that later changes of what is kept open show."""
    peeker_of(store)._clock = lambda: time.monotonic() + 10
    peeked(store)
    assert [kept.settles_at for kept in peeker_of(store)._kept.values()] == [None]


def stay(store: DiskStore) -> None:
    """Look once more at once."""
    peeked(store)
    assert None not in [kept.settles_at for kept in peeker_of(store)._kept.values()]


soon_or_late = pytest.mark.parametrize("passing", [stay, settle])
Passing = Callable[[DiskStore], None]


async def reopened(settings: StoreSettings, clock: Clock, body: bytes) -> DiskStore:
    """Return a store that has this page, and has verified nothing yet."""
    store = DiskStore.open(settings, now=clock)
    await put(store, key(), body)
    await store.aclose()
    return DiskStore.open(settings, now=clock)


async def made_elsewhere(tmp_path: Path, clock: Clock, body: bytes) -> Path:
    """Return a page file of the same key that another process made."""
    other = StoreSettings(str(tmp_path / "other"), fsync=False)
    store = DiskStore.open(other, now=clock)
    await put(store, key(), body, sequence=7)
    await store.aclose()
    return file_of(other, key())


# --- finding ---


@pytest.mark.parametrize("size", SIZES)
async def test_it_answers_from_the_page_cache(store: DiskStore, size: int) -> None:
    assert store.peek(key(), NOTHING) is None
    body = os.urandom(size)
    await put(store, key(), body, encodings=[("br", b"br")])
    for _ in range(4):  # opened, opened again and kept, kept
        found = _entry(store.peek(key(), NOTHING))
        assert (await body_of(found), await body_of(found, "br")) == (body, b"br")
        assert (found.state, found.meta.status) == (State(1, 1.0), 200)


async def test_variants_are_found_without_waiting(store: DiskStore) -> None:
    (german, de), (english, en) = language("de"), language("en")
    await put(store, key(), b"de", variant=de)
    await put(store, key(), b"en", variant=en)
    for _ in range(4):
        assert await body_of(_entry(store.peek(key(), german))) == b"de"
        assert await body_of(_entry(store.peek(key(), english))) == b"en"


def _entry(found: object) -> Entry:
    assert isinstance(found, Entry)
    return found


async def test_a_second_look_opens_nothing(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    await put(store, key(), b"page")
    first = peeked(store)
    settle(store)
    monkeypatch.setattr(os, "open", _refusing(errno.EMFILE))
    monkeypatch.setattr(os, "stat", _refusing(errno.EMFILE))
    assert await body_of(peeked(store)) == await body_of(first) == b"page"


async def test_two_pages_at_once_do_not_mix(store: DiskStore) -> None:
    await put(store, key("/a"), b"a" * 100)
    await put(store, key("/b"), b"b" * 100)
    first, second = peeked(store, "/a"), peeked(store, "/b")
    assert (await body_of(first), await body_of(second)) == (b"a" * 100, b"b" * 100)


# --- law 5: verified before it is served ---


async def test_law_5_a_small_file_is_verified_when_it_is_first_peeked(
    settings: StoreSettings, clock: Clock
) -> None:
    again = await reopened(settings, clock, b"hello")
    assert await body_of(peeked(again)) == b"hello"
    await again.aclose()


async def test_law_5_a_large_file_never_verified_is_left_to_lookup(
    settings: StoreSettings, clock: Clock
) -> None:
    again = await reopened(settings, clock, bytes(100 * KIB))
    assert again.peek(key(), NOTHING) is PENDING
    assert await read(again, key()) == bytes(100 * KIB)
    assert isinstance(again.peek(key(), NOTHING), Entry)
    await again.aclose()


@pytest.mark.parametrize("passing", [stay, settle, None])
async def test_law_5_a_file_damaged_later_is_not_served(
    store: DiskStore, settings: StoreSettings, passing: Passing | None
) -> None:
    await put(store, key(), b"hello")
    if passing is not None:
        peeked(store)
        passing(store)
    path = file_of(settings, key())
    raw = path.read_bytes().replace(b"hello", b"hellO")
    path.write_bytes(raw)
    os.utime(path, ns=(0, 1))  # the clock of a file system may be too coarse to tell
    assert store.peek(key(), NOTHING) is PENDING
    assert await read(store, key()) is None
    assert store.bad_entries == 1


def test_law_8_what_is_verified_is_remembered_in_a_table_of_one_size() -> None:
    verified = Verified(rows=4)
    stamps = [Stamp(number, 10, 100) for number in range(1000)]
    for stamp in stamps:
        verified.mark(b"name%d" % stamp.inode, stamp)
    known = [stamp for stamp in stamps if verified.has(b"name%d" % stamp.inode, stamp)]
    assert 0 < len(known) <= 16
    assert stamps[-1] in known


def test_law_5_a_file_is_known_by_name_inode_time_and_size() -> None:
    verified, stamp = Verified(), Stamp(1, 2, 3)
    verified.mark(b"name", stamp)
    assert verified.has(b"name", stamp)
    others = [Stamp(9, 2, 3), Stamp(1, 9, 3), Stamp(1, 2, 9)]
    assert not any(verified.has(b"name", other) for other in others)
    assert not verified.has(b"other", stamp)
    verified.forget(b"name")
    assert not verified.has(b"name", stamp)


# --- changed behind the store's back, as another process does ---


@pytest.mark.parametrize("size", [10, 2 * MIB])
@soon_or_late
async def test_law_2_another_process_replaces_a_page_that_is_kept_open(
    store: DiskStore, settings: StoreSettings, clock: Clock, tmp_path: Path, size: int, passing: Passing
) -> None:
    await put(store, key(), b"o" * size)
    old = peeked(store)
    passing(store)
    (await made_elsewhere(tmp_path, clock, b"n" * size)).rename(file_of(settings, key()))
    assert await read(store, key()) == b"n" * size  # a large one is verified in a thread
    assert (await body_of(peeked(store)), peeked(store).state.sequence) == (b"n" * size, 7)
    assert await body_of(old) == b"o" * size


@soon_or_late
@pytest.mark.parametrize("is_moved", [False, True])
async def test_law_2_another_process_takes_away_a_page_that_is_kept_open(
    store: DiskStore, settings: StoreSettings, is_moved: bool, passing: Passing
) -> None:
    await put(store, key(), b"page")
    peeked(store)
    passing(store)
    path = file_of(settings, key())
    if is_moved:
        path.rename(path.with_suffix(".elsewhere"))
    else:
        path.unlink()
    assert store.peek(key(), NOTHING) is None
    assert len(peeker_of(store)) == 0


async def test_a_page_that_is_linked_elsewhere_is_noticed_when_it_is_replaced(
    store: DiskStore, settings: StoreSettings, clock: Clock, tmp_path: Path
) -> None:
    await put(store, key(), b"old")
    os.link(file_of(settings, key()), tmp_path / "backup")
    peeked(store)
    settle(store)
    (await made_elsewhere(tmp_path, clock, b"new")).rename(file_of(settings, key()))
    assert await body_of(peeked(store)) == b"new"


@pytest.mark.parametrize("size", [10, 100 * KIB])
@soon_or_late
async def test_another_process_writes_a_state_without_the_clock_moving(
    store: DiskStore, settings: StoreSettings, size: int, passing: Passing
) -> None:
    await put(store, key(), b"x" * size)
    found, path = peeked(store), file_of(settings, key())
    passing(store)
    before = path.stat()
    assert isinstance(file_id := getattr(found.bodies, "file_id", None), FileId)
    assert overwrite_state(str(path), file_id, State(9, 9.0)) is not None
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert peeked(store).state.sequence == 9


async def test_a_variant_that_another_process_removes_is_missed(
    store: DiskStore, settings: StoreSettings
) -> None:
    fields, variant = language("de")
    await put(store, key(), b"de", variant=variant)
    for _ in range(3):
        assert isinstance(store.peek(key(), fields), Entry)
    assert len(peeker_of(store)) == 2
    file_of(settings, key(), variant).unlink()
    assert not isinstance(store.peek(key(), fields), Entry)


# --- what the page cache, or the file system, does not have ---


def _refusing(number: int) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    return refuse


@pytest.mark.parametrize("number", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
@pytest.mark.parametrize("size", [10, 100 * KIB])
async def test_a_file_system_without_nowait_is_asked_once(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, number: int, size: int
) -> None:
    await put(store, key(), b"x" * size)
    monkeypatch.setattr(os, "preadv", _refusing(number))
    assert store.peek(key(), NOTHING) is PENDING
    assert not peeker_of(store).is_supported
    monkeypatch.setattr(os, "open", _refusing(errno.EIO))
    assert store.peek(key(), NOTHING) is PENDING
    monkeypatch.undo()
    monkeypatch.setattr(os, "preadv", _refusing(number))
    assert await read(store, key()) == b"x" * size


@pytest.mark.parametrize("is_kept", [True, False])
async def test_what_is_not_in_the_page_cache_is_left_to_lookup(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch, is_kept: bool
) -> None:
    await put(store, key(), b"page")
    if is_kept:
        peeked(store)
    with monkeypatch.context() as patched:
        patched.setattr(os, "preadv", _refusing(errno.EAGAIN))
        assert store.peek(key(), NOTHING) is PENDING
        assert await read(store, key()) == b"page"
    assert peeker_of(store).is_supported
    assert await body_of(peeked(store)) == b"page"


async def test_a_page_of_which_a_part_is_in_the_page_cache_is_left_to_lookup(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put(store, key(), b"x" * 30_000)
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda *asked: min(real(*asked), 4096))
    assert store.peek(key(), NOTHING) is PENDING


async def test_it_works_on_a_file_system_in_memory(settings: StoreSettings, clock: Clock) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        store = DiskStore.open(replace(settings, path=directory), now=clock)
        await put(store, key(), b"page")
        found = store.peek(key(), NOTHING)
        assert found is PENDING or await body_of(_entry(found)) == b"page"
        assert await read(store, key()) == b"page"
        await store.aclose()


# --- bounds ---


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def test_law_8_kept_files_are_bounded(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    peeker = peeker_of(store)
    monkeypatch.setattr(peeker, "_max_files", 5)
    before = _open_files()
    for number in range(20):
        await put(store, key(f"/{number}"), b"x" * 1000)
        peeked(store, f"/{number}")
    assert (len(peeker), _open_files() - before) == (5, 5)
    monkeypatch.setattr(peeker, "_max_bytes", 12_000)
    peeked(store, "/0")
    assert peeker.kept_bytes <= 12_000
    assert 0 < _open_files() - before == len(peeker) < 12


async def test_a_page_that_is_asked_for_once_is_not_kept_open(store: DiskStore) -> None:
    for number in range(600):
        await put(store, key(f"/{number}"), b"x")
        store.peek(key(f"/{number}"), NOTHING)
    peeker = peeker_of(store)
    assert (len(peeker), len(peeker._opened) + len(peeker._opened_before)) == (0, 600)
    for number in range(600, 1600):
        store.peek(key(f"/{number}"), NOTHING)
        await put(store, key(f"/{number}"), b"x")
        store.peek(key(f"/{number}"), NOTHING)
    assert len(peeker._opened) + len(peeker._opened_before) <= 2 * 512


async def test_law_8_a_page_that_would_take_all_the_room_is_not_kept(
    store: DiskStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peeker_of(store), "_max_bytes", 1 * MIB)
    await put(store, key(), bytes(200 * KIB))
    assert await body_of(peeked(store)) == bytes(200 * KIB)
    assert (len(peeker_of(store)), peeker_of(store).kept_bytes) == (0, 0)


async def test_law_8_what_is_deleted_is_closed_at_once(store: DiskStore) -> None:
    entry = await put(store, key(), b"x" * 1000)
    del entry
    before = _open_files()
    found = peeked(store)
    assert isinstance(found.bodies, ResidentBodies)
    assert _open_files() == before + 1
    await store.remove(found)
    assert (_open_files(), len(peeker_of(store)), peeker_of(store).kept_bytes) == (before, 0, 0)
