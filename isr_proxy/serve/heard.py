"""A whole head, as the parser gave it: it becomes a Request, or is refused.

Knows versions, limits, framing and methods that nobody here serves. Must not know connections.
"""

from __future__ import annotations

from collections.abc import Sequence

from isr_proxy.core.arrival import Arrived, settle
from isr_proxy.core.http import Fields, Line, Request
from isr_proxy.core.limits import STATUSES, head_refusal, may_break_a_limit
from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import LimitSettings, Network
from isr_proxy.core.value import Value
from isr_proxy.serve.wire import framing_refusal


class Heard(Value, frozen=True):
    """A head, and what of its connection counts. `protocols` are those of an upgrade, where one may be."""

    method: str
    target: str
    lines: Sequence[Line]
    version: tuple[int, int]
    scheme: str
    peer: str
    has_body: bool
    protocols: str | None
    head_bytes: int

    def settled(
        self, limits: LimitSettings, trusted: Sequence[Network], default_host: str
    ) -> Request | tuple[int, Reason]:
        """Return the request, or status and reason it is refused with."""
        if may_break_a_limit(self.head_bytes, len(self.lines), limits):
            reason = head_refusal(self.method, self.target, self.lines, limits)
            if reason is not None:
                return STATUSES[reason], reason
        fields = Fields(self.lines)
        status = self._refusal(fields)
        if status is not None:
            return status, Reason.BAD_REQUEST
        request = settle(self._arrived(fields), trusted, default_host)
        return (400, Reason.BAD_REQUEST) if isinstance(request, str) else request

    def _refusal(self, fields: Fields) -> int | None:
        if self.version not in ((1, 0), (1, 1)):
            return 400 if self.version < (1, 0) else 505  # HTTP/0.9 has no Host
        if self.method == "CONNECT":
            return 501  # RFC 9110 §9.3.6: we are no tunnel, nor may the origin become one
        return framing_refusal(fields, is_http11=self.version >= (1, 1))

    def _arrived(self, fields: Fields) -> Arrived:
        major, minor = self.version
        return Arrived(
            self.method,
            self.target,
            fields,
            self.scheme,
            self.peer,
            self.has_body,
            self.protocols,
            f"{major}.{minor}",
        )
