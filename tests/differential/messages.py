"""Messages as the two ends see them, read off the wire by a reader that knows nothing of the proxy's.

Knows HTTP/1.1 well enough to read what a proxy writes; must not share code with the proxy.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

Line = tuple[bytes, bytes]


@dataclass(frozen=True)
class Request:
    """What the origin got. Names in lower case; same-named lines keep their order."""

    method: bytes
    target: bytes
    fields: tuple[Line, ...]
    body: bytes
    is_chunked: bool
    trailers: tuple[Line, ...] = ()


@dataclass(frozen=True)
class Reply:
    """What the client got."""

    status: int
    reason: bytes
    fields: tuple[Line, ...]
    body: bytes
    trailers: tuple[Line, ...] = ()
    interims: tuple[tuple[int, tuple[Line, ...]], ...] = ()


def parse_fields(lines: list[bytes]) -> tuple[Line, ...]:
    pairs = (line.partition(b":") for line in lines)
    return tuple((name.lower(), value.strip(b" \t")) for name, _, value in pairs)


async def read_head(reader: asyncio.StreamReader) -> tuple[bytes, tuple[Line, ...]]:
    """Read a start line and its fields."""
    start, *lines = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
    return start, parse_fields(lines)


async def read_chunks(reader: asyncio.StreamReader) -> tuple[bytes, tuple[Line, ...]]:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        body += await reader.readexactly(size)
        assert await reader.readexactly(2) == b"\r\n"
    trailers = []
    while line := (await reader.readuntil(b"\r\n"))[:-2]:
        trailers.append(line)
    return body, parse_fields(trailers)


async def read_request(reader: asyncio.StreamReader) -> Request:
    start, fields = await read_head(reader)
    method, target, _ = start.split(b" ")
    known = dict(fields)
    if b"transfer-encoding" in known:
        body, trailers = await read_chunks(reader)
        return Request(method, target, fields, body, True, trailers)
    body = await reader.readexactly(int(known.get(b"content-length", b"0")))
    return Request(method, target, fields, body, False)


async def read_reply(reader: asyncio.StreamReader, method: bytes) -> Reply:
    interims = []
    while True:
        start, fields = await read_head(reader)
        _, status, reason = start.split(b" ", 2)
        if int(status) >= 200:
            break
        interims.append((int(status), fields))
    known, body = dict(fields), b""
    trailers: tuple[Line, ...] = ()
    if method == b"HEAD" or int(status) in (204, 304):
        pass
    elif known.get(b"transfer-encoding") == b"chunked":
        body, trailers = await read_chunks(reader)
    elif b"content-length" in known:
        body = await reader.readexactly(int(known[b"content-length"]))
    else:
        body = await reader.read()
    return Reply(int(status), reason, fields, body, trailers, tuple(interims))
