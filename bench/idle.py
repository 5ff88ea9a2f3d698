"""Connections that do nothing: each asked once, and is kept open.

Knows sockets. Must not know what runs beside them.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.loads import LoadFailed


@contextmanager
def idle_connections(port: int, head: bytes, count: int) -> Iterator[None]:
    """Hold so many idle connections while the block runs; LoadFailed when the server let one go."""
    with ExitStack() as stack:
        sockets = [_asked(stack, port, head) for _ in range(count)]
        yield
        gone = sum(_is_closed(sock) for sock in sockets)
        if gone:
            raise LoadFailed(f"{gone} of {count} idle connections were closed")


def _asked(stack: ExitStack, port: int, head: bytes) -> socket.socket:
    sock = stack.enter_context(socket.create_connection(("127.0.0.1", port), 20))
    sock.sendall(head)
    raw = b""
    while b"\r\n\r\n" not in raw:
        raw += _received(sock)
    answer, _, body = raw.partition(b"\r\n\r\n")
    left = int(answer.lower().partition(b"content-length:")[2].partition(b"\r")[0]) - len(body)
    while left:
        left -= len(_received(sock))
    sock.setblocking(False)
    return sock


def _received(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise LoadFailed("the server closed a connection that was to be kept")
    return data


def _is_closed(sock: socket.socket) -> bool:
    try:
        return sock.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
