"""What was looked for and not found is not looked for again, until somebody stores it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from isr_proxy.errors import Superseded
from isr_proxy.store import peeking, reading
from isr_proxy.store.absent import Absent
from isr_proxy.store.base import Entry
from isr_proxy.store.company import Alone
from isr_proxy.store.disk import DiskStore
from tests.store.conftest import NOTHING, key, language, put, read

ONE, OTHER, THIRD = b"1" * 20, b"2" * 20, b"3" * 20


def test_what_was_noted_is_absent_until_it_is_told_of() -> None:
    absent = Absent(Alone())
    assert not absent.has(ONE)
    absent.note(ONE, absent.stamp(ONE))
    assert absent.has(ONE)
    absent.forget(ONE)
    assert not absent.has(ONE)


def test_what_another_process_changes_is_looked_at_again() -> None:
    company = Alone()
    absent = Absent(company)
    absent.note(ONE, absent.stamp(ONE))
    company.stamps[company.place(ONE)] += 1
    assert not absent.has(ONE)


def test_a_change_while_one_looked_is_noticed() -> None:
    company = Alone()
    absent = Absent(company)
    stamp = absent.stamp(ONE)
    company.stamps[company.place(ONE)] += 1
    absent.note(ONE, stamp)
    assert not absent.has(ONE)


def test_law_8_the_longest_known_is_forgotten() -> None:
    absent = Absent(Alone(), most=2)
    for digest in (ONE, OTHER, THIRD):
        absent.note(digest, absent.stamp(digest))
    assert [absent.has(digest) for digest in (ONE, OTHER, THIRD)] == [False, True, True]


async def test_a_miss_looks_for_its_page_once(store: DiskStore, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    really = os.open

    def opened(path: Any, *how: Any, **more: Any) -> int:
        looks.append(str(path))
        return really(path, *how, **more)

    for module in (peeking, reading):
        monkeypatch.setattr(module.os, "open", opened)
    for _ in range(3):
        assert store.peek(key(), NOTHING) is None
    await put(store, key(), b"page")
    monkeypatch.undo()
    assert len([path for path in looks if path.endswith(key().digest.hex())]) == 1
    assert await read(store, key()) == b"page"


async def test_what_is_stored_is_found_though_it_was_absent(store: DiskStore) -> None:
    assert store.peek(key(), NOTHING) is None
    await put(store, key(), b"page")
    assert store.peek(key(), NOTHING) is not None
    found = await store.lookup(key(), NOTHING)
    assert isinstance(found, Entry)
    await store.remove(found)
    assert store.peek(key(), NOTHING) is None
    fields, variant = language("de")
    await put(store, key(), b"Seite", variant=variant)
    assert store.peek(key(), fields) is not None


async def test_law_2_a_late_writer_loses_though_the_key_was_absent(store: DiskStore) -> None:
    assert store.peek(key(), NOTHING) is None
    await put(store, key(), b"young", sequence=5)
    with pytest.raises(Superseded):
        await put(store, key(), b"late", sequence=1)
    assert await read(store, key()) == b"young"
