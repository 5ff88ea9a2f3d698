"""How the tests of this room ask: a client for scripted origins, requests, and reading answers."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from isr_proxy.core.http import Fields, Head
from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import HealthSettings, OriginSettings
from isr_proxy.errors import OriginError
from isr_proxy.origin.client import Answer, Client, Outgoing
from isr_proxy.origin.endpoint import default_tls


@asynccontextmanager
async def asking(
    *urls: str,
    connect_timeout: float = 5.0,
    timeout: float = 5.0,
    max_connections: int = 10,
    host: str | None = None,
    health: HealthSettings | None = None,
    on_error: Callable[[Reason], None] = lambda _: None,
    tls: Callable[[], ssl.SSLContext] = default_tls,
) -> AsyncIterator[Client]:
    """Make a client of these origins, and close it at the end."""
    settings = OriginSettings(
        urls=urls,
        host=host,
        connect_timeout=connect_timeout,
        timeout=timeout,
        max_connections=max_connections,
        health=health or HealthSettings(),
    )
    client = Client(settings, on_error=on_error, tls=tls)
    try:
        yield client
    finally:
        await client.aclose()


def get(target: str = "/", *lines: tuple[bytes, bytes], method: str = "GET") -> Outgoing:
    return Outgoing(method, target, "example.org", Fields(lines))


def post(target: str, *chunks: bytes, body_bytes: int | None = None, method: str = "POST") -> Outgoing:
    return Outgoing(method, target, "example.org", Fields(), body=stream(*chunks), body_bytes=body_bytes)


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def hinted(target: str, seen: list[Head]) -> Outgoing:
    """Return a request that collects its interim responses."""
    return Outgoing("GET", target, "example.org", Fields(), on_interim=seen.append)


async def read(answer: Answer) -> bytes:
    """Read a whole body and close the answer."""
    try:
        return b"".join([chunk async for chunk in answer.chunks()])
    finally:
        await answer.aclose()


async def body_of(client: Client, outgoing: Outgoing) -> bytes:
    return await read(await client.fetch(outgoing))


async def failure(client: Client, outgoing: Outgoing) -> Reason:
    """Return why a request, or its body, failed."""
    with pytest.raises(OriginError) as caught:
        await body_of(client, outgoing)
    return Reason(caught.value.word)
