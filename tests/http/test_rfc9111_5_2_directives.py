"""RFC 9111 §5.2: Cache-Control of requests and responses; §5.4: Pragma."""

from __future__ import annotations

import asyncio

import pytest

from tests.harness import FakeClock
from tests.http.conftest import Site, Start
from tests.http.requirements import requires
from tests.scripted_origin import Close, ScriptedOrigin, Send, Wait, head, page

FRESH = {"Cache-Control": "max-age=60"}
WITH_TAG = {**FRESH, "ETag": '"abc"'}


async def asked_again(site: Site, directives: str, *, at: float) -> bool:
    """Tell whether a request with these directives reaches the origin, so long after the first."""
    site.says("/p", FRESH, FRESH)
    await site.get("/p")
    return not await site.is_reused("/p", after=at, headers={"Cache-Control": directives})


# --- requests, §5.2.1 ---

REQUESTS = [
    ("max-age=0", 1, True),
    ("max-age=10", 9, False),
    ("max-age=10", 11, True),
    ("max-age=nonsense", 1, True),
    ("MAX-AGE=0", 1, True),
    ("no-cache", 1, True),
    ("min-fresh=10", 49, False),
    ("min-fresh=10", 51, True),
    ("max-stale", 9999, False),
    ("max-stale=10", 69, False),
    ("max-stale=10", 71, True),
    ("max-stale=10, max-age=1", 69, True),
    ("foo, no-transform", 1, False),
    ("no-store", 59, False),
    ("no-store", 61, True),
]


@requires(
    "RFC 9111 §5.2.1", "max-age, min-fresh, max-stale and no-cache of a request are heeded where honored"
)
@pytest.mark.parametrize(("directives", "at", "is_asked"), REQUESTS)
async def test_requests(site: Site, directives: str, at: float, is_asked: bool) -> None:
    assert await asked_again(site, directives, at=at) is is_asked


@requires("RFC 9111 §5.2.1.2", "max-stale does not bring back what must-revalidate forbids")
async def test_max_stale_forbidden(site: Site) -> None:
    site.says("/p", {"Cache-Control": "max-age=60, must-revalidate"})
    await site.get("/p")
    assert not await site.is_reused("/p", after=61, headers={"Cache-Control": "max-stale"})


@requires("RFC 9111 §5.2.1.4", "no-cache validates what is stored")
@pytest.mark.parametrize("asked", [{"Cache-Control": "no-cache"}, {"Cache-Control": "max-age=0"}])
async def test_no_cache_validates(site: Site, asked: dict[str, str]) -> None:
    site.says("/p", WITH_TAG)
    await site.get("/p")
    site.clock.advance(1)
    await site.get("/p", asked)
    assert site.last.header("if-none-match") == '"abc"'


@requires("RFC 9111 §5.2.1.5", "nothing of a request with no-store, or of its answer, is stored")
async def test_request_no_store(site: Site) -> None:
    site.says("/p", FRESH)
    await site.get("/p", {"Cache-Control": "no-store"})
    assert not await site.is_reused("/p")


@requires("RFC 9111 §5.2.1.7", "only-if-cached with no-store does not ask the origin either")
async def test_only_if_cached_with_no_store(site: Site) -> None:
    site.says("/p", FRESH)
    reply = await site.get("/p", {"Cache-Control": "only-if-cached, no-store"})
    assert (reply.status, site.hits("/p")) == (504, 0)


@requires("RFC 9111 §5.2.1.7", "only-if-cached: from the store, or 504 without asking the origin")
async def test_only_if_cached(site: Site) -> None:
    asked = {"Cache-Control": "only-if-cached"}
    site.says("/p", FRESH)
    assert ((await site.get("/p", asked)).status, site.hits("/p")) == (504, 0)
    await site.get("/p")
    assert (await site.get("/p", asked)).text == "1"
    site.clock.advance(61)
    assert ((await site.get("/p", asked)).status, site.hits("/p")) == (504, 1)


@requires("RFC 9111 §5.4", "Pragma: no-cache of a request counts where it has no Cache-Control")
@pytest.mark.parametrize(
    ("asked", "is_reused"),
    [
        ({"Pragma": "no-cache"}, False),
        ({"Pragma": "no-cache", "Cache-Control": "max-age=9"}, True),
        ({"Pragma": "foo"}, True),
    ],
)
async def test_pragma(site: Site, asked: dict[str, str], is_reused: bool) -> None:
    site.says("/p", FRESH)
    await site.get("/p")
    assert await site.is_reused("/p", headers=asked) is is_reused


@requires("RFC 9111 §5.4", "Pragma of a response means nothing")
async def test_pragma_of_a_response(site: Site) -> None:
    assert await site.keeps({**FRESH, "Pragma": "no-cache"})


@requires("RFC 9111 §5.2.1", "by default a visitor cannot have a page made anew")
@pytest.mark.parametrize("asked", ["no-cache", "max-age=0", "no-store", "only-if-cached", "min-fresh=99"])
async def test_ignored_by_default(start: Start, origin: ScriptedOrigin, clock: FakeClock, asked: str) -> None:
    origin.on("/p", page("1"))
    async with start("- {match: /**, revalidate: 60s}") as proxy:
        await proxy.get("/p")
        await proxy.settled()
        assert (await proxy.get("/p", {"Cache-Control": asked})).x_cache == "HIT"


# --- responses, §5.2.2 ---

