"""What a visitor sent, read by a second parser: naive, and to the letter where a request ends.

It may see a request where the proxy sees none (and refuses); never the other way round. So each request that
the origin got must be one of these: same method, path and body, and no header line that was not in its head.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.fuzz.memory import Seen

# Ours to write, on a request made from the key or from the visitor's own.
_OURS = frozenset(
    b"host user-agent accept accept-encoding via x-forwarded-for x-forwarded-proto x-forwarded-host "
    b"x-forwarded-port forwarded range if-range te "
    b"content-length transfer-encoding connection upgrade if-none-match if-modified-since".split()
)
_PASSES_MAX = 3  # fetches for one request: for the store, once more for a variant, and his own


@dataclass(frozen=True, slots=True)
class Sent:
    """One whole request of a visitor."""

    method: bytes
    path: bytes
    lines: frozenset[bytes]  # of the head: lower-case name, colon, value without blanks around
    body: bytes


def sent(data: bytes) -> Iterator[Sent]:
    """Yield the whole requests that these bytes are, up to whatever is none."""
    while True:
        head, end, rest = data.lstrip(b"\r\n").partition(b"\r\n\r\n")
        first, *rows = head.split(b"\r\n")
        words = first.split()
        if not end or len(words) != 3:
            return
        pairs = [
            (name.lower(), value.strip(b" \t")) for name, _, value in (row.partition(b":") for row in rows)
        ]
        found = _body(rest, pairs)
        if found is None:
            return
        body, data = found
        yield Sent(words[0], _path(words[1]), frozenset(b"%b:%b" % pair for pair in pairs), body)


def _path(target: bytes) -> bytes:
    bare = target.partition(b"?")[0]
    absolute = re.fullmatch(rb"https?://[^/]*(.*)", bare, re.IGNORECASE)
    return bare if absolute is None else absolute[1] or b"/"


def _body(data: bytes, pairs: list[tuple[bytes, bytes]]) -> tuple[bytes, bytes] | None:
    """Return the body and what follows; None where it is not whole, or framed as nobody may believe."""
    codings = [value.lower() for name, value in pairs if name == b"transfer-encoding"]
    lengths = [value for name, value in pairs if name == b"content-length"]
    if codings:
        return _chunks(data) if codings == [b"chunked"] and not lengths else None
    if not lengths:
        return b"", data
    if len(lengths) > 1 or not re.fullmatch(rb"[0-9]{1,18}", lengths[0]) or len(data) < int(lengths[0]):
        return None
    return data[: int(lengths[0])], data[int(lengths[0]) :]


def _chunks(data: bytes) -> tuple[bytes, bytes] | None:
    body = b""
    while (line := re.match(rb"([0-9a-fA-F]+)(;[^\r\n]*)?\r\n", data)) is not None:
        size, data = int(line[1], 16), data[line.end() :]
        if not size:
            trailers = re.match(rb"(?:[^\r\n]+\r\n)*\r\n", data)
            return None if trailers is None else (body, data[trailers.end() :])
        if data[size : size + 2] != b"\r\n":
            return None
        body, data = body + data[:size], data[size + 2 :]
    return None


def stranger(data: bytes, seen: Iterable[Seen]) -> Seen | None:
    """Return the first request that came to the origin though nobody sent it; they come in order."""
    asked = [each for each in sent(data) for _ in range(_PASSES_MAX)]
    place = 0
    for request in seen:
        place = next((at for at in range(place, len(asked)) if _is_of(request, asked[at])), -1) + 1
        if not place:
            return request
    return None


def _is_of(request: Seen, asked: Sent) -> bool:
    method, path = request.method.encode(), request.target.partition("?")[0].encode("latin-1")
    pairs = (row.split(b": ", 1) for row in request.head.split(b"\r\n")[1:-2])
    foreign = (
        b"%b:%b" % (name.lower(), value.strip(b" \t")) for name, value in pairs if name.lower() not in _OURS
    )
    return (
        (method == asked.method or (method, asked.method) == (b"GET", b"HEAD"))
        and (path, request.body) == (asked.path, asked.body)
        and asked.lines.issuperset(foreign)
    )
