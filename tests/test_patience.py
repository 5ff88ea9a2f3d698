"""One timer for everybody who may take equally long (coord/patience.py)."""

from __future__ import annotations

import asyncio

import pytest

from isr_proxy.coord.eager import EagerTask
from isr_proxy.coord.flight import Start, soon
from isr_proxy.coord.patience import Limit, Patience

NONE = 0.0  # is over with the loop's next turn
MUCH = 3600.0
BOTH = pytest.mark.parametrize("start", [soon, EagerTask])


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


@BOTH
async def test_what_takes_too_long_ends_with_a_timeout(start: Start) -> None:
    said: list[str] = []

    async def work() -> None:
        try:
            async with Patience(NONE).limit():
                await asyncio.Event().wait()
        except TimeoutError:
            said.append("late")
        task = asyncio.current_task()
        assert task is not None
        said.append(f"{task.cancelling()} cancellations left")
        await asyncio.sleep(0)

    loop = asyncio.get_running_loop()
    made: asyncio.Future[list[asyncio.Future[None]]] = loop.create_future()
    loop.call_soon(lambda: made.set_result([start(work(), loop)]))
    await (await made)[0]
    assert said == ["late", "0 cancellations left"]


async def test_what_ends_in_time_is_left_alone() -> None:
    patience = Patience(NONE)
    async with patience.limit():
        assert len(patience._running) == 1
    assert patience._running == {}
    await turns()
    assert not patience._is_set


async def test_a_limit_that_was_lifted_holds_nobody() -> None:
    async with Patience(NONE).limit() as limit:
        limit.lift()
        await turns()


async def test_who_is_cancelled_as_well_is_cancelled() -> None:
    async def work() -> None:
        async with Patience(NONE).limit():
            try:
                await asyncio.Event().wait()
            finally:
                task.cancel()

    task = asyncio.ensure_future(work())
    await asyncio.wait([task])
    assert task.cancelled()


async def test_an_error_on_the_way_out_counts_more() -> None:
    async def work() -> None:
        async with Patience(NONE).limit():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise KeyError("its own") from None

    with pytest.raises(KeyError, match="its own"):
        await work()


async def test_who_began_first_is_late_first() -> None:
    patience, ends = Patience(MUCH), list[str]()

    async def work(name: str, begun: asyncio.Future[Limit]) -> None:
        try:
            async with patience.limit() as limit:
                begun.set_result(limit)
                await asyncio.Event().wait()
        except TimeoutError:
            ends.append(name)

    loop = asyncio.get_running_loop()
    begun = [loop.create_future() for _ in range(3)]
    tasks = [asyncio.ensure_future(work(name, one)) for name, one in zip("abc", begun, strict=True)]
    limits = await asyncio.gather(*begun)
    limits[0].due_at = limits[1].due_at = loop.time() - 1
    patience._look()
    await asyncio.wait(tasks[:2])
    assert ends == ["a", "b"]
    assert list(patience._running) == limits[2:]
    limits[2].due_at = loop.time() - 1
    patience._look()
    await asyncio.wait(tasks)
    assert ends == ["a", "b", "c"]
    assert not patience._is_set


async def test_the_timer_is_set_again_for_who_comes_later() -> None:
    patience = Patience(NONE)
    for _ in range(3):
        with pytest.raises(TimeoutError):
            async with patience.limit():
                await asyncio.Event().wait()
