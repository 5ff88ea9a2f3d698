"""A task whose first step is taken at once (coord/eager.py): all else is as of any task."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest

from isr_proxy.coord.eager import EagerTask, Work
from isr_proxy.coord.flight import Start, soon

BOTH = pytest.mark.parametrize("start", [soon, EagerTask])


async def begun(start: Start, work: Work) -> asyncio.Future[None]:
    """Make a task where none runs, as a connection does when bytes come."""
    loop = asyncio.get_running_loop()
    made: asyncio.Future[list[asyncio.Future[None]]] = loop.create_future()
    loop.call_soon(lambda: made.set_result([start(work, loop)]))
    return (await made)[0]


async def test_it_runs_to_its_first_wait_where_it_is_made() -> None:
    said: list[str] = []

    async def work() -> None:
        said.append("begun")
        await asyncio.sleep(0)
        said.append("went on")

    loop = asyncio.get_running_loop()

    def make() -> None:
        said.append("before")
        EagerTask(work(), loop)
        said.append("after")

    loop.call_soon(make)
    await asyncio.sleep(0)
    assert said == ["before", "begun", "after"]
    await asyncio.sleep(0)
    assert said[3:] == ["went on"]


async def test_it_may_begin_within_a_task_and_leaves_that_the_current_one() -> None:
    seen: list[object] = []

    async def inner() -> None:
        seen.append(asyncio.current_task())
        await asyncio.sleep(0)
        seen.append(asyncio.current_task())

    async def outer() -> None:
        tasks.append(EagerTask(inner(), loop))
        seen.append(asyncio.current_task())
        await tasks[1]

    loop = asyncio.get_running_loop()
    own, tasks = asyncio.current_task(), list[asyncio.Future[None]]()
    tasks.append(loop.create_future())
    tasks[0] = EagerTask(outer(), loop)
    assert asyncio.current_task() is own
    await tasks[0]
    assert seen == [tasks[1], tasks[0], tasks[1]]


@BOTH
async def test_it_ends_with_its_coroutine(start: Start) -> None:
    gate = asyncio.get_running_loop().create_future()

    async def work() -> None:
        await gate

    task = await begun(start, work())
    assert not task.done()
    gate.set_result(None)
    await task
    assert task.done()
    assert not task.cancelled()


@BOTH
async def test_what_it_waits_for_may_fail(start: Start) -> None:
    gate = asyncio.get_running_loop().create_future()
    caught: list[str] = []

    async def work() -> None:
        try:
            await gate
        except ValueError as error:
            caught.append(str(error))
        raise KeyError("its own")

    task = await begun(start, work())
    gate.set_exception(ValueError("the gate's"))
    with pytest.raises(KeyError, match="its own"):
        await task
    assert caught == ["the gate's"]


@BOTH
async def test_it_fails_before_it_waits(start: Start) -> None:
    async def work() -> None:
        raise KeyError("at once")

    task = await begun(start, work())
    with pytest.raises(KeyError, match="at once"):
        await task


@BOTH
async def test_it_is_cancelled_where_it_waits(start: Start) -> None:
    cleaned: list[str] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append("cleaned")

    task = await begun(start, work())
    await asyncio.sleep(0)
    assert task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert cleaned == ["cleaned"]
    assert not task.cancel()


@BOTH
async def test_it_may_go_on_when_it_is_cancelled(start: Start) -> None:
    gate = asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await gate

    task = await begun(start, work())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not task.done()
    gate.set_result(None)
    await task


@BOTH
async def test_it_is_cancelled_though_what_it_waits_for_has_come(start: Start) -> None:
    """Between the end of what it waited for and its next step there is a turn of the loop."""
    gate = asyncio.get_running_loop().create_future()

    async def work() -> None:
        await gate

    task = await begun(start, work())
    await asyncio.sleep(0)
    gate.set_result(None)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@BOTH
async def test_it_is_cancelled_by_itself(start: Start) -> None:
    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()

    task = await begun(start, work())
    await asyncio.wait([task])
    assert task.cancelled()


@BOTH
async def test_the_library_s_timeouts_hold_in_it(start: Start) -> None:
    said: list[str] = []

    async def work() -> None:
        try:
            async with asyncio.timeout(0.001):
                async with asyncio.timeout(60):
                    await asyncio.Event().wait()
        except TimeoutError:
            said.append("late")
        async with asyncio.timeout(60):
            await asyncio.sleep(0)
        said.append("in time")

    await (await begun(start, work()))
    assert said == ["late", "in time"]


@BOTH
async def test_it_is_the_current_task_while_it_runs_and_no_longer(start: Start) -> None:
    seen: list[object] = []

    async def work() -> None:
        for _ in range(2):
            seen.append(asyncio.current_task())
            await asyncio.sleep(0)

    own = asyncio.current_task()
    task = await begun(start, work())
    await task
    assert seen == [task, task]
    assert asyncio.current_task() is own


@BOTH
async def test_what_it_notes_for_itself_nobody_else_sees(start: Start) -> None:
    noted = ContextVar("noted", default=0)

    async def work() -> None:
        token = noted.set(1)
        await asyncio.sleep(0)
        assert noted.get() == 1
        noted.reset(token)

    task = await begun(start, work())
    assert noted.get() == 0
    await task


@BOTH
async def test_it_is_cancelled_in_its_last_step(start: Start) -> None:
    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    task = await begun(start, work())
    await asyncio.wait([task])
    assert task.cancelled()


@BOTH
async def test_a_cancellation_that_was_taken_back_is_taken_back_once(start: Start) -> None:
    left: list[int] = []

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        left.append(task.uncancel())
        try:
            task.cancel()
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            left.extend([task.cancelling(), task.uncancel(), task.uncancel()])

    await (await begun(start, work()))
    assert left == [0, 1, 0, 0]


@BOTH
async def test_what_nobody_can_wait_for_is_an_error(start: Start) -> None:
    other = asyncio.new_event_loop()

    async def work() -> None:
        await other.create_future()

    task = await begun(start, work())
    with pytest.raises(RuntimeError):
        await task
    other.close()


@BOTH
async def test_others_may_wait_for_it_together(start: Start) -> None:
    lock = asyncio.Lock()
    order: list[int] = []

    async def work(number: int) -> None:
        async with lock:
            order.append(number)
            await asyncio.sleep(0)

    tasks = [await begun(start, work(number)) for number in range(3)]
    await asyncio.gather(*tasks)
    assert order == [0, 1, 2]
