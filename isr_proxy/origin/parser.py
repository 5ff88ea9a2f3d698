"""aiohttp's C response parser: the only file of this room that touches it.

Knows how heads are parsed, and which framing a body has. Must not know sockets, deadlines or pools.

The parser gets one head at a time, cut out here, and never a body: so nothing of a second response can
hide behind the first. Bodies are framed here.
`tests/test_aiohttp_private.py` names everything relied on.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

from aiohttp import http_parser
from aiohttp.http_exceptions import HttpProcessingError

from isr_proxy.core.chunks import NO_TRAILERS, BadChunks, ChunkReader, Strictness
from isr_proxy.core.http import OWS, Fields, Head, content_length, tokens
from isr_proxy.core.reason import Reason
from isr_proxy.errors import OriginProtocol

HEAD_BYTES_MAX: Final = 32 * 1024
LINE_BYTES_MAX: Final = 16 * 1024
END_OF_HEAD: Final = re.compile(rb"\n\r?\n")

_PARSER: Final[Any] = getattr(http_parser, "HttpResponseParserC", None)
_LIMIT: Final = 2**30  # of the parser's own buffer: it is emptied after every feed


def require_c_parser() -> None:
    """Fail at start when aiohttp was installed without its C extension. RuntimeError says what to do."""
    if _PARSER is None:
        raise RuntimeError(
            "aiohttp's C response parser is missing: install aiohttp from a wheel, "
            "and do not set AIOHTTP_NO_EXTENSIONS"
        )


def bad_response(detail: str) -> OriginProtocol:
    """Return the error of an answer that is not HTTP."""
    return OriginProtocol(Reason.BAD_RESPONSE.value, detail, answered=True)


class Message(Protocol):
    """What we read of aiohttp's RawResponseMessage."""

    version: tuple[int, int]
    code: int
    reason: str
    headers: Mapping[str, str]
    raw_headers: tuple[tuple[bytes, bytes], ...]
    should_close: bool
    chunked: bool


class Parsed(NamedTuple):
    """One head: as it was parsed, and as a core value."""

    message: Message
    head: Head


# An origin says many a head again and again; the very bytes again are not parsed again.
_KNOWN: Final[dict[bytes, Parsed]] = {}
_KNOWN_MOST: Final = 256
_KNOWN_BYTES_MAX: Final = 2048


def _remember(head: bytes, parsed: Parsed) -> None:
    if len(head) > _KNOWN_BYTES_MAX:
        return
    if len(_KNOWN) >= _KNOWN_MOST:
        _KNOWN.clear()
    _KNOWN[head] = parsed


class _Unflowing:
    """Stands in for aiohttp's protocol, whose flow control is ours."""

    def pause_reading(self) -> None: ...

    def resume_reading(self, resume_parser: bool = True) -> None: ...  # noqa: FBT001, FBT002  its signature


_UNFLOWING: Final = _Unflowing()


class HeadParser:
    """Parses the heads of one connection, one whole head at a time."""

    __slots__ = ("_loop", "_parser")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        require_c_parser()
        self._loop = loop
        self._parser = _new_parser(loop)

    def feed(self, head: bytes) -> Parsed | None:
        """Return what one head says; None for blank lines before it. OriginProtocol if it is none."""
        return _KNOWN.get(head) or self._parse(head)

    def _parse(self, head: bytes) -> Parsed | None:
        try:
            messages, _, _ = self._parser.feed_data(head)
        except HttpProcessingError as error:
            raise bad_response(error.message.partition("\n")[0]) from error
        if not messages:
            return None
        message: Message = messages[0][0]
        _check(message, head)
        parsed = Parsed(message, _head_of(message))
        if message.code >= 200 and not message.should_close:  # this parser is as it was before
            _remember(head, parsed)
        elif message.code < 200 and message.should_close:
            self._parser = _new_parser(self._loop)  # it would take nothing more, yet the answer is to come
        return parsed


def _new_parser(loop: asyncio.AbstractEventLoop) -> Any:
    return _PARSER(
        _UNFLOWING,
        loop,
        _LIMIT,
        max_line_size=LINE_BYTES_MAX,
        max_field_size=LINE_BYTES_MAX,
        max_headers=HEAD_BYTES_MAX,
        response_with_body=False,
        auto_decompress=False,
    )


def _check(message: Message, head: bytes) -> None:
    """Refuse what the lenient parser lets pass."""
    start = head if head.startswith(b"HTTP/") else head.lstrip(b"\r\n")
    if message.version not in ((1, 0), (1, 1)) or message.code < 100 or not start.startswith(b"HTTP/"):
        raise bad_response("the status line is not HTTP/1.x")
    if head.translate(None, _CLEAN):
        raise bad_response("a control character stands in the head")
    # RFC 9112 §2.2: a bare LF may end a line, but beside CRLF it is a line that somebody slipped in.
    breaks = head.count(b"\r\n")
    if (breaks or b"\r" in head) and not head.count(b"\n") == breaks == head.count(b"\r"):
        raise bad_response("the lines end now with CRLF, now with LF")
    if start[start.find(b"\n") + 1 :].startswith((b" ", b"\t")):  # RFC 9112 §2.2
        raise bad_response("a blank stands before the first header")
    # RFC 9112 §5.1: a blank before the colon is a known way to hide a header from somebody.
    if (b" :" in head or b"\t:" in head) and any(name[-1:] in b" \t" for name, _ in message.raw_headers):
        raise bad_response("a blank stands between a header's name and its colon")


