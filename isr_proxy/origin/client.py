"""`fetch`: a request to whichever origin is healthy, and its answer.

Knows the one retry, what health learns of a failure, and the health checks. Must not know pages, routes
or stores; whether a request is neutral or the visitor's own is decided by who calls.

One retry, and only where nothing of an answer came: a connection that could not be opened (nothing was
sent) may go to another origin; a kept connection that had died under a repeatable request is replaced;
a new one that died so goes to another origin.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from isr_proxy.core.http import Fields
from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import OriginSettings
from isr_proxy.errors import OriginError, OriginUnreachable
from isr_proxy.origin.answer import Answer, Tunnel
from isr_proxy.origin.call import Call, Question, Taker
from isr_proxy.origin.connection import Connection
from isr_proxy.origin.endpoint import default_tls, parse_endpoint
from isr_proxy.origin.health import Event
from isr_proxy.origin.outgoing import Deadlines, Outgoing, request_head
from isr_proxy.origin.pool import Pool
from isr_proxy.origin.turns import Origin, OriginHealth, Turns

__all__ = ["Answer", "Call", "Client", "Deadlines", "OriginHealth", "Outgoing", "Question", "Tunnel"]

NOT_CONNECTED: Final = frozenset(
    reason.value for reason in (Reason.REFUSED, Reason.UNRESOLVED, Reason.TLS_FAILED, Reason.CONNECT_TIMEOUT)
)
_NO_ROOM: Final = frozenset((Reason.BUSY.value, Reason.QUEUE_FULL.value))


def _ignore(_: Reason) -> None:
    """Count nothing."""


class Client:
    """Asks the origins of one config; lives as long as it. Use within one event loop."""

    def __init__(
        self,
        settings: OriginSettings,
        *,
        on_error: Callable[[Reason], None] = _ignore,
        clock: Callable[[], float] = time.monotonic,
        tls: Callable[[], ssl.SSLContext] | None = None,
    ) -> None:
        """`on_error` is told of every failure that a caller sees; `clock` is monotonic seconds.

        `tls` makes the context, in place of the settings. OSError when a file of theirs cannot be used.
        """
        self._settings = settings
        self._on_error = on_error
        self.deadlines = Deadlines(settings.connect_timeout, settings.timeout, settings.timeout)
        name = settings.tls.server_name or settings.host
        make_tls = tls or partial(default_tls, settings.tls)
        pools = (
            (url, Pool(parse_endpoint(url, name, make_tls), settings.max_connections, settings.max_queue))
            for url in settings.urls
        )
        self._turns = Turns(pools, clock)
        self._checks: list[asyncio.Task[None]] = []
        self._calls: set[Call] = set()
        self._last_call: asyncio.Future[None] | None = None  # somebody waits for its end

    @property
    def health(self) -> list[OriginHealth]:
        """Return what is known of each origin, in the config's order."""
        return self._turns.snapshot()

    # --- one request ---

    async def fetch(self, outgoing: Outgoing) -> Answer:
        """Send a request and wait for the head of its answer. OriginError says why there is none.

        Cancelling it closes its connection. What the request's own body raises is raised here.
        """
        self.start()
        try:
            return await self._fetch(outgoing, request_head(outgoing))
        except OriginError as error:
            self._on_error(Reason(error.word))
            raise

    async def _fetch(self, outgoing: Outgoing, head: bytes) -> Answer:
        origin = self._turns.choose()
        connection = origin.pool.take_idle()
        try:
            connection = connection or await self.connect(origin)
            return await self._ask(origin, connection, outgoing, head)
        except OriginError as error:
            second = self._second(origin, connection, error, is_repeatable=outgoing.is_repeatable)
            if second is None:
                raise self._summary(error) from error
        try:
            return await self._ask(second, await self.connect(second), outgoing, head)
        except OriginError as error:
            raise self._summary(error) from error

    async def connect(self, origin: Origin) -> Connection:
        """Open a connection, or wait for one; OriginError says why there is none."""
        try:
            return await origin.pool.acquire_new(self.deadlines.connect)
        except OriginError as error:
            if error.word in NOT_CONNECTED:
                self._turns.learn(origin, Event.FAILED)
            raise

    async def _ask(self, origin: Origin, connection: Connection, outgoing: Outgoing, head: bytes) -> Answer:
        incoming = connection.begin(head, outgoing, self.deadlines)
        try:
            received = await incoming.read_head()
        except BaseException as error:
            incoming.close()
            self.died(origin, connection, error)
            raise
        self.answered(origin)
        incoming.watch(self._body_failed)
        return Answer(received, incoming, origin.url, connection)

    def answered(self, origin: Origin) -> None:
        """Hear that a head came; where health is checked, the checks alone tell of it."""
        if not self._checks:
            self._turns.learn(origin, Event.ANSWERED)

    def died(self, origin: Origin, connection: Connection, error: BaseException) -> None:
        """Learn of an answer that did not come: a kept connection may die, a new one should not."""
        if _is_silent_death(error) and not connection.is_reused:
            self._turns.learn(origin, Event.FAILED)

    def _second(
        self, origin: Origin, connection: Connection | None, error: OriginError, *, is_repeatable: bool
    ) -> Origin | None:
        """Return which origin gets the retry; None: there is none to make."""
        has_others = len(self._turns.origins) > 1
        if error.word in NOT_CONNECTED and connection is None:
            return self._turns.choose(origin) if has_others else None
        if not _is_silent_death(error) or not is_repeatable or connection is None:
            return None
        if connection.is_reused:
            return origin
        return self._turns.choose(origin) if has_others else None

    def _summary(self, error: OriginError) -> OriginError:
        """Say that every origin is down, where that is more than this one's failure."""
        if error.word in NOT_CONNECTED and self._turns.are_all_down:
            return OriginUnreachable(
                Reason.NO_HEALTHY_ORIGIN.value, f"every origin is down; the last: {error}"
            )
        return error

    def _body_failed(self, error: Exception) -> None:
        if isinstance(error, OriginError):
            self._on_error(Reason(error.word))

    # --- one plain request, without a task ---

    def call(self, question: Question, taker: Taker) -> Call | None:
        """Ask at once, where a connection is at hand; None: nothing is done, and `fetch` does it.

        The answer comes to `taker`, with the same retry, deadlines and health as that of `fetch`.
        """
        self.start()
        origin = self._turns.at_hand()
        connection = None if origin is None else origin.pool.take_idle()
        if origin is None or connection is None:
            return None
        self._turns.take(origin)
        call = Call(self, question, taker)
        call.ask(origin, connection)
        self._calls.add(call)
        return call

    def retried_at(self, origin: Origin, connection: Connection, error: OriginError) -> Origin | None:
        """Say which origin gets the retry of a call; None: there is none to make."""
        return self._second(origin, connection, error, is_repeatable=True)

    def hung_up(self, call: Call, error: Exception | None) -> Exception | None:
        """Hear that a call is over; returns the error as it is to be told."""
        self._calls.discard(call)
        if self._last_call is not None and not self._calls and not self._last_call.done():
            self._last_call.set_result(None)
        if not isinstance(error, OriginError):
            return error
        told = self._summary(error)
        self._on_error(Reason(told.word))
        return told

    async def called(self) -> None:
        """Wait until no call is under way."""
        while self._calls:
            self._last_call = asyncio.get_running_loop().create_future()
            await self._last_call

    # --- health checks ---

    def start(self) -> None:
        """Start the health checks, if the config has any; the first `fetch` does it too."""
        path = self._settings.health.path
        if path is None or self._checks:
            return
        loop = asyncio.get_running_loop()
        self._checks = [loop.create_task(self._check(origin, path)) for origin in self._turns.origins]

    async def _check(self, origin: Origin, path: str) -> None:
        host = self._settings.host or urlsplit(origin.url).netloc or "localhost"
        outgoing = Outgoing("GET", path, host, Fields(((b"User-Agent", b"isr-proxy"),)))
        while True:
            event = await self._check_once(origin, outgoing)
            if event is not None:
                self._turns.learn(origin, event)
            await asyncio.sleep(self._settings.health.interval)

    async def _check_once(self, origin: Origin, outgoing: Outgoing) -> Event | None:
        """Ask once; None when nothing was learned, as all connections are in use."""
        deadlines = self.deadlines
        try:
            async with asyncio.timeout(deadlines.connect + deadlines.first_byte):
                connection = await origin.pool.acquire(deadlines.connect)
                return await _probe(connection, outgoing, deadlines)
        except TimeoutError:
            return Event.FAILED
        except OriginError as error:
            return None if error.word in _NO_ROOM else Event.FAILED

    async def aclose(self) -> None:
        """Close every connection, also those in use, and end the health checks."""
        for task in self._checks:
            task.cancel()
        await asyncio.gather(*self._checks, return_exceptions=True)
        for origin in self._turns.origins:
            origin.pool.close()


async def _probe(connection: Connection, outgoing: Outgoing, deadlines: Deadlines) -> Event:
    """Send a health check; 2xx and 3xx pass it."""
    incoming = connection.begin(request_head(outgoing), outgoing, deadlines)
    try:
        head = await incoming.read_head()
        while await incoming.read():
            pass
    finally:
        incoming.close()
    return Event.ANSWERED if 200 <= head.status < 400 else Event.FAILED


def _is_silent_death(error: BaseException) -> bool:
    """Tell whether the connection went away before a single byte of an answer."""
    return isinstance(error, OriginError) and error.word == Reason.RESET.value and not error.answered
