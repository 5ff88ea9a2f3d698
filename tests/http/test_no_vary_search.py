"""draft-ietf-httpbis-no-vary-search: parts of a query that make no difference."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import pytest

from isr_proxy.core.http import Fields
from isr_proxy.core.purges import Scope, Selector, Strength
from isr_proxy.core.search_variance import DEFAULT, SearchVariance, search_variance
from isr_proxy.serve.job import Job
from isr_proxy.serve.on_demand import Result
from isr_proxy.serve.selection import Selection
from isr_proxy.serve.targets import parse_target, request_of
from tests.harness import FakeClock, Visitor, eventually
from tests.http.conftest import Site, Start
from tests.http.requirements import requires
from tests.scripted_origin import Close, Exchange, Headers, Script, ScriptedOrigin, Send, Wait, head, page

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
    ('params=("x")', "?a=%61", "?%61=a&x=1"),
    ('params=("x")', "?a=+&b", "?a=%20&b="),
    ('params=("x")', "?a=%c3%a4", "?a=%C3%A4"),
]
OTHER = [
    ("key-order", "?a=1&a=2", "?a=2&a=1"),
    ('params=("a")', "?a=1&b=2", "?a=1&b=3"),
    ('params=("a")', "?b=1&c=1", "?c=1&b=1"),
    ('params=("a")', "?b=%ff", "?b=%fe"),
    ('params=("a")', "?b=1%26c=1", "?b=1&c=1"),
    ('params=("a")', "?b=%2B", "?b=+"),
    ('params=("a")', "?=", ""),
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


@requires(DRAFT, "what is remembered of a path is not listed as a page")
async def test_listing(site: Site) -> None:
    assert await is_same(site, "params", "?a=1", "?a=2")
    listed, _ = await site.proxy.worker.operations.inventory.entries("", None, None, 10, None)
    assert [entry.url for entry in listed] == ["http://site.example/p"]


FRESH = {"Cache-Control": "max-age=60"}
NVS = {**FRESH, "No-Vary-Search": "params"}
ASKED = "RFC 9110 §7.7"


def by_query(headers: Headers = FRESH, **more: str) -> Callable[[Exchange], Awaitable[None]]:
    """Answer with what was asked for; `more` has the rule that answers with this in their query bring."""

    async def script(exchange: Exchange) -> None:
        asked = exchange.request.target
        said = [rule for part, rule in more.items() if part in asked]
        rules = {"No-Vary-Search": said[0]} if said else {}
        length = {"Content-Length": str(len(asked))}
        await exchange.send(head(200, {**dict(headers), **rules, **length}) + asked.encode())

    return script


async def sent(site: Site, *targets: str) -> list[Visitor]:
    """Ask for all of these, and return when all wait for the origin."""
    visitors = [await site.proxy.visitor() for _ in targets]
    for visitor, target in zip(visitors, targets, strict=True):
        visitor.send(target)
    flights = site.proxy.worker.engine.flights
    await eventually(lambda: sum(each.waiters for each in flights.in_flight()) == len(targets))
    return visitors


def cut(headers: Mapping[str, str]) -> Script:
    return [Send(head(200, {**headers, "Content-Length": "99"}) + b"half"), Close()]


# --- the origin is asked what the visitor asked, and he gets the answer to that ---


@requires(ASKED, "the origin is asked for the query as it came, however the page is kept")
@pytest.mark.parametrize("swr", ["", ", stale-while-revalidate=600"])
async def test_asked_as_it_came(site: Site, swr: str) -> None:
    site.says("/p", {"Cache-Control": f"max-age=60{swr}", "No-Vary-Search": "params"})
    await site.get("/p?a=1")
    site.clock.advance(61)
    await site.get("/p?a=2")
    assert site.last.target == "/p?a=2"


@requires(DRAFT, "a page that is made anew for nobody is asked for as it was last")
async def test_asked_by_an_operator(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("1", {"No-Vary-Search": "params"}))
    async with start("- {match: /**, revalidate: 60s}") as proxy:
        await proxy.get("/p?a=1")
        await proxy.settled()
        _, batch = await proxy.worker.operations.revalidate(Selection(paths=("/p",)))
        await batch.ended()
        await proxy.settled()
    assert [request.target for request in origin.requests] == ["/p?a=1", "/p?a=1"]


@requires(DRAFT, "also when an operator names another query, what is stored is compared with what comes")
async def test_law_1_asked_for_another_query(start: Start, origin: ScriptedOrigin) -> None:
    origin.on("/p", page("good" * 10, {"No-Vary-Search": "params"}), page("x", {"No-Vary-Search": "params"}))
    async with start("- {match: /**, revalidate: 60s, guard: {max_shrink: 0.5}}") as proxy:
        await proxy.get("/p?a=1")
        await proxy.settled()
        on_demand = proxy.worker.operations.on_demand
        job = on_demand.plan(request_of(parse_target("/p?a=2"), "site.example", "http"))
        assert isinstance(job, Job)
        made = await on_demand.regenerate(job, 0)
        assert made.result is Result.FAILED
        assert (await proxy.get("/p?a=3")).text == "good" * 10


@requires(DRAFT, "a rule that the origin gave up: each query gets its own page, and no other's")
async def test_given_up_by_query(site: Site) -> None:
    site.on("/p", by_query(NVS))
    await site.get("/p?a=1")
    site.clock.advance(61)
    site.on("/p", by_query())
    assert [(await site.get(f"/p?a={n}")).text for n in (2, 3)] == ["/p?a=2", "/p?a=3"]
    assert (await site.get("/p")).text == "/p"


@requires(DRAFT, "a rule that was purged, and not deleted yet, counts no more")
async def test_rule_purged(site: Site) -> None:
    site.on("/p", by_query(NVS))
    await site.get("/p?a=1")
    site.on("/p", by_query())
    await site.proxy.worker.purges.append((Selector(Scope.ALL),), now=site.clock())
    assert (await site.get("/p?a=2")).text == "/p?a=2"
    assert (await site.get("/p?a=3")).text == "/p?a=3"


@requires(DRAFT, "who waits for an answer that turns out not to be his asks for himself")
async def test_who_waits_for_another_query(site: Site) -> None:
    gate = asyncio.Event()
    site.on("/p", by_query({**NVS, "Cache-Control": "max-age=60"}))
    await site.get("/p?a=1")
    site.clock.advance(61)

    async def given_up(exchange: Exchange) -> None:
        await gate.wait()
        await by_query()(exchange)

    site.on("/p", given_up)
    visitors = await sent(site, *(f"/p?a={n}" for n in range(2, 5)))
    gate.set()
    assert [(await each.reply()).text for each in visitors] == ["/p?a=2", "/p?a=3", "/p?a=4"]


@requires(DRAFT, "who waits gets no other query's error page, but hears that the origin failed")
async def test_who_waits_for_an_error(site: Site) -> None:
    gate = asyncio.Event()
    site.on("/p", page("1", {**NVS, "Cache-Control": "max-age=60, must-revalidate"}))
    await site.get("/p?a=1")
    site.clock.advance(61)
    site.on("/p", [Wait(gate), *page("of a=2", {}, 500)])
    visitors = await sent(site, *(f"/p?a={n}" for n in (2, 3)))
    gate.set()
    first, second = [await each.reply() for each in visitors]
    assert {first.text, second.text} > {"of a=2"}
    assert {first.status, second.status} == {500, 504}


@requires(DRAFT, "queries that are one page wait for one fetch")
async def test_one_fetch(site: Site) -> None:
    gate = asyncio.Event()
    site.on("/p", page("1", NVS), [Wait(gate), *page("2", NVS)])
    await site.get("/p?a=1")
    site.clock.advance(61)
    visitors = await sent(site, *(f"/p?a={n}" for n in range(5)))
    gate.set()
    assert {(await each.reply()).text for each in visitors} == {"2"}
    assert site.hits("/p") == 2


@requires(DRAFT, "with Vary, both count")
async def test_with_vary(site: Site) -> None:
    site.says("/p", {**NVS, "Vary": "Foo"})
    await site.get("/p?a=1", {"Foo": "1"})
    assert await site.is_reused("/p?a=2", headers={"Foo": "1"})
    assert not await site.is_reused("/p?a=2", headers={"Foo": "2"})


@requires(DRAFT, "variants without the field, where a rule would have a page, answer no query")
async def test_plain_variants(site: Site) -> None:
    site.on("/p?a=1", page("q", {**NVS, "Vary": "Foo"}))
    site.on("/p", page("plain", {**FRESH, "Vary": "Foo"}))
    site.on("/p?a=2", page("two", FRESH))
    await site.get("/p?a=1", {"Foo": "1"})
    await site.get("/p", {"Foo": "2"})
    assert (await site.get("/p?a=2", {"Foo": "3"})).text == "two"
    assert (await site.get("/p?a=2", {"Foo": "2"})).text == "two"


@requires(DRAFT, "parts are of the query that was asked: another query's are never joined with them")
async def test_parts(site: Site) -> None:
    said = {**NVS, "ETag": '"a"', "Content-Range": "bytes 0-3/8"}
    site.on("/p", page("0123", said, 206), page("rest", {**said, "Content-Range": "bytes 4-7/8"}, 206))
    await site.get("/p?a=1", {"Range": "bytes=0-3"})
    assert not await site.is_reused("/p?a=2", headers={"Range": "bytes=0-3"})


# --- a purge of any query that a page answers for ---


@requires("RFC 9111 §4.4", "an unsafe request to a query reaches the page that answers for it")
@pytest.mark.parametrize("asked", ["/p?a=1", "/p?a=2", "/p"])
async def test_invalidated(site: Site, asked: str) -> None:
    site.says("/p", NVS)
    await site.get("/p?a=1")
    await site.get(asked, method="POST")
    assert not await site.is_reused(asked)


@requires(DRAFT, "a purge of a query reaches the page that answers for it, and counts it and no rule")
@pytest.mark.parametrize("named", ["/p?a=1", "/p?a=2", "http://site.example/p?a=2", "/p"])
async def test_law_2_purged(site: Site, named: str) -> None:
    site.says("/p", NVS)
    await site.get("/p?a=1")
    purged = await site.proxy.worker.operations.purge(Selection(paths=(named,)), Strength.HARD)
    assert purged.matched == 1
    assert not await site.is_reused("/p?a=2")


@requires(DRAFT, "what a purge of all counts are pages")
async def test_law_2_purge_of_all_counts_no_rule(site: Site) -> None:
    site.says("/p", NVS)
    await site.get("/p?a=1")
    purged = await site.proxy.worker.operations.purge(Selection(is_all=True), Strength.HARD)
    assert purged.matched == 1


@requires(DRAFT, "a page on its way under one query, that will answer for others, is purged by any of them")
@pytest.mark.parametrize("posted", ["/p", "/p?a=1", "/p?a=2"])
@pytest.mark.parametrize("asked", ["/p?a=1", "/p"])
async def test_law_2_purged_on_its_way(site: Site, posted: str, asked: str) -> None:
    gate = asyncio.Event()
    site.on("/p", [Wait(gate), *page("old", NVS)])
    (slow,) = await sent(site, asked)
    site.on("/p", page("ok"))
    await site.proxy.get(posted, method="POST")
    site.on("/p", page("new", NVS))
    gate.set()
    await slow.reply()
    await site.proxy.settled()
    assert (await site.get(posted)).text == "new"
    assert (await site.get("/p?a=9")).text == "new"


@requires(DRAFT, "also while the path's rule was another one")
async def test_law_2_purged_under_another_rule(site: Site) -> None:
    site.on("/p", by_query(a='params=("a")', b="key-order", c='params=("a")'))
    for query in ("x=1&a=1", "b=1"):
        await site.get(f"/p?{query}")
        site.clock.advance(1)
    await site.get("/p?x=1&a=2", method="POST")
    await site.get("/p?c=1")
    assert not await site.is_reused("/p?x=1&a=2")
    assert await site.is_reused("/p?x=1&a=3")


@requires("RFC 9111 §4.4", "an unsafe request reaches stored parts too")
async def test_parts_are_invalidated(site: Site) -> None:
    site.on("/p", page("0123", {**FRESH, "ETag": '"a"', "Content-Range": "bytes 0-3/8"}, 206))
    await site.get("/p", {"Range": "bytes=0-3"})
    assert await site.is_reused("/p", headers={"Range": "bytes=0-3"})
    await site.get("/p", method="POST")
    assert not await site.is_reused("/p", headers={"Range": "bytes=0-3"})


# --- what fails changes neither a page nor a rule ---


@requires(DRAFT, "an answer that breaks off takes nothing away, whatever rule its head has")
@pytest.mark.parametrize("mode", ["origin", "60s"])
@pytest.mark.parametrize(("before", "after"), [(FRESH, NVS), (NVS, FRESH)])
async def test_law_1_broken_off(
    start: Start, origin: ScriptedOrigin, clock: FakeClock, mode: str, before: Headers, after: Headers
) -> None:
    origin.on("/p", page("good", before), cut(dict(after)), page("oops", {}, 500))
    async with start(f"- {{match: /**, revalidate: {mode}}}") as proxy:
        for _ in range(2):
            await proxy.get("/p?a=1")
            await proxy.settled()
            clock.advance(61)
        reply = await proxy.get("/p?a=1")
        assert (reply.status, reply.text) == (200, "good")


@requires(DRAFT, "nor does one that fails its guard, or is much smaller than what it would replace")
@pytest.mark.parametrize("guard", ["contains: [good]", "max_shrink: 0.5"])
async def test_law_1_guard(start: Start, origin: ScriptedOrigin, clock: FakeClock, guard: str) -> None:
    good = "good" * 10
    origin.on("/p", page(good, {"No-Vary-Search": "key-order"}), page("x"), page("oops", {}, 500))
    async with start(f"- {{match: /**, revalidate: 60s, guard: {{{guard}}}}}") as proxy:
        await proxy.get("/p?b=2&a=1")
        await proxy.settled()
        clock.advance(61)
        await proxy.get("/p?b=2&a=1")
        await proxy.settled()
        reply = await proxy.get("/p?a=1&b=2")
        assert (reply.status, reply.text) == (200, good)


@requires(DRAFT, "an answer without the field, to a query that nothing was stored for, forgets no rule")
async def test_two_kinds_of_queries(site: Site) -> None:
    site.on("/p", by_query(a="key-order"))
    for query in ("b=2&a=1", "c=3", "d=3"):
        await site.get(f"/p?{query}")
    assert await site.is_reused("/p?a=1&b=2")


@requires("RFC 9111 §3.2", "a 304 may change the rule: the page lies where that has it")
@pytest.mark.parametrize(
    ("before", "after", "same", "other"),
    [
        ("", "params", "/p?a=2", "/q"),
        ("params", "key-order", "/p?a=1", "/p?a=2"),
        ("key-order", 'params=("b")', "/p?a=1&b=3", "/p?a=2&b=1"),
    ],
)
async def test_changed_by_304(site: Site, before: str, after: str, same: str, other: str) -> None:
    told = Send(head(304, {**FRESH, "ETag": '"a"', "No-Vary-Search": after}))
    site.on("/p", page("1", {**FRESH, "ETag": '"a"', "No-Vary-Search": before}), [told], page("2", FRESH))
    for _ in range(2):
        await site.get("/p?a=1")
        site.clock.advance(61)
    site.clock.advance(-60)
    assert await site.is_reused(same)
    assert not await site.is_reused(other)


def test_nothing_said_is_the_default() -> None:
    assert search_variance(Fields()) == variance("") == variance("params=?0") == DEFAULT


def test_what_is_left_has_one_spelling() -> None:
    assert variance('params=("a")').shortened("b=%C3%a4+%7e&a=1&&c") == "b=%C3%A4+~&c="
    assert variance("params").shortened("a=1") is None
