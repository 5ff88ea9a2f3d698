"""What the origin answers, as the engine holds it: a head, a body to read, a tunnel.

Knows how an answer is read and given up. Must not know pools, retries or health.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from isr_proxy.core.chunks import NO_TRAILERS
from isr_proxy.core.http import Fields, Head
from isr_proxy.core.reason import Reason
from isr_proxy.errors import OriginReset
from isr_proxy.origin.connection import Connection
from isr_proxy.origin.incoming import Incoming


class Hold:
    """Keeps an answer open as long as anybody has a part of it in hand."""

    __slots__ = ("incoming",)

    def __init__(self, incoming: Incoming) -> None:
        self.incoming = incoming

    def __del__(self) -> None:
        try:
            self.incoming.close()
        except RuntimeError:
            pass  # the loop is closed, and every connection with it


class Chunks:
    """Iterates over a body; abandoning it half-way costs nothing until the answer is closed."""

    __slots__ = ("_hold",)

    def __init__(self, hold: Hold) -> None:
        self._hold = hold

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> bytes:
        chunk = await self._hold.incoming.read()
        if not chunk:
            raise StopAsyncIteration
        return chunk


class Tunnel:
    """Bytes both ways after a 101."""

    __slots__ = ("_connection", "_hold")

    def __init__(self, hold: Hold, connection: Connection) -> None:
        self._hold = hold
        self._connection = connection

    async def read(self) -> bytes:
        """Return what came, b"" once the origin has nothing more to say. OriginReset when it broke."""
        return await self._hold.incoming.read()

    def write(self, data: bytes) -> None:
        """Send; OriginReset when the origin is gone."""
        transport = self._connection.transport
        if transport is None or transport.is_closing():
            raise OriginReset(Reason.RESET.value, "the tunnel is closed", answered=True)
        transport.write(data)

    def write_eof(self) -> bool:
        """End this side only; False where it cannot end alone (TLS), or the origin is gone."""
        transport = self._connection.transport
        if transport is None or transport.is_closing() or not transport.can_write_eof():
            return False
        transport.write_eof()
        return True

    async def drain(self) -> None:
        """Wait while the origin does not take more."""
        await self._connection.drain()

    def close(self) -> None:
        """Close once what was written is sent."""
        self._connection.hang_up()


class Answer:
    """One response. Close it, read or not; one that is forgotten closes itself."""

    __slots__ = ("_hold", "body_bytes", "head", "origin", "tunnel")

    head: Head
    body_bytes: (
        int | None
    )  # the length of the body where it is known beforehand; 0 where none follows (HEAD, 304)
    origin: str  # the URL that answered
    tunnel: Tunnel | None  # after a 101

    def __init__(self, head: Head, incoming: Incoming, origin: str, connection: Connection) -> None:
        self.head = head
        self.origin = origin
        self.body_bytes = incoming.body_bytes
        self._hold = Hold(incoming)
        self.tunnel = Tunnel(self._hold, connection) if head.status == 101 else None

    @property
    def status(self) -> int:
        """Return the status that the origin sent."""
        return self.head.status

    def __repr__(self) -> str:
        return f"<Answer {self.head.status} from {self.origin}>"

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the body's chunks, as they come. The origin is stopped while nobody reads.

        OriginProtocol (TRUNCATED, BAD_RESPONSE), OriginReset or OriginTimeout (CHUNK_TIMEOUT) when it is
        incomplete, after the chunks that did come.
        """
        return Chunks(self._hold)

    @property
    def trailers(self) -> Fields:
        """Return the trailer fields behind the body; empty until it is read to its end."""
        return self._hold.incoming.trailers

    def close(self) -> None:
        """Give up what has not come. A connection whose answer is whole stays open for reuse."""
        self._hold.incoming.close()

    async def aclose(self) -> None:
        """Do as `close`: nothing is waited for."""
        self.close()


class Assembled(Answer):
    """An answer put together here, of which all, a part or nothing comes from an origin.

    `chunks` is its body; `source` the answer that is closed with it.
    """

    __slots__ = ("_chunks", "_source")

    def __init__(
        self, head: Head, body_bytes: int, chunks: AsyncIterator[bytes], source: Answer | None = None
    ) -> None:
        self.head = head
        self.body_bytes = body_bytes
        self.origin = "" if source is None else source.origin
        self.tunnel = None
        self._chunks = chunks
        self._source = source

    @property
    def status(self) -> int:
        return self.head.status if self._source is None else self._source.status

    @property
    def trailers(self) -> Fields:
        return NO_TRAILERS  # those of a part are not those of the whole

    def chunks(self) -> AsyncIterator[bytes]:
        return self._chunks

    def close(self) -> None:
        if self._source is not None:
            self._source.close()
