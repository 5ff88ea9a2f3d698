"""A visitor who waits for a fetch that he began: no task of his own is needed for that.

Knows the opening of a flight, and that a page which is here as a whole by then is sent at once. Must not know
what else may open: a task goes on with that, as it would have from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from isr_proxy.coord.flight import Flight
from isr_proxy.errors import VisitorGone
from isr_proxy.serve.exchange import Flow
from isr_proxy.serve.job import Opening
from isr_proxy.serve.sharing import leave
from isr_proxy.serve.visit import Visit

Show = Callable[[Opening], bool]  # answers, if that takes no waiting
GoOn = Callable[[Opening], Coroutine[Any, Any, None]]  # answers


class Waiting(Flow):
    """The leader of a flight, from its launch to its opening."""

    __slots__ = ("_flight", "_go_on", "_is_over", "_show", "_visit")

    def __init__(self, visit: Visit, flight: Flight[Opening], show: Show, go_on: GoOn) -> None:
        self._visit = visit
        self._flight = flight
        self._show = show
        self._go_on = go_on
        self._is_over = False
        flight.waiters += 1
        flight.opening.add_done_callback(lambda _: self._opened())

    def _opened(self) -> None:
        if self._is_over:
            return
        opening = self._flight.opening.result()
        try:
            if not self._is_answered(opening):
                return
        except VisitorGone:
            self._gone()
        else:
            self._end()
        self._visit.exchange.done()

    def _is_answered(self, opening: Opening) -> bool:
        """Answer, or have a task do it. VisitorGone when there is nobody to answer."""
        exchange = self._visit.exchange
        try:
            if self._show(opening):
                return True
        except VisitorGone:
            raise
        except Exception as error:
            exchange.carry_on(self._broken(error))
        else:
            exchange.carry_on(self._rest(opening))
        return False

    async def _rest(self, opening: Opening) -> None:
        self._end()  # only now: a flight may be waiting for its readers to come
        await self._go_on(opening)

    async def _broken(self, error: Exception) -> None:
        """Have the connection tell of an error, as of any task's."""
        self._end()
        raise error

    def _end(self) -> None:
        self._is_over = True
        self._flight.waiters -= 1

    def _gone(self) -> None:
        self._end()
        leave(self._flight)
        self._visit.delivery.gone()

    # --- the visitor's side ---

    def cancel(self) -> None:
        if not self._is_over:
            self._gone()

    def pause(self) -> None:
        """Nothing: there is nothing to hold back. What is sent at the end is sent as a whole."""

    def resume(self) -> None:
        if self._is_over:
            self._visit.exchange.done()
