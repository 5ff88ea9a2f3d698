"""One request and the way back to its visitor: what the engine sees of the connection.

Knows the shape only; `front.py` implements it over a socket. Must not know decisions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Coroutine
from typing import Any, Protocol

from isr_proxy.core.chunks import NO_TRAILERS
from isr_proxy.core.http import Fields, Head, Request
from isr_proxy.serve.known_passes import PassedOn
from isr_proxy.serve.outcome import Outcome
from isr_proxy.serve.ready import Ready
from isr_proxy.serve.relays import Written


class Tunnel(Protocol):
    """Raw bytes both ways, after an upgrade."""

    async def read(self) -> bytes:
        """Return what came, b"" at the end."""

    def write(self, data: bytes) -> None: ...

    def write_eof(self) -> bool:
        """End this side only; False where one side cannot end alone (TLS)."""

    async def drain(self) -> None: ...

    def close(self) -> None: ...


class Flow(ABC):
    """What answers a request without a task, as bytes come: its connection tells it of the visitor."""

    __slots__ = ()

    @abstractmethod
    def cancel(self) -> None:
        """The visitor has hung up. May be told after the end, too."""

    @abstractmethod
    def pause(self) -> None:
        """The visitor takes no more for now."""

    @abstractmethod
    def resume(self) -> None:
        """The visitor takes more."""


class Exchange(Protocol):
    """A visitor's request, and his one response. VisitorGone is raised once he has hung up."""

    request: Request
    passed: PassedOn | None  # what became of it, where it is passed as it came

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

    def start(self, head: Head, length: int | None, written: Written | None = None) -> None:
        """Begin a streamed response; of unknown length it is chunked, or ends with the connection.

        `written` remembers how this very head was written before.
        """

    async def write(self, chunk: bytes) -> None:
        """Send a piece, and wait while the visitor's side is full."""

    def push(self, chunk: bytes) -> None:
        """Send a piece; a Flow is told when the visitor's side is full."""

    def hold(self) -> None:
        """Keep what is sent from now on until the next `release`, `write` or `finish`: one write for all."""

    def release(self) -> None:
        """Send what was kept."""

    def finish(self, trailers: Fields = NO_TRAILERS) -> None:
        """End the streamed response; trailers are sent where it is chunked."""

    def carry_on(self, rest: Coroutine[Any, Any, None]) -> None:
        """Have a task do what is left of a Flow that could not answer."""

    def done(self) -> None:
        """Say that a Flow has answered, and again when it is told to resume: the next request comes only
        once the visitor has taken the answer."""

    def abort(self) -> None:
        """Cut the connection: a body that cannot be completed must not look complete."""

    def upgrade(self, head: Head, protocol: str) -> Tunnel:
        """Send 101 and hand over the raw connection."""
