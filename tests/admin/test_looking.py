"""What operators can look at: entries, explanations, status, health, events."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

from isr_proxy import __version__
from isr_proxy.core.settings import BypassRules, Route
from isr_proxy.errors import Problem
from tests.admin.rig import HOST, TTL, Rig, running, settings
from tests.scripted_origin import ScriptedOrigin, page


async def test_entries_page_by_page(rig: Rig, origin: ScriptedOrigin) -> None:
    for path in ("/a", "/b", "/c"):
        origin.on(path, page(path))
        await rig.visit(path)
    first = (await rig.get("/v1/entries?limit=2")).json
    second = (await rig.get(f"/v1/entries?limit=2&cursor={first['cursor']}")).json
    urls = [entry["url"] for entry in first["entries"] + second["entries"]]
    assert urls == [f"http://{HOST}{path}" for path in ("/a", "/b", "/c")]
    assert second["cursor"] is None


async def test_entries_by_state(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/old", page("old"))
    origin.on("/bad", page("good"), page("oops", status=500))
    origin.on("/new", page("new"))
    await rig.visit("/old")
    await rig.visit("/bad")
    rig.clock.advance(100)
    await rig.visit("/bad")
    await rig.visit("/new")
    states = {
        state: [
            each["url"].rpartition("/")[2]
            for each in (await rig.get(f"/v1/entries?state={state}")).json["entries"]
        ]
        for state in ("fresh", "stale", "error", "purged")
    }
    assert states == {"fresh": ["new"], "stale": ["old"], "error": ["bad"], "purged": []}


async def test_entries_by_prefix_and_tag(rig: Rig, origin: ScriptedOrigin) -> None:
    for path, tag in (("/blog/a", "x"), ("/blog/b", "y"), ("/c", "x")):
        origin.on(path, page(path, {"Cache-Tag": tag}))
        await rig.visit(path)
    found = (await rig.get("/v1/entries?prefix=/blog/&tag=X")).json["entries"]
    assert [entry["url"] for entry in found] == [f"http://{HOST}/blog/a"]


async def test_entry_tells_its_last_error(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("good", {"Cache-Tag": "t"}), page("oops", status=500))
    await rig.visit("/a")
    rig.clock.advance(100)
    await rig.visit("/a")
    (entry,) = (await rig.get("/v1/entry?url=/a%3Futm_source=x")).json["entries"]
    assert (entry["last_error"], entry["failures"], entry["tags"]) == ("server-error", 1, ["t"])
    assert entry["retry_at"] > rig.clock.now
    assert entry["ttl"] < 0


async def test_entry_that_is_not_there(rig: Rig) -> None:
    assert (await rig.get("/v1/entry?url=/a")).status == 404
    assert (await rig.get("/v1/entry")).status == 422


async def test_wrong_questions(rig: Rig) -> None:
    for question in ("state=new", "limit=0", "limit=x", "limit=2000", "cursor=x"):
        assert (await rig.get(f"/v1/entries?{question}")).status == 422


async def test_explain_asks_nobody_and_says_what_comes(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("a"))
    miss = (await rig.get("/v1/explain?url=/a")).json
    assert (miss["x_cache"], miss["reason"], miss["origin_asked"], origin.requests) == (
        "MISS",
        "uri-miss",
        True,
        [],
    )
    await rig.visit("/a")
    hit = (await rig.get("/v1/explain?url=/a")).json
    assert (hit["x_cache"], [step["step"] for step in hit["steps"]]) == (
        "HIT",
        ["request", "route", "key", "store", "purges", "times", "decision"],
    )
    rig.clock.advance(100)
    assert (await rig.get(f"/v1/explain?url=http://{HOST}/a")).json["reason"] == "regenerating"
    assert len(origin.requests) == 1


async def test_explain_says_why_a_request_passes_or_is_refused(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    route = Route("/**", revalidate=TTL, bypass=BypassRules(cookies=("session",)))
    async with running(settings(origin.url, tmp_path, [route])) as rig:
        reasons = [
            (await rig.get(f"/v1/explain?{question}")).json["reason"]
            for question in (
                "url=/a&header=Cookie:session%3Dx",
                "url=/a/../b",
                "url=http://elsewhere.example/a",
            )
        ]
        assert reasons == ["bypass-cookie", "bad-target", "unknown-host"]


async def test_explain_gives_what_visitors_get(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("old"), page("new"))
    await rig.visit("/a")
    await rig.post("/v1/purge", {"paths": ["/a"], "soft": True})
    explained = (await rig.get("/v1/explain?url=/a")).json["x_cache"]
    assert explained == (await rig.visit("/a")).x_cache == "STALE"


async def test_status(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("a"))
    for _ in range(4):
        await rig.visit("/a")
    rig.clock.advance(5)
    status = (await rig.get("/v1/status")).json
    assert (status["version"], status["uptime"], status["hit_ratio"]) == (__version__, 5.0, 0.75)
    assert status["regenerations"] == {"flying": 0, "by_reason": {"stored": 1}}
    assert [health["state"] for health in status["origins"]] == ["up"]


async def test_health_ready_and_metrics(rig: Rig) -> None:
    assert (await rig.get("/healthz")).status == 200
    assert (await rig.get("/readyz")).status == 200
    rig.is_ready = False
    assert (await rig.get("/readyz")).status == 503
    assert b"isr_proxy_requests_total" in (await rig.get("/metrics")).raw


async def test_reload_answers_with_every_problem(rig: Rig) -> None:
    told = {"reloaded": True, "needs_restart": ["listen: a -> b needs a restart"]}
    assert (await rig.post("/v1/reload")).json == told
    rig.problems.append(Problem("isr.yaml", 3, 5, "routes.0.match", "must start with /"))
    answer = await rig.post("/v1/reload")
    assert answer.status == 422
    assert answer.json["errors"] == ["isr.yaml:3:5: routes.0.match: must start with /"]


async def test_openapi_has_every_call(rig: Rig) -> None:
    document = (await rig.get("/v1/openapi.json")).json
    purge = document["paths"]["/v1/purge"]["post"]
    assert purge["requestBody"]["content"]["application/json"]["schema"]["$ref"].endswith("/PurgeBody")
    assert document["components"]["schemas"]["PurgeBody"]["additionalProperties"] is False
    assert "/v1/jobs/{id}" in document["paths"]


async def test_front_page_and_unknown_paths(rig: Rig) -> None:
    front = await rig.get("/")
    assert __version__.encode() in front.raw
    assert ((await rig.get("/v2")).status, (await rig.get("/v1/purge")).status) == (404, 405)


async def test_events_tell_of_visits_and_purges(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("a"))
    async with rig.session.get(f"{rig.admin}/v1/events") as stream:
        await rig.visit("/a")
        await rig.post("/v1/purge", {"paths": ["/a"]})
        types: list[str] = []
        async with asyncio.timeout(5):
            while len(types) < 3:
                line = await stream.content.readline()
                if line.startswith(b"data: "):
                    types.append(json.loads(line[6:])["type"])
    assert sorted(types) == ["purge", "regeneration", "visit"]


async def test_event_streams_end_at_a_stop(rig: Rig) -> None:
    async with rig.session.get(f"{rig.admin}/v1/events") as stream:
        rig.operations.watchers.dismiss()
        assert await stream.read() == b""


async def test_explain_takes_a_bare_path_under_the_host_it_is_stored_for(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.on("/a", page("a"))
    async with running(replace(settings(origin.url, tmp_path), hosts=())) as rig:
        await rig.visit("/a", "other.example")
        explained = (await rig.get("/v1/explain?url=/a")).json
        assert (explained["url"], explained["x_cache"]) == ("http://other.example/a", "HIT")
