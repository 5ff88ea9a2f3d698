"""Attack: cache busting. Requests that are all different fill the store, or go through to the origin.

FIELD.md section 4.9: a query allow-list, a cap on variants, caps on size, and admission keep both in bounds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.harness import config, running
from tests.http.attacking import Gullible, Scene, get, owed
from tests.http.requirements import requires
from tests.scripted_origin import page

MANY = 40


@requires("Attack: cache busting", "a list of query names makes all other queries one page, fetched once")
async def test_allow_list(tmp_path: Path) -> None:
    routes = "- {match: /**, revalidate: 60s, key: {query: [page]}}"
    async with Gullible() as origin, running(config(origin.url, tmp_path / "store", routes)) as proxy:
        for number in range(MANY):
            assert (await proxy.get(f"/p?cb={number}&page=1&{number}")).body == owed("/p?page=1")
            await proxy.settled()
        assert len(origin.requests) == 1


@requires("Attack: cache busting", "parameters of advertisers are ignored without being asked to")
async def test_ad_parameters(scene: Scene) -> None:
    for name in ("utm_source", "utm_anything", "gclid", "fbclid", "msclkid", "mc_cid", "mc_eid"):
        reply = await scene.ask(get(target=f"/isr/target?{name}=x".encode()))
        await scene.proxy.settled()
        assert reply.body == owed("/isr/target")
    assert len(scene.origin.requests) == 1


@requires("Attack: cache busting", "a header that nobody keys makes no other page of an ISR route")
@pytest.mark.parametrize(
    "name", ["User-Agent", "Accept", "Accept-Language", "Origin", "Referer", "Cookie", "X-Any"]
)
async def test_headers(scene: Scene, name: str) -> None:
    for number in range(10):
        reply = await scene.ask(get(f"{name}: {number}".encode(), target=b"/isr/target"))
        await scene.proxy.settled()
        assert reply.body == owed("/isr/target")
    assert len(scene.origin.requests) == 1


@requires("Attack: cache busting", "directives of a visitor fetch nothing anew unless the route honors them")
@pytest.mark.parametrize("way", ["isr", "shared"])
@pytest.mark.parametrize("line", ["Cache-Control: no-cache", "Cache-Control: max-age=0", "Pragma: no-cache"])
async def test_directives(scene: Scene, way: str, line: str) -> None:
    for _ in range(5):
        await scene.ask(get(line.encode(), target=f"/{way}/target".encode()))
        await scene.proxy.settled()
    assert len(scene.origin.requests) == 1


@requires("Attack: cache busting", "the store stays within max_size, however many URLs are asked for")
async def test_disk_is_bounded(tmp_path: Path) -> None:
    body = "x" * 200_000
    async with Gullible() as origin:
        routes = "- {match: /**, revalidate: 60s, compress: false}"
        text = config(origin.url, tmp_path / "store", routes, max_entry="1MiB")
        text = text.replace("fsync: false", "fsync: false, max_size: 4MiB, memory: 200KiB", 1)
        async with running(text) as proxy:
            for number in range(MANY):
                origin.on(f"/{number}", page(body))
                assert (await proxy.get(f"/{number}")).text == body
                await proxy.settled()
            assert proxy.worker.disk.stat().size_bytes <= 4 * 2**20
            assert proxy.worker.disk.stat().entries > 0


@requires("Attack: cache busting", "a 404 of a made-up path does not push a good page out for long")
async def test_not_found_is_short_lived(scene: Scene) -> None:
    scene.origin.on("/isr/gone", page("not found", status=404))
    for _ in range(2):
        assert (await scene.ask(get(target=b"/isr/gone"))).status == 404
        await scene.proxy.settled()
    assert scene.origin.hits("/isr/gone") == 1
    scene.origin.on("/isr/gone", page(owed("/isr/gone")))
    scene.proxy.clock.advance(11)
    await scene.honest("/isr/gone")


@requires("Attack: cache busting", "a large body of a made-up path passes; it is not stored")
async def test_large_bodies(tmp_path: Path) -> None:
    routes = "- {match: /**, revalidate: 60s}"
    async with Gullible() as origin:
        text = config(origin.url, tmp_path / "store", routes, max_entry="64KiB")
        async with running(text) as proxy:
            origin.on("/large", page("x" * 200_000))
            assert len((await proxy.get("/large")).body) == 200_000
            await proxy.settled()
            assert proxy.worker.disk.stat().entries == 0
