"""When something grows, and what is said of it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from bench import counted, processes
from bench.flatness import flatness
from bench.soak import Sample, Soak, problems, table

FLAT = [50.0, 90.0, 100.0, 101.0, 99.0, 100.0, 100.0, 102.0, 99.0]


@pytest.mark.parametrize(
    ("samples", "grows"),
    [
        (FLAT, False),
        ([10.0 * number for number in range(1, 10)], True),
        ([100.0 + number for number in range(9)], False),  # within share and allowance
        ([*FLAT[:6], 130.0, 99.0, 100.0], True),  # a peak, though the median is flat
        ([*FLAT[:3], 200.0, 200.0, 200.0, 100.0, 100.0, 100.0], False),
        ([1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 1.0, 2.0, 1.0], False),
    ],
)
def test_growth(samples: list[float], grows: bool) -> None:
    assert flatness(samples).grows(0.05, 2.0) is grows


def test_the_warm_up_does_not_count() -> None:
    assert flatness(FLAT).before == 100.0


def test_a_few_samples_tell_nothing() -> None:
    with pytest.raises(ValueError, match="nine"):
        flatness(FLAT[:8])


def soak() -> Soak:
    return Soak(1, 2, 0.0)


STEADY = Sample(80.0, 20, 2)


def test_all_flat() -> None:
    assert problems(soak(), STEADY, [STEADY] * 9, STEADY) == []
    assert "| open files | 20.0 | 20.0 | 20.0 | 20.0 | 20.0 | 20.0 |" in table(STEADY, [STEADY] * 9, STEADY)


def test_what_grew_is_named() -> None:
    growing = [Sample(80.0, 20 + 10 * number, 2) for number in range(9)]
    found = problems(soak(), STEADY, growing, STEADY)
    assert len(found) == 1
    assert found[0].startswith("open files grew from 60.0 to 90.0")


def test_what_is_left_behind_is_named() -> None:
    found = problems(soak(), STEADY, [STEADY] * 9, Sample(200.0, 40, 12))
    assert found == [
        "open files: 20 more than before the first visitor are left",
        "tasks: 10 more than before the first visitor are left",
    ]


def test_wrong_answers_are_named() -> None:
    spoiled = soak()
    spoiled.wrong += ["hit /a: HTTP/1.1 500", "hit /b: HTTP/1.1 500"]
    found = problems(spoiled, STEADY, [STEADY] * 9, STEADY)
    assert found == ["2 wrong answers, the first: hit /a: HTTP/1.1 500"]


def test_tasks_are_counted_from_outside(tmp_path: Path) -> None:
    port, config, file = processes.free_port(), tmp_path / "isr.yaml", tmp_path / "tasks"
    config.write_text(
        f"listen: 127.0.0.1:{port}\nadmin: {{listen: 127.0.0.1:{processes.free_port()}}}\n"
        f"store: {{path: {tmp_path}/store}}\n"
    )
    command = [sys.executable, "-m", "bench.counted", str(file), "serve", "--config", str(config)]
    output = tmp_path / "output"
    with processes.listening(command, port, output=output) as process:
        assert 1 <= counted.tasks(process.pid, file) < 20
        assert process.poll() is None


def test_who_does_not_count_is_left_alone(tmp_path: Path) -> None:
    """USR1 ends a process that does not catch it."""
    with processes.started([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        assert counted.tasks(process.pid, tmp_path / "tasks") == 0
        assert process.poll() is None
