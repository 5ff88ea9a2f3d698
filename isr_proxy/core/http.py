"""HTTP as values: header fields, validators, dates (RFC 9110).

Knows the grammar. Must not know routes, entries or sockets. Field values are latin-1 strings on the
inside and exact bytes on the wire; order and repetition of lines are kept.
"""

from __future__ import annotations

import re
from calendar import monthrange, timegm
from collections.abc import Callable, Iterable, Iterator, Mapping
from email.utils import formatdate
from functools import lru_cache, wraps
from math import floor
from typing import Any, Final, TypeVar

from isr_proxy.core.value import Value

Line = tuple[bytes, bytes]
T = TypeVar("T")

# RFC 9110 §7.6.1, and the older proxies' habits it lists.
HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# RFC 9110 §9.2.1, and what the HTTP Method Registry calls safe.
SAFE_METHODS: Final = frozenset(
    {"GET", "HEAD", "OPTIONS", "TRACE", "PRI", "PROPFIND", "QUERY", "REPORT", "SEARCH"}
)
OWS: Final = " \t"  # RFC 9110 §5.6.3: what else `str.strip` takes for a space belongs to the value
TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 §5.6.2
DELTA_SECONDS_MAX: Final = 2**31  # RFC 9111 §1.2.2
_LENGTH_DIGITS: Final = 18  # more is no body's length
REASON_PHRASES: Final[Mapping[int, str]] = {
    200: "OK",
    206: "Partial Content",
    304: "Not Modified",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    408: "Request Timeout",
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    417: "Expectation Failed",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    501: "Not Implemented",
    502: "Bad Gateway",
    503: "Service Unavailable",
    504: "Gateway Timeout",
    505: "HTTP Version Not Supported",
    508: "Loop Detected",
}


class Fields:
    """Header field lines in wire order, looked up by lower-case name.

    Immutable. Equality is that of the lines. Names given to the methods are lower-case bytes.
    """

    __slots__ = ("_index", "_made", "lines")

    lines: tuple[Line, ...]
    _index: dict[bytes, list[bytes]] | None
    _made: dict[Callable[[Fields], Any], Any] | None  # see made_once

    def __init__(self, lines: Iterable[Line] = ()) -> None:
        self.lines = tuple(lines)
        self._index = self._made = None

    def _by_name(self) -> dict[bytes, list[bytes]]:
        index = self._index = {}
        for name, value in self.lines:
            lowered = name.lower()
            if lowered in index:
                index[lowered].append(value)
            else:
                index[lowered] = [value]
        return index

    # Looked at a dozen times for each request, so the index is made with the first look, and is no property.

    def all(self, name: bytes) -> list[str]:
        """Return every line's value, in order."""
        values = (self._index or self._by_name()).get(name)
        return [] if values is None else [value.decode("latin-1") for value in values]

    def get(self, name: bytes) -> str | None:
        """Return the combined value, lines joined by a comma (RFC 9110 §5.3), or None."""
        values = (self._index or self._by_name()).get(name)
        if values is None:
            return None
        return (values[0] if len(values) == 1 else b", ".join(values)).decode("latin-1")

    def first(self, name: bytes) -> str | None:
        values = (self._index or self._by_name()).get(name)
        return None if values is None else values[0].decode("latin-1")

    def without(self, names: frozenset[bytes]) -> Fields:
        return Fields([line for line in self.lines if line[0].lower() not in names])

    def plus(self, *lines: Line) -> Fields:
        return Fields((*self.lines, *lines))

    def __contains__(self, name: bytes) -> bool:
        return name in (self._index or self._by_name())

    def __iter__(self) -> Iterator[Line]:
        return iter(self.lines)

    def __len__(self) -> int:
        return len(self.lines)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fields) and self.lines == other.lines

    def __hash__(self) -> int:
        return hash(self.lines)

    def __repr__(self) -> str:
        return f"Fields({list(self.lines)!r})"


NO_FIELDS: Final = Fields()


def made_once(make: Callable[[Fields], T]) -> Callable[[Fields], T]:
    """Have what a function makes of fields kept with them: it is asked for often, of the same ones."""

    @wraps(make)
    def remembered(fields: Fields) -> T:
        made = fields._made
        if made is None:
            made = fields._made = {}
        if make not in made:
            made[make] = make(fields)
        found: T = made[make]
        return found

    return remembered


