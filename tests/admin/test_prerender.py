"""Pages made ahead: at start, on demand, from lists and sitemaps; and what counts as prerendered."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

from isr_proxy.core.settings import Fallback, FallbackKind, PathSource, PathSourceKind, Route
from tests.admin.rig import HOST, ISR, TTL, Rig, running, settings
from tests.harness import FakeClock, eventually
from tests.scripted_origin import ScriptedOrigin, page

NOT_FOUND = Fallback(FallbackKind.NOT_FOUND)


def urlset(*locations: str) -> bytes:
    urls = "".join(f"<url><loc>{location}</loc></url>" for location in locations)
    return f'<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{urls}</urlset>'.encode()


async def done(rig: Rig) -> None:
    """Wait until everything that was started is made."""
    await eventually(lambda: rig.operations.batches.newest())
    for batch in rig.operations.batches.newest():
        await batch.ended()


async def test_paths_are_made_and_found_by_visitors(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("a"))
    answer = await rig.post("/v1/prerender", {"paths": ["/a", "/missing"]})
    job = await rig.job(answer.json["id"])
    assert (answer.status, job["total"], job["regenerated"]) == (202, 2, 2)
    assert (await rig.visit("/a")).x_cache == "HIT"


async def test_failures_are_listed_with_their_reason(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("oops", status=500))
    answer = await rig.post("/v1/prerender", {"paths": ["/a"]})
    job = await rig.job(answer.json["id"])
    assert job["failures"] == [{"url": f"http://{HOST}/a", "result": "failed", "reason": "server-error"}]


async def test_sitemap_index_gzip_and_foreign_hosts(rig: Rig, origin: ScriptedOrigin) -> None:
    index = b"<sitemapindex><sitemap><loc>/one.xml.gz</loc></sitemap></sitemapindex>"
    origin.on("/sitemap.xml", page(index))
    pages = urlset(f"https://{HOST}/a", "http://elsewhere.example/b?x=1&amp;y=2")
    origin.on("/one.xml.gz", page(gzip.compress(pages)))
    answer = await rig.post("/v1/prerender", {"sitemap": f"https://{HOST}/sitemap.xml"})
    job = await rig.job(answer.json["id"])
    assert job["total"] == 2
    assert {request.target for request in origin.requests[2:]} == {"/a", "/b?x=1&y=2"}


async def test_sitemap_behind_a_redirect(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/sitemap.xml", page("", {"Location": "/wp-sitemap.xml"}, status=301))
    origin.on("/wp-sitemap.xml", page(urlset("/a")))
    answer = await rig.post("/v1/prerender", {"sitemap": "/sitemap.xml"})
    assert (await rig.job(answer.json["id"]))["total"] == 1


async def test_sitemap_that_fails_is_listed(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/sitemap.xml", page("gone", status=500))
    answer = await rig.post("/v1/prerender", {"sitemap": "/sitemap.xml"})
    job = await rig.job(answer.json["id"])
    assert "the origin answered 500" in job["failures"][0]["reason"]


async def test_nothing_to_prerender_and_unknown_jobs(rig: Rig) -> None:
    assert (await rig.post("/v1/prerender", {})).status == 422
    assert (await rig.post("/v1/prerender", {"paths": ["a"]})).status == 422
    assert (await rig.get("/v1/jobs/none")).status == 404


async def test_law_7_restart_does_not_fetch_what_is_fresh(origin: ScriptedOrigin, tmp_path: Path) -> None:
    sources = tuple(PathSource(PathSourceKind.PATH, path) for path in ("/a", "/b"))
    config = settings(origin.url, tmp_path, [replace(ISR, prerender=sources)])
    clock = FakeClock()
    origin.on("/a", page("a"))
    origin.on("/b", page("b"))
    for _ in range(2):
        async with running(config, clock) as rig:
            await done(rig)
    assert (origin.hits("/a"), origin.hits("/b")) == (1, 1)


async def test_every_source_at_start(origin: ScriptedOrigin, tmp_path: Path) -> None:
    listed = tmp_path / "paths.txt"
    listed.write_text("# front pages\n/file\n\n")
    origin.on("/paths.json", page('{"paths": ["/json", {"loc": "/loc"}]}'))
    origin.on("/sitemap.xml", page(urlset("/mapped")))
    sources = (
        PathSource(PathSourceKind.FILE, str(listed)),
        PathSource(PathSourceKind.JSON, "/paths.json"),
        PathSource(PathSourceKind.SITEMAP, "/sitemap.xml"),
    )
    async with running(settings(origin.url, tmp_path / "store", [replace(ISR, prerender=sources)])) as rig:
        await done(rig)
        assert {request.path for request in origin.requests[2:]} == {"/file", "/json", "/loc", "/mapped"}


async def test_fallback_not_found_knows_what_is_listed(origin: ScriptedOrigin, tmp_path: Path) -> None:
    source = PathSource(PathSourceKind.PATH, "/listed")
    route = Route("/**", revalidate=TTL, fallback=NOT_FOUND, prerender=(source,))
    origin.on("/listed", page("here"))
    async with running(settings(origin.url, tmp_path, [route])) as rig:
        await done(rig)
        await rig.post("/v1/purge", {"all": True})
        await rig.operations.sweeper.caught_up(2.0)
        listed, other = await rig.visit("/listed"), await rig.visit("/other")
        assert (listed.status, other.status, other.x_cache) == (200, 404, "FALLBACK")


async def test_origin_is_asked_while_a_list_cannot_be_read(origin: ScriptedOrigin, tmp_path: Path) -> None:
    source = PathSource(PathSourceKind.SITEMAP, "/sitemap.xml")
    route = Route("/**", revalidate=TTL, fallback=NOT_FOUND, prerender=(source,))
    origin.on("/sitemap.xml", page("not yet", status=503))
    origin.on("/a", page("a"))
    async with running(settings(origin.url, tmp_path, [route])) as rig:
        await origin.received(1)
        assert (await rig.visit("/a")).raw == b"a"


async def test_unreachable_origin_is_tried_again(origin: ScriptedOrigin, tmp_path: Path) -> None:
    source = PathSource(PathSourceKind.PATH, "/a")
    config = settings(origin.url, tmp_path, [replace(ISR, prerender=(source,))])
    origin.on("/a", page("a"))
    await origin.stop()
    async with running(config) as rig:
        await eventually(lambda: rig.operations.client.health[0].failures > 0)
        async with origin:
            await done(rig)
        assert rig.operations.batches.newest()[0].failures == []
