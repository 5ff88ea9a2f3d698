"""The least that aiohttp needs to be a proxy: its server, and its client behind.

    python -m bench.bare_aiohttp PORT ORIGIN_PORT

Stands in the table beside misses and passes, as what Python costs without any care. Must not know isr-proxy.
"""

from __future__ import annotations

import asyncio
import sys

import uvloop
from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector, web

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


async def serve(port: int, origin_port: int) -> None:
    """Serve until stopped."""
    async with ClientSession(
        f"http://127.0.0.1:{origin_port}",
        connector=TCPConnector(limit=128),
        cookie_jar=DummyCookieJar(),
        timeout=ClientTimeout(total=10),
        auto_decompress=False,
    ) as session:

        async def handle(request: web.BaseRequest) -> web.Response:
            headers = {"Host": request.headers.get("Host", "")}
            async with session.request(request.method, request.rel_url, headers=headers) as answer:
                kept = {
                    name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP
                }
                return web.Response(status=answer.status, headers=kept, body=await answer.read())

        runner = web.ServerRunner(web.Server(handle, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, backlog=4096).start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), int(sys.argv[2])))
