"""The origin behind every measurement: one page per path, as fast as asyncio can write it.

    python -m bench.origin PORT

Knows the size of a page. Must not know who asks.
"""

from __future__ import annotations

import asyncio
import sys
from random import Random
from typing import Final, cast

import uvloop

SMALL_BYTES: Final = 1024
LARGE_BYTES: Final = 10 * 1024
ETAG: Final = b"bench"
_LARGE: Final = Random(1).randbytes(LARGE_BYTES // 2).hex().encode()


def page(path: bytes) -> bytes:
    """Return the body of a path: 10 KiB for any /large, else 1 KiB that begins with the path."""
    if path.endswith(b"/large"):
        return _LARGE
    return path.ljust(SMALL_BYTES, b".")


class Origin(asyncio.Protocol):
    """One connection; requests have no bodies."""

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._pending = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is none by its type

    def data_received(self, data: bytes) -> None:
        *heads, self._pending = (self._pending + data).split(b"\r\n\r\n")
        for head in heads:
            self._answer(head.split(b" ", 2)[1])

    def _answer(self, path: bytes) -> None:
        body = page(path)
        head = b'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: "%b"\r\nContent-Length: %d\r\n\r\n' % (
            ETAG,
            len(body),
        )
        if self._transport is not None:
            self._transport.write(head + body)


async def serve(port: int) -> None:
    """Serve until stopped."""
    server = await asyncio.get_running_loop().create_server(Origin, "127.0.0.1", port, backlog=1024)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
