"""Both ends of a proxy, and nginx as the other proxy.

Knows sockets and processes. Must not know what is compared.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.differential.exchanges import Exchange
from tests.differential.messages import Reply, Request, read_reply, read_request

CONFIG = """\
daemon off; master_process off; pid {here}/nginx.pid; error_log {here}/error.log;
events {{ worker_connections 64; }}
http {{
  access_log off; server_tokens off;
  client_body_temp_path {here}/body; proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/fastcgi;
  uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;
  underscores_in_headers on; ignore_invalid_headers off;
  server {{
    listen unix:{here}/nginx.sock;
    location / {{
      proxy_pass http://127.0.0.1:{port};
      proxy_http_version 1.1; proxy_set_header Host $http_host; proxy_set_header Connection "";
      proxy_buffering off; proxy_request_buffering off; proxy_next_upstream off;
      proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_redirect off;
      proxy_pass_header Server; proxy_pass_header Date;
      proxy_ignore_headers X-Accel-Expires Cache-Control Expires Set-Cookie Vary;
    }}
  }}
}}
"""


@asynccontextmanager
async def nginx(here: Path, port: int) -> AsyncIterator[str]:
    """Run nginx in front of an origin; yields the path of its socket."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert program is not None, "nginx is missing: `make test` installs nginx-light"
    (here / "nginx.conf").write_text(CONFIG.format(here=here, port=port))
    process = await asyncio.create_subprocess_exec(
        program, "-p", str(here), "-c", str(here / "nginx.conf"), "-e", str(here / "error.log")
    )
    socket = here / "nginx.sock"
    try:
        async with asyncio.timeout(10):
            while not socket.exists():
                assert process.returncode is None, (here / "error.log").read_text()
                await asyncio.sleep(0.01)
        yield str(socket)
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


@dataclass
class Origin:
    """Answers whatever it is asked as the exchange says that is set; keeps what it was asked."""

    exchange: Exchange | None = None
    has_interims: bool = True
    asked: list[Request] = field(default_factory=list)
    port: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Origin]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=2**20)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            closes = False
            while not closes:
                asked = await read_request(reader)
                self.asked.append(asked)
                closes = await self._answer(writer)
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter) -> bool:
        exchange = self.exchange
        assert exchange is not None
        for piece in (exchange.interims if self.has_interims else b"", *exchange.answer):
            writer.write(piece)
            await writer.drain()
        return exchange.closes


@dataclass(frozen=True)
class Seen:
    """What the two ends saw of one exchange; None: the origin was not asked."""

    request: Request | None
    reply: Reply


async def run(
    exchange: Exchange,
    origin: Origin,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> Seen:
    """Send the client's bytes to a proxy, and read its answer."""
    origin.exchange, origin.asked = exchange, []
    try:
        async with asyncio.timeout(3):
            writer.write(exchange.asked)
            reply = await read_reply(reader, exchange.method)
    finally:
        writer.close()
    assert len(origin.asked) <= 1, f"{exchange.name}: asked {len(origin.asked)} times"
    return Seen(origin.asked[0] if origin.asked else None, reply)
