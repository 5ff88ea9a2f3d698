"""Bodies that are read from their files again and again, and what makes a file another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from isr_proxy.core.entry import State
from isr_proxy.core.settings import StoreSettings
from isr_proxy.store import slices
from isr_proxy.store.base import Entry
from isr_proxy.store.disk import DiskStore
from isr_proxy.store.layout import Layout, name_of
from isr_proxy.store.slices import FileSlice
from tests.store.conftest import key, language, put


@pytest.fixture
async def entry(store: DiskStore) -> Entry:
    return await put(store, key(), b"a body", encodings=[("br", b"brotli")])


def path_of(settings: StoreSettings, entry: Entry) -> Path:
    return Path(Layout(settings.path).page(name_of(entry.key.digest, entry.variant)))


def sliced(store: DiskStore, entry: Entry, encoding: str | None = "identity") -> FileSlice:
    found = store.slice_of(entry, encoding)
    assert found is not None
    return found


def content(slice_: FileSlice) -> bytes | None:
    read = slice_.read()
    return None if read is None else bytes(read)


async def test_every_body_is_found(store: DiskStore, entry: Entry) -> None:
    for _ in range(2):
        assert content(sliced(store, entry)) == b"a body"
        assert content(sliced(store, entry, "br")) == b"brotli"
        assert content(sliced(store, entry, None)) == b""


@pytest.mark.parametrize("size", [65_000, 65_300, 200_000])
async def test_a_large_body_is_whole(store: DiskStore, size: int) -> None:
    stored = await put(store, key(), b"x" * size)
    assert content(sliced(store, stored)) == b"x" * size


async def test_another_page_at_its_path_is_another(store: DiskStore, entry: Entry) -> None:
    before, opened = sliced(store, entry), sliced(store, entry)
    opened.read()
    await put(store, key(), b"a body", sequence=9)
    assert content(before) is None
    opened.let_go()
    assert content(opened) is None
    assert store.slice_of(entry, "identity") is None


async def test_another_state_is_another_page(store: DiskStore, entry: Entry) -> None:
    opened = sliced(store, entry)
    assert content(opened) == b"a body"
    await store.update(entry, State(9, 9.0))
    assert content(opened) is None  # even while it is open
    assert store.slice_of(entry, "identity") is None


async def test_what_is_removed_is_missed(store: DiskStore, entry: Entry) -> None:
    found = sliced(store, entry)
    await store.remove(entry)
    assert content(found) is None
    assert store.slice_of(entry, "identity") is None


async def test_a_file_that_is_cut_short_is_missed(
    store: DiskStore, entry: Entry, settings: StoreSettings
) -> None:
    found = sliced(store, entry)
    with path_of(settings, entry).open("rb+") as file:
        file.truncate(322)
    assert content(found) is None


async def test_a_file_that_was_written_to_is_missed_once_it_is_let_go(
    store: DiskStore, entry: Entry, settings: StoreSettings
) -> None:
    found = sliced(store, entry)
    with path_of(settings, entry).open("rb+") as file:
        file.seek(321)
        file.write(b"x")
    assert content(found) is None


async def test_which_variant_is_whose_another_file_says(store: DiskStore) -> None:
    _, german = language("de")
    assert store.slice_of(await put(store, key(), b"de", variant=german), "identity") is None


async def test_few_are_open_at_the_same_time(
    store: DiskStore, entry: Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slices, "MOST_OPEN", 4)
    found = [sliced(store, entry) for _ in range(30)]
    for _ in range(2):
        for each in found:
            assert content(each) == b"a body"
            assert sum(one._file is not None for one in found) <= 4
