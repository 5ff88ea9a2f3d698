"""The lines that a visitor says in each of his requests: they are parsed, judged and settled once.

Knows a whole head as bytes, and the request that was made of another one with the same lines behind the
first. Must not know connections, nor what is answered. Who asks for page after page changes the target
alone; HPACK's dynamic table builds on that too (RFC 7541 §2.3.2).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from typing import Final

from msgspec import structs

from isr_proxy.core.http import Request
from isr_proxy.core.settings import LimitSettings
from isr_proxy.serve.comebacks import Comebacks

_MOST: Final = 256
_SEEN: Final = 4096  # lines that came once are remembered in so many bytes
_HEAD_BYTES_MAX: Final = 4096
_FIELDS_MAX: Final = 32  # each takes several times its text: so all take 5 MiB at most (law 8)
# Targets that the parser takes as they are and that stand for themselves: a path, perhaps a query.
_FIRST_LINE: Final = re.compile(rb"GET (/(?:[\w.~!$&'()*+,;=:@%?-][\w./~!$&'()*+,;=:@%?-]*)?) HTTP/1\.1\r\n")


class KnownLines:
    """What visitors said under one set of limits, and of trusted proxies."""

    def __init__(self, limits: LimitSettings) -> None:
        least = min(limits.max_request_line, limits.max_header_field, limits.max_head)
        self._head_bytes_max = min(_HEAD_BYTES_MAX, least // 2)  # however it is counted, no limit is near
        self._known: OrderedDict[tuple[bytes, str, str], Request] = OrderedDict()  # the last said is last
        self._comebacks = Comebacks(_SEEN)

    def find(self, head: bytes, scheme: str, peer: str) -> Request | None:
        """Return which request a head is whose lines are known; None: it is to be parsed, or not whole."""
        first = _FIRST_LINE.match(head)
        if first is None or len(head) > self._head_bytes_max:
            return None
        said = (head[first.end() :], scheme, peer)
        known = self._known.get(said)
        if known is None:
            return None
        self._known.move_to_end(said)
        path, question, query = first[1].decode("ascii").partition("?")
        return structs.replace(known, path=path, query=query if question else None)

    def remember(self, head: bytes, scheme: str, peer: str, request: Request) -> None:
        """Note a whole head, at its second coming, that has no body, no upgrade, and no wish to close."""
        first = _FIRST_LINE.match(head)
        if first is None or len(head) > self._head_bytes_max or len(request.fields) > _FIELDS_MAX:
            return
        lines = head[first.end() :]
        if not self._comebacks.is_one(lines):
            return
        self._known[lines, scheme, peer] = request
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