class Request(Value, frozen=True):
    """A visitor's request, as every decision sees it.

    `path` and `query` are the raw target's halves, byte for byte; `host` is lower case and carries the
    port unless it is the scheme's own. `client` is the visitor's address, `forwarded_for` the chain of
    addresses that the origin is told, the connection's own peer last. `upgrade` are the protocols that
    the origin may be asked for, `version` is the HTTP version that the visitor spoke.
    """

    method: str
    scheme: str
    host: str
    path: str
    query: str | None
    fields: Fields
    has_body: bool = False
    client: str = ""
    forwarded_for: str = ""
    upgrade: str | None = None
    version: str = "1.1"

    @property
    def target(self) -> str:
        return self.path if self.query is None else f"{self.path}?{self.query}"


class Head(Value, frozen=True):
    """Status line and header fields of a response."""

    status: int
    reason: str
    fields: Fields

    @property
    def has_body(self) -> bool:
        """Tell whether the status allows a body at all (RFC 9110 §6.4.1)."""
        return self.status >= 200 and self.status not in (204, 304)


def content_length(fields: Fields) -> int | None:
    """Return the Content-Length, None where there is none that can be read (RFC 9110 §8.6)."""
    value = fields.first(b"content-length")
    if value is None or len(value) > _LENGTH_DIGITS or not value.isascii() or not value.isdigit():
        return None
    return int(value)


def end_to_end(fields: Fields) -> Fields:
    """Drop hop-by-hop fields and whatever Connection names (RFC 9110 §7.6.1)."""
    return fields.without(hop_names(fields))


def hop_names(fields: Fields) -> frozenset[bytes]:
    """Return the names of the fields that end at this hop: the known ones, and whatever Connection names."""
    said = fields.get(b"connection")
    return HOP_BY_HOP if said is None else _with_nominated(said)


@lru_cache(maxsize=64)  # nearly everybody says `keep-alive`, `close` or `upgrade`
def _with_nominated(said: str) -> frozenset[bytes]:
    return HOP_BY_HOP | {token.encode("latin-1") for token in tokens(said)}


def tokens(value: str | None) -> list[str]:
    """Split a comma-separated list into lower-case, trimmed, non-empty items."""
    return [item for part in (value or "").split(",") if (item := part.strip(OWS).lower())]


# --- numbers ---


def delta_seconds(text: str | None) -> int | None:
    """Read delta-seconds; beyond 2^31 is 2^31 (RFC 9111 §1.2.2). None when it is not a number."""
    if text is None or not text.isascii() or not text.isdigit():
        return None
    digits = text.lstrip("0")
    return DELTA_SECONDS_MAX if len(digits) > 10 else min(int(digits or "0"), DELTA_SECONDS_MAX)


# --- dates (RFC 9110 §5.6.7) ---

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_IMF_DATE: Final = re.compile(
    r"(?:mon|tue|wed|thu|fri|sat|sun), (\d\d) ([a-z]{3}) (\d{4}) (\d\d):(\d\d):(\d\d) gmt", re.IGNORECASE
)
_RFC850_DATE: Final = re.compile(
    r"(?:mon|tues|wednes|thurs|fri|satur|sun)day, (\d\d)-([a-z]{3})-(\d\d) (\d\d):(\d\d):(\d\d) gmt",
    re.IGNORECASE,
)
_ASCTIME_DATE: Final = re.compile(
    r"(?:mon|tue|wed|thu|fri|sat|sun) ([a-z]{3}) ([ \d]\d) (\d\d):(\d\d):(\d\d) (\d{4})", re.IGNORECASE
)


_YEAR_2026: Final = 1_767_225_600.0


def parse_date(text: str | None, *, now: float = _YEAR_2026) -> float | None:
    """Read an HTTP-date in any of its three forms as a Unix time; None when it is none of them.

    `now` places the two-digit year of the obsolete RFC 850 form: never more than 50 years ahead. Its
    default is right for years to come.
    """
    if text is None:
        return None
    if match := _IMF_DATE.fullmatch(text):
        day, month, year, *clock = match.groups()
    elif match := _ASCTIME_DATE.fullmatch(text):
        month, day, hour, minute, second, year = match.groups()
        clock = [hour, minute, second]
    elif match := _RFC850_DATE.fullmatch(text):
        day, month, short_year, *clock = match.groups()
        year = str(_full_year(int(short_year), now))
    else:
        return None
    return _instant(int(year), month, int(day), *(int(part) for part in clock))


