"""From a parsed request head to a Request: host, scheme and addresses settled once, for everybody.

Knows which forwarded fields are believed, and from whom. Must not know sockets; `peer` is passed in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import quote

from isr_proxy.core.http import HOP_BY_HOP, OWS, Fields, Request, tokens
from isr_proxy.core.settings import Network
from isr_proxy.core.value import Value

_LABEL: Final = "[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?"
_HOST: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*\.?|\[(?P<v6>[0-9a-f:.]+)\])(?P<port>:[0-9]{{1,5}})?")
_HOST_MAX: Final = 263  # a name of 255 bytes (RFC 1035 §2.3.4), and a port
_PORT_MAX: Final = 65535
_NOT_ASCII: Final = re.compile(r"[^\x00-\x7f\ud800-\udfff]+")  # surrogates stand for bytes that are not UTF-8
_DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}


class Arrived(Value, frozen=True):
    """A request head as it was parsed. `scheme` is the connection's own, `peer` its other end."""

    method: str
    target: str
    fields: Fields
    scheme: str
    peer: str
    has_body: bool
    upgrade: str | None = None
    version: str = "1.1"


def settle(arrived: Arrived, trusted: Sequence[Network], default_host: str) -> Request | str:
    """Return the Request, or why it is refused with 400.

    `default_host` stands in where HTTP/1.0 sent no Host.
    """
    chain, hops = _chain(arrived, trusted)
    scheme = _scheme(arrived, hops)
    target, authority = split_absolute(arrived.target)
    if arrived.method == "OPTIONS" and authority is not None and arrived.target.endswith(f"//{authority}"):
        target = "*"  # RFC 9112 §3.2.4: that is how a proxy is asked about the whole server
    host = _host(arrived, authority, scheme, hops, default_host)
    if host is None:
        return "Host is missing, not a host, given twice, or not that of the target"
    path, question, query = _escaped(target).partition("?")
    return Request(
        arrived.method,
        scheme,
        host,
        path,
        query if question else None,
        without_nominated(arrived.fields),
        arrived.has_body,
        _client(chain, hops),
        ", ".join(chain),
        arrived.upgrade,
        arrived.version,
    )


def without_nominated(fields: Fields) -> Fields:
    """Drop what Connection names, which ends at this hop (RFC 9110 §7.6.1).

    Here, before anything is decided: what the origin will not be sent must not choose a key or a variant.
    Hop-by-hop fields themselves, and what frames the request, stay for those who read them.
    """
    said = fields.get(b"connection")
    named = None if said is None else _nominated(said)
    return fields.without(named) if named else fields


@lru_cache(maxsize=64)  # nearly everybody says `keep-alive`, `close` or `upgrade`
def _nominated(said: str) -> frozenset[bytes]:
    return frozenset(token.encode("latin-1") for token in tokens(said)) - _KEPT


_KEPT: Final = HOP_BY_HOP | {b"close", b"host", b"content-length", b"expect"}


def tunnel_protocols(fields: Fields) -> str | None:
    """Return which of the protocols in Upgrade are asked of the origin; None: there is nothing to ask.

    Not HTTP itself: a tunnel of HTTP/2 (h2c) would carry further requests past every rule here. To go on
    in HTTP/1.1 is always a right answer (RFC 9110 §7.8).
    """
    asked = [item.strip(OWS) for item in (fields.get(b"upgrade") or "").split(",")]
    kept = [item for item in asked if item and item.partition("/")[0].lower() not in _NEVER_TUNNELLED]
    return ", ".join(kept) or None


_NEVER_TUNNELLED: Final = frozenset({"h2c", "h2", "http", "tls"})


def _escaped(target: str) -> str:
    """Percent-encode what is not ASCII, as every browser does: one spelling for route, key and origin."""
    return target if target.isascii() else _NOT_ASCII.sub(lambda found: quote(found.group()), target)


def _host(arrived: Arrived, authority: str | None, scheme: str, hops: int, default_host: str) -> str | None:
    """Return the host asked for; the target's own comes before Host, and the two must not differ."""
    said = arrived.fields.all(b"host")
    if len(said) > 1:
        return None
    host = normal_host(said[0], scheme) if said else None
    if authority is not None:
        named = normal_host(authority, scheme)
        host = named if not said or named == host else None
    elif not said:
        host = normal_host(default_host, scheme)
    forwarded = _said_by_proxy(arrived.fields, b"x-forwarded-host", hops)
    return normal_host(forwarded, scheme) if forwarded and host is not None else host


