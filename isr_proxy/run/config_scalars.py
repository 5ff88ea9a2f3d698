"""Scalars of the config: one piece of text becomes a duration, a size, an address, a name.

Knows what each kind of value looks like and what to say when it does not. Must not know keys, YAML or
pydantic. Every ValueError here is a predicate ("is not a duration; allowed: ..."), because the caller puts
the offending value in front of it, unless that value is a secret. No message repeats the value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from enum import Enum
from ipaddress import ip_address, ip_network
from typing import Final, TypeVar
from urllib.parse import SplitResult, urlsplit

from isr_proxy.core.settings import FOREVER, Address, Network, TcpAddress, UnixAddress
from isr_proxy.run.processors import processors

E = TypeVar("E", bound=Enum)

# --- durations ---

DURATION_PATTERN: Final = r"(?=[0-9])" + "".join(
    rf"(?:([0-9]{{1,12}}(?:\.[0-9]{{1,9}})?){unit})?" for unit in ("d", "h", "m(?!s)", "s", "ms")
)
_DURATION: Final = re.compile(DURATION_PATTERN)
_SECONDS: Final = (86400.0, 3600.0, 60.0, 1.0, 0.001)
_NUMBER: Final = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")
_LONGEST: Final = 100 * 365 * 86400.0
_DURATIONS: Final = "500ms, 10s, 5m, 1h30m, 7d or a number of seconds"


def plain(value: object) -> str:
    """Return the text of a scalar; empty for a list, a mapping or nothing, which no scalar allows."""
    return value.strip() if isinstance(value, str) else ""


def duration(value: object) -> float:
    """Read a duration, in seconds."""
    return _duration(value, _DURATIONS)


def duration_or_forever(value: object) -> float:
    """Read a duration or `forever`."""
    return FOREVER if plain(value) == "forever" else _duration(value, f"{_DURATIONS}, or forever")


def positive_duration(value: object) -> float:
    """Read a duration longer than zero: a deadline is always on."""
    seconds = duration(value)
    if seconds <= 0:
        raise ValueError("is no time at all; allowed: more than 0")
    return seconds


def _duration(value: object, allowed: str) -> float:
    seconds = _seconds(plain(value))
    if seconds is None:
        raise ValueError(f"is not a duration; allowed: {allowed}")
    if seconds > _LONGEST:
        raise ValueError(f"is too long; allowed: up to 36500d, as {allowed}")
    return seconds


def _seconds(text: str) -> float | None:
    if _NUMBER.fullmatch(text):
        return float(text)
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    pairs = zip(found.groups(), _SECONDS, strict=True)
    return math.fsum(float(number) * unit for number, unit in pairs if number is not None)


# --- sizes and numbers ---

_SIZE: Final = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?) ?(?:([KMGT]?)(i?)B)?", re.IGNORECASE)
_POWERS: Final = " KMGT"
_LARGEST: Final = 2**60
MAX_WORKERS: Final = 256  # as many rows as the board of a host has
_COUNT: Final = re.compile(r"[0-9]{1,9}")
_FRACTION: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,12})?")


def size(value: object) -> int:
    """Read a size, in bytes: KiB, MiB... are powers of 1024, KB, MB... of 1000."""
    found = _SIZE.fullmatch(plain(value))
    if found is None or (found[3] and not found[2]):
        raise ValueError("is not a size; allowed: 64KiB, 10GiB, 500MB or a number of bytes")
    base = 1024 if found[3] else 1000
    number = float(found[1]) if "." in found[1] else int(found[1])
    total = int(number * base ** _POWERS.index((found[2] or " ").upper()))
    if total > _LARGEST:
        raise ValueError("is too large; allowed: up to 1048576TiB")
    return total


def positive_size(value: object) -> int:
    """Read a size of at least one byte."""
    total = size(value)
    if total < 1:
        raise ValueError("is no room at all; allowed: at least 1 byte")
    return total


def count(value: object) -> int:
    """Read a whole number of at least 1."""
    text = plain(value)
    if not _COUNT.fullmatch(text) or int(text) < 1:
        raise ValueError("is not a number of things; allowed: a whole number of at least 1")
    return int(text)


def workers(value: object) -> int:
    """Read the number of workers."""
    text = plain(value)
    if text == "auto":
        return min(processors(), MAX_WORKERS)
    if _COUNT.fullmatch(text) and 1 <= int(text) <= MAX_WORKERS:
        return int(text)
    raise ValueError(f"is not a number of workers; allowed: 1 to {MAX_WORKERS}, or auto")


def fraction(value: object) -> float:
    """Read a number between 0 and 1."""
    text = plain(value)
    if not _FRACTION.fullmatch(text) or float(text) > 1:
        raise ValueError("is not a fraction; allowed: a number from 0 to 1, such as 0.5")
    return float(text)


def status(value: object) -> int:
    """Read an HTTP status."""
    text = plain(value)
    if not re.fullmatch("[1-5][0-9][0-9]", text):
        raise ValueError("is not an HTTP status; allowed: 100 to 599")
    return int(text)


def file_mode(value: object) -> int:
    """Read the permissions of a file, as chmod takes them."""
    text = plain(value)
    if not re.fullmatch("0?[0-7]{3}", text):
        raise ValueError("is not a file's permissions; allowed: three octal digits, such as 660")
    return int(text, 8)


# --- words ---

_SWITCH: Final[Mapping[str, bool]] = {
    "true": True,
    "yes": True,
    "on": True,
    "false": False,
    "no": False,
    "off": False,
}


def switch(value: object) -> bool:
    """Read true or false; YAML 1.1's yes, no, on and off too."""
    chosen = _SWITCH.get(plain(value).lower())
    if chosen is None:
        raise ValueError("is neither true nor false; allowed: true or false")
    return chosen


