"""RFC 9110 §14.6 and §15.3.7.2: several parts in one answer."""

from __future__ import annotations

from email import message_from_bytes
from email.message import Message

from tests.harness import Reply
from tests.http.conftest import Site
from tests.http.requirements import requires
from tests.ranging_origin import FRESH
from tests.scripted_origin import page

BODY = b"0123456789"


async def several(site: Site, spec: str) -> Reply:
    site.on("/p", page(BODY, FRESH))
    await site.get("/p")
    return await site.get("/p", {"Range": f"bytes={spec}"})


def parts_of(reply: Reply) -> list[tuple[str | None, str | None, object]]:
    """Read the parts with a parser of MIME that is not ours."""
    kind = reply.headers["content-type"].encode()
    message = message_from_bytes(b"Content-Type: " + kind + b"\r\n\r\n" + reply.body)
    parts = message.get_payload()
    assert isinstance(parts, list)
    found = [part for part in parts if isinstance(part, Message)]
    return [(part["Content-Type"], part["Content-Range"], part.get_payload(decode=True)) for part in found]


@requires("RFC 9110 §14.6", "each part says its type and its place, in the order that was asked for")
async def test_parts(site: Site) -> None:
    reply = await several(site, "4-5,0-1,-1")
    assert (reply.status, reply.headers["content-type"].partition(";")[0]) == (206, "multipart/byteranges")
    kind = "video/mp4"
    places = ("bytes 4-5/10", "bytes 0-1/10", "bytes 9-9/10")
    assert parts_of(reply) == [
        (kind, place, body) for place, body in zip(places, (b"45", b"01", b"9"), strict=True)
    ]


@requires("RFC 9110 §15.3.7.2", "an answer of several parts has no Content-Range of its own")
async def test_no_content_range(site: Site) -> None:
    reply = await several(site, "0-1,4-5")
    assert "content-range" not in reply.headers
    assert int(reply.headers["content-length"]) == len(reply.body)


@requires(
    "RFC 9110 §15.3.7.2", "where only one of several ranges can be satisfied it is sent without multipart"
)
async def test_one_left(site: Site) -> None:
    reply = await several(site, "99-,2-3")
    assert (reply.status, reply.body, reply.headers["content-range"]) == (206, b"23", "bytes 2-3/10")
