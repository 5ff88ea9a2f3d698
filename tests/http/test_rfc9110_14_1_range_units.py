"""RFC 9110 §14.1: how a range is written, and what of a stored page it means."""

from __future__ import annotations

import pytest

from tests.http.conftest import Site
from tests.http.requirements import requires
from tests.ranging_origin import FRESH
from tests.scripted_origin import page

BODY = b"0123456789"


async def asked(site: Site, value: str) -> tuple[int, bytes, str | None]:
    """Store the page, ask for a range of it; returns status, body and Content-Range."""
    site.on("/p", page(BODY, FRESH))
    await site.get("/p")
    reply = await site.get("/p", {"Range": value})
    return reply.status, reply.body, reply.headers.get("content-range")


@requires("RFC 9110 §14.1.2", "first and last position are included; a last one beyond the end is the end")
@pytest.mark.parametrize(
    ("value", "body", "said"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=2-5", b"2345", "bytes 2-5/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=7-99999999999999999999999", b"789", "bytes 7-9/10"),
        ("bytes=0-", BODY, "bytes 0-9/10"),
    ],
)
async def test_positions(site: Site, value: str, body: bytes, said: str) -> None:
    assert await asked(site, value) == (206, body, said)


@requires("RFC 9110 §14.1.2", "a suffix is the last bytes, and all of them where there are fewer")
@pytest.mark.parametrize(
    ("value", "body", "said"),
    [("bytes=-3", b"789", "bytes 7-9/10"), ("bytes=-99", BODY, "bytes 0-9/10")],
)
async def test_suffixes(site: Site, value: str, body: bytes, said: str) -> None:
    assert await asked(site, value) == (206, body, said)


@requires("RFC 9110 §14.1.2", "what begins beyond the end, or a suffix of nothing, cannot be satisfied")
@pytest.mark.parametrize("value", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=10-,20-30"])
async def test_unsatisfiable(site: Site, value: str) -> None:
    assert await asked(site, value) == (416, b"", "bytes */10")


@requires("RFC 9110 §14.1", "names of range units are compared without case")
async def test_unit_case(site: Site) -> None:
    assert await asked(site, "BYTES=0-1") == (206, b"01", "bytes 0-1/10")


@requires("RFC 9110 §14.1.1", "white space and empty elements are allowed between ranges, and nowhere else")
@pytest.mark.parametrize(
    ("value", "status"),
    [
        ("bytes=0-1 , 4-5", 206),
        ("bytes=,0-1,,4-5,", 206),
        ("bytes= 0-1", 206),
        ("bytes =0-1", 200),
        ("bytes=0 - 1", 200),
    ],
)
async def test_white_space(site: Site, value: str, status: int) -> None:
    assert (await asked(site, value))[0] == status


@requires("RFC 9110 §14.1.1", "a Range that is not valid is as if it were not there")
@pytest.mark.parametrize(
    "value",
    ["bytes", "bytes=", "bytes=-", "bytes=a-b", "bytes=5-2", "bytes=0-1,x", "bytes:0-1"],
)
async def test_invalid(site: Site, value: str) -> None:
    assert await asked(site, value) == (200, BODY, None)


@requires("RFC 9110 §14.1", "of a page without bytes no range can be told")
async def test_empty(site: Site) -> None:
    site.on("/p", page(b"", FRESH))
    await site.get("/p")
    assert (await site.get("/p", {"Range": "bytes=-1"})).status == 200
    refused = await site.get("/p", {"Range": "bytes=0-"})
    assert (refused.status, refused.headers["content-range"]) == (416, "bytes */0")