def split_absolute(target: str) -> tuple[str, str | None]:
    """Split an absolute-form target into its origin-form and its authority (RFC 9112 §3.2.2)."""
    scheme, separator, rest = target.partition("://")
    if not separator or scheme.lower() not in _DEFAULT_PORTS:
        return target, None
    end = next((index for index, character in enumerate(rest) if character in "/?#"), len(rest))
    path = rest[end:]
    return path if path.startswith("/") else f"/{path}", rest[:end]


def normal_host(text: str, scheme: str) -> str | None:
    """Return a host in lower case, without its scheme's own port and the root's dot; None if it is none."""
    return _normal_host(text, scheme) if len(text) <= _HOST_MAX else None


@lru_cache(maxsize=1024)
def _normal_host(text: str, scheme: str) -> str | None:
    host = text.strip(OWS).lower()
    found = _HOST.fullmatch(host)
    if not text.isascii() or found is None or (found["v6"] and not _is_v6(found["v6"])):
        return None
    if found["port"] is None:
        return host.removesuffix(".")
    name, number = host[: found.start("port")].removesuffix("."), int(found["port"][1:])
    port = f":{number}"  # one spelling: 0080 is 80
    if number > _PORT_MAX:
        return None
    return name if port == _DEFAULT_PORTS.get(scheme) else name + port


def _is_v6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True


def _scheme(arrived: Arrived, hops: int) -> str:
    said = (_said_by_proxy(arrived.fields, b"x-forwarded-proto", hops) or "").lower()
    return said if said in _DEFAULT_PORTS else arrived.scheme


def _said_by_proxy(fields: Fields, name: bytes, hops: int) -> str | None:
    """Return what the outermost trusted proxy says, None where no proxy is trusted.

    Each proxy either keeps the one item or appends its own, so of `hops` proxies the outermost one's is
    that many from the end; whatever stands before it is a visitor's claim.
    """
    value = fields.get(name) if hops else None
    if value is None:
        return None
    items = [item.strip(OWS) for item in value.split(",")]
    return items[-min(hops, len(items))]


def _chain(arrived: Arrived, trusted: Sequence[Network]) -> tuple[list[str], int]:
    """Return the addresses the origin is told, and how many at their end are trusted proxies'.

    Without a trusted peer it is the peer alone: anybody can write X-Forwarded-For.
    """
    if not is_in(arrived.peer, trusted):
        return ([arrived.peer] if arrived.peer else []), 0
    said = (arrived.fields.get(b"x-forwarded-for") or "").split(",")
    chain = [*(part.strip(OWS) for part in said if part.strip(OWS)), arrived.peer]
    distrusted = (place for place, address in enumerate(reversed(chain)) if not is_in(address, trusted))
    return chain, next(distrusted, len(chain))


def _client(chain: Sequence[str], hops: int) -> str:
    """Return the nearest address that no trusted proxy has, without a port."""
    if not chain:
        return ""
    return shown_address(chain[-hops - 1] if hops < len(chain) else chain[0])


@lru_cache(maxsize=1024)  # writing an address costs as much as reading it
def shown_address(text: str) -> str:
    """Return an address without brackets and port, as logs show it; what is none stays as it is."""
    address = _address(text)
    return text if address is None else str(address)


def is_in(text: str, networks: Sequence[Network]) -> bool:
    """Tell whether an address lies in one of some networks."""
    address = _address(text) if networks else None
    if address is None:
        return False
    return any(address in network for network in networks if address.version == network.version)


@lru_cache(maxsize=1024)  # visitors come again and again
def _address(text: str) -> IPv4Address | IPv6Address | None:
    """Read an address, perhaps bracketed or with a port; IPv4 inside IPv6 is IPv4 (dual-stack sockets)."""
    found = _ADDRESS.fullmatch(text)
    if found is None:
        return None
    try:
        parsed = ip_address(found["bracketed"] or found["v4"] or found["plain"])
    except ValueError:
        return None
    return getattr(parsed, "ipv4_mapped", None) or parsed


_ADDRESS: Final = re.compile(
    r"\[(?P<bracketed>[0-9a-fA-F:.]+)\](?::[0-9]+)?"
    r"|(?P<v4>[0-9.]+)(?::[0-9]+)?"
    r"|(?P<plain>[0-9a-fA-F:.]+)(?:%.*)?"
)
