"""Exchanges out of a seed: what a client sends, byte for byte, and what the origin answers.

Knows what is odd and legal. Must not know either proxy.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

Lines = list[tuple[bytes, bytes]]

METHODS = [b"GET"] * 6 + [b"HEAD"] * 3 + [b"POST"] * 4
METHODS += [b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"PROPFIND", b"M-SEARCH", b"QUERY", b"MKCOL", b"FOO"]
SEGMENTS = [b"a", b"%7E", b"~x", b"b;c=1", b"d,e", b"@:!$&'()*+=", b"%C3%A9", b"", b"%20", b"%2F", b"x" * 900]
QUERIES = [
    None,
    b"",
    b"a=b",
    b"a=b&&c",
    b"%zz=%",
    b'q={}|^`"<>\\',
    b"a?b=/?",
    b"x;y+z",
    b"utm_source=1",
    b"p?",
] * 3 + [b"\xc3\xa9"]
STATUSES = [200] * 12 + [201, 202, 203, 204, 204, 206, 299, 300, 301, 302, 303, 304, 304, 307, 308]
STATUSES += [400, 401, 402, 403, 404, 405, 409, 410, 412, 413, 415, 416, 417, 418, 421, 422, 426, 428, 429]
STATUSES += [431, 451, 499, 500, 501, 502, 503, 504, 507, 511, 599]
REASONS = [b"OK", b"Odd Reason", b"caf\xe9", b"Not: this\ttime"]
VALUES = [
    b"",
    b"1",
    b"a  b\tc",
    b"a, b, c",
    b'"quoted, \\" comma", x',
    b"\xe9\xff\x80",
    b"; = : ,,",
    b"%00",
    b"x" * 3000,
]
NAMES = [
    b"X-One",
    b"x-two",
    b"X-THREE",
    b"X_Under",
    b"!#$%&'*+-.^`|~9",
    b"X-One",
    b"Accept",
    b"Referer",
    b"Origin",
]
REQUEST_LINES = [
    (b"Cookie", b"a=1; b=2"),
    (b"Cookie", b"c=\xe93"),
    (b"Authorization", b"Basic eDp5"),
    (b"Accept-Encoding", b"gzip, br;q=0.5"),
    (b"Accept-Language", b"de, en;q=0.5"),
    (b"User-Agent", b"odd (comment \xe9)"),
    (b"If-None-Match", b'W/"a", "b"'),
    (b"If-Modified-Since", b"nonsense"),
    (b"Range", b"bytes=0-1, 5-"),
    (b"Cache-Control", b"no-cache, max-age=0"),
    (b"Pragma", b"no-cache"),
    (b"Via", b"1.0 before (it)"),
    (b"X-Forwarded-For", b"6.6.6.6"),
    (b"Forwarded", b"for=6.6.6.6"),
    (b"Proxy", b"evil"),
    (b"Keep-Alive", b"timeout=5"),
    (b"Proxy-Connection", b"keep-alive"),
    (b"Connection", b"X-Named"),
    (b"X-Named", b"1"),
    (b"TE", b"trailers"),
    (b"Expect", b"teapot"),
    (b"X-HTTP-Method-Override", b"DELETE"),
    (b"Purpose", b"prefetch"),
]
RESPONSE_LINES = [
    (b"Set-Cookie", b"a=1; Path=/"),
    (b"Set-Cookie", b"b=2; Expires=Thu, 01 Jan 2099 00:00:00 GMT"),
    (b"set-cookie", b"c=\xe9"),
    (b"Content-Type", b'text/html;charset="UTF-8"; odd=1'),
    (b"Content-Type", b"image/x-nothing"),
    (b"Content-Encoding", b"gzip"),
    (b"Content-Language", b"de, en"),
    (b"Content-Disposition", b'attachment; filename="a,b"'),
    (b"Cache-Control", b'max-age=60, private="x"'),
    (b"Cache-Control", b"no-store"),
    (b"Expires", b"0"),
    (b"Vary", b"Accept, *"),
    (b"ETag", b'W/"odd, \xe9"'),
    (b"Last-Modified", b"Sun, 06 Nov 1994 08:49:37 GMT"),
    (b"Location", b"http://127.0.0.1:1/%7E?a=b#c"),
    (b"Refresh", b"5; url=/x"),
    (b"Link", b"</a>; rel=preload, </b>"),
    (b"Link", b'</c>; rel="x y"'),
    (b"WWW-Authenticate", b'Basic realm="a, b", Digest x=y'),
    (b"Server", b"origin/1.0"),
    (b"Date", b"Sun, 06 Nov 1994 08:49:37 GMT"),
    (b"Age", b"5"),
    (b"Via", b"1.1 inner"),
    (b"Retry-After", b"5"),
    (b"Allow", b"GET, FOO"),
    (b"Accept-Ranges", b"none"),
    (b"Keep-Alive", b"timeout=9"),
    (b"Connection", b"X-Hop"),
    (b"X-Hop", b"1"),
    (b"Cache-Tag", b"a, b"),
    (b"X-Cache", b"HIT from inner"),
    (b"Cache-Status", b"inner; hit"),
]
# Of these a message has one at most.
SINGLE = {
    b"content-type",
    b"user-agent",
    b"etag",
    b"last-modified",
    b"server",
    b"date",
    b"location",
    b"expires",
}
SINGLE |= {
    b"authorization",
    b"range",
    b"if-modified-since",
    b"if-none-match",
    b"referer",
    b"retry-after",
    b"age",
}
SINGLE |= {b"connection", b"x-named", b"x-hop", b"accept", b"origin", b"vary", b"content-encoding"}
HINT_FIELDS = ((b"link", b"</a.css>; rel=preload"), (b"x-hint", b"\xe9"))
TRAILERS = ((b"x-sum", b"1"), (b"x-sum", b""), (b"x-odd", b"\xe9"))
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nX-Hint: \xe9\r\n\r\n"


@dataclass(frozen=True)
class Exchange:
    """One request and the answer to it."""

    name: str  # seed and number: makes it again
    method: bytes
    target: bytes
    asked: bytes
    interims: bytes
    answer: tuple[bytes, ...]  # in writes of their own
    closes: bool  # the origin, behind its answer
    traits: frozenset[str]
    fields: frozenset[tuple[bytes, bytes]]  # of the request, names in lower case
    told_names: frozenset[bytes]  # of the answer's fields, in lower case

    @property
    def has_body(self) -> bool:
        """Tell whether the request has a body that is not said to be empty."""
        return "request none" not in self.traits and "request empty" not in self.traits


def make(seed: int, number: int) -> Exchange:
    """Make one exchange; the same numbers make the same."""
    name = f"{seed}/{number}"
    random = Random(name)
    method = random.choice(METHODS)
    is_old = random.random() < 0.1
    target = _target(random)
    traits = {method.decode(), "HTTP/1.0" if is_old else "HTTP/1.1"}
    asked = _request(random, method, target, traits)
    answer, closes = _answer(random, method, traits)
    interims = HINTS * random.choice([0] * 9 + [1, 2])
    if interims:
        traits.add("interim")
    fields, told = _fields(asked), _fields(answer[0])
    names = frozenset(each for each, _ in told)
    return Exchange(name, method, target, asked, interims, answer, closes, frozenset(traits), fields, names)


def _fields(raw: bytes) -> frozenset[tuple[bytes, bytes]]:
    pairs = (line.partition(b":") for line in raw.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:])
    return frozenset((name.lower(), value.strip()) for name, _, value in pairs)


def _target(random: Random) -> bytes:
    path = b"".join(b"/" + segment for segment in random.choices(SEGMENTS, k=random.randint(1, 4)))
    query = random.choice(QUERIES)
    return path if query is None else path + b"?" + query


def _lines(random: Random, known: Lines, count: int) -> Lines:
    """Choose field lines, in any order and case, some of them again and again."""
    made = random.sample(known, k=min(count, len(known)))
    made += [(random.choice(NAMES), random.choice(VALUES)) for _ in range(count)]
    random.shuffle(made)
    seen: set[bytes] = set()
    kept = []
    for name, value in made:
        if name.lower() not in SINGLE or name.lower() not in seen:
            kept.append((random.choice([name, name, name.lower(), name.upper()]), value))
        seen.add(name.lower())
    return kept


def _written(random: Random, lines: Lines) -> bytes:
    return b"".join(
        name + random.choice([b": ", b": ", b":", b":  "]) + value + b"\r\n" for name, value in lines
    )


def _request(random: Random, method: bytes, target: bytes, traits: set[str]) -> bytes:
    lines = _lines(random, REQUEST_LINES, random.randint(0, 5))
    framing, body = _request_body(random, traits)
    version = b"HTTP/1.0" if "HTTP/1.0" in traits else b"HTTP/1.1"
    place = random.randint(0, len(lines))
    lines[place:place] = [(b"Host", b"site.example"), *framing]
    return b"%b %b %b\r\n" % (method, target, version) + _written(random, lines) + b"\r\n" + body


def _request_body(random: Random, traits: set[str]) -> tuple[Lines, bytes]:
    kind = random.choice(["none", "none", "length", "chunked"])
    if kind == "chunked" and "HTTP/1.0" in traits:
        kind = "none"
    traits.add(f"request {kind}")
    if kind == "none":
        return [], b""
    body = _content(random)
    if kind == "length":
        if not body:
            traits.add("request empty")
        return [(b"Content-Length", b"%d" % len(body))], body
    return [(b"Transfer-Encoding", random.choice([b"chunked", b"Chunked"]))], _chunks(
        random, body, traits, "request"
    )


def _content(random: Random) -> bytes:
    return random.randbytes(random.choice([0, 1, 7, 100, 5000, 40_000]))


def _chunks(random: Random, body: bytes, traits: set[str], side: str) -> bytes:
    extension = random.choice([b"", b"", b';a=b;c="d e"'])
    parts = []
    while body:
        size = random.choice([1, 10, 3000, 16_000])
        parts.append(b"%x%b\r\n%b\r\n" % (len(body[:size]), extension, body[:size]))
        body = body[size:]
    trailers = random.choice([b"", b"", b"X-Sum: 1\r\nx-sum:\r\nX-Odd: \xe9\r\n"])
    if trailers:
        traits.add(f"{side} trailers")
    return b"".join(parts) + b"0\r\n" + trailers + b"\r\n"


def _answer(random: Random, method: bytes, traits: set[str]) -> tuple[tuple[bytes, ...], bool]:
    status = random.choice(STATUSES)
    kind = random.choice(["length", "length", "chunked", "eof"])
    version = random.choice([b"HTTP/1.1"] * 8 + [b"HTTP/1.0"])
    if version == b"HTTP/1.0" and kind == "chunked":
        kind = "eof"
    traits.add(f"response {kind}")
    traits.add(str(status))
    lines = _lines(random, RESPONSE_LINES, random.randint(0, 6))
    body = _content(random)
    if kind == "length" and status != 204:
        lines.append((b"Content-Length", b"%d" % len(body)))
    elif kind == "chunked" and status != 204:
        lines.append((b"Transfer-Encoding", b"chunked"))
        body = _chunks(random, body, traits, "response") if _has_body(method, status) else b""
    head = b"%b %d %b\r\n" % (version, status, random.choice(REASONS)) + _written(random, lines) + b"\r\n"
    closes = version == b"HTTP/1.0" or kind == "eof"
    if not _has_body(method, status):
        return (head,), closes
    cut = random.randint(0, len(body))
    return random.choice([(head + body,), (head, body[:cut], body[cut:])]), closes


def _has_body(method: bytes, status: int) -> bool:
    return method != b"HEAD" and status not in (204, 304)
