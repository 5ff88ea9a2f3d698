"""What is refused before there is a request to ask anybody about: the answer, and what is told of it.

Knows which limit aiohttp's parser stopped at. Must not know connections.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from isr_proxy.core.chunks import BadChunks, TooManyTrailers
from isr_proxy.core.http import Fields, Request
from isr_proxy.core.limits import longest_target
from isr_proxy.core.reason import Reason, XCache
from isr_proxy.core.settings import LimitSettings
from isr_proxy.serve.outcome import Outcome
from isr_proxy.serve.respond import error_head
from isr_proxy.serve.wire import CLOSE, encode_head

_UNKNOWN = "-"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer without asking, after which the connection closes."""

    status: int
    reason: Reason
    retry_after: int | None = None

    def encode(self) -> bytes:
        """Write the whole response."""
        now = time.time()  # noqa: TID251  Date only
        head, body = error_head(self.status, self.reason, XCache.ERROR, now, self.retry_after)
        return encode_head(head, [(b"Content-Length", b"%d" % len(body)), CLOSE]) + body

    def outcome(self, scheme: str, peer: str) -> Outcome:
        """Return what log and metrics are told (law 10): what was asked is not known."""
        request = Request(_UNKNOWN, scheme, _UNKNOWN, _UNKNOWN, None, Fields(), client=peer)
        return Outcome(request, None, self.status, XCache.ERROR, self.reason, 0, 0.0)


def limit_broken(error: HttpProcessingError | BadChunks, limits: LimitSettings) -> Reason | None:
    """Say which limit the parser stopped at, None where it was something else."""
    if isinstance(error, LineTooLong):
        is_target = error.args[1] == longest_target(limits)
        return Reason.LINE_TOO_LONG if is_target else Reason.FIELD_TOO_LARGE
    is_number = isinstance(error, TooManyTrailers) or "Too many headers" in str(error)
    return Reason.TOO_MANY_FIELDS if is_number else None
