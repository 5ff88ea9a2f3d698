"""aiohttp's C request parser, as visitors' connections use it.

Knows how it is made. Must not know connections. Private to aiohttp and used here: `HttpRequestParser` with
`max_msg_queue_size` and `auto_decompress`.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_parser import HttpRequestParser, RawRequestMessage
from aiohttp.http_writer import HttpVersion11
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from isr_proxy.core.limits import longest_field, longest_target
from isr_proxy.core.settings import LimitSettings
from isr_proxy.errors import VisitorGone

_READ_BYTES: Final = 64 * 1024

Message = RawRequestMessage  # a whole head

# What heads that are not parsed any more have in common: HTTP/1.1, no body, no upgrade, no wish to close.
PLAIN: Final = RawRequestMessage(
    "GET", "/", HttpVersion11, CIMultiDictProxy(CIMultiDict()), (), False, None, False, False, URL("/")
)


def require_c_parser() -> None:
    """Fail at start when aiohttp came without its strict parser. RuntimeError says what to do."""
    if HttpRequestParser.__module__ != "aiohttp._http_parser":
        raise RuntimeError(
            "aiohttp's C request parser is missing: install aiohttp from a wheel, "
            "and do not set AIOHTTP_NO_EXTENSIONS"
        )


def new_parser(protocol: BaseProtocol, loop: asyncio.AbstractEventLoop, limits: LimitSettings) -> Any:
    """Make the parser of one connection."""
    return HttpRequestParser(
        protocol,
        loop,
        _READ_BYTES,
        max_line_size=longest_target(limits),
        max_field_size=longest_field(limits),
        max_headers=limits.max_headers,
        payload_exception=VisitorGone,
        auto_decompress=False,
        max_msg_queue_size=1,
    )
