"""Where an origin is, and how a connection to it is opened.

Knows names, addresses, TLS and the connect deadline. Must not know HTTP, pools or health.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, assert_never
from urllib.parse import urlsplit

import aiohappyeyeballs

from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import OriginTls
from isr_proxy.errors import OriginTimeout, OriginUnreachable

ATTEMPT_DELAY: Final = 0.25  # RFC 8305 §8: before the next address is tried beside the first
UNIX_PREFIX: Final = "unix:"


@dataclass(frozen=True, slots=True)
class TcpEndpoint:
    """A host and port, over TLS when there is a context."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str | None = None  # for SNI and the certificate


@dataclass(frozen=True, slots=True)
class UnixEndpoint:
    """A unix socket, without TLS."""

    path: str


Endpoint = TcpEndpoint | UnixEndpoint


_DEFAULT_TLS: Final = OriginTls()
_NO_PASSWORD: Final = ""  # an encrypted key fails, instead of asking at the terminal


def default_tls(tls: OriginTls = _DEFAULT_TLS) -> ssl.SSLContext:
    """Return a context that offers HTTP/1.1 only, and verifies unless it is told not to.

    OSError when a file cannot be used.
    """
    context = ssl.create_default_context(cafile=tls.ca)
    context.set_alpn_protocols(["http/1.1"])
    if tls.certificate is not None:
        context.load_cert_chain(tls.certificate, tls.key, password=_NO_PASSWORD)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def parse_endpoint(url: str, host: str | None, tls: Callable[[], ssl.SSLContext]) -> Endpoint:
    """Read `http://`, `https://` or `unix:/path`; `host` overrides the name asked of TLS."""
    if url.startswith(UNIX_PREFIX):
        return UnixEndpoint(url.removeprefix(UNIX_PREFIX))
    parts = urlsplit(url)
    name = parts.hostname or ""
    if parts.scheme != "https":
        return TcpEndpoint(name, parts.port or 80)
    server_name = urlsplit(f"//{host}").hostname if host else name
    return TcpEndpoint(name, parts.port or 443, tls(), server_name)


async def dial(endpoint: Endpoint, protocol: asyncio.Protocol, timeout: float) -> None:
    """Open a connection for `protocol`, within `timeout` seconds for name, TCP and TLS.

    OriginUnreachable or OriginTimeout; whatever goes wrong, nothing stays open.
    """
    try:
        async with asyncio.timeout(timeout):
            await _open(endpoint, protocol)
    except TimeoutError as error:
        raise OriginTimeout(Reason.CONNECT_TIMEOUT.value, f"no connection within {timeout:g} s") from error
    except ssl.SSLError as error:
        raise OriginUnreachable(Reason.TLS_FAILED.value, str(error)) from error
    except socket.gaierror as error:
        raise OriginUnreachable(Reason.UNRESOLVED.value, str(error)) from error
    except OSError as error:
        raise OriginUnreachable(Reason.REFUSED.value, str(error)) from error


async def _open(endpoint: Endpoint, protocol: asyncio.Protocol) -> None:
    loop = asyncio.get_running_loop()
    match endpoint:
        case UnixEndpoint(path):
            await loop.create_unix_connection(lambda: protocol, path)
        case TcpEndpoint(host, port, tls, server_name):
            sock = await _race(loop, host, port)
            try:
                await loop.create_connection(
                    lambda: protocol, sock=sock, ssl=tls, server_hostname=server_name
                )
            except ConnectionError as error:
                raise OriginUnreachable(Reason.TLS_FAILED.value, f"TLS handshake: {error}") from error
        case _:
            assert_never(endpoint)


async def _race(loop: asyncio.AbstractEventLoop, host: str, port: int) -> socket.socket:
    """Resolve, and connect to whichever address answers first (RFC 8305)."""
    infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    sock = await aiohappyeyeballs.start_connection(
        infos, happy_eyeballs_delay=ATTEMPT_DELAY, interleave=1, loop=loop
    )
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