def _full_year(short: int, now: float) -> int:
    this_year = 1970 + int(now // 31_556_952)
    year = this_year - this_year % 100 + short
    return year - 100 if year > this_year + 50 else year


def _instant(year: int, month: str, day: int, hour: int, minute: int, second: int) -> float | None:
    if month.lower() not in _MONTHS or hour > 23 or minute > 59 or second > 60 or year < 1:
        return None
    month_number = _MONTHS.index(month.lower()) + 1
    if not 1 <= day <= monthrange(year, month_number)[1]:
        return None
    return float(timegm((year, month_number, day, hour, minute, second)))


def format_date(instant: float) -> str:
    """Write a Unix time as an IMF-fixdate."""
    return _formatted(floor(instant))


@lru_cache(maxsize=256)  # a busy second writes its own date a thousand times
def _formatted(second: int) -> str:
    return formatdate(second, usegmt=True)


# --- validators (RFC 9110 §8.8, §13.1) ---

_ETAG: Final = re.compile(r'[ \t,]*((?:W/)?"[\x21\x23-\x7e\x80-\xff]*")[ \t]*(?:,|$)')


def parse_etags(value: str) -> list[str]:
    """Return the entity tags of an If-None-Match or If-Match list; `["*"]` for the star."""
    if value.strip(OWS) == "*":
        return ["*"]
    found, position = [], 0
    while match := _ETAG.match(value, position):
        found.append(match.group(1))
        position = match.end()
        if position >= len(value):
            break
    return found


def weak_equal(one: str, other: str) -> bool:
    """Compare entity tags weakly (RFC 9110 §8.8.3.2)."""
    return one.removeprefix("W/") == other.removeprefix("W/")


def is_not_modified(request: Fields, etag: str | None, last_modified: str | None) -> bool:
    """Tell whether a GET or HEAD with these conditions gets 304 (RFC 9110 §13.2.2).

    If-None-Match, when present, decides alone; only without it does If-Modified-Since count. An entity tag
    without its quotes, as some origins write it, is only ever the same bytes again.
    """
    condition = request.get(b"if-none-match")
    if condition is not None:
        tags = parse_etags(condition)
        is_named = etag is not None and (condition == etag or any(weak_equal(tag, etag) for tag in tags))
        return is_named or tags == ["*"]
    since = parse_date(request.get(b"if-modified-since"))
    modified_at = None if since is None else parse_date(last_modified)
    return since is not None and modified_at is not None and modified_at <= since


# --- cookies (RFC 6265 §4.2) ---


def parse_cookies(values: Iterable[str]) -> dict[str, str]:
    """Read the Cookie lines of a request; the first of equal names wins, as browsers order them.

    A name without `=` counts as a name, not as a value: some servers read it so, and it may ask to pass.
    """
    cookies: dict[str, str] = {}
    for value in values:
        for pair in value.split(";"):
            name, _, content = pair.strip(OWS).partition("=")
            if name and name not in cookies:
                cookies[name] = content
    return cookies


# --- Accept-Encoding (RFC 9110 §12.5.3) ---


def weights_of(value: str | None) -> dict[str, float]:
    """Read codings and their q-values; a malformed weight counts as 0."""
    weights: dict[str, float] = {}
    for item in (value or "").split(","):
        coding, *parameters = (part.strip(OWS).lower() for part in item.split(";"))
        if coding:
            weights[coding] = _weight(parameters)
    return weights


_QVALUE: Final = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")  # RFC 9110 §12.4.2


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, text = (part.strip(OWS) for part in parameter.partition("="))
        if name == "q":
            return float(text) if _QVALUE.fullmatch(text) else 0.0
    return 1.0


def choose_encoding(accept: str | None, available: Iterable[str]) -> str:
    """Pick a coding of `available` for a visitor, "identity" when none is wanted more.

    `available` is in our order of preference, which breaks ties between equal weights.
    """
    weights = weights_of(accept)
    star = weights.get("*", 0.0)
    best, best_weight = "identity", 0.0
    for coding in available:
        weight = weights.get(coding, star)
        if weight > best_weight:
            best, best_weight = coding, weight
    return best if best_weight >= weights.get("identity", 0.0) else "identity"
