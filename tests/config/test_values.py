"""Scalars: what is read, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.core.settings import TcpAddress, UnixAddress
from isr_proxy.run import config_scalars as scalars

UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
POWERS = ("B", "KiB", "MiB", "GiB")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("10s", 10), ("5m", 300), ("1h30m", 5400), ("7d", 604800), ("60", 60), ("1.5", 1.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert scalars.duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "s", "10 s", "30m1h", "1h1h", "-1s", "1e3", "inf", "nan", "forever", "٣s"]
)
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration; allowed"):
        scalars.duration(text)


def test_a_duration_is_bounded() -> None:
    with pytest.raises(ValueError, match="is too long"):
        scalars.duration("999999999999d")


def test_forever_is_a_window_only() -> None:
    assert scalars.duration_or_forever("forever") == math.inf


@given(st.integers(0, 10**9))
def test_durations_round_trip(seconds: int) -> None:
    text, rest = "", seconds
    for unit, length in UNITS:
        number, rest = divmod(rest, length)
        text += f"{number}{unit}" if number else ""
    assert scalars.duration(text or "0s") == seconds


@given(st.integers(0, 2**50))
def test_sizes_round_trip(size: int) -> None:
    unit = max(n for n in range(len(POWERS)) if n == 0 or (size and size % 1024**n == 0))
    assert scalars.size(f"{size // 1024**unit}{POWERS[unit]}") == size
    assert scalars.size(str(size)) == size


@pytest.mark.parametrize(
    ("text", "size"),
    [("64KiB", 65536), ("1.5MiB", 1572864), ("10 GB", 10**10), ("5mb", 5 * 10**6), ("7B", 7)],
)
def test_sizes(text: str, size: int) -> None:
    assert scalars.size(text) == size


@pytest.mark.parametrize("text", ["", "KiB", "10G", "-1", "1iB", "1e3", "10XB", "9999999999TiB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size|is too large"):
        scalars.size(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", TcpAddress("127.0.0.1", 80)),
        (":8080", TcpAddress("0.0.0.0", 8080)),
        ("[::1]:8080", TcpAddress("::1", 8080)),
        ("localhost:0", TcpAddress("localhost", 0)),
        ("unix:/run/isr.sock", UnixAddress("/run/isr.sock")),
    ],
)
def test_addresses(text: str, address: TcpAddress | UnixAddress) -> None:
    assert scalars.address(text) == address


@pytest.mark.parametrize(
    "text",
    ["8080", "::1:8080", "[1.2.3.4]:80", "a:b", "a:99999", "unix:", "unix:x", "unix:/" + "x" * 107, "a b:1"],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="allowed: "):
        scalars.address(text)


@pytest.mark.parametrize(
    ("text", "is_loopback"),
    [
        ("127.0.0.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:/a", True),
        (":1", False),
        ("[::]:1", False),
        ("example.org:1", False),
    ],
)
def test_what_only_this_host_reaches(text: str, is_loopback: bool) -> None:
    assert scalars.is_loopback(scalars.address(text)) is is_loopback


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://localhost:3000", "http://localhost:3000"),
        ("HTTPS://App.Example.org/", "https://app.example.org"),
        ("http://[::1]:3000", "http://[::1]:3000"),
        ("unix:/run/app.sock", "unix:/run/app.sock"),
    ],
)
def test_origins(text: str, url: str) -> None:
    assert scalars.origin_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "localhost:3000",
        "ftp://a",
        "http://",
        "http://a/b",
        "http://a?b",
        "http://a#b",
        "http://u@a",
        "http://u:p@a",
        "http://a:0",
        "http://a:x",
        "http://a:99999",
        "http://[::1",
        "http://a b",
        "unix:app.sock",
    ],
)
def test_what_is_no_origin(text: str) -> None:
    with pytest.raises(ValueError, match="allowed: "):
        scalars.origin_url(text)


@pytest.mark.parametrize("text", ["example.org", "*.example.org", "example.org:8080", "[::1]", "[::1]:80"])
def test_host_patterns(text: str) -> None:
    assert scalars.host_pattern(text.upper()) == text


@pytest.mark.parametrize("text", ["", "*", "a.*", "http://a", "a/b", "a:b", "-a", "[::1", "[x]", "a b"])
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(ValueError, match="is not a host"):
        scalars.host_pattern(text)


READERS = (
    scalars.duration,
    scalars.size,
    scalars.address,
    scalars.network,
    scalars.host_pattern,
    scalars.origin_url,
    scalars.switch,
    scalars.fraction,
)


@pytest.mark.parametrize("read", READERS)
@given(value=st.text() | st.none() | st.lists(st.text()))
def test_no_reader_raises_anything_but_value_error(read: Callable[[object], object], value: object) -> None:
    said = "is read"
    try:
        read(value)
    except ValueError as error:
        said = str(error)
    assert said.startswith(("is ", "has "))