UNSTORED = [
    "no-store",
    "NO-STORE",
    "no-store, max-age=60",
    "max-age=60, No-Store",
    "private",
    "max-age=60, PRIVATE",
    "private, max-age=60, s-maxage=60",
    'max-age=60, private=""',
    'max-age=60, private="not a name"',
    "max-age=60; no-store",
]


@requires("RFC 9111 §5.2.2.5", "no-store and private (§5.2.2.7) keep a response out, in any case and order")
@pytest.mark.parametrize("directives", UNSTORED)
async def test_unstored(site: Site, directives: str) -> None:
    assert not await site.keeps({"Cache-Control": directives})


@requires("RFC 9111 §5.2", "no-store and private are not lost where a blank stands for the comma")
@pytest.mark.parametrize("directives", ["max-age=60 no-store", "max-age=60 private", 'public="x" private'])
async def test_blank_for_a_comma(site: Site, directives: str) -> None:
    site.on("/p", page("1", {"Cache-Control": directives, "ETag": '"a"'}), page("oops", {}, 500))
    await site.get("/p")
    site.clock.advance(61)
    assert (await site.get("/p")).text == "oops"


VALIDATED = [
    "no-cache",
    "max-age=60, no-cache",
    "max-age=60, NO-CACHE",
    "s-maxage=60, no-cache",
    'no-cache=""',
]


@requires("RFC 9111 §5.2.2.4", "no-cache: stored, and validated before each use")
@pytest.mark.parametrize("directives", VALIDATED)
async def test_no_cache(site: Site, directives: str) -> None:
    site.says("/p", {"Cache-Control": directives, "ETag": '"abc"'})
    await site.get("/p")
    await site.get("/p")
    assert (site.hits("/p"), site.last.header("if-none-match")) == (2, '"abc"')


@requires(
    "RFC 9111 §5.2.2.2", "must-revalidate and proxy-revalidate do not keep a fresh response from being used"
)
@pytest.mark.parametrize(
    "directive", ["must-revalidate", "proxy-revalidate", "no-transform", "ext", 'ext="a,b"']
)
async def test_harmless_directives(site: Site, directive: str) -> None:
    assert await site.keeps({"Cache-Control": f"max-age=60, {directive}"})


@requires(
    "RFC 9111 §5.2.2.3", "must-understand: a status that is not understood is not stored, one that is may be"
)
@pytest.mark.parametrize(
    ("status", "directives", "is_kept"),
    [
        (599, "max-age=60, must-understand", False),
        (299, "max-age=60, must-understand", False),
        (200, "max-age=60, must-understand", True),
        (200, "max-age=60, must-understand, no-store", True),
        (404, "max-age=60, must-understand, no-store", True),
        (299, "max-age=60, must-understand, no-store", False),
    ],
)
async def test_must_understand(site: Site, status: int, directives: str, is_kept: bool) -> None:
    assert await site.keeps({"Cache-Control": directives}, status=status) is is_kept


@requires("RFC 9111 §5.2.2.5", "a no-store response leaves no trace, and the next that may be stored is")
async def test_no_store_then_fresh(site: Site) -> None:
    site.says("/p", {"Cache-Control": "no-store"}, FRESH)
    assert [(await site.get("/p")).text for _ in range(3)] == ["1", "2", "2"]


@requires("RFC 9111 §5.2.2.6", "no-transform: no compressed copies are made")
async def test_no_transform(site: Site) -> None:
    site.on("/p", page("text " * 200, {"Cache-Control": "max-age=60, no-transform"}))
    await site.get("/p")
    assert "content-encoding" not in (await site.get("/p", {"Accept-Encoding": "gzip"})).headers


@requires(
    "RFC 9111 §5.2.2.2", "who waited for a must-revalidate answer that is stale at once asks for himself"
)
@pytest.mark.parametrize("control", ["max-age=0, must-revalidate", "no-cache"])
async def test_zero_is_not_for_those_who_wait(site: Site, control: str) -> None:
    gate = asyncio.Event()
    said = {"Cache-Control": control, "ETag": '"abc"'}
    site.on("/p", [Wait(gate), *page("1", said)], page("2", said))
    first = asyncio.ensure_future(site.proxy.get("/p"))
    await site.origin.received(1)
    second = asyncio.ensure_future(site.proxy.get("/p"))
    await site.proxy.waiting(2)
    gate.set()
    assert ((await first).text, (await second).text, site.hits("/p")) == ("1", "2", 2)


@requires("RFC 9111 §5.2.2.2", "each request for a stored page that is stale at once is validated by itself")
async def test_zero_is_validated_by_each(site: Site) -> None:
    gate = asyncio.Event()
    said = {"Cache-Control": "max-age=0, must-revalidate", "ETag": '"abc"'}
    site.on("/p", page("1", said), [Wait(gate), Send(head(304, said))])
    await site.get("/p")
    asked = [asyncio.ensure_future(site.proxy.get("/p")) for _ in range(3)]
    await site.origin.received(4)
    gate.set()
    assert {reply.text for reply in await asyncio.gather(*asked)} == {"1"}


@requires("RFC 9111 §5.2.2.4", "what must be validated is 504 while the origin cannot be reached")
@pytest.mark.parametrize("control", ["max-age=60, no-cache", "max-age=0, must-revalidate"])
async def test_disconnected(site: Site, control: str) -> None:
    site.on("/p", page("1", {"Cache-Control": control, "ETag": '"a"'}), [Close()])
    await site.get("/p")
    assert (await site.get("/p")).status == 504