def choice(value: object, kind: type[E]) -> E:
    """Read one of an enum's values."""
    text = plain(value)
    for member in kind:
        if member.value == text:
            return member
    raise ValueError(f"is not one of the words allowed here: {', '.join(str(m.value) for m in kind)}")


def text(value: object) -> str:
    """Read text that is not empty."""
    if not isinstance(value, str) or not value:
        raise ValueError("is not text; allowed: text that is not empty")
    return value


# --- addresses ---

_LABEL: Final = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST: Final = re.compile(rf"(?=.{{1,253}}$){_LABEL}(?:\.{_LABEL})*\.?")
_HOST_AND_PORT: Final = re.compile(r"(\[[^\[\]]*\]|[^\[\]:]*):([0-9]{1,5})")
_ADDRESSES: Final = "host:port, :8080, [::1]:8080 or unix:/path"
_EVERYWHERE: Final = "0.0.0.0"  # noqa: S104  what `:8080` says
_UNIX_PATH_BYTES: Final = 107  # sizeof(sockaddr_un.sun_path) - 1 on Linux


def address(value: object) -> Address:
    """Read an address to listen on."""
    text = plain(value)
    if text.startswith("unix:"):
        return UnixAddress(_unix_path(text.removeprefix("unix:")))
    found = _HOST_AND_PORT.fullmatch(text)
    if found is None or int(found[2]) > 65535:
        raise ValueError(f"is not an address to listen on; allowed: {_ADDRESSES}")
    return TcpAddress(_listen_host(found[1]), int(found[2]))


def _listen_host(host: str) -> str:
    if host == "":
        return _EVERYWHERE
    bare = host.strip("[]")
    if host.startswith("["):
        if not _is_ip(bare, version=6):
            raise ValueError(f"has no IPv6 address between its brackets; allowed: {_ADDRESSES}")
    elif not _HOST.fullmatch(host):
        raise ValueError(f"has no host name or IP address before its port; allowed: {_ADDRESSES}")
    return bare


def _unix_path(path: str) -> str:
    if not path.startswith("/") or len(path.encode()) > _UNIX_PATH_BYTES:
        raise ValueError(f"is not a unix socket; allowed: unix:/path of at most {_UNIX_PATH_BYTES} bytes")
    return path


def _is_ip(text: str, *, version: int) -> bool:
    try:
        return ip_address(text).version == version
    except ValueError:
        return False


def is_loopback(listen: Address) -> bool:
    """Tell whether only this host can reach an address."""
    if isinstance(listen, UnixAddress) or listen.host.lower() == "localhost":
        return True
    try:
        return ip_address(listen.host).is_loopback
    except ValueError:
        return False


def network(value: object) -> Network:
    """Read a CIDR or a single address."""
    text = plain(value)
    try:
        loose = ip_network(text, strict=False)
    except ValueError:
        raise ValueError("is not a network; allowed: 10.0.0.0/8, fd00::/8 or a single address") from None
    if "/" in text and ip_address(text.partition("/")[0]) != loose.network_address:
        raise ValueError(f"has bits set to the right of its prefix; did you mean {loose}?")
    return loose


def host(value: object) -> str:
    """Read a host name, with or without a port, in lower case."""
    text = plain(value)
    name, colon, port = text.rpartition(":")
    bracketed = text.rpartition("]")[0].removeprefix("[") if text.startswith("[") else None
    if bracketed is not None:
        known = _is_ip(bracketed, version=6) and re.fullmatch(r"\[[^\]]*\](?::[0-9]{1,5})?", text) is not None
    elif colon:
        known = re.fullmatch("[0-9]{1,5}", port) is not None and _HOST.fullmatch(name) is not None
    else:
        known = _HOST.fullmatch(text) is not None
    if not known:
        raise ValueError("is not a host; allowed: example.org, example.org:8080 or [::1]")
    return text.lower()


def host_pattern(value: object) -> str:
    """Read a host name, or `*.` and the names below it."""
    text = plain(value)
    try:
        return "*." + host(text[2:]) if text.startswith("*.") else host(text)
    except ValueError:
        raise ValueError("is not a host; allowed: example.org, example.org:8080 or *.example.org") from None


_URLS: Final = "http://host:port, https://host or unix:/path.sock"


def origin_url(value: object) -> str:
    """Read an origin's address: scheme, host and port, nothing after it."""
    text = plain(value)
    if text.startswith("unix:"):
        return f"unix:{_unix_path(text.removeprefix('unix:'))}"
    try:
        url = urlsplit(text)
        port = url.port
    except ValueError:
        raise ValueError(f"is not an origin; allowed: {_URLS}") from None
    if url.scheme not in ("http", "https") or not url.hostname or port == 0:
        raise ValueError(f"is not an origin; allowed: {_URLS}")
    _no_more_than_authority(url)
    return f"{url.scheme}://{_origin_authority(url.netloc)}"


def _origin_authority(netloc: str) -> str:
    try:
        return host(netloc)
    except ValueError:
        raise ValueError(f"has no usable host; allowed: {_URLS}") from None


def _no_more_than_authority(url: SplitResult) -> None:
    if url.username is not None or url.password is not None:
        raise ValueError(f"has a user name or password, which an origin cannot have; allowed: {_URLS}")
    if url.path not in ("", "/") or url.query or url.fragment:
        raise ValueError(f"has a path or query: paths come from visitors; allowed: {_URLS}")
