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
        self.urls: tuple[str, ...] = ()

    @property
    def are_open(self) -> bool:
        return bool(self.urls)

    async def open(self, addresses: tuple[Address, ...], given: Bound | None = None) -> None:
        """Listen on all of them. OSError or ConfigError say why it cannot; `close` lets go of the rest.

        `given` are sockets that are bound already, by address; their files are somebody else's.
        """
        contexts = await asyncio.to_thread(contexts_of, addresses)
        urls = []
        for number, address in enumerate(addresses):
            sockets = self._bound(address) if given is None else given[number]
            urls.append(shown(address, sockets[0].getsockname()))
            await self._serve(address, sockets, contexts.get(str(address)))
        self.urls = tuple(urls)

    def _bound(self, address: Address) -> list[socket.socket]:
        sockets = bind(address)
        if isinstance(address, UnixAddress):
            self._files.append(SocketFile(address.path))
        return sockets

    async def _serve(
        self, address: Address, sockets: Sequence[socket.socket], context: ssl.SSLContext | None
    ) -> None:
        if context is not None:
            listener = TlsListener(sockets, self._front, context)
            self._tls.append((str(address), listener))
            listener.start(BACKLOG)
            return
        loop = asyncio.get_running_loop()
        create = loop.create_unix_server if isinstance(address, UnixAddress) else loop.create_server
        for sock in sockets:
            self._servers.append(await create(self._front.connection, sock=sock, backlog=BACKLOG))

    def use(self, contexts: Contexts) -> None:
        """Shake hands with these certificates from now on; connections that are open stay."""
        for address, listener in self._tls:
            listener.context = contexts.get(address, listener.context)

    def close(self) -> None:
        """Take no new connections."""
        for server in self._servers:
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