_CLEAN: Final = bytes(byte for byte in range(256) if byte in b"\t\r\n" or 0x20 <= byte != 0x7F)


def _head_of(message: Message) -> Head:
    """Turn a parsed message into a core value; the raw lines are kept, nothing is copied."""
    reason = message.reason
    if not reason.isascii():
        reason = reason.encode("utf-8", "surrogateescape").decode("latin-1")
    return Head(message.code, reason, Fields(message.raw_headers))


# --- bodies ---


class Framing(Protocol):
    """How the end of a body is found (RFC 9112 §6.3)."""

    @property
    def body_bytes(self) -> int | None: ...

    @property
    def is_complete(self) -> bool: ...

    @property
    def has_extra(self) -> bool:
        """Tell whether bytes followed the end."""

    @property
    def ends_with_connection(self) -> bool: ...

    @property
    def trailers(self) -> Fields:
        """Return the trailer fields of a complete body."""

    def feed(self, data: bytes) -> bytes:
        """Return the body's part of what was received. OriginProtocol when it is malformed."""


class LengthFraming:
    """A body of known length, 0 included."""

    __slots__ = ("_left_bytes", "body_bytes", "has_extra", "is_complete")

    ends_with_connection: Final = False
    trailers: Final = NO_TRAILERS

    def __init__(self, length_bytes: int) -> None:
        self.body_bytes = self._left_bytes = length_bytes
        self.is_complete = not length_bytes
        self.has_extra = False

    def feed(self, data: bytes) -> bytes:
        left_bytes = self._left_bytes = self._left_bytes - len(data)
        if left_bytes > 0:
            return data
        self.is_complete = True
        if left_bytes == 0:
            return data
        self.has_extra = True
        return data[:left_bytes]


class EofFraming:
    """A body that ends where the connection does."""

    __slots__ = ()

    body_bytes: Final = None
    ends_with_connection: Final = True
    trailers: Final = NO_TRAILERS
    is_complete: Final = False
    has_extra: Final = False

    def feed(self, data: bytes) -> bytes:
        return data


class ChunkedFraming:
    """A chunked body; its trailers are kept apart, chunk extensions are dropped."""

    __slots__ = ("_reader",)

    body_bytes: Final = None
    ends_with_connection: Final = False

    def __init__(self) -> None:
        self._reader = ChunkReader(Strictness.PADDED)

    @property
    def is_complete(self) -> bool:
        return self._reader.is_complete

    @property
    def has_extra(self) -> bool:
        return bool(self._reader.rest)

    @property
    def trailers(self) -> Fields:
        return self._reader.trailers

    def feed(self, data: bytes) -> bytes:
        try:
            return self._reader.feed(data)
        except BadChunks as error:
            raise bad_response(f"chunked body: {error}") from error


def framing_of(method: str, head: Head) -> Framing:
    """Choose how the body ends (RFC 9112 §6.3). OriginProtocol for a coding that nobody asked for."""
    if method == "HEAD" or head.status in (204, 304):
        return LengthFraming(0)
    fields = head.fields
    if b"transfer-encoding" in fields:  # of all lines: the parser's own mapping tells of the first
        coding = fields.get(b"transfer-encoding") or ""
        if coding.strip(OWS).lower() != "chunked":
            raise bad_response(f"transfer coding {coding[:50]!r} was not asked for")
        return ChunkedFraming()
    if b"content-length" not in fields:
        return EofFraming()
    # The parser has refused whatever is not one number, and a length beside a transfer coding.
    length = content_length(fields)
    if length is None:
        raise bad_response("Content-Length is no length of a body")
    return LengthFraming(length)


def _announces_body(message: Message) -> bool:
    return message.chunked or message.headers.get("Content-Length", "0").strip("0") != ""


def keeps_alive(method: str, message: Message) -> bool:
    """Tell whether the origin keeps the connection open after this answer (RFC 9112 §9.3)."""
    if message.version == (1, 0) and message.chunked:
        return False  # RFC 9112 §6.1: its framing is suspect
    if message.code == 204 and _announces_body(message):
        return False  # RFC 9110 §8.6, RFC 9112 §6.1: it must not; the body may yet come, as the next answer
    if not message.should_close:
        return True
    # The parser does not know that an answer to HEAD needs no length.
    is_open = message.version == (1, 1) and "close" not in tokens(message.headers.get("Connection"))
    return method == "HEAD" and is_open
