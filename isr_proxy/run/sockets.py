"""Sockets to listen on, and the files of unix sockets.

Knows how an address is bound, for one worker or for several that share it, and what to do with a file that an
earlier process left. Must not know who accepts.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from typing import Any, Final

from isr_proxy.core.settings import Address, TcpAddress, UnixAddress

BACKLOG: Final = 4096


def bind(address: Address) -> list[socket.socket]:
    """Bind an address: one socket for each IP address of a name. OSError says why not."""
    return bind_shared(address, 1)[0]


def bind_shared(address: Address, workers: int) -> list[list[socket.socket]]:
    """Bind an address for several workers: the kernel shares connections out among the sockets of a port.

    Whoever has no socket of his own has the others' queues to wait for, so a unix socket is one for all.
    """
    match address:
        case TcpAddress(host, port):
            return _bind_tcp(host, port, workers)
        case UnixAddress():
            sock = bind_unix(address)
            return [[sock] for _ in range(workers)]


def _bind_tcp(host: str, port: int, workers: int) -> list[list[socket.socket]]:
    infos = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    bound: list[list[socket.socket]] = [[] for _ in range(workers)]
    try:
        for family, kind, protocol, _, where in dict.fromkeys(infos):
            if workers > 1 and port:  # a port that others share would let us in too
                _tcp(family, kind, protocol, where).close()
            for sockets in bound:
                sock = _tcp(family, kind, protocol, where, shares=workers > 1)
                sockets.append(sock)
                where = sock.getsockname()
    except OSError as error:
        _close(bound)
        shown = str(TcpAddress(host, port))
        raise OSError(error.errno, f"cannot listen on {shown}: {error.strerror}") from None
    return bound


def _tcp(
    family: socket.AddressFamily, kind: int, protocol: int, where: Any, *, shares: bool = False
) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shares:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(where)
    except BaseException:
        sock.close()
        raise
    return sock


def _close(bound: list[list[socket.socket]]) -> None:
    for sockets in bound:
        for sock in sockets:
            sock.close()


def bind_unix(address: UnixAddress) -> socket.socket:
    """Bind a unix socket; a file that no process listens on any more is replaced, one in use is an error."""
    _remove_stale(address.path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.bind(address.path)
        if address.mode is not None:  # nobody can connect before `listen`
            os.chmod(address.path, address.mode)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from None
    return sock


def _remove_stale(path: str) -> None:
    try:
        is_socket = stat.S_ISSOCK(os.lstat(path).st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise OSError(errno.EEXIST, f"cannot listen on unix:{path}: a file that is no socket is there")
    if _is_in_use(path):
        raise OSError(errno.EADDRINUSE, f"cannot listen on unix:{path}: another process does")
    with suppress(FileNotFoundError):
        os.unlink(path)


def _is_in_use(path: str) -> bool:
    """Tell whether somebody listens: only the refusal of a connection says that nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except OSError:
            return True
    return True


class SocketFile:
    """The file of a unix socket of ours, to be removed when nobody listens any more."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._identity = _identity(path)

    def remove(self) -> None:
        """Remove it, unless another process has put its own there."""
        if self._identity is not None and _identity(self._path) == self._identity:
            with suppress(OSError):
                os.unlink(self._path)


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
