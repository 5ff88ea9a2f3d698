"""draft-ietf-httpbis-no-vary-search: parts of a query that make no difference."""

from __future__ import annotations

import pytest

from isr_proxy.core.http import Fields
from isr_proxy.core.search_variance import DEFAULT, SearchVariance, search_variance
from tests.http.conftest import Site, Start
from tests.http.requirements import requires
from tests.scripted_origin import ScriptedOrigin, page

DRAFT = "No-Vary-Search"


def variance(value: str) -> SearchVariance:
    return search_variance(Fields([(b"No-Vary-Search", value.encode())]))


async def is_same(site: Site, rule: str, one: str, other: str) -> bool:
    site.says("/p", {"Cache-Control": "max-age=60", "No-Vary-Search": rule})
    await site.get(f"/p{one}")
    return await site.is_reused(f"/p{other}")


SAME = [
    ("key-order", "?a=1&b=2", "?b=2&a=1"),
    ("params", "?a=1", "?b=2"),
    ("params", "?a=1", ""),
    ('params=("a")', "?a=1&b=2", "?b=2&a=3"),
    ('params=("a")', "?b=2", "?%61=1&b=2"),
    ('params=("a b")', "?a+b=1", "?a%20b=2"),
    ('params, except=("x")', "?x=1&a=1", "?b=2&x=1"),
    ('key-order, params=("a")', "?c=1&a=1&b=2", "?b=2&c=1"),
    ("params=?1", "?a=1", "?a=2"),
]
OTHER = [
    ("key-order", "?a=1&a=2", "?a=2&a=1"),
    ('params=("a")', "?a=1&b=2", "?a=1&b=3"),
    ('params=("a")', "?b=1&c=1", "?c=1&b=1"),
    ('params, except=("x")', "?x=1", "?x=2"),
    ("params=?0", "?a=1", "?a=2"),
    ("params=(a)", "?a=1", "?a=2"),
    ('params="a"', "?a=1", "?a=2"),
    ('except=("a")', "?b=1", "?b=2"),
    ('params=("a"), except=("b")', "?a=1", "?a=2"),
    ("key-order=1", "?a=1&b=2", "?b=2&a=1"),
    ("&&&", "?a=1", "?a=2"),
]


@requires(DRAFT, "URLs that differ only in what the origin says makes no difference are one page")
@pytest.mark.parametrize(("rule", "one", "other"), SAME)
async def test_same_page(site: Site, rule: str, one: str, other: str) -> None:
    assert await is_same(site, rule, one, other)


@requires(DRAFT, "all others are not, nor anything under a field that is malformed")
@pytest.mark.parametrize(("rule", "one", "other"), OTHER)
async def test_other_page(site: Site, rule: str, one: str, other: str) -> None:
    assert not await is_same(site, rule, one, other)


@requires(DRAFT, "a path's rule is no other path's, and no other host's")
async def test_per_path(site: Site) -> None:
    assert await is_same(site, "params", "?a=1", "?a=2")
    site.says("/q", {"Cache-Control": "max-age=60"})
    await site.get("/q?a=1")
    assert not await site.is_reused("/q?a=2")
    assert not await site.is_reused("/p?a=3", headers={"Host": "other.example"})


@requires(DRAFT, "a rule that the origin gives up counts no more")
async def test_given_up(site: Site) -> None:
    fresh = {"Cache-Control": "max-age=60"}
    site.says("/p", {**fresh, "No-Vary-Search": "params"}, fresh)
    await site.get("/p?a=1")
    site.clock.advance(61)
    await site.get("/p?a=2")
    assert not await site.is_reused("/p?a=3")


@requires(DRAFT, "a restart forgets no rule")
async def test_restart(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("1", {"Cache-Control": "max-age=60", "No-Vary-Search": "params"}))
    async with start() as proxy:
        await proxy.get("/p?a=1")
        await proxy.settled()
    async with start() as proxy:
        assert (await proxy.get("/p?a=2")).x_cache == "HIT"


@requires(DRAFT, "a purge of the path reaches the page under any of its queries")
async def test_purge(site: Site) -> None:
    assert await is_same(site, "params", "?a=1", "?a=2")
    await site.get("/p", method="POST")
    assert not await site.is_reused("/p?a=1")


@requires(DRAFT, "what is remembered of a path is not listed as a page")
async def test_listing(site: Site) -> None:
    assert await is_same(site, "params", "?a=1", "?a=2")
    listed, _ = await site.proxy.worker.operations.inventory.entries("", None, None, 10, None)
    assert [entry.url for entry in listed] == ["http://site.example/p"]


def test_nothing_said_is_the_default() -> None:
    assert search_variance(Fields()) == variance("") == variance("params=?0") == DEFAULT


def test_what_is_left_keeps_its_spelling() -> None:
    assert variance('params=("a")').shortened("b=%C3%a4&a=1&&c") == "b=%C3%a4&c"
    assert variance("params").shortened("a=1") is None
