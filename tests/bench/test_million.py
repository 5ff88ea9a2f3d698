"""A store that was filled from outside is one that the proxy takes as its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import million
from bench.million import Found, table


def found(pages: int, start: float, purge: float) -> Found:
    times = [1e-4] * 10
    return Found(pages, [start], 100 * 2**20, 100 * 2**20, times, times, {"purge by tag": purge})


def test_both_stores_stand_side_by_side() -> None:
    lines = table(found(1_000, 1.0, 0.004), found(1_000_000, 1.2, 0.008)).splitlines()
    assert lines[0] == "|  | 1,000 pages | 1,000,000 pages | ratio | goal | reached |"
    assert (
        lines[2]
        == "| start-up to first hit, ms | 1,000.0 | 1,200.0 | 1.20 x | 1.1 x | **no**, 1.1 x the goal |"
    )
    assert lines[3] == "| RSS after the same traffic, MiB | 100.0 | 100.0 | 1.00 x | 1.1 x | yes |"
    assert lines[-1] == "| purge by tag, ms | 4.0 | 8.0 | 2.00 x | 10 ms | yes |"


@pytest.mark.slow
def test_purged_pages_are_not_served_and_the_others_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(million, "FEW", 100)
    monkeypatch.setattr(million, "_REQUESTS", 200)
    monkeypatch.setattr(million, "_TIMED", 50)
    monkeypatch.setattr(million, "_STARTS", 0)
    monkeypatch.setattr(million, "_SAMPLE", 30)
    few, many = million.run(500, tmp_path, lambda line: None)
    assert (few.served_after_purge, many.served_after_purge) == (0, 0)
    assert len(many.purges) == 3
    assert many.resident > 0
