"""A stand-in for the admin API, and the ways in which tests run a command."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from typer.testing import Result

Run = Callable[..., Result]
TOKEN = "t" * 32


@dataclass(slots=True)
class Asked:
    """One request that the stand-in received."""

    method: str
    path: str
    query: list[tuple[str, str]]
    data: Any
    authorization: str | None


@dataclass(slots=True)
class Admin:
    """Stands in for the admin API: gives the answers it was told to, and remembers what was asked."""

    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    answers: list[tuple[int, Any]] = field(default_factory=list)

    async def handle(self, request: web.BaseRequest) -> web.Response:
        data = await request.json() if request.can_read_body else None
        query = list(request.query.items())
        said = request.headers.get("Authorization")
        self.asked.append(Asked(request.method, request.path, query, data, said))
        status, answer = self.answers.pop(0) if self.answers else (200, {})
        if isinstance(answer, str):
            return web.Response(status=status, text=answer)
        return web.json_response(answer, status=status)


async def serve(admin: Admin, started: Future[asyncio.Event]) -> None:
    server = web.ServerRunner(web.Server(admin.handle))
    await server.setup()
    site = web.TCPSite(server, "127.0.0.1", 0)
    await site.start()
    admin.url = f"http://127.0.0.1:{server.addresses[0][1]}"
    stopping = asyncio.Event()
    started.set_result(stopping)
    await stopping.wait()
    await server.cleanup()


def program(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run the real program."""
    return subprocess.run(
        [sys.executable, "-m", "isr_proxy", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, **environ},
    )


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
