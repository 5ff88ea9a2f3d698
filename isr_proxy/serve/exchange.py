"""One request and the way back to its visitor: what the engine sees of the connection.

Knows the shape only; `front.py` implements it over a socket. Must not know decisions.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from isr_proxy.core.chunks import NO_TRAILERS
from isr_proxy.core.http import Fields, Head, Request
from isr_proxy.serve.outcome import Outcome
from isr_proxy.serve.ready import Ready


class Tunnel(Protocol):
    """Raw bytes both ways, after an upgrade."""

    async def read(self) -> bytes:
        """Return what came, b"" at the end."""

    def write(self, data: bytes) -> None: ...

    def write_eof(self) -> bool:
        """End this side only; False where one side cannot end alone (TLS)."""

    async def drain(self) -> None: ...

    def close(self) -> None: ...


class Exchange(Protocol):
    """A visitor's request, and his one response. VisitorGone is raised once he has hung up."""

    request: Request

    @property
    def body_bytes(self) -> int | None:
        """Length of the request body, None when it is chunked."""

    @property
    def expects_continue(self) -> bool:
        """Tell whether the visitor sends his body only once he is told to, which reading it does."""

    @property
    def most_at_once(self) -> int:
        """Return how large a body may be that is sent in one write."""

    def body(self) -> AsyncIterator[bytes]:
        """Yield the request body as it comes."""

    def trailers(self) -> Fields:
        """Return the trailer fields that came behind the body, once it is read."""

    def interim(self, head: Head) -> None:
        """Send a 1xx (not 101) ahead of the response."""

    def send(self, head: Head, body: bytes = b"") -> None:
        """Send a whole response; its Content-Length is written here."""

    def repeat(self, head: bytes, body: bytes) -> bool:
        """Send a whole response that is ready, in HTTP/1.1 that goes on; False: nothing is sent."""

    def answered(self, ready: Ready, outcome: Outcome) -> None:
        """Note that whoever sends this very request gets this answer, as long as it is ready."""

    def start(self, head: Head, length: int | None) -> None:
        """Begin a streamed response; of unknown length it is chunked, or ends with the connection."""

    async def write(self, chunk: bytes) -> None:
        """Send a piece, and wait while the visitor's side is full."""

    def finish(self, trailers: Fields = NO_TRAILERS) -> None:
        """End the streamed response; trailers are sent where it is chunked."""

    def abort(self) -> None:
        """Cut the connection: a body that cannot be completed must not look complete."""

    def upgrade(self, head: Head, protocol: str) -> Tunnel:
        """Send 101 and hand over the raw connection."""
