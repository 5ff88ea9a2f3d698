"""RFC 9111 §4.3.5: what an answer to HEAD says of a stored page. It is judged by itself, not as a GET's."""

from __future__ import annotations

import pytest

from tests.http.conftest import Site
from tests.http.requirements import requires
from tests.scripted_origin import Headers, Script, Send, head, page

FRESH = {"Cache-Control": "max-age=60"}
TAGGED = {**FRESH, "ETag": '"abc"'}


def told(headers: Headers, status: int = 200) -> Script:
    """Return the script of an answer to HEAD."""
    return [Send(head(status, headers))]


async def ask_head(site: Site, answer: Script, *then: Script, his: dict[str, str] | None = None) -> None:
    """Have a page stored and stale, and HEAD of it answered so."""
    site.on("/p", page("1", TAGGED), answer, *then)
    await site.get("/p")
    site.clock.advance(61)
    await site.get("/p", his or {}, method="HEAD")


@requires("RFC 9111 §4.3.5", "what an answer to HEAD leaves out is as it was stored")
async def test_head_without_freshness(site: Site) -> None:
    await ask_head(site, told({"ETag": '"abc"'}))
    assert await site.is_reused("/p", after=59)


@requires("RFC 9111 §4.3.5", "a field that private names is never laid over the stored ones")
async def test_law_4_head_with_a_private_field(site: Site) -> None:
    await ask_head(site, told({**TAGGED, "Cache-Control": 'max-age=60, private="X-User"', "X-User": "alice"}))
    reply = await site.get("/p")
    assert (reply.x_cache, reply.headers.get("x-user")) == ("HIT", None)


@requires("RFC 9111 §3.5", "an answer to one visitor's HEAD changes nothing for the others")
async def test_law_4_head_to_one_visitor(careful: Site) -> None:
    alices = {**TAGGED, "X-User": "alice"}
    await ask_head(careful, told(alices), told(TAGGED, 304), his={"Cookie": "sid=alice"})
    reply = await careful.get("/p")
    assert (reply.text, reply.headers.get("x-user"), careful.hits("/p")) == ("1", None, 3)


@requires("RFC 9111 §4.3.5", "only a 200 says anything of the page: another status costs none")
@pytest.mark.parametrize("status", [203, 302, 400, 403, 404, 405, 410, 429, 500, 501])
async def test_law_1_head_costs_no_page(site: Site, status: int) -> None:
    await ask_head(site, told({"Content-Length": "0"}, status), page("2", TAGGED))
    assert (await site.get("/p")).text == "2"
    assert site.last.header("if-none-match") == '"abc"'


@requires("RFC 9110 §9.3.2", "where HEAD fails and the page may be served stale, HEAD is answered from it")
async def test_law_1_head_fails(site: Site) -> None:
    site.on("/p", page("1", TAGGED), told({}, 503))
    await site.get("/p")
    site.clock.advance(61)
    assert (await site.get("/p", method="HEAD")).x_cache == "STALE"
