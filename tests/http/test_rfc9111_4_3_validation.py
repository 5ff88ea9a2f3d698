"""RFC 9111 §4.3: conditions answered from the store, stale pages validated, what a 304 and a HEAD change."""

from __future__ import annotations

import pytest

from isr_proxy.core.http import format_date
from tests.harness import START
from tests.http.conftest import Site
from tests.http.requirements import requires
from tests.scripted_origin import Headers, Script, page

FRESH = {"Cache-Control": "max-age=60"}
TAGGED = {**FRESH, "ETag": '"abc"'}
DATED = {**FRESH, "Last-Modified": format_date(START - 1000)}


def unchanged(headers: Headers = ()) -> Script:
    """Return the script of a 304."""
    from tests.scripted_origin import Send, head

    return [Send(head(304, headers))]


# --- §4.3.2, RFC 9110 §13 ---

MATCHING = [
    (TAGGED, {"If-None-Match": '"abc"'}),
    (TAGGED, {"If-None-Match": 'W/"abc"'}),
    (TAGGED, {"If-None-Match": '"x", "abc"'}),
    (TAGGED, {"If-None-Match": '"x,y" , W/"abc"'}),
    (TAGGED, {"If-None-Match": "*"}),
    ({**FRESH, "ETag": 'W/"abc"'}, {"If-None-Match": '"abc"'}),
    ({**FRESH, "ETag": "abc"}, {"If-None-Match": "abc"}),
    (DATED, {"If-Modified-Since": format_date(START - 1000)}),
    (DATED, {"If-Modified-Since": format_date(START)}),
    ({**DATED, **TAGGED}, {"If-None-Match": '"abc"', "If-Modified-Since": format_date(START - 2000)}),
    ({**FRESH, "Date": format_date(START - 9)}, {"If-Modified-Since": format_date(START)}),
]
DIFFERING = [
    (TAGGED, {"If-None-Match": '"abcd"'}),
    (TAGGED, {"If-None-Match": '"x", "y"'}),
    (TAGGED, {"If-None-Match": ""}),
    (DATED, {"If-Modified-Since": format_date(START - 1001)}),
    (DATED, {"If-Modified-Since": "yesterday"}),
    ({**DATED, **TAGGED}, {"If-None-Match": '"x"', "If-Modified-Since": format_date(START)}),
]


@requires("RFC 9111 §4.3.2", "a fresh page answers a condition that holds with 304, without the origin")
@pytest.mark.parametrize(("said", "asked"), MATCHING)
async def test_condition_holds(site: Site, said: dict[str, str], asked: dict[str, str]) -> None:
    site.says("/p", said)
    await site.get("/p")
    reply = await site.get("/p", asked)
    assert (reply.status, reply.body, reply.x_cache, site.hits("/p")) == (304, b"", "HIT", 1)


@requires(
    "RFC 9110 §13.2.2", "If-None-Match decides before If-Modified-Since; what does not hold gets the page"
)
@pytest.mark.parametrize(("said", "asked"), DIFFERING)
async def test_condition_does_not_hold(site: Site, said: dict[str, str], asked: dict[str, str]) -> None:
    site.says("/p", said)
    await site.get("/p")
    reply = await site.get("/p", asked)
    assert (reply.status, reply.text, site.hits("/p")) == (200, "1", 1)


@requires(
    "RFC 9110 §15.4.5", "a 304 repeats what a 200 would say of caching, and nothing of the body it has not"
)
async def test_fields_of_a_304(site: Site) -> None:
    more = {
        "Vary": "Foo",
        "Content-Location": "/q",
        "Expires": format_date(START + 60),
        "Date": format_date(START),
    }
    site.says("/p", {**TAGGED, **more})
    await site.get("/p")
    headers = (await site.get("/p", {"If-None-Match": '"abc"'})).headers
    assert {name.lower() for name in (*TAGGED, *more)} <= set(headers)
    assert not {"content-length", "content-type", "content-encoding"} & set(headers)


@requires("RFC 9110 §13.2.1", "so does any other page that is a success")
@pytest.mark.parametrize("status", [203, 299])
async def test_condition_on_a_success(site: Site, status: int) -> None:
    site.says("/p", TAGGED, status=status)
    await site.get("/p")
    assert (await site.get("/p", {"If-None-Match": '"abc"'})).status == 304


@requires("RFC 9110 §13.2.1", "only a success becomes a 304")
async def test_condition_on_an_error(site: Site) -> None:
    site.says("/p", TAGGED, status=404)
    await site.get("/p")
    assert (await site.get("/p", {"If-None-Match": '"abc"'})).status == 404


