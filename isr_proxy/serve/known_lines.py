"""The lines that a visitor says in each of his requests: they are parsed, judged and settled once.

Knows a whole head as bytes, and the request that was made of another one with the same lines behind the
first. Must not know connections, nor what is answered. Who asks for page after page changes the target
alone; HPACK's dynamic table builds on that too (RFC 7541 §2.3.2).
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from msgspec import structs

from isr_proxy.core.http import Request
from isr_proxy.core.settings import LimitSettings
from isr_proxy.serve.front_parser import Message

_MOST: Final = 512  # with heads of this size about 4 MiB, of which most take a tenth
_HEAD_BYTES_MAX: Final = 4096
# Targets that the parser takes as they are and that stand for themselves: a path, perhaps a query.
_FIRST_LINE: Final = re.compile(rb"GET (/(?:[\w.~!$&'()*+,;=:@%?-][\w./~!$&'()*+,;=:@%?-]*)?) HTTP/1\.1\r\n")


class Said(NamedTuple):
    """A head: as it was parsed, and the request it is."""

    message: Message
    request: Request


class KnownLines:
    """What visitors said under one set of limits, and of trusted proxies."""

    def __init__(self, limits: LimitSettings) -> None:
        least = min(limits.max_request_line, limits.max_header_field, limits.max_head)
        self._head_bytes_max = min(_HEAD_BYTES_MAX, least // 2)  # however it is counted, no limit is near
        self._said: dict[tuple[bytes, str, str], Said] = {}

    def find(self, head: bytes, scheme: str, peer: str) -> Said | None:
        """Return what a head says whose lines are known; None: it has to be parsed, or is not whole."""
        first = _FIRST_LINE.match(head)
        if first is None or len(head) > self._head_bytes_max:
            return None
        said = self._said.get((head[first.end() :], scheme, peer))
        if said is None:
            return None
        path, question, query = first[1].decode("ascii").partition("?")
        request = structs.replace(said.request, path=path, query=query if question else None)
        return Said(said.message, request)

    def remember(self, head: bytes, scheme: str, peer: str, said: Said) -> None:
        """Note what a whole head says that has no body, no upgrade, and no wish to close."""
        first = _FIRST_LINE.match(head)
        if first is None or len(head) > self._head_bytes_max:
            return
        if len(self._said) >= _MOST:
            self._said.clear()  # whoever still comes is back with his next request
        self._said[head[first.end() :], scheme, peer] = said
