"""The transport under one visitor's connection: what he is sent, how fast he takes it, what came too early.

Knows writing, back-pressure and the deadline. Must not know HTTP: requests are connection.py's. Private to
aiohttp and used here: `BaseProtocol`'s flow control.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from aiohttp.base_protocol import BaseProtocol
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader

from isr_proxy.core.arrival import shown_address
from isr_proxy.core.settings import LimitSettings
from isr_proxy.errors import VisitorGone
from isr_proxy.serve.loans import Loan, Loans
from isr_proxy.serve.pace import Pace

FOREVER: Final = float("inf")
LINGERING_SECONDS: Final = 2.0  # after we closed ours, with bytes of his still to come
_AHEAD_BYTES: Final = 64 * 1024  # of what comes before its turn; more, and reading stops
_UNSENT_BYTES: Final = 64 * 1024
JOIN_BYTES: Final = (
    64 * 1024
)  # a body up to this is copied behind its head: one buffer is written faster than two


class Link(BaseProtocol):
    """One transport and who is at its other end."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: LimitSettings, loans: Loans) -> None:
        super().__init__(loop)
        self.limits = limits
        self.payload: StreamReader = EMPTY_PAYLOAD  # the body of the request that is answered now
        self.deadline = FOREVER
        self._pace = Pace(limits)
        self._loans = loans
        self._loan = Loan(loans)
        self._ahead = bytearray()  # what came before its turn: behind the request that is answered now
        self._is_lingering = False
        self._scheme = "http"
        self._peer = self._client = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if isinstance(peer, tuple) else ""
        self._client = shown_address(self._peer)
        if self.transport is not None and transport.get_extra_info("ssl_object") is not None:
            self._scheme = "https"
            self.transport.set_write_buffer_limits(_UNSENT_BYTES)  # as of TCP alone; of TLS it is more

    # --- what came too early ---

    def _keep(self, data: bytes) -> None:
        """Set aside what comes before its turn. Reading goes on as long as there is room, for a visitor who
        hangs up is noticed by reading only."""
        self._ahead += data
        if len(self._ahead) > _AHEAD_BYTES:
            self._pause_reading_for_buffer()

    def _take_ahead(self) -> bytes:
        """Return what was set aside, and read on."""
        ahead = bytes(self._ahead)
        self._ahead.clear()
        self._reading_paused = False
        self._resume_reading_for_buffer()
        return ahead

    def _linger(self) -> None:
        """End our side, and throw away for a moment what he is still sending."""
        self._is_lingering = True
        self.deadline = time.monotonic() + LINGERING_SECONDS
        self.write_eof()
        self._take_ahead()

    # --- how fast it goes ---

    def _pace_deadline(self) -> float:
        """Say when to look whether an answer is taken, or a body comes, fast enough: never, if neither is.

        Who is to be closed keeps the deadline that he has.
        """
        if self._is_over:
            return self.deadline
        if self._paused:
            return self._pace.send_deadline()
        return FOREVER if self.payload.is_eof() else self._pace.body_deadline(self.payload.total_bytes)

    @property
    def _is_over(self) -> bool:
        return self._is_lingering or self.transport is None or self.transport.is_closing()

    def _is_taking(self) -> bool:
        """Look at what is unsent: is it less than it was?"""
        unsent_bytes = 0 if self.transport is None else self.transport.get_write_buffer_size()
        self._loan.is_now(unsent_bytes)
        return self._pace.is_taking(unsent_bytes)

    @property
    def most_at_once(self) -> int:
        return self._loans.most_at_once

    # --- what is sent ---

    def write_whole(self, head: bytes, body: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            raise VisitorGone("the visitor hung up")
        if len(body) <= JOIN_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.writelines((head, body))

    def write(self, data: bytes) -> None:
        if self.transport is None or self.transport.is_closing():
            raise VisitorGone("the visitor hung up")
        self.transport.write(data)

    async def drained(self) -> None:
        """Wait until the visitor has taken what was written."""
        if self.transport is None:
            raise VisitorGone("the visitor hung up")
        if self._paused:
            await self._drain_helper()

    def write_eof(self) -> bool:
        if self.transport is None or self.transport.is_closing() or not self.transport.can_write_eof():
            return False
        self.transport.write_eof()
        return True

    def close_tunnel(self) -> None:
        """Close once what was written is sent, or has found no taker in time."""
        if self.transport is not None:
            self._is_taking()
            self.deadline = self._pace.send_deadline()
            self.transport.close()

    def hold_reading(self) -> None:
        self._pause_transport_reading()

    def release_reading(self) -> None:
        self._resume_transport_reading()

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abort()
