"""What `workers: auto` means."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from isr_proxy.core.settings import MIB, OriginSettings, Settings, StoreSettings
from isr_proxy.run import processors
from isr_proxy.run.share import settings_of_one


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000\n", 8),
        ("150000 100000\n", 2),  # a half counts as a whole
        ("100000 100000\n", 1),
        ("50000 100000\n", 1),
        ("1600000 100000\n", 8),  # more than there are
        ("nonsense", 8),
        (None, 8),
    ],
)
def test_as_many_as_there_is_time_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str | None, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    assert processors.processors(tmp_path / "cpu.max") == expected


def test_what_is_for_all_is_shared_out() -> None:
    origin = OriginSettings(max_connections=10, max_queue=1, max_regenerations=50)
    settings = Settings(workers=4, origin=origin, store=StoreSettings(memory=128 * MIB))
    one = settings_of_one(settings, 4)
    shared = (one.origin.max_connections, one.origin.max_queue, one.origin.max_regenerations)
    assert (shared, one.store.memory, one.workers) == ((3, 1, 13), 32 * MIB, 4)
