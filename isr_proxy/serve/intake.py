"""Where a request ends on the wire: the parser is given one request at a time, and nothing behind it.

Knows methods, the end of a head, lengths and chunks. Must not know what a request asks for, or sockets.

Three things of aiohttp's request parser make this needed. It keeps the last trailer field of a body and
puts it in front of the next request's headers; it refuses methods that are not on its list; and it has
read ahead by the time that an upgrade is asked for. So a method it need not know is spelled POST for it,
chunks are read here and written anew without extensions and trailers, and it never sees a byte too many.
"""

from __future__ import annotations

from typing import Final

from isr_proxy.core.chunks import NO_TRAILERS, ChunkReader, Strictness, encode_chunk, encode_end
from isr_proxy.core.http import TOKEN

_END: Final = b"\r\n\r\n"
_PLAIN_METHODS: Final = frozenset(
    {b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH", b"CONNECT"}
)
_METHOD_BYTES: Final = 64


class Intake:
    """The request that comes now, on one connection. Begin anew for each."""

    __slots__ = ("_before", "_chunks", "_held", "_is_in", "_left_bytes", "method", "trailers")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Expect a head."""
        self.method: str | None = None  # what the visitor asked with, where the parser was told another
        self.trailers = NO_TRAILERS  # of a body that is in
        self._held: bytes | None = b""  # a method that is not all here; None once it is
        self._before = b""  # the last bytes of the head given to the parser
        self._chunks: ChunkReader | None = None
        self._is_in = False  # a chunked body's last byte has come
        self._left_bytes = 0  # of a body of known length

    @property
    def has_begun(self) -> bool:
        """Tell whether anything but line breaks has come."""
        return self._held != b""

    def head(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what of the head the parser is fed, and what lies behind the head."""
        if self._held is not None:
            data = self._method((self._held + data).lstrip(b"\r\n"))
            if self._held is not None:
                return b"", b""
        end = self._end_of_head(data)
        fed = data if end is None else data[:end]
        self._before = (self._before + fed[-3:])[-3:]
        return fed, data[len(fed) :]

    def _method(self, data: bytes) -> bytes:
        """Hold the first bytes until the method is in; spell it for the parser (RFC 9110 §9.1)."""
        method, blank, _ = data[: _METHOD_BYTES + 1].partition(b" ")
        if not blank and len(data) <= _METHOD_BYTES and b"\n" not in data:
            self._held = data
            return b""
        self._held = None
        if not blank or method in _PLAIN_METHODS or not TOKEN.fullmatch(method.decode("latin-1")):
            return data
        self.method = method.decode("latin-1")
        return b"POST" + data[len(method) :]

    def _end_of_head(self, data: bytes) -> int | None:
        joint = (self._before + data[:3]).find(_END) if self._before else -1
        if joint >= 0:
            return joint + len(_END) - len(self._before)
        end = data.find(_END)
        return None if end < 0 else end + len(_END)

    def expect_length(self, length: int) -> None:
        """Expect a body of so many bytes."""
        self._left_bytes = length

    def expect_chunks(self) -> None:
        """Expect a chunked body."""
        self._chunks = ChunkReader(Strictness.STRICT)

    def body(self, data: bytes) -> tuple[bytes, bytes]:
        """Return what of the body the parser is fed, and what lies behind the body.

        BadChunks when the body is malformed.
        """
        if self._chunks is None:
            ours, rest = data[: self._left_bytes], data[self._left_bytes :]
            self._left_bytes -= len(ours)
            return ours, rest
        return self._chunked(self._chunks, data)

    def _chunked(self, chunks: ChunkReader, data: bytes) -> tuple[bytes, bytes]:
        if self._is_in:
            return b"", data
        content = chunks.feed(data)
        fed = encode_chunk(content) if content else b""
        self._is_in = chunks.is_complete
        if self._is_in:
            self.trailers = chunks.trailers
            fed += encode_end(NO_TRAILERS)
        return fed, chunks.rest
