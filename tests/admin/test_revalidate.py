"""Revalidation over the admin API: a soft purge, then every selected page anew, at a bounded rate."""

from __future__ import annotations

import asyncio
from pathlib import Path

from isr_proxy.core.settings import Guard, KeyRules, Revalidate, RevalidateMode, Route
from tests.admin.rig import HOST, ISR, TTL, Rig, running, settings
from tests.harness import eventually
from tests.scripted_origin import ScriptedOrigin, Send, Step, Wait, head, page


async def test_wait_answers_with_each_page(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/changed", page("old"), page("new"))
    origin.on("/same", page("same"))
    origin.on("/broken", page("good"), page("oops", status=500))
    for path in ("/changed", "/same", "/broken"):
        await rig.visit(path)
    answer = await rig.post("/v1/revalidate", {"all": True, "wait": True})
    results = {each["url"].removeprefix(f"http://{HOST}"): each for each in answer.json["results"]}
    assert {path: each["result"] for path, each in results.items()} == {
        "/changed": "regenerated",
        "/same": "unchanged",
        "/broken": "failed",
    }
    assert results["/broken"]["reason"] == "server-error"
    assert (await rig.visit("/changed")).raw == b"new"


async def test_law_1_failed_revalidation_keeps_the_page(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("good"), page("oops", status=503))
    await rig.visit("/a")
    await rig.post("/v1/revalidate", {"paths": ["/a"], "wait": True})
    visited = await rig.visit("/a")
    assert (visited.raw, visited.x_cache) == (b"good", "STALE")


async def test_path_that_is_not_stored_is_generated(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/new", page("new"))
    answer = await rig.post("/v1/revalidate", {"paths": ["/new"], "wait": True})
    assert [each["result"] for each in answer.json["results"]] == ["regenerated"]
    assert (await rig.visit("/new")).x_cache == "HIT"


async def test_without_wait_a_job_tells_the_progress(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("old"), page("new"))
    await rig.visit("/a")
    answer = await rig.post("/v1/revalidate", {"paths": ["/a"]})
    job = await rig.job(answer.json["job"])
    assert (answer.status, job["state"], job["done"], job["regenerated"]) == (202, "done", 1, 1)


async def test_law_3_flight_begun_before_the_purge_lands_first(rig: Rig, origin: ScriptedOrigin) -> None:
    go = asyncio.Event()
    slow: list[Step] = [Send(head(200, {"Content-Length": "6"})), Wait(go), Send(b"before")]
    origin.on("/a", page("old"), slow, page("after"))
    await rig.visit("/a")
    rig.clock.advance(100)
    visit = asyncio.ensure_future(rig.visit("/a"))
    await origin.received(2)
    waiting = asyncio.ensure_future(rig.post("/v1/revalidate", {"paths": ["/a"], "wait": True}))
    await eventually(lambda: [batch for batch in rig.operations.batches.newest() if batch.is_listed])
    for _ in range(3):  # as many looks at the store as the regeneration takes before it meets the flight
        await rig.get("/v1/explain?url=/a")
    go.set()
    assert (await waiting).json["results"][0]["result"] == "regenerated"
    await visit
    assert origin.concurrent_max == 1
    assert (await rig.visit("/a")).raw == b"after"


async def test_at_most_eight_at_once(rig: Rig, origin: ScriptedOrigin) -> None:
    paths = [f"/{number}" for number in range(30)]
    for path in paths:
        origin.on(path, page(path))
    answer = await rig.post("/v1/revalidate", {"paths": paths, "wait": True})
    assert len(answer.json["results"]) == 30
    assert origin.concurrent_max <= 8


async def test_page_keyed_by_a_cookie_is_made_as_it_was(origin: ScriptedOrigin, tmp_path: Path) -> None:
    route = Route("/**", revalidate=TTL, key=KeyRules(cookies=("lang",)))
    origin.on("/a", page("old"), page("new"))
    async with running(settings(origin.url, tmp_path, [route])) as rig:
        await rig.visit("/a", Cookie="lang=de; session=secret")
        answer = await rig.post("/v1/revalidate", {"prefixes": ["/"], "wait": True})
        assert [each["result"] for each in answer.json["results"]] == ["regenerated"]
        assert origin.requests[-1].header("cookie") == "lang=de"


async def test_variants_are_each_made_anew(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.on("/a", page("x", {"Vary": "X-Kind", "Cache-Control": "max-age=60"}))
    route = Route("/**", revalidate=Revalidate(RevalidateMode.ORIGIN))
    async with running(settings(origin.url, tmp_path, [route])) as rig:
        for kind in ("one", "two"):
            await rig.visit("/a", **{"X-Kind": kind})
        answer = await rig.post("/v1/revalidate", {"all": True, "wait": True})
        assert len(answer.json["results"]) == 2
        assert {request.header("x-kind") for request in origin.requests[2:]} == {"one", "two"}


async def test_guard_that_fails_is_the_reason(origin: ScriptedOrigin, tmp_path: Path) -> None:
    route = Route("/**", revalidate=TTL, guard=Guard(contains=("</html>",)))
    origin.on("/a", page("cut"))
    async with running(settings(origin.url, tmp_path, [route])) as rig:
        answer = await rig.post("/v1/revalidate", {"paths": ["/a"], "wait": True})
        assert [(each["result"], each["reason"]) for each in answer.json["results"]] == [
            ("failed", "guard-contains")
        ]


async def test_page_that_a_304_forbids_to_keep_is_skipped(rig: Rig, origin: ScriptedOrigin) -> None:
    forbidding: list[Step] = [Send(head(304, {"Cache-Control": "private"}))]
    origin.on("/a", page("old", {"ETag": '"a"'}), forbidding)
    await rig.visit("/a")
    answer = await rig.post("/v1/revalidate", {"paths": ["/a"], "wait": True})
    assert [(each["result"], each["reason"]) for each in answer.json["results"]] == [("skipped", "private")]


async def test_pass_routes_are_skipped(origin: ScriptedOrigin, tmp_path: Path) -> None:
    routes = [Route("/api/**", revalidate=Revalidate(RevalidateMode.PASS)), ISR]
    async with running(settings(origin.url, tmp_path, routes)) as rig:
        answer = await rig.post("/v1/revalidate", {"paths": ["/api/x"], "wait": True})
        assert [(each["result"], each["reason"]) for each in answer.json["results"]] == [
            ("skipped", "route-pass")
        ]
        assert origin.requests == []
