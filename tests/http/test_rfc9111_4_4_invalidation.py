"""RFC 9111 §4.4: what an unsafe request makes unusable; RFC 9875: groups."""

from __future__ import annotations

import asyncio

import pytest

from isr_proxy.core.http import Head, Request
from tests.harness import FakeClock, eventually
from tests.http.conftest import Site, Start
from tests.http.requirements import requires
from tests.scripted_origin import Headers, ScriptedOrigin, page

FRESH = {"Cache-Control": "max-age=600"}
SECTION = "RFC 9111 §4.4"


async def is_kept_after(
    site: Site, method: str, path: str, headers: Headers = (), *, status: int = 200, of: str = "/p"
) -> bool:
    """Tell whether a stored page is still used after an unsafe request."""
    site.on(path, page("done", headers, status))
    site.says(of, FRESH)
    await site.get(of)
    site.on(path, page("done", headers, status))
    await site.get(path, method=method)
    return await site.is_reused(of)


@requires(SECTION, "an unsafe or unknown method that succeeds invalidates its URL")
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "M-SEARCH"])
@pytest.mark.parametrize("status", [200, 201, 204, 303])
async def test_own_url(site: Site, method: str, status: int) -> None:
    assert not await is_kept_after(site, method, "/p", status=status)


@requires(SECTION, "one that fails does not")
@pytest.mark.parametrize("status", [400, 403, 404, 409, 500, 503])
async def test_failure(site: Site, status: int) -> None:
    assert await is_kept_after(site, "POST", "/p", status=status)


@requires(SECTION, "nor does a safe one")
@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "PROPFIND", "REPORT", "SEARCH", "QUERY"])
async def test_safe_methods(site: Site, method: str) -> None:
    assert await is_kept_after(site, method, "/p")


@requires(SECTION, "all variants of it, and no other query")
async def test_variants(site: Site) -> None:
    site.says("/p", {**FRESH, "Vary": "Foo"})
    for path in ("/p", "/p?q=1"):
        await site.get(path, {"Foo": "1"})
    await site.get("/p", method="POST")
    assert not await site.is_reused("/p", headers={"Foo": "1"})
    assert await site.is_reused("/p?q=1", headers={"Foo": "1"})


POINTING = [
    {"Location": "/p"},
    {"Content-Location": "/p"},
    {"Location": "p"},
    {"Location": "http://site.example/p"},
    {"Location": "http://SITE.example:80/p#part"},
]
ELSEWHERE = [
    {"Location": "http://other.example/p"},
    {"Location": "https://site.example/p"},
    {"Content-Location": "http://site.example:81/p"},
    {"Location": "//other.example/p"},
    {"Location": "http://[/p"},
]


@requires(SECTION, "Location and Content-Location of the same origin are invalidated too")
@pytest.mark.parametrize("headers", POINTING)
async def test_pointers(site: Site, headers: Headers) -> None:
    assert not await is_kept_after(site, "POST", "/form", headers, status=201)


@requires(SECTION, "those of another origin are not, as anybody could purge anything")
@pytest.mark.parametrize("headers", ELSEWHERE)
async def test_other_origins(site: Site, headers: Headers) -> None:
    assert await is_kept_after(site, "POST", "/form", headers, status=201)


@requires(SECTION, "what was invalidated is fetched anew, and a fetch from before does not bring it back")
async def test_slow_fetch(site: Site) -> None:
    import asyncio

    from tests.scripted_origin import Exchange

    begun, release = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        if exchange.request.method == "GET" and not begun.is_set():
            begun.set()
            await release.wait()
            await exchange.run(page("before", FRESH))
        else:
            await exchange.body()
            await exchange.run(page("after", FRESH))

    site.on("/p", script)
    first = asyncio.ensure_future(site.get("/p"))
    await begun.wait()
    await site.proxy.get("/p", method="POST")
    release.set()
    assert (await first).text == "before"
    assert (await site.get("/p")).text == "after"


