"""The chunked transfer coding (RFC 9112 §7.1), read piece by piece: content, end, trailer section.

Knows the grammar, and which trailer fields may go on (RFC 9110 §6.5.1). Must not know sockets, or whose
body it is. Extensions end at this hop (RFC 9112 §7.1.1), trailers are kept apart from every header.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from isr_proxy.core.http import HOP_BY_HOP, NO_FIELDS, Fields, Line

_LINE_BYTES: Final = 4096  # of a chunk's size and its extensions
_TRAILER_BYTES: Final = 8190  # of the whole section, as of one header line
_TRAILERS_MAX: Final = 64

# Sizes beyond fifteen digits are no body's. Extensions are read by nobody; a visitor's are well-formed.
_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"
_QUOTED: Final = rb'"(?:[\t \x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*+"'
_EXTENSION: Final = rb"[ \t]*;[ \t]*" + _TOKEN + rb"(?:[ \t]*=[ \t]*(?:" + _TOKEN + rb"|" + _QUOTED + rb"))?"
_STRICT_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:" + _EXTENSION + rb")*")
_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[\t\x20-\x7e\x80-\xff]*)?")
_TRAILER: Final = re.compile(
    rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*((?:[\x21-\x7e\x80-\xff]|[ \t]+(?=[\x21-\x7e\x80-\xff]))*)[ \t]*"
)

# Read before the content, so of no use behind it, or dangerous there: framing, routing, conditions and
# other modifiers of a request, authentication, and what tells how content is to be processed.
FORBIDDEN_TRAILERS: Final = HOP_BY_HOP | {
    b"accept-ranges",
    b"age",
    b"authorization",
    b"cache-control",
    b"content-encoding",
    b"content-length",
    b"content-location",
    b"content-range",
    b"content-type",
    b"cookie",
    b"date",
    b"expect",
    b"expires",
    b"forwarded",
    b"host",
    b"if-match",
    b"if-modified-since",
    b"if-none-match",
    b"if-range",
    b"if-unmodified-since",
    b"location",
    b"max-forwards",
    b"pragma",
    b"proxy",
    b"range",
    b"retry-after",
    b"set-cookie",
    b"vary",
    b"via",
    b"warning",
    b"www-authenticate",
}
_FRAMING: Final = frozenset({b"content-length", b"transfer-encoding"})
_FORBIDDEN_PREFIXES: Final = (b"x-forwarded-", b"proxy-", b"access-control-")
NO_TRAILERS: Final = NO_FIELDS


class BadChunks(ValueError):
    """What should be chunked is not."""


class TooManyTrailers(BadChunks):
    """The trailer section is larger than any may be."""


class Strictness(Enum):
    """How a chunk's size line is read."""

    STRICT = _STRICT_SIZE  # a visitor's
    PADDED = _SIZE  # an origin's: some fill the size up with blanks


class _Next(Enum):
    """What is read next."""

    SIZE = "size"
    CONTENT = "content"
    CONTENT_END = "content end"  # the line break behind a chunk
    TRAILER = "trailer"
    NOTHING = "nothing"  # the body is whole


class ChunkReader:
    """One body. What follows its end is left in `rest`."""

    __slots__ = ("_left_bytes", "_lines", "_next", "_partial", "_size", "_trailer_bytes", "rest")

    def __init__(self, strictness: Strictness) -> None:
        self._size = strictness.value
        self._next = _Next.SIZE
        self._left_bytes = 0  # of the chunk
        self._partial = b""  # of a line
        self._lines: list[Line] = []
        self._trailer_bytes = 0
        self.rest = b""

    @property
    def is_complete(self) -> bool:
        return self._next is _Next.NOTHING

    @property
    def trailers(self) -> Fields:
        """Return the trailer section; empty before the end."""
        return Fields(self._lines) if self._lines and self.is_complete else NO_TRAILERS

    def feed(self, data: bytes) -> bytes:
        """Return the content's part of what was received. BadChunks when it is malformed."""
        data, self._partial = self._partial + data, b""
        parts: list[bytes] = []
        start = 0
        while start < len(data) and not self.is_complete:
            if self._next is _Next.CONTENT:
                stop = min(len(data), start + self._left_bytes)
                parts.append(data[start:stop])
                self._left_bytes -= stop - start
                if not self._left_bytes:
                    self._next = _Next.CONTENT_END
            else:
                stop = self._line(data, start)
            if stop == start:
                break
            start = stop
        if self.is_complete:
            self.rest += data[start:]
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _line(self, data: bytes, start: int) -> int:
        """Read one line; returns where it ends, `start` where it is not all here."""
        stop = data.find(b"\n", start) + 1
        limit = _LINE_BYTES if self._next is _Next.SIZE else _TRAILER_BYTES
        if (stop or len(data)) - start > limit:
            raise BadChunks("a line is too long")
        if not stop:
            self._partial = data[start:]
            return start
        if data[stop - 2 : stop] != b"\r\n" or stop - start < 2:
            raise BadChunks("a line does not end in CRLF")
        self._take(data[start : stop - 2])
        return stop

    def _take(self, line: bytes) -> None:
        match self._next:
            case _Next.SIZE:
                self._take_size(line)
            case _Next.CONTENT_END:
                if line:
                    raise BadChunks("a chunk is longer than its size")
                self._next = _Next.SIZE
            case _:
                self._take_trailer(line)

    def _take_size(self, line: bytes) -> None:
        found = self._size.fullmatch(line)
        if found is None:
            raise BadChunks("a chunk's size is not a number")
        self._left_bytes = int(found[1], 16)
        self._next = _Next.CONTENT if self._left_bytes else _Next.TRAILER

    def _take_trailer(self, line: bytes) -> None:
        if not line:
            self._next = _Next.NOTHING
            return
        found = _TRAILER.fullmatch(line)
        self._trailer_bytes += len(line)
        if found is None or found[1].lower() in _FRAMING:  # RFC 9110 §6.5.1: an attack, not a mistake
            raise BadChunks("a trailer is not a field, or frames the message")
        if self._trailer_bytes > _TRAILER_BYTES or len(self._lines) >= _TRAILERS_MAX:
            raise TooManyTrailers("the trailer section is too large")
        self._lines.append((found[1], found[2]))


def encode_chunk(content: bytes) -> bytes:
    """Write one chunk; its content is not empty."""
    return b"%x\r\n%b\r\n" % (len(content), content)


def encode_end(trailers: Fields) -> bytes:
    """Write the last chunk and the trailer section."""
    return b"".join([b"0\r\n", *(b"%b: %b\r\n" % line for line in trailers), b"\r\n"])


def forwardable(trailers: Fields, nominated: frozenset[bytes]) -> Fields:
    """Drop trailers that no sender may put there (RFC 9110 §6.5.1), and those named in Connection."""
    if not len(trailers):
        return trailers
    return Fields(line for line in trailers if not _is_forbidden(line[0].lower(), nominated))


def _is_forbidden(name: bytes, nominated: frozenset[bytes]) -> bool:
    """Tell also of underscore twins (X_Forwarded_For), which CGI-style origins read as the same."""
    name = name.replace(b"_", b"-")
    return name in FORBIDDEN_TRAILERS or name in nominated or name.startswith(_FORBIDDEN_PREFIXES)