@requires(
    "RFC 9111 §4.3.2", "a condition on a page that is not stored is answered, and the page is stored whole"
)
async def test_conditional_miss_fills(site: Site) -> None:
    site.says("/p", TAGGED)
    assert (await site.get("/p", {"If-None-Match": '"abc"'})).status == 304
    assert site.last.header("if-none-match") is None
    reply = await site.get("/p")
    assert (reply.status, reply.text, reply.x_cache) == (200, "1", "HIT")


# --- §4.3.1 ---


@requires("RFC 9111 §4.3.1", "a stale page is validated with each validator that it has")
async def test_validators_are_sent(site: Site) -> None:
    site.on("/p", page("1", {**TAGGED, **DATED}), unchanged())
    await site.get("/p")
    site.clock.advance(61)
    await site.get("/p")
    assert (site.last.header("if-none-match"), site.last.header("if-modified-since")) == (
        '"abc"',
        DATED["Last-Modified"],
    )


@requires("RFC 9111 §4.3.1", "without one, it is fetched anew; an entity tag made here is never sent")
async def test_no_validator(site: Site) -> None:
    site.says("/p", FRESH, FRESH)
    await site.get("/p")
    site.clock.advance(61)
    assert (await site.get("/p")).text == "2"
    assert site.last.header("if-none-match") is None


@requires("RFC 9111 §4.3.1", "the store's validators are sent, not the visitor's; his own are answered here")
@pytest.mark.parametrize(("asked", "status"), [('"old"', 200), ('"abc"', 304), (None, 200)])
async def test_visitors_validators_differ(site: Site, asked: str | None, status: int) -> None:
    site.on("/p", page("1", TAGGED), unchanged({"ETag": '"abc"'}))
    await site.get("/p")
    site.clock.advance(61)
    reply = await site.get("/p", {} if asked is None else {"If-None-Match": asked})
    assert (reply.status, site.last.header("if-none-match")) == (status, '"abc"')


@requires(
    "RFC 9111 §4.3.1",
    "where only other variants are stored, the origin is asked whether one of them is right",
)
@pytest.mark.parametrize(
    ("named", "text", "hits"), [('"b"', "two", 3), ('"a"', "one", 3), ('"x"', "three", 4)]
)
async def test_other_variants(site: Site, named: str, text: str, hits: int) -> None:
    varying = {**FRESH, "Vary": "Foo"}
    site.on(
        "/p",
        page("one", {**varying, "ETag": '"a"'}),
        page("two", {**varying, "ETag": '"b"'}),
        unchanged({**varying, "ETag": named}),
        page("three", varying),
    )
    for foo in "12":
        await site.get("/p", {"Foo": foo})
    assert (await site.get("/p", {"Foo": "3"})).text == text
    assert site.origin.requests[2].header("if-none-match") == '"a", "b"'
    assert site.hits("/p") == hits
    assert (await site.get("/p", {"Foo": "3"})).x_cache == "HIT"


# --- §4.3.3, §4.3.4 ---


@requires("RFC 9111 §4.3.3", "304: the stored page is fresh again, and served")
async def test_304_freshens(site: Site) -> None:
    site.on("/p", page("1", TAGGED), unchanged(TAGGED))
    await site.get("/p")
    site.clock.advance(61)
    reply = await site.get("/p")
    assert (reply.status, reply.text, reply.headers["age"]) == (200, "1", "0")
    assert await site.is_reused("/p", after=59)


@requires("RFC 9111 §4.3.3", "a full response replaces the stored one")
async def test_200_replaces(site: Site) -> None:
    site.says("/p", TAGGED, {**FRESH, "ETag": '"new"'})
    await site.get("/p")
    site.clock.advance(61)
    assert (await site.get("/p")).text == "2"
    assert (await site.get("/p")).headers["etag"] == '"new"'


UPDATED = [
    ("Test-Header", "a", "b"),
    ("X-Content-Foo", "a", "b"),
    ("Content-Foo", "a", "b"),
    ("Cache-Control", "max-age=60", "max-age=99"),
    ("Expires", format_date(START + 60), format_date(START + 9999)),
    ("Content-Type", "text/html", "text/plain"),
    ("Content-Language", "en", "de"),
    ("Content-Location", "/a", "/b"),
    ("Content-Security-Policy", "default-src 'self'", "default-src 'none'"),
    ("X-Frame-Options", "deny", "sameorigin"),
    ("Last-Modified", format_date(START - 99), format_date(START - 9)),
]


@requires("RFC 9111 §3.2", "a 304 updates every field that it brings")
@pytest.mark.parametrize(("name", "old", "new"), UPDATED)
async def test_304_updates(site: Site, name: str, old: str, new: str) -> None:
    base = {"Cache-Control": "max-age=60", "ETag": '"abc"'}
    site.on("/p", page("1", {**base, name: old}), unchanged({**base, name: new}))
    await site.get("/p")
    site.clock.advance(61)
    assert (await site.get("/p")).headers[name.lower()] == new
    reply = await site.get("/p")
    assert (reply.headers[name.lower()], reply.text, reply.x_cache) == (new, "1", "HIT")


