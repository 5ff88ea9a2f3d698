"""What is asked of an origin, and how long it may take.

Knows how a request head is written to the wire. Must not know connections, pools or answers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from isr_proxy.core.http import Fields, Head, Line
from isr_proxy.core.reason import Reason
from isr_proxy.core.value import Value
from isr_proxy.errors import OriginProtocol

# RFC 9110 §8.6: a request of these methods says that its body is empty.
BODY_EXPECTED: Final = frozenset({"POST", "PUT", "PATCH"})
# RFC 9110 §9.2.2: asking twice does what asking once does.
IDEMPOTENT: Final = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})


@dataclass(frozen=True, slots=True)
class Deadlines:
    """Seconds the origin may take; the total time of an exchange is the caller's own timeout."""

    connect: float  # name, TCP and TLS; also the wait for a free connection
    first_byte: float  # from the end of the request to the response's head
    between_chunks: float  # silence inside a body, while somebody wants more of it


class Outgoing(Value, frozen=True):
    """One request. `fields` are the end-to-end lines: Host, framing and Connection are written here."""

    method: str
    target: str  # raw path and query, sent as it is
    host: str
    fields: Fields
    body: AsyncIterator[bytes] | None = None
    body_bytes: int | None = None  # None with a body: chunked; 0 without one: said to be empty
    upgrade: str | None = None  # the protocol asked for
    on_interim: Callable[[Head], None] | None = None  # gets each 1xx but 101
    trailers: Callable[[], Fields] | None = None  # what follows a chunked body, asked for at its end
    expects_continue: bool = False  # the body is held back until the origin wants it
    accepts_trailers: bool = False  # whoever gets the answer can do with trailers

    @property
    def is_repeatable(self) -> bool:
        """Tell whether it may be sent again although it was sent before."""
        return self.method in IDEMPOTENT and self.body is None


def request_head(outgoing: Outgoing) -> bytes:
    """Write the head of a request, in one piece; OriginProtocol as `write_head`."""
    lines = outgoing.fields.lines
    return write_head(outgoing.method, outgoing.target, outgoing.host, lines, _hop_lines(outgoing))


def write_head(
    method: str, target: str, host: str, lines: Sequence[Line], hop_lines: Sequence[bytes] = ()
) -> bytes:
    """Write the request line and header lines, in one piece; `hop_lines` are written already.

    OriginProtocol when a part carries a line break or a blank that would change the framing.
    """
    line = f"{method} {target} HTTP/1.1\r\n".encode("utf-8", "surrogateescape")
    parts = [line, f"Host: {host}\r\n".encode("latin-1", "replace")]
    parts += [b"%b: %b\r\n" % pair for pair in lines]
    parts += hop_lines
    expected = len(parts) + 1
    parts.append(b"\r\n")
    head = b"".join(parts)
    # Whoever built the request has checked it; a second look costs less than a smuggled line.
    breaks = head.count(b"\n")
    if line.count(b" ") != 2 or breaks != expected or head.count(b"\r") != breaks:
        raise OriginProtocol(Reason.BAD_REQUEST.value, "a part of the request holds a blank or a line break")
    return head


# What tells the origin that trailers may follow its answer.
TAKES_TRAILERS: Final = (b"TE: trailers\r\n", b"Connection: TE\r\n")


def _hop_lines(outgoing: Outgoing) -> list[bytes]:
    """Return the lines that frame the body, or are meant for the origin's end of the connection only."""
    lines: list[bytes] = []
    size = outgoing.body_bytes
    if outgoing.body is not None:
        lines.append(b"Transfer-Encoding: chunked\r\n" if size is None else b"Content-Length: %d\r\n" % size)
    elif size == 0 or outgoing.method in BODY_EXPECTED:
        lines.append(b"Content-Length: 0\r\n")
    if outgoing.expects_continue:
        lines.append(b"Expect: 100-continue\r\n")
    options: list[bytes] = []
    if outgoing.accepts_trailers:
        lines.append(b"TE: trailers\r\n")
        options.append(b"TE")
    if outgoing.upgrade is not None:
        lines.append(b"Upgrade: %b\r\n" % outgoing.upgrade.encode("latin-1", "replace"))
        options.append(b"upgrade")
    if options:
        lines.append(b"Connection: %b\r\n" % b", ".join(options))
    return lines
