"""TLS for visitors: accepts, shakes hands within bounds, and hands the connection to the front.

Knows sockets and handshakes. Must not know certificate files, nor HTTP but for the one answer to who speaks
it without TLS.

An accept loop of our own, because a server of asyncio's counts nobody before his handshake is done, cannot
take another context, and has no answer for plain HTTP.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterable
from typing import Final

import structlog

from isr_proxy.core.reason import Reason
from isr_proxy.serve.door import Ticket
from isr_proxy.serve.front import Front
from isr_proxy.serve.refusal import Refusal

_log = structlog.get_logger("isr_proxy.tls")

_AT_ONCE: Final = 64  # accepted before others have their turn
_RETRY_SECONDS: Final = 1.0  # after the process ran out of what a connection needs
_HANDSHAKE: Final = b"\x16"  # RFC 8446 §5.1: how every TLS record of a handshake begins
_PLAIN_BYTES: Final = 64 * 1024


class TlsListener:
    """Accepts on these sockets, which are bound. `context` is that of handshakes from now on."""

    def __init__(self, sockets: Iterable[socket.socket], front: Front, context: ssl.SSLContext) -> None:
        self.sockets = tuple(sockets)
        self.context = context
        self._front = front
        self._loop = asyncio.get_running_loop()
        self._shaking: set[asyncio.Task[None]] = set()
        self._retries: set[asyncio.TimerHandle] = set()

    def start(self, backlog: int) -> None:
        for sock in self.sockets:
            sock.listen(backlog)
            self._loop.add_reader(sock.fileno(), self._accept, sock)

    def close(self) -> None:
        """Accept nobody any more; who shakes hands goes on."""
        for retry in self._retries:
            retry.cancel()
        for sock in self.sockets:
            if sock.fileno() >= 0:
                self._loop.remove_reader(sock.fileno())
                sock.close()

    async def aclose(self) -> None:
        """End the handshakes under way too."""
        self.close()
        for task in self._shaking:
            task.cancel()
        await asyncio.gather(*self._shaking, return_exceptions=True)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_AT_ONCE):
            try:
                sock, peer = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:  # no more file descriptors, or no memory
                _log.error("cannot accept", error=str(error))
                self._rest(listening)
                return
            self._receive(sock, peer[0] if isinstance(peer, tuple) else "")

    def _rest(self, listening: socket.socket) -> None:
        """Leave who knocks waiting for a moment."""
        self._loop.remove_reader(listening.fileno())

        def again() -> None:
            self._retries.discard(retry)
            self._loop.add_reader(listening.fileno(), self._accept, listening)

        retry = self._loop.call_later(_RETRY_SECONDS, again)
        self._retries.add(retry)

    def _receive(self, sock: socket.socket, peer: str) -> None:
        """Count him, and shake hands; who is too many is not worth a handshake, so nothing can be said."""
        sock.setblocking(False)
        ticket = self._front.enter(peer)
        if isinstance(ticket, Reason):
            sock.close()
            self._front.tell(Refusal(503, ticket), "https", peer)
            return
        task = self._loop.create_task(self._welcome(sock, peer, ticket))
        self._shaking.add(task)
        task.add_done_callback(self._shaking.discard)

    async def _welcome(self, sock: socket.socket, peer: str, ticket: Ticket) -> None:
        limit = self._front.limits.handshake_timeout
        try:
            async with asyncio.timeout(limit):
                first = await _first_byte(sock)
                if first == _HANDSHAKE:
                    await self._shake(sock, ticket, limit)
                    return
            if first.isalpha():
                self._answer_plainly(sock, peer)
        except OSError as error:  # also TimeoutError and ssl.SSLError
            _log.debug("no handshake", client=peer, error=str(error) or "timed out")
        except BaseException:
            ticket.leave()
            sock.close()
            raise
        ticket.leave()
        sock.close()

    async def _shake(self, sock: socket.socket, ticket: Ticket, limit: float) -> None:
        await self._loop.connect_accepted_socket(
            lambda: self._front.connection(ticket),
            sock,
            ssl=self.context,
            ssl_handshake_timeout=limit,
            ssl_shutdown_timeout=self._front.limits.send_timeout,  # what is unsent is still on its way
        )

    def _answer_plainly(self, sock: socket.socket, peer: str) -> None:
        """Tell who speaks HTTP here that this is the place for TLS."""
        refusal = Refusal(400, Reason.PLAIN_HTTP)
        sock.recv(_PLAIN_BYTES)  # what is left unread would reset the connection and take the answer away
        sock.send(refusal.encode())
        self._front.tell(refusal, "http", peer)


async def _first_byte(sock: socket.socket) -> bytes:
    """Wait for the first byte and leave it where it is; b"" when there is none."""
    loop = asyncio.get_running_loop()
    while True:
        try:
            return sock.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            pass
        has_come = asyncio.Event()
        loop.add_reader(sock.fileno(), has_come.set)
        try:
            await has_come.wait()
        finally:
            loop.remove_reader(sock.fileno())