KEPT = [
    ("Content-Length", "1", "999"),
    ("Content-Encoding", None, "br"),
    ("Content-Range", None, "bytes 0-1/2"),
]


@requires("RFC 9111 §3.2", "but what the stored body depends on")
@pytest.mark.parametrize(("name", "old", "new"), KEPT)
async def test_304_does_not_update(site: Site, name: str, old: str | None, new: str) -> None:
    site.on("/p", page("1", TAGGED), unchanged({**TAGGED, name: new}))
    await site.get("/p")
    site.clock.advance(61)
    await site.get("/p")
    reply = await site.get("/p")
    assert (reply.headers.get(name.lower()), reply.text) == (old, "1")


@requires("RFC 9111 §3.2", "fields that a 304 does not bring stay")
async def test_304_leaves_the_rest(site: Site) -> None:
    site.on("/p", page("1", {**TAGGED, "X-A": "a"}), unchanged(FRESH))
    await site.get("/p")
    site.clock.advance(61)
    await site.get("/p")
    assert (await site.get("/p")).headers["x-a"] == "a"


@requires(
    "RFC 9111 §4.3.4", "a 304 with another strong validator is about something else: it is asked again, whole"
)
async def test_304_of_another(site: Site) -> None:
    site.on("/p", page("1", TAGGED), unchanged({"ETag": '"other"'}), page("2", TAGGED))
    await site.get("/p")
    site.clock.advance(61)
    assert (await site.get("/p")).text == "2"
    assert site.last.header("if-none-match") is None


@requires("RFC 9111 §4.3.4", "a 304 that forbids storing is the last use of what is stored")
async def test_304_no_store(site: Site) -> None:
    site.on("/p", page("1", TAGGED), unchanged({"Cache-Control": "no-store"}), page("2", TAGGED))
    await site.get("/p")
    site.clock.advance(61)
    assert (await site.get("/p")).text == "1"
    assert (await site.get("/p")).text == "2"


@requires("RFC 9111 §4.3.3", "a visitor without a condition never gets a 304")
async def test_304_unasked(site: Site) -> None:
    site.on("/p", unchanged(TAGGED))
    assert (await site.get("/p")).status == 502


# --- §4.3.5, RFC 9110 §9.3.2 ---


@requires("RFC 9110 §9.3.2", "HEAD is answered from a stored GET, fields and all")
async def test_head_from_the_store(site: Site) -> None:
    site.says("/p", TAGGED)
    await site.get("/p")
    reply = await site.get("/p", method="HEAD")
    assert (reply.x_cache, reply.headers["content-length"], reply.headers["etag"]) == ("HIT", "1", '"abc"')


@requires("RFC 9110 §9.3.2", "a HEAD on nothing stored fills the store")
async def test_head_miss(site: Site) -> None:
    site.says("/p", TAGGED)
    await site.get("/p", method="HEAD")
    assert (await site.get("/p")).x_cache == "HIT"


def told(headers: Headers, status: int = 200) -> Script:
    """Return the script of an answer to HEAD."""
    from tests.scripted_origin import Send, head

    return [Send(head(status, headers))]


@requires("RFC 9111 §4.3.5", "on a stale page HEAD is asked as HEAD, and freshens it where it says the same")
@pytest.mark.parametrize("same", [{}, {"ETag": '"abc"'}, {"Content-Length": "1"}])
async def test_head_freshens(site: Site, same: dict[str, str]) -> None:
    site.on("/p", page("1", {**TAGGED, "X-A": "old"}), told({**FRESH, "X-A": "new", **same}))
    await site.get("/p")
    site.clock.advance(61)
    assert (await site.get("/p", method="HEAD")).headers["x-a"] == "new"
    assert site.last.method == "HEAD"
    reply = await site.get("/p")
    assert (reply.text, reply.headers["x-a"], reply.x_cache) == ("1", "new", "HIT")


OTHERS = [
    told({**FRESH, "ETag": '"new"'}),
    told({**TAGGED, "Content-Length": "9"}),
    told({**TAGGED, **DATED}),
    told(TAGGED, 410),
]


@requires("RFC 9111 §4.3.5", "where it says something else, what is stored is stale")
@pytest.mark.parametrize("other", OTHERS)
async def test_head_shows_it_outdated(site: Site, other: Script) -> None:
    site.on("/p", page("1", {**TAGGED, "Last-Modified": format_date(START - 9)}), other, page("2", FRESH))
    await site.get("/p")
    site.clock.advance(61)
    await site.get("/p", method="HEAD")
    assert (await site.get("/p")).text == "2"
