"""Limits of what visitors may send: which of them a request breaks, and the status that says so.

Knows sizes, counts and rates as numbers. Must not know sockets, parsers or clocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from typing import Final

from isr_proxy.core.http import Request, content_length
from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import LimitSettings, Network

STATUSES: Final = {
    Reason.BODY_TIMEOUT: 408,  # RFC 9110 §15.5.9
    Reason.HEAD_TIMEOUT: 408,
    Reason.BODY_TOO_LARGE: 413,  # RFC 9110 §15.5.14
    Reason.LINE_TOO_LONG: 414,  # RFC 9110 §15.5.15, RFC 9112 §3
    Reason.FIELD_TOO_LARGE: 431,  # RFC 6585 §5
    Reason.TOO_MANY_FIELDS: 431,
    Reason.HEAD_TOO_LARGE: 431,
    Reason.TOO_MANY_CONNECTIONS: 503,  # RFC 9110 §15.6.4
    Reason.TOO_MANY_OF_CLIENT: 503,
}
_AROUND_TARGET: Final = len("  HTTP/1.1")
_AROUND_FIELD: Final = len(": \r\n")
_CLIENT_BITS: Final = 64  # of an IPv6 address: what one client can choose freely is the rest


def longest_target(limits: LimitSettings) -> int:
    """Return the size that no target of a request line within the limit has.

    It is never the same as `longest_field`: which of the two was passed tells 414 from 431.
    """
    longest = max(1, limits.max_request_line - _AROUND_TARGET)
    return longest + 1 if longest == longest_field(limits) else longest


def longest_field(limits: LimitSettings) -> int:
    """Return the largest size of a field's name and value together."""
    return max(1, limits.max_header_field - len(": "))


def may_break_a_limit(head_bytes: int, fields: int, limits: LimitSettings) -> bool:
    """Tell whether a head of so many bytes, with so many fields, may break a limit; most are far below."""
    least = min(limits.max_request_line, limits.max_header_field, limits.max_head)
    return head_bytes + _AROUND_FIELD * fields > least


def head_refusal(
    method: str, target: str, lines: Sequence[tuple[bytes, bytes]], limits: LimitSettings
) -> Reason | None:
    """Say which limit a whole head breaks, None for none."""
    line_bytes = len(method) + len(target) + _AROUND_TARGET
    if line_bytes > limits.max_request_line:
        return Reason.LINE_TOO_LONG
    head_bytes, largest = line_bytes, 0
    for name, value in lines:
        size = len(name) + len(value)
        head_bytes += size + _AROUND_FIELD
        if size > largest:
            largest = size
    # The parser holds most fields to their value alone.
    if largest > longest_field(limits):
        return Reason.FIELD_TOO_LARGE
    return Reason.HEAD_TOO_LARGE if head_bytes > limits.max_head else None


def body_refusal(request: Request, limits: LimitSettings) -> Reason | None:
    """Say whether a body is too large by its own account; a chunked one gives none (RFC 9110 §15.5.14)."""
    if not request.has_body or limits.max_body is None:
        return None
    if b"content-length" not in request.fields:
        return None
    promised = content_length(request.fields)
    return Reason.BODY_TOO_LARGE if promised is None or promised > limits.max_body else None


def is_fast_enough(moved_bytes: int, seconds: float, limits: LimitSettings) -> bool:
    """Tell whether so many bytes in so long keep the least rate; not one byte is too few at any rate."""
    return moved_bytes >= max(1, int(limits.min_rate * seconds))


def client_of(peer: str, trusted: Sequence[Network]) -> str | None:
    """Return by what a client's connections are counted; None for whoever is not counted.

    A trusted proxy brings many clients; who comes over a unix socket has no address.
    """
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if any(address in network for network in trusted):
        return None
    if isinstance(address, IPv6Address):
        return f"{int(address) >> (128 - _CLIENT_BITS):x}"
    return str(address)
