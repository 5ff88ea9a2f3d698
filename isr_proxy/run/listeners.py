"""Where visitors come in: every address of the config, plain or with TLS.

Knows which server an address gets, and how its certificates are replaced. Must not know HTTP, nor how a
handshake is made.
"""

from __future__ import annotations

import asyncio
import socket
import ssl

from isr_proxy.core.settings import Address, TcpAddress, UnixAddress
from isr_proxy.errors import ConfigError, Problem
from isr_proxy.run.certificates import BadFile, server_context
from isr_proxy.run.sockets import BACKLOG, SocketFile, bind, bind_unix
from isr_proxy.serve.front import Front
from isr_proxy.serve.tls_listener import TlsListener

Contexts = dict[str, ssl.SSLContext]


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

    async def open(self, addresses: tuple[Address, ...]) -> None:
        """Listen on all of them. OSError or ConfigError say why it cannot; `close` lets go of the rest."""
        contexts = await asyncio.to_thread(contexts_of, addresses)
        urls = []
        for address in addresses:
            context = contexts.get(str(address))
            opened = await (self._open(address) if context is None else self._open_tls(address, context))
            urls.append(shown(address, opened.getsockname()))
        self.urls = tuple(urls)

    async def _open(self, address: Address) -> socket.socket:
        loop = asyncio.get_running_loop()
        match address:
            case TcpAddress(host, port):
                server = await loop.create_server(
                    self._front.connection, host or None, port, backlog=BACKLOG, reuse_address=True
                )
            case UnixAddress(path):
                sock = bind_unix(address)
                self._files.append(SocketFile(path))
                server = await loop.create_unix_server(self._front.connection, sock=sock, backlog=BACKLOG)
        self._servers.append(server)
        return server.sockets[0]

    async def _open_tls(self, address: Address, context: ssl.SSLContext) -> socket.socket:
        listener = TlsListener(await bind(address), self._front, context)
        if isinstance(address, UnixAddress):
            self._files.append(SocketFile(address.path))
        self._tls.append((str(address), listener))
        listener.start(BACKLOG)
        return listener.sockets[0]

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
