"""RFC 9110 §15.3.7 and §15.5.17: what a part says beside its bytes, and what an answer without any."""

from __future__ import annotations

import pytest

from tests.http.conftest import Site
from tests.http.requirements import requires
from tests.ranging_origin import ranged
from tests.scripted_origin import page

BODY = b"0123456789"
SAID = {
    "Date": "Fri, 15 Jan 2027 07:59:59 GMT",
    "Cache-Control": "max-age=60",
    "ETag": '"v1"',
    "Expires": "Fri, 15 Jan 2027 09:00:00 GMT",
    "Content-Location": "/p.en",
    "Vary": "Accept-Language",
}


@requires("RFC 9110 §15.3.7", "a part says Date, Cache-Control, ETag, Expires, Vary as the page would")
@pytest.mark.parametrize("is_stored_whole", [True, False])
async def test_said(site: Site, is_stored_whole: bool) -> None:
    site.on("/p", ranged(BODY, SAID))
    for spec in ("0-5", "0-5", "2-3"):
        reply = await site.get(
            "/p", {} if is_stored_whole and not site.hits("/p") else {"Range": f"bytes={spec}"}
        )
        assert {name: reply.headers.get(name.lower()) for name in SAID} == SAID
    assert (reply.status, reply.x_cache) == (206, "HIT")
    assert reply.headers["content-length"] == "2"


@requires("RFC 9110 §15.5.17", "416 says the length of the page, and nothing of what the page itself says")
async def test_not_satisfiable(site: Site) -> None:
    site.on("/p", page(BODY, {**SAID, "Content-Encoding": "x-own"}))
    await site.get("/p")
    reply = await site.get("/p", {"Range": "bytes=10-"})
    assert (reply.status, reply.body, reply.headers["content-range"]) == (416, b"", "bytes */10")
    assert reply.headers["cache-control"] == "no-store"
    assert not {"etag", "expires", "content-encoding", "content-type", "age"} & set(reply.headers)


@requires("RFC 9110 §15.5.17", "416 does not take the page's place")
async def test_not_stored(site: Site) -> None:
    site.on("/p", ranged(BODY, SAID))
    assert (await site.get("/p", {"Range": "bytes=10-"})).status == 416
    assert (await site.get("/p")).body == BODY
    assert (await site.get("/p", {"Range": "bytes=10-"})).status == 416
    assert (await site.get("/p")).x_cache == "HIT"
