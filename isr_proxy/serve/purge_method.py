"""The PURGE method, as nginx, Varnish and Fastly users send it.

Knows what its target and headers select, and how it is answered on the main port. Must not know how a
purge is carried out. On the main port a URL is that of its Host; on the admin port, whose Host is its own,
a path is purged on every host, unless the target is an absolute URL.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from isr_proxy.core.http import REASON_PHRASES, Fields, Head, Line, Request
from isr_proxy.core.purges import Strength
from isr_proxy.core.reason import Reason, XCache
from isr_proxy.errors import StoreUnavailable
from isr_proxy.serve.deliver import Delivery
from isr_proxy.serve.exchange import Exchange
from isr_proxy.serve.operations import Operations
from isr_proxy.serve.selection import Selection
from isr_proxy.serve.token import Access, access

_PHRASES = {**REASON_PHRASES, 500: "Internal Server Error"}


def selection_of(target: str, fields: Fields) -> tuple[Selection, Strength]:
    """Read what a PURGE selects: the tags its headers name, else its target (a path or absolute URL)."""
    is_soft = "1" in (fields.first(b"fastly-soft-purge"), fields.first(b"x-purge-soft"))
    by_space = " ".join(fields.all(b"surrogate-key")).split()
    by_comma = [tag for value in fields.all(b"cache-tag") for tag in value.split(",") if tag.strip()]
    tags = (*by_space, *by_comma)
    selection = Selection(tags=tags) if tags else Selection(paths=(target,))
    return selection, Strength.SOFT if is_soft else Strength.HARD


async def carry_out(operations: Operations, target: str, fields: Fields) -> tuple[int, dict[str, Any]]:
    """Purge what is selected; returns status and JSON of the answer."""
    try:
        purged = await operations.purge(*selection_of(target, fields))
    except ValueError as error:
        return 400, {"error": str(error)}
    except StoreUnavailable as error:
        return 500, {"error": str(error)}
    return 200 if purged.matched else 404, {"sequence": purged.sequence, "matched": purged.matched}


class PurgeMethod:
    """Answers PURGE on the main port; `token` is asked at each request, as a reload may change it."""

    def __init__(self, operations: Operations, token: Callable[[], str | None]) -> None:
        self._operations = operations
        self._token = token

    async def handle(self, exchange: Exchange, delivery: Delivery) -> None:
        """Answer one PURGE. Only who brings the token may."""
        request = exchange.request
        status, content, reason = await self._answer(request)
        body = json.dumps(content).encode() + b"\n"
        exchange.send(_head(status), body)
        delivery.record(status, XCache.PASS if status < 400 else XCache.ERROR, reason, len(body))

    async def _answer(self, request: Request) -> tuple[int, dict[str, Any], Reason]:
        token = self._token()
        said = access(request.fields.first(b"authorization"), token) if token else Access.WRONG
        match said:
            case Access.GRANTED:
                target = f"{request.scheme}://{request.host}{request.target}"
                status, content = await carry_out(self._operations, target, request.fields)
                return status, content, Reason.PURGE
            case Access.MISSING:
                return 401, {"error": "a token is needed: Authorization: Bearer TOKEN"}, Reason.TOKEN
            case Access.WRONG:
                return 403, {"error": "this token may not purge"}, Reason.TOKEN


def _head(status: int) -> Head:
    lines: list[Line] = [
        (b"Content-Type", b"application/json"),
        (b"Cache-Control", b"no-store"),
    ]
    if status == 401:
        lines.append((b"WWW-Authenticate", b"Bearer"))
    return Head(status, _PHRASES[status], Fields(lines))
