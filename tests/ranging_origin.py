"""An origin that gives parts: a script for ScriptedOrigin, written after RFC 9110 and nothing of ours.

origin.on("/p", ranged(body))                       # strong ETag "v1", fresh for a minute
origin.on("/p", ranged(body, {"ETag": 'W/"v1"'}))
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping

from tests.scripted_origin import Exchange, Recorded, head

FRESH: Mapping[str, str] = {"ETag": '"v1"', "Cache-Control": "max-age=60", "Content-Type": "video/mp4"}


def ranged(body: bytes, headers: Mapping[str, str] = FRESH) -> Callable[[Exchange], Awaitable[None]]:
    """Return the script of a path whose GETs may ask for one part."""

    async def script(exchange: Exchange) -> None:
        status, extra, content = answer(exchange.request, body, headers)
        length = {} if status == 304 else {"Content-Length": str(len(content))}
        await exchange.send(head(status, {**headers, **extra, **length}) + content)

    return script


def answer(request: Recorded, body: bytes, headers: Mapping[str, str]) -> tuple[int, dict[str, str], bytes]:
    """Return status, further headers and body."""
    etag = headers.get("ETag")
    if etag is not None and request.header("if-none-match") == etag:
        return 304, {}, b""
    asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.header("range") or "")
    if asked is None or request.header("if-range") not in (None, etag, headers.get("Last-Modified")):
        return 200, {}, body
    first, last = asked.groups()
    start = int(first) if first else max(0, len(body) - int(last))
    stop = min(int(last) + 1, len(body)) if first and last else len(body)
    if start >= stop:
        return 416, {"Content-Range": f"bytes */{len(body)}"}, b""
    return 206, {"Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"}, body[start:stop]
