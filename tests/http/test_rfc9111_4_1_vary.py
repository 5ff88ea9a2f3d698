"""RFC 9111 §4.1: which of several responses of one URL answers a request."""

from __future__ import annotations

import pytest

from tests.http.conftest import Site, Start
from tests.http.requirements import requires
from tests.scripted_origin import ScriptedOrigin, Send, head, page

FRESH = ("Cache-Control", "max-age=60")
SECTION = "RFC 9111 §4.1"


async def is_reused(site: Site, vary: str, first: dict[str, str], then: dict[str, str]) -> bool:
    site.says("/p", [FRESH, ("Vary", vary)])
    await site.get("/p", first)
    return await site.is_reused("/p", headers=then)


MATCHES = [
    ("Foo", {"Foo": "1"}, {"Foo": "1", "Other": "2"}),
    ("Foo", {}, {}),
    ("foo, BAR", {"Foo": "1", "Bar": "a"}, {"Bar": "a", "Foo": "1"}),
    ("Foo,Bar, Baz", {"Foo": "1", "Bar": "a", "Baz": "x"}, {"Foo": "1", "Bar": "a", "Baz": "x"}),
    ("", {"Foo": "1"}, {"Foo": "2"}),
]
MISMATCHES = [
    ("Foo", {"Foo": "1"}, {"Foo": "2"}),
    ("Foo", {"Foo": "1"}, {}),
    ("Foo", {}, {"Foo": "1"}),
    ("Foo", {"Foo": ""}, {}),
    ("Foo, Bar", {"Foo": "1", "Bar": "a"}, {"Foo": "1", "Bar": "b"}),
    ("Foo, Bar, Baz", {"Foo": "1", "Bar": "a", "Baz": "x"}, {"Foo": "1", "Bar": "a"}),
]


@requires(SECTION, "the same selecting fields: reused")
@pytest.mark.parametrize(("vary", "first", "then"), MATCHES)
async def test_match(site: Site, vary: str, first: dict[str, str], then: dict[str, str]) -> None:
    assert await is_reused(site, vary, first, then)


@requires(SECTION, "another value of any selecting field, or its absence: not reused")
@pytest.mark.parametrize(("vary", "first", "then"), MISMATCHES)
async def test_mismatch(site: Site, vary: str, first: dict[str, str], then: dict[str, str]) -> None:
    assert not await is_reused(site, vary, first, then)


@requires(SECTION, "both responses stay, each for its own requests")
async def test_both_stay(site: Site) -> None:
    site.on("/p", page("one", [FRESH, ("Vary", "Foo")]), page("two", [FRESH, ("Vary", "Foo")]))
    await site.get("/p", {"Foo": "1"})
    await site.get("/p", {"Foo": "2"})
    assert [(await site.get("/p", {"Foo": foo})).text for foo in "12"] == ["one", "two"]
    assert site.hits("/p") == 2


@requires(SECTION, "a star anywhere in Vary matches nothing")
@pytest.mark.parametrize("vary", ["*", "*, Foo", "Foo, *", ", *", "Foo,*,Bar"])
async def test_star(site: Site, vary: str) -> None:
    assert not await is_reused(site, vary, {"Foo": "1"}, {"Foo": "1"})


@requires(SECTION, "Vary on several lines is one list")
async def test_several_lines(site: Site) -> None:
    site.says("/p", [FRESH, ("Vary", "Foo"), ("Vary", "Bar")])
    await site.get("/p", {"Foo": "1", "Bar": "1"})
    assert await site.is_reused("/p", headers={"Foo": "1", "Bar": "1"})
    assert not await site.is_reused("/p", headers={"Foo": "1", "Bar": "2"})


SAME = [
    ("Foo", "1, 2", "1,2"),
    ("Foo", "1 , 2", "1,\t2"),
    ("Accept-Language", "en, de", "EN, De"),
    ("Accept-Language", "en, de", "de, en"),
    ("Accept-Language", "en;q=0.5, de", "de, en; q=0.50"),
]


