"""Where visitors come in: every address of the config, plain or with TLS.

Knows which server an address gets, and how its certificates are replaced. Must not know HTTP, nor how a
handshake is made.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence

from isr_proxy.core.settings import Address, TcpAddress, UnixAddress
from isr_proxy.errors import ConfigError, Problem
from isr_proxy.run.certificates import BadFile, server_context
from isr_proxy.run.sockets import BACKLOG, SocketFile, bind
from isr_proxy.serve.front import Front
from isr_proxy.serve.tls_listener import TlsListener

Server = asyncio.Server | TlsListener
Contexts = dict[str, ssl.SSLContext]
Bound = Sequence[Sequence[socket.socket]]  # of each address of the config, in its order


def contexts_of(addresses: tuple[Address, ...]) -> Contexts:
    """Read the certificates of all addresses, by address. ConfigError says which cannot be used."""
    contexts: Contexts = {}
    for address in addresses:
        if address.tls is not None:
            try:
                contexts[str(address)] = server_context(address.tls)
            except BadFile as fault:
                where = ".".join(str(step) for step in ("listen", "tls", *fault.key))
                raise ConfigError((Problem(str(address), 1, 1, where, f"the file {fault}"),)) from None
    return contexts


class Listeners:
    """The open addresses of a worker."""

    def __init__(self, front: Front) -> None:
        self._front = front
        self._servers: list[asyncio.Server] = []
        self._tls: list[tuple[str, TlsListener]] = []
        self._files: list[SocketFile] = []
        self._addresses: tuple[Address, ...] = ()
        self._contexts: Contexts = {}
        self._adopted: dict[int, list[Server]] = {}  # the queues of empty seats
        self.urls: tuple[str, ...] = ()

    @property
    def are_open(self) -> bool:
        return bool(self.urls)

    async def open(self, addresses: tuple[Address, ...], given: Bound | None = None) -> None:
        """Listen on all of them. OSError or ConfigError say why it cannot; `close` lets go of the rest.

        `given` are sockets that are bound already, by address; their files are somebody else's.
        """
        self._addresses, self._contexts = addresses, await asyncio.to_thread(contexts_of, addresses)
        urls = []
        for number, address in enumerate(addresses):
            sockets = self._bound(address) if given is None else given[number]
            urls.append(shown(address, sockets[0].getsockname()))
            for server in await self._serve(address, sockets):
                self._keep(address, server)
        self.urls = tuple(urls)

    def _bound(self, address: Address) -> list[socket.socket]:
        sockets = bind(address)
        if isinstance(address, UnixAddress):
            self._files.append(SocketFile(address.path))
        return sockets

    async def _serve(self, address: Address, sockets: Sequence[socket.socket]) -> list[Server]:
        context = self._contexts.get(str(address))
        if context is not None:
            listener = TlsListener(sockets, self._front, context)
            listener.start(BACKLOG)
            return [listener]
        loop = asyncio.get_running_loop()
        create = loop.create_unix_server if isinstance(address, UnixAddress) else loop.create_server
        return [await create(self._front.connection, sock=sock, backlog=BACKLOG) for sock in sockets]

    def _keep(self, address: Address, server: Server) -> None:
        if isinstance(server, TlsListener):
            self._tls.append((str(address), server))
        else:
            self._servers.append(server)

    # --- empty seats ---

    async def adopt(self, seat: int, given: Bound) -> None:
        """Serve the queues of a seat that is empty, until it is given back; a unix socket is everybody's."""
        if seat in self._adopted:
            return
        servers = self._adopted[seat] = []
        for address, sockets in zip(self._addresses, given, strict=True):
            if not isinstance(address, UnixAddress):
                servers += await self._serve(address, [sock.dup() for sock in sockets])

    def give_back(self, seat: int) -> None:
        """Leave a seat's queues to whoever sits there now; who has been accepted stays."""
        for server in self._adopted.pop(seat, ()):
            server.close()

    def use(self, contexts: Contexts) -> None:
        """Shake hands with these certificates from now on; connections that are open stay."""
        self._contexts = {**self._contexts, **contexts}
        for address, listener in self._tls:
            listener.context = contexts.get(address, listener.context)

    def close(self) -> None:
        """Take no new connections."""
        for server in (*self._servers, *(each for seat in self._adopted.values() for each in seat)):
            server.close()
        for _, listener in self._tls:
            listener.close()
        for file in self._files:
            file.remove()

    async def aclose(self) -> None:
        """End also the handshakes under way."""
        self.close()
        for _, listener in self._tls:
            await listener.aclose()


def shown(address: Address, bound: object) -> str:
    """Return the URL a person opens; `bound` is the socket's own name, with the port that the kernel gave."""
    if isinstance(address, UnixAddress):
        return str(address)
    port = bound[1] if isinstance(bound, tuple) else 0
    is_any = address.host in ("", "0.0.0.0", "::")  # noqa: S104  compared, not bound
    scheme = "http" if address.tls is None else "https"
    return f"{scheme}://{TcpAddress('localhost' if is_any else address.host, port)}"
