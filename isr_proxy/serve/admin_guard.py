"""Who may use the admin port, and how it says no.

Knows the token, the rules for a port without one, and the JSON form of every error. Must not know what
the calls do.

Without a token the port listens on loopback only. A browser on this machine can still be made to send
requests there, so a Host that is not loopback (DNS rebinding), a foreign Origin, a cross-site fetch and a
body that a form could have sent are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from isr_proxy.errors import StoreUnavailable
from isr_proxy.serve.admin_models import ErrorReply
from isr_proxy.serve.batches import TooManyBatches
from isr_proxy.serve.token import Access, access

_log = structlog.get_logger("isr_proxy.admin")

_UNGUARDED: Final = frozenset({"/healthz", "/readyz"})
_METRICS: Final = "/metrics"
_BODY_METHODS: Final = frozenset({"POST", "PUT", "PATCH", "DELETE", "PURGE"})


def error_response(status: int, error: str, errors: list[str] | None = None) -> web.Response:
    """Build the JSON of an error."""
    reply = ErrorReply(error=error, errors=errors)
    response = web.json_response(text=reply.model_dump_json(exclude_none=True), status=status)
    response.headers["Cache-Control"] = "no-store"
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


@web.middleware
async def say_errors_in_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what handlers raise into answers."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        response = error_response(error.status, error.reason)
        if "Allow" in error.headers:
            response.headers["Allow"] = error.headers["Allow"]
        return response
    except ValueError as error:
        return error_response(422, str(error), getattr(error, "errors", None))
    except TooManyBatches as error:
        return error_response(503, str(error))
    except StoreUnavailable as error:
        return error_response(500, str(error))
    except Exception as error:
        _log.error("an admin call crashed", path=request.path, exc_info=error)
        return error_response(500, "internal error; the log says more")


def guard(token: Callable[[], str | None]) -> Middleware:
    """Return the middleware that lets in who may; the token is asked for at each request."""

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in _UNGUARDED:
            return await handler(request)
        wanted = token()
        refused = _refuse_browsers(request) if wanted is None else _refuse_strangers(request, wanted)
        return refused or await handler(request)

    return guarded


def _refuse_strangers(request: web.Request, token: str) -> web.Response | None:
    if request.path == _METRICS and _is_loopback_peer(request):
        return None
    match access(request.headers.get("Authorization"), token):
        case Access.GRANTED:
            return None
        case Access.MISSING:
            return error_response(401, "a token is needed: Authorization: Bearer TOKEN")
        case Access.WRONG:
            return error_response(403, "the token is wrong")


def _refuse_browsers(request: web.Request) -> web.Response | None:
    if not is_loopback_name(_name(f"//{request.headers.get('Host', '')}")):
        return error_response(403, "without a token, only a Host on loopback is answered")
    origin = request.headers.get("Origin")
    if origin is not None and not is_loopback_name(_name(origin)):
        return error_response(403, "without a token, a foreign Origin is refused")
    if request.headers.get("Sec-Fetch-Site") == "cross-site":
        return error_response(403, "without a token, a cross-site request is refused")
    is_json = request.content_type == "application/json"
    if request.method in _BODY_METHODS and request.can_read_body and not is_json:
        return error_response(415, "the body's Content-Type must be application/json")
    return None


def _is_loopback_peer(request: web.Request) -> bool:
    """Tell whether the other end is on this machine; a unix socket's has no address."""
    return not request.remote or is_loopback_name(request.remote)


def _name(url: str) -> str:
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""


def is_loopback_name(name: str) -> bool:
    """Tell whether a name or address can only mean this machine."""
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