@requires(
    SECTION, "values that mean the same select the same: white space, case and order where they mean nothing"
)
@pytest.mark.parametrize(("name", "one", "other"), SAME)
async def test_normal_values(site: Site, name: str, one: str, other: str) -> None:
    assert await is_reused(site, name, {name: one}, {name: other})


@requires(SECTION, "lines of one name are the same as one line of them all")
async def test_combined_lines(site: Site) -> None:
    site.says("/p", [FRESH, ("Vary", "Foo")])
    visitor = await site.proxy.visitor()
    visitor.writer.write(b"GET /p HTTP/1.1\r\nHost: site.example\r\nFoo: 1\r\nFoo: 2\r\n\r\n")
    await visitor.reply()
    assert await site.is_reused("/p", headers={"Foo": "1, 2"})


@requires(SECTION, "a stored page in the language that a request likes best is selected")
@pytest.mark.parametrize(
    ("accept", "is_selected"),
    [("fr, de", True), ("fr;q=0.5, de", True), ("fr, de;q=0.5", False), ("fr", False)],
)
async def test_language(site: Site, accept: str, is_selected: bool) -> None:
    site.says("/p", [FRESH, ("Vary", "Accept-Language"), ("Content-Language", "de")])
    await site.get("/p", {"Accept-Language": "en, de"})
    assert await site.is_reused("/p", headers={"Accept-Language": accept}) is is_selected


@requires("RFC 9111 §4", "of several that fit, the one with the newest Date")
async def test_the_newest(site: Site) -> None:
    def german(body: str, day: int) -> list[tuple[str, str]]:
        return [
            ("Cache-Control", "max-age=99999999"),
            ("Date", f"Thu, {day:02} Dec 2026 10:00:00 GMT"),
            ("Vary", "Accept-Language"),
            ("Content-Language", "de"),
        ]

    site.on("/p", page("newer", german("newer", 24)), page("older", german("older", 17)))
    await site.get("/p", {"Accept-Language": "de-AT, de;q=0.5"})
    await site.get("/p", {"Accept-Language": "de-CH, de;q=0.5"})
    assert (await site.get("/p", {"Accept-Language": "de, fr"})).text == "newer"


@requires(SECTION, "the representation of one encoding is not sent to whoever did not ask for it")
async def test_encodings(site: Site) -> None:
    text = "text " * 200
    site.on("/p", page(text, [FRESH, ("Vary", "Accept-Encoding")]))
    await site.get("/p", {"Accept-Encoding": "gzip"})
    packed, plain = await site.get("/p", {"Accept-Encoding": "gzip;q=1.0"}), await site.get("/p")
    assert (packed.headers["content-encoding"], plain.headers.get("content-encoding")) == ("gzip", None)
    assert plain.text == text
    assert "accept-encoding" in plain.headers["vary"].lower()
    assert site.hits("/p") == 1


@requires(SECTION, "variants beyond max_variants are answered and not stored")
async def test_max_variants(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("x", [FRESH, ("Vary", "Foo")]))
    async with start() as proxy:
        for foo in range(16):
            await proxy.get("/p", {"Foo": str(foo)})
            await proxy.settled()
        assert "too-many-variants" in (await proxy.get("/p", {"Foo": "16"})).cache_status
        assert (await proxy.get("/p", {"Foo": "0"})).x_cache == "HIT"


@requires(SECTION, "a stale page in the language that is wanted is validated once, and then served")
@pytest.mark.parametrize("control", ["no-cache", "max-age=0", "max-age=60, must-revalidate"])
async def test_language_of_another(site: Site, control: str) -> None:
    said = {"Cache-Control": control, "Vary": "Accept-Language", "Content-Language": "en", "ETag": '"a"'}
    site.on("/p", page("1", said), [Send(head(304, said))])
    await site.get("/p", {"Accept-Language": "en"})
    site.clock.advance(61)
    reply = await site.get("/p", {"Accept-Language": "en, de;q=0.5"})
    assert (reply.text, site.hits("/p")) == ("1", 2)
    assert "fwd-status=304" in reply.cache_status
