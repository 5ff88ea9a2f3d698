"""The state table of an origin's health, and whose turn it is, over a clock that the test moves."""

from __future__ import annotations

import itertools

import pytest

from isr_proxy.origin.endpoint import TcpEndpoint
from isr_proxy.origin.health import BACKOFF_FIRST, BACKOFF_MAX, FAILURES_MAX, TABLE, Event, Health, State
from isr_proxy.origin.pool import Pool
from isr_proxy.origin.turns import Turns


def _down(now: float) -> Health:
    health = Health()
    for _ in range(FAILURES_MAX):
        health = health.after(Event.FAILED, now)
    return health


def test_the_table_has_a_row_for_everything() -> None:
    assert set(TABLE) == set(itertools.product(State, Event))


def test_an_origin_goes_down_after_failures_in_a_row() -> None:
    health = Health()
    states = []
    for _ in range(FAILURES_MAX):
        health = health.after(Event.FAILED, 5.0)
        states.append(health.state)
    assert states == [State.UP] * (FAILURES_MAX - 1) + [State.DOWN]
    assert (health.since_at, health.probe_at) == (5.0, 5.0 + BACKOFF_FIRST)


def test_an_answer_ends_the_row_of_failures() -> None:
    health = Health()
    for event in [Event.FAILED, Event.FAILED, Event.ANSWERED] * 3:
        health = health.after(event, 0.0)
    assert health == Health()


def test_one_request_is_let_through_after_the_back_off() -> None:
    health = _down(0.0)
    assert [health.is_open(now) for now in (0.0, 0.9, 1.0)] == [False, False, True]
    probing = health.after(Event.PROBED, 1.0)
    assert (probing.state, probing.is_open(1.1)) == (State.PROBING, False)
    assert probing.after(Event.ANSWERED, 1.2) == Health(State.UP, since_at=1.2)


def test_the_back_off_doubles_up_to_its_limit() -> None:
    health, waits = _down(0.0), []
    for _ in range(8):
        waits.append(health.probe_at - health.since_at)
        now = health.probe_at
        health = health.after(Event.PROBED, now).after(Event.FAILED, now)
    assert waits == [1.0, 2.0, 4.0, 8.0, 16.0, BACKOFF_MAX, BACKOFF_MAX, BACKOFF_MAX]


def test_a_probe_that_never_tells_is_followed_by_another() -> None:
    health = _down(0.0)
    probing = health.after(Event.PROBED, 1.0)
    assert probing.is_open(1.0 + probing.backoff)


def test_failures_of_requests_sent_in_despair_do_not_lengthen_the_back_off() -> None:
    health = _down(0.0)
    assert health.after(Event.FAILED, 0.5).probe_at == health.probe_at


class _Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> _Clock:
    return _Clock()


def _turns(clock: _Clock, *urls: str) -> Turns:
    return Turns([(url, Pool(TcpEndpoint("127.0.0.1", 1), 1)) for url in urls], clock)


def _fail(turns: Turns, number: int) -> None:
    for _ in range(FAILURES_MAX):
        turns.learn(turns.origins[number], Event.FAILED)


def test_turns_leave_out_who_is_down_until_the_probe(clock: _Clock) -> None:
    turns = _turns(clock, "a", "b", "c")
    _fail(turns, 1)
    assert [turns.choose().url for _ in range(4)] == ["a", "c", "a", "c"]
    clock.now += BACKOFF_FIRST
    assert [turns.choose().url for _ in range(4)] == ["a", "b", "c", "a"]
    assert turns.origins[1].health.state is State.PROBING
    assert [turns.choose().url for _ in range(2)] == ["c", "a"]


def test_when_nobody_is_healthy_all_take_turns(clock: _Clock) -> None:
    turns = _turns(clock, "a", "b")
    _fail(turns, 0)
    _fail(turns, 1)
    assert [turns.choose().url for _ in range(4)] == ["a", "b", "a", "b"]
    assert turns.are_all_down


def test_the_retry_goes_to_somebody_else(clock: _Clock) -> None:
    turns = _turns(clock, "a", "b")
    first = turns.choose()
    assert turns.choose(first).url == "b"


def test_the_snapshot_says_how_long(clock: _Clock) -> None:
    turns = _turns(clock, "a", "b")
    clock.now += 7
    _fail(turns, 1)
    clock.now += 2
    assert [(each.state, each.failures, each.since) for each in turns.snapshot()] == [
        (State.UP, 0, 9.0),
        (State.DOWN, FAILURES_MAX, 2.0),
    ]
