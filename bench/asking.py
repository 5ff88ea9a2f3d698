"""Asking a server: once, to look at the answer; or many times, to fill it.

Knows sockets and HTTP/1.1 answers. Must not know which answer is right: whoever asks says so.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from http.client import HTTPResponse

SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer; names of fields are in lower case."""

    status: int
    fields: dict[str, str]
    body: bytes


def ask(port: int, head: bytes) -> Answer:
    """Send a request on a connection of its own and return the answer, as it came."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as sock:
        sock.sendall(head)
        response = HTTPResponse(sock, method=head.partition(b" ")[0].decode())
        response.begin()
        body = response.read()
        return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, body)


Check = Callable[[bytes, bytes, bytes], bool]  # request head, answer's head, answer's body


async def ask_all(port: int, heads: Sequence[bytes], check: Check, visitors: int = 16) -> None:
    """Send every request, from so many kept connections; RuntimeError for an answer that is not right."""
    async with asyncio.TaskGroup() as group:
        for first in range(visitors):
            group.create_task(_ask_each(port, heads[first::visitors], check))


async def _ask_each(port: int, heads: Sequence[bytes], check: Check) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
    try:
        for head in heads:
            writer.write(head)
            answer = await reader.readuntil(b"\r\n\r\n")
            body = await reader.readexactly(content_length(answer))
            if not check(head, answer, body):
                raise RuntimeError(
                    f"a wrong answer to {head.split(b' ', 2)[1].decode()}: {answer.decode('latin-1')}"
                )
    finally:
        writer.close()
        await writer.wait_closed()


def content_length(head: bytes) -> int:
    """Return the length that an answer's head tells; RuntimeError when it tells none."""
    _, name, rest = head.lower().partition(b"\r\ncontent-length:")
    if not name:
        raise RuntimeError(f"an answer without a length: {head.decode('latin-1')}")
    return int(rest.partition(b"\r\n")[0])