@requires(
    SECTION, "on a route with a ttl of its own only where it says so: any visitor could keep a page cold"
)
@pytest.mark.parametrize(("key", "x_cache"), [("", "HIT"), (", unsafe_methods: invalidate", "MISS")])
async def test_isr_routes(
    start: Start, origin: ScriptedOrigin, clock: FakeClock, key: str, x_cache: str
) -> None:
    origin.on("/p", page("1"))
    async with start(f"- {{match: /**, revalidate: 60s{key}}}") as proxy:
        await proxy.get("/p")
        await proxy.settled()
        await proxy.get("/p", method="POST")
        assert (await proxy.get("/p")).x_cache == x_cache


# --- RFC 9875 ---


async def grouped(site: Site, groups: str, invalidates: str, *, method: str = "POST") -> bool:
    """Tell whether a page in these groups is still used after an answer that invalidates those."""
    site.says("/p", {**FRESH, "Cache-Groups": groups})
    await site.get("/p")
    site.on("/form", page("done", {"Cache-Group-Invalidation": invalidates}))
    await site.get("/form", method=method)
    return await site.is_reused("/p")


@requires("RFC 9875 §3", "Cache-Group-Invalidation invalidates every page of the groups it names")
@pytest.mark.parametrize(
    ("groups", "invalidates"),
    [
        ('"a"', '"a"'),
        ('"x", "a"', '"a", "y"'),
        ('"a";p=1', '"a"'),
        (", ".join(f'"{"g" * 30}{n:02}"' for n in range(32)), f'"{"g" * 30}31"'),
    ],
)
async def test_groups(site: Site, groups: str, invalidates: str) -> None:
    assert not await grouped(site, groups, invalidates)


@requires("RFC 9875 §2", "names are compared by case, and what is not a list of strings is no group")
@pytest.mark.parametrize(
    ("groups", "invalidates"),
    [('"a"', '"A"'), ('"a"', "a"), ("a", '"a"'), ('"a", b', '"a"'), ('"a"', '"a" "b"')],
)
async def test_other_groups(site: Site, groups: str, invalidates: str) -> None:
    assert await grouped(site, groups, invalidates)


@requires("RFC 9875 §3", "in an answer to a safe method it is ignored")
async def test_groups_and_safe_methods(site: Site) -> None:
    assert await grouped(site, '"a"', '"a"', method="OPTIONS")


@requires("RFC 9875 §3", "an answer to an unsafe method names groups whatever its status is")
@pytest.mark.parametrize("status", [200, 404, 500])
async def test_groups_of_any_status(site: Site, status: int) -> None:
    site.says("/p", {**FRESH, "Cache-Groups": '"a"'})
    await site.get("/p")
    site.on("/form", page("no", {"Cache-Group-Invalidation": '"a"'}, status))
    await site.get("/form", method="POST")
    assert not await site.is_reused("/p")


@requires("RFC 9875 §3", "groups of another origin are other groups")
async def test_groups_of_other_hosts(site: Site) -> None:
    site.says("/p", {**FRESH, "Cache-Groups": '"a"'})
    await site.get("/p")
    site.on("/form", page("done", {"Cache-Group-Invalidation": '"a"'}))
    await site.get("/form", {"Host": "other.example"}, method="POST")
    assert await site.is_reused("/p")


@requires("RFC 9875 §2", "group fields are for caches: visitors do not see them")
async def test_groups_are_not_shown(site: Site) -> None:
    site.says("/p", {**FRESH, "Cache-Groups": '"a"'})
    assert "cache-groups" not in (await site.get("/p")).headers


@requires(SECTION, "what was done is heard of, also when the visitor hangs up while it is written down")
async def test_visitor_gone(site: Site) -> None:
    inside, gate, done = asyncio.Event(), asyncio.Event(), asyncio.Event()
    engine, after = site.proxy.worker.engine, site.proxy.worker.engine.after_pass

    async def slowly(request: Request, answer: Head) -> None:
        inside.set()
        await gate.wait()
        await after(request, answer)
        done.set()

    site.says("/p", FRESH)
    await site.get("/p")
    engine.after_pass = slowly
    visitor = await site.proxy.visitor()
    visitor.send("/p", {"Content-Length": "0"}, method="POST")
    await inside.wait()
    visitor.reset()
    await eventually(lambda: b"visitor-gone" in site.proxy.worker.observation.render())
    gate.set()
    await asyncio.wait_for(done.wait(), 5)
    assert not await site.is_reused("/p")
