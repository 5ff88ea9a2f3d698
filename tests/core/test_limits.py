"""Limits as values: which of them a request breaks."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network

import pytest

from isr_proxy.core.http import Fields, Request
from isr_proxy.core.limits import (
    STATUSES,
    body_refusal,
    client_of,
    head_refusal,
    is_fast_enough,
    longest_field,
    longest_target,
)
from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import LimitSettings

LIMITS = LimitSettings(max_request_line=40, max_header_field=50, max_head=100, max_body=10, min_rate=100)


@pytest.mark.parametrize(
    ("target_bytes", "value_bytes", "reason"),
    [
        (27, 10, None),
        (28, 10, Reason.LINE_TOO_LONG),  # GET, the target, HTTP/1.1 and two blanks are 41 bytes
        (27, 46, None),
        (27, 47, Reason.FIELD_TOO_LARGE),
        (28, 99, Reason.LINE_TOO_LONG),
    ],
)
def test_a_head_is_measured_as_it_was_on_the_wire(
    target_bytes: int, value_bytes: int, reason: Reason | None
) -> None:
    target = "/" + "a" * (target_bytes - 1)
    assert head_refusal("GET", target, [(b"Ab", b"v" * value_bytes)], LIMITS) is reason


def test_fields_are_measured_together() -> None:
    field = (b"Ab", b"v" * 24)  # 30 bytes with its colon, blank and line end
    assert head_refusal("GET", "/" + "a" * 26, [field, field], LIMITS) is None  # 40 + 60
    assert head_refusal("GET", "/" + "a" * 26, [field, (b"Abc", b"v" * 24)], LIMITS) is Reason.HEAD_TOO_LARGE


@pytest.mark.parametrize(
    ("length", "reason"),
    [
        (b"10", None),
        (b"11", Reason.BODY_TOO_LARGE),
        (b"9" * 19, Reason.BODY_TOO_LARGE),  # more digits than any body's length has
        (None, None),
    ],
)
def test_a_body_is_refused_by_the_length_it_promises(length: bytes | None, reason: Reason | None) -> None:
    lines = [] if length is None else [(b"Content-Length", length)]
    request = Request("POST", "http", "a", "/", None, Fields(lines), has_body=True)
    assert body_refusal(request, LIMITS) is reason
    assert body_refusal(request, replace(LIMITS, max_body=None)) is None


@pytest.mark.parametrize("line", range(20, 120))
def test_the_parsers_two_limits_are_never_the_same(line: int) -> None:
    limits = LimitSettings(max_request_line=line, max_header_field=60)
    assert longest_target(limits) != longest_field(limits)


@pytest.mark.parametrize(
    ("moved", "seconds", "rate", "is_fast"),
    [(1000, 10, 100, True), (999, 10, 100, False), (1, 10, 0, True), (0, 10, 0, False)],
)
def test_the_least_rate(moved: int, seconds: float, rate: int, is_fast: bool) -> None:
    assert is_fast_enough(moved, seconds, replace(LIMITS, min_rate=rate)) is is_fast


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("10.1.2.3", None),
        ("::ffff:10.1.2.3", None),
        ("", None),
        ("2001:db8:0:1::1", client_of("2001:db8:0:1:ffff::9", ())),
        ("fe80::1%eth0", client_of("fe80::2", ())),
    ],
)
def test_whose_connections_are_counted_together(peer: str, client: str | None) -> None:
    assert client_of(peer, [ip_network("10.0.0.0/8")]) == client


def test_neighbouring_networks_are_counted_apart() -> None:
    assert client_of("2001:db8:0:1::1", ()) != client_of("2001:db8:0:2::1", ())


def test_every_status_is_an_error() -> None:
    assert set(STATUSES.values()) == {408, 413, 414, 431, 503}
