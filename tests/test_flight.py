"""Flights: who leads, who waits, who is told what (coord/flight.py)."""

from __future__ import annotations

import asyncio

import pytest

from isr_proxy.coord.eager import EagerTask
from isr_proxy.coord.flight import Flight, Flights


def crashed(error: BaseException) -> str:
    return f"crashed: {type(error).__name__}"


async def test_waiters_get_what_the_leader_opens() -> None:
    flights: Flights[str] = Flights(crashed)
    release = asyncio.Event()

    async def run(flight: Flight[str]) -> None:
        await release.wait()
        flight.open("page")

    flight = flights.launch(b"k", 1, run)
    assert flights.find(b"k") is flight
    waiters = [asyncio.ensure_future(flight.opened()) for _ in range(3)]
    release.set()
    assert await asyncio.gather(*waiters) == ["page"] * 3
    await flight.landed()
    assert flights.find(b"k") is None


async def test_a_flight_that_cannot_start_is_none() -> None:
    flights: Flights[str] = Flights(crashed)

    async def run(flight: Flight[str]) -> None:
        raise KeyboardInterrupt

    launched = asyncio.get_running_loop().create_future()

    def launch() -> None:
        try:
            flights.launch(b"k", 1, run, start=EagerTask)
        except KeyboardInterrupt:
            launched.set_result(None)

    asyncio.get_running_loop().call_soon(launch)
    await launched
    assert (len(flights), flights.find(b"k")) == (0, None)
    await flights.drain(0.0)


async def test_law_3_a_cancelled_waiter_cancels_nobody_else() -> None:
    flights: Flights[str] = Flights(crashed)
    release = asyncio.Event()

    async def run(flight: Flight[str]) -> None:
        await release.wait()
        flight.open("page")

    flight = flights.launch(b"k", 1, run)
    gone, stays = asyncio.ensure_future(flight.opened()), asyncio.ensure_future(flight.opened())
    await asyncio.sleep(0)
    gone.cancel()
    release.set()
    assert await stays == "page"


@pytest.mark.parametrize("fault", [ValueError("x"), None])
async def test_a_crash_opens_the_flight_too(fault: Exception | None) -> None:
    flights: Flights[str] = Flights(crashed)

    async def run(flight: Flight[str]) -> None:
        if fault is not None:
            raise fault

    opened = await flights.launch(b"k", 1, run).opened()
    assert opened == ("crashed: ValueError" if fault else "crashed: RuntimeError")


async def test_law_2_a_replaced_flight_still_counts_for_the_purge_log() -> None:
    flights: Flights[str] = Flights(crashed)
    release = asyncio.Event()

    async def run(flight: Flight[str]) -> None:
        await release.wait()
        flight.open("page")

    old, new = flights.launch(b"k", 1, run), flights.launch(b"k", 5, run)
    assert flights.find(b"k") is new
    assert flights.oldest_sequence(default=9) == 1
    release.set()
    await asyncio.gather(old.landed(), new.landed())
    assert flights.oldest_sequence(default=9) == 9


async def test_a_place_is_flown_for_until_the_last_flight_has_landed() -> None:
    flights: Flights[str] = Flights(crashed)
    gates: list[asyncio.Event] = []

    async def fly(flight: Flight[str]) -> None:
        gates.append(asyncio.Event())
        await gates[-1].wait()
        flight.open("page")

    old = flights.launch(b"k", 1, fly, "/p")
    await asyncio.sleep(0)
    new = flights.launch(b"k", 2, fly, "/p")
    await asyncio.sleep(0)
    gates[1].set()
    await new.landed()
    assert flights.is_flying("/p")  # the old one, which nobody can join
    gates[0].set()
    await old.landed()
    assert not flights.is_flying("/p")
