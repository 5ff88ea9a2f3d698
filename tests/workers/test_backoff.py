"""How long a seat stays empty, as a table."""

from __future__ import annotations

import pytest

from isr_proxy.run.backoff import pause, remembered


@pytest.mark.parametrize(
    ("deaths", "now", "expected"),
    [
        ([100.0], 100.0, 0.0),  # the first is replaced at once
        ([0.0, 400.0], 400.0, 0.0),  # so is one that comes long after
        ([100.0, 101.0], 101.0, 0.5),
        ([100.0, 101.0, 102.0], 102.0, 1.0),
        ([100.0, 101.0, 102.0, 103.0], 103.0, 2.0),
        ([float(at) for at in range(100, 108)], 107.0, 30.0),
        ([float(at) for at in range(100, 380)], 379.0, 30.0),  # it does not grow beyond
        ([100.0, 101.0, 399.5], 399.5, 1.0),
        ([100.0, 101.0, 401.5], 401.5, 0.0),  # all is forgotten after five minutes
    ],
)
def test_how_long_a_seat_stays_empty(deaths: list[float], now: float, expected: float) -> None:
    assert pause(deaths, now) == expected


def test_what_cannot_live_is_started_less_than_once_in_half_a_minute() -> None:
    now, deaths, starts = 0.0, list[float](), 0
    while now < 3600.0:
        deaths = [*remembered(deaths, now), now]
        starts += 1
        now += pause(deaths, now) + 0.1
    assert starts < 3600.0 / 30.0 + 10
    assert len(deaths) < 20
