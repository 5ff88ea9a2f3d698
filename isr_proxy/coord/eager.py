"""A task whose first step is taken where it is made, and which nobody lists.

Knows coroutines, and the futures that they wait for. Must not know what they do. After Python 3.12's eager
tasks; how one makes a kind of task is said in the library's reference, "Extending asyncio".

The first step of asyncio's own is a turn of the loop later, and each is entered into a set of weak
references, which is Python code: a good part of what two short steps take.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Coroutine
from contextvars import copy_context
from typing import Any

Work = Coroutine[Any, Any, None]


class EagerTask(asyncio.Future[None]):
    """Runs a coroutine up to its first wait at once, and then as a task does.

    `asyncio.all_tasks` does not know of it: whoever makes it sees it to its end.
    """

    def __init__(self, work: Work, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._work = work
        self._context = copy_context()
        self._awaited: asyncio.Future[Any] | None = None
        self._cancels = 0
        self._must_cancel = False
        running = asyncio.current_task(loop)
        if running is None:
            self._context.run(self._step)
            return
        _leave_task(loop, running)  # there is one at a time: whoever makes this one goes on behind it
        try:
            self._context.run(self._step)
        finally:
            _enter_task(loop, running)

    def _step(self, error: BaseException | None = None) -> None:
        """Run to the next wait, or to the end."""
        loop, self._awaited = self.get_loop(), None
        if self._must_cancel:
            self._must_cancel, error = False, asyncio.CancelledError()
        _enter_task(loop, self)  # type: ignore[arg-type]  # what current_task() tells the coroutine
        try:
            awaited = self._work.send(None) if error is None else self._work.throw(error)
        except StopIteration:
            self._end()
        except asyncio.CancelledError:
            super().cancel()
        except BaseException as failure:
            self.set_exception(failure)
            if isinstance(failure, KeyboardInterrupt | SystemExit):
                raise
        else:
            self._wait_for(awaited)
        finally:
            _leave_task(loop, self)  # type: ignore[arg-type]

    def _end(self) -> None:
        if self._must_cancel:  # in its own last step
            super().cancel()
        else:
            self.set_result(None)

    def _wait_for(self, awaited: Any) -> None:
        loop = self.get_loop()
        if awaited is None:  # asyncio.sleep(0)
            loop.call_soon(self._step, context=self._context)
            return
        if not isinstance(awaited, asyncio.Future) or awaited is self or awaited.get_loop() != loop:
            wrong = RuntimeError(f"a task cannot wait for {awaited!r}")
            loop.call_soon(self._step, wrong, context=self._context)
            return
        # What a coroutine yields has this set, and it is the task's to take note of it.
        awaited._asyncio_future_blocking = False
        awaited.add_done_callback(self._wake, context=self._context)
        self._awaited = awaited
        if self._must_cancel and awaited.cancel():
            self._must_cancel = False

    def _wake(self, awaited: asyncio.Future[Any]) -> None:
        """Go on; the coroutine itself asks the future what came of it."""
        self._step()

    def cancel(self, msg: object = None) -> bool:
        """Have CancelledError raised where it waits; False when it has ended. Nobody is told `msg`."""
        if self.done():
            return False
        self._cancels += 1
        if self._awaited is None or not self._awaited.cancel():
            self._must_cancel = True
        return True

    def cancelling(self) -> int:
        """Return how many cancellations nobody took back (asyncio.timeout)."""
        return self._cancels

    def uncancel(self) -> int:
        """Take one cancellation back (asyncio.timeout)."""
        self._cancels = max(0, self._cancels - 1)
        return self._cancels
