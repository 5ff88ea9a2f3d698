"""The origin behind every measurement: one page per path, as fast as asyncio can write it.

    python -m bench.origin PORT

Knows the pages, and how long each takes. Must not know who asks. The first part of a path says what it is:

    /page/1k 10k 100k 1m   a page of that size            /slow/N   10 KiB, after a millisecond
    /pass/10k              the same, never stored         /crowd/N  10 KiB of its own
    /gzip/10k              10 KiB of HTML, in gzip to whoever takes it
    /count                 how many requests there were   anything else: 1 KiB of its own
"""

from __future__ import annotations

import asyncio
import gzip
import sys
from functools import cache
from random import Random
from typing import Final, cast

import uvloop

SMALL_BYTES: Final = 1024
LARGE_BYTES: Final = 10 * 1024
SIZES: Final = {b"1k": SMALL_BYTES, b"10k": LARGE_BYTES, b"100k": 100 * 1024, b"1m": 1024 * 1024}
ETAG: Final = b"bench"
SLOW_SECONDS: Final = 0.001

_NOISE: Final = Random(1).randbytes(SIZES[b"1m"] // 2).hex().encode()  # nobody can make it much smaller
_WORDS: Final = b"page route visitor origin entry fresh stale purge lease worker cache store tag".split()
_CACHEABLE: Final = b"Cache-Control: public, max-age=3600\r\n"
_GZIPPED: Final = b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n"


def page(path: bytes) -> bytes:
    """Return the body of a path, before any encoding."""
    kind, _, name = path[1:].partition(b"/")
    match kind:
        case b"gzip":
            return html()
        case b"page" | b"pass" if name in SIZES:
            return _NOISE[: SIZES[name]]
        case b"slow" | b"crowd":
            return path.ljust(32, b".") + _NOISE[: LARGE_BYTES - 32]
        case _:
            return path.ljust(SMALL_BYTES, b".")


@cache
def html() -> bytes:
    """Return a page that shrinks to about a quarter, as HTML does."""
    random = Random(2)
    body = bytearray(b"<!doctype html><title>A page</title><main>")
    while len(body) < LARGE_BYTES:
        sentence = b" ".join(random.choices(_WORDS, k=6))
        body += b'<p class="line" id="%08x">%b.</p>' % (random.getrandbits(32), sentence)
    return bytes(body[: LARGE_BYTES - 7] + b"</main>")


@cache
def gzipped() -> bytes:
    """Return `html()` as gzip."""
    return gzip.compress(html(), 6, mtime=0)


class Origin(asyncio.Protocol):
    """One connection; requests have no bodies."""

    requests = 0

    def __init__(self) -> None:
        self._transport: asyncio.WriteTransport | None = None
        self._pending = b""
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is none by its type

    def data_received(self, data: bytes) -> None:
        *heads, self._pending = (self._pending + data).split(b"\r\n\r\n")
        for head in heads:
            path = head.split(b" ", 2)[1]
            if path.startswith(b"/slow/"):
                self._loop.call_later(SLOW_SECONDS, self._answer, path, head)
            else:
                self._answer(path, head)

    def _answer(self, path: bytes, head: bytes) -> None:
        if path == b"/count":
            self._send(b"", b"%d" % Origin.requests)
            return
        Origin.requests += 1
        if path.startswith(b"/gzip/") and b"gzip" in head.lower():
            self._send(_CACHEABLE + _GZIPPED, gzipped())
        else:
            self._send(_CACHEABLE, page(path))

    def _send(self, fields: bytes, body: bytes) -> None:
        if self._transport is not None:
            self._transport.write(
                b'HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nETag: "%b"\r\n%bContent-Length: %d\r\n\r\n%b'
                % (ETAG, fields, len(body), body)
            )


async def serve(port: int) -> None:
    """Serve until stopped."""
    server = await asyncio.get_running_loop().create_server(Origin, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
