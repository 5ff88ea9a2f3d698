"""Purging over the admin API: what is selected, what visitors get afterwards, what is answered."""

from __future__ import annotations

import asyncio
from io import BytesIO
from pathlib import Path
from unittest.mock import patch

from isr_proxy.core.purges import Purge, Scope
from tests.admin.rig import TOKEN, Rig, running, settings, with_token
from tests.harness import FakeClock, eventually
from tests.scripted_origin import ScriptedOrigin, Send, Step, Wait, head, page


async def test_law_2_purged_page_is_not_served_again(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("old"), page("new"))
    await rig.visit("/a")
    answer = await rig.post("/v1/purge", {"paths": ["/a"]})
    assert answer.json["matched"] == 1
    visited = await rig.visit("/a")
    assert (visited.raw, visited.x_cache) == (b"new", "MISS")


async def test_law_2_fetch_begun_before_purge_stays_hidden_after_sweep(
    rig: Rig, origin: ScriptedOrigin
) -> None:
    go = asyncio.Event()
    slow: list[Step] = [Send(head(200, {"Content-Length": "3"})), Wait(go), Send(b"old")]
    origin.on("/a", slow, page("new"))
    visit = asyncio.ensure_future(rig.visit("/a"))
    await origin.received(1)
    for path in ("/a", "/other"):  # the youngest record always stays, so it must be another one
        await rig.post("/v1/purge", {"paths": [path]})
    await rig.operations.sweeper.caught_up(2.0)
    rig.clock.advance(500)
    await rig.operations.sweeper.sweep_once()
    go.set()
    await visit
    await rig.settled()
    await rig.operations.sweeper.sweep_once()
    assert (await rig.visit("/a")).raw == b"new"


async def test_second_hard_purge_matches_nothing(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("a"))
    await rig.visit("/a")
    counts = [(await rig.post("/v1/purge", {"paths": ["/a"]})).json["matched"] for _ in range(3)]
    assert counts == [1, 0, 0]


async def test_soft_purge_serves_the_old_page_and_regenerates(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("old"), page("new"))
    await rig.visit("/a")
    await rig.post("/v1/purge", {"paths": ["/a"], "soft": True})
    stale = await rig.visit("/a")
    await rig.settled()
    fresh = await rig.visit("/a")
    assert (stale.x_cache, stale.raw, fresh.x_cache, fresh.raw) == ("STALE", b"old", "HIT", b"new")


async def test_dry_run_changes_nothing(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("a"))
    await rig.visit("/a")
    before = rig.purges.index.sequence
    answer = await rig.post("/v1/purge", {"all": True, "dry_run": True})
    assert answer.json == {"sequence": before, "matched": 1}
    assert (await rig.visit("/a")).x_cache == "HIT"


async def test_selectors_are_a_union(rig: Rig, origin: ScriptedOrigin) -> None:
    for path, tags in (("/blog/a", "x"), ("/blog/b", "x"), ("/news/c", "red"), ("/kept", "x")):
        origin.on(path, page(path, {"Cache-Tag": tags}))
        await rig.visit(path)
    answer = await rig.post("/v1/purge", {"prefixes": ["/blog/"], "tags": ["RED"], "paths": ["/blog/a"]})
    assert answer.json["matched"] == 3
    assert [(await rig.visit(path)).x_cache for path in ("/blog/a", "/news/c", "/kept")] == [
        "MISS",
        "MISS",
        "HIT",
    ]


async def test_query_and_absolute_url_narrow(origin: ScriptedOrigin, tmp_path: Path) -> None:
    async with running(settings(origin.url, tmp_path, hosts=())) as rig:
        origin.on("/a", page("a"))
        for path, host in (("/a", "one.example"), ("/a?p=2", "one.example"), ("/a", "two.example")):
            await rig.visit(path, host)
        narrow = await rig.post("/v1/purge", {"paths": ["/a?p=2"]})
        absolute = await rig.post("/v1/purge", {"paths": ["http://TWO.example:80/a"]})
        assert (narrow.json["matched"], absolute.json["matched"]) == (1, 1)
        assert (await rig.visit("/a", "one.example")).x_cache == "HIT"


async def test_hosts_are_lower_cased(origin: ScriptedOrigin, tmp_path: Path) -> None:
    async with running(settings(origin.url, tmp_path, hosts=())) as rig:
        origin.on("/a", page("a"))
        await rig.visit("/a", "one.example")
        await rig.visit("/a", "two.example")
        assert (await rig.post("/v1/purge", {"hosts": ["One.Example"]})).json["matched"] == 1


async def test_law_7_purge_outlives_a_restart(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.on("/a", page("old"), page("new"))
    clock = FakeClock()
    async with running(settings(origin.url, tmp_path), clock) as rig:
        await rig.visit("/a")
        await rig.post("/v1/purge", {"tags": ["none"], "paths": ["/a"]})
    async with running(settings(origin.url, tmp_path), clock) as rig:
        assert (await rig.visit("/a")).raw == b"new"


async def test_swept_records_are_forgotten_later(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("a"))
    await rig.visit("/a")
    for path in ("/a", "/b", "/c"):
        await rig.post("/v1/purge", {"paths": [path]})
    await rig.operations.sweeper.caught_up(2.0)
    rig.clock.advance(121)
    await rig.operations.sweeper.sweep_once()
    left = await rig.purges.records(0)
    assert [record.selector.value for record in left] == ["/c"]
    await eventually(lambda: rig.disk.stat().entries == 0)


async def test_soft_purge_still_counts_when_its_record_is_gone(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("old"), page("new"))
    origin.on("/never", page("x"))
    await rig.visit("/a")
    await rig.post("/v1/purge", {"paths": ["/a"], "soft": True})
    await rig.post("/v1/purge", {"paths": ["/b"]})
    await rig.operations.sweeper.caught_up(2.0)
    rig.clock.advance(30)
    before = len(rig.purges.index)
    await rig.purges.prune(rig.purges.index.sequence)
    assert len(rig.purges.index) < before
    assert (await rig.visit("/a")).x_cache == "STALE"


async def test_log_that_cannot_be_written_says_so(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("old"), page("new"))
    await rig.visit("/a")
    rig.purges._database.execute("PRAGMA query_only = ON")
    answer = await rig.post("/v1/purge", {"paths": ["/a"]})
    assert answer.status == 500
    assert "in force" in answer.json["error"]
    assert (await rig.visit("/a")).raw == b"new"


async def test_nothing_selected_and_unknown_keys_are_refused(rig: Rig) -> None:
    nothing = await rig.post("/v1/purge", {})
    unknown = await rig.post("/v1/purge", {"paths": ["/a"], "pathes": ["/b"], "soft": "yes"})
    assert (nothing.status, unknown.status) == (422, 422)
    assert [error.partition(":")[0] for error in unknown.json["errors"]] == ["soft", "pathes"]


async def test_path_that_is_none_is_refused(rig: Rig) -> None:
    answers = [await rig.post("/v1/purge", {"paths": [path]}) for path in ("a", "/a/../b", "http:///x", "")]
    assert [answer.status for answer in answers] == [422] * 4


async def test_large_body_is_refused(rig: Rig) -> None:
    body = BytesIO(b'{"paths": ["/' + b"a" * 2**20 + b'"]}')
    headers = {"Content-Type": "application/json"}
    async with rig.session.post(f"{rig.admin}/v1/purge", data=body, headers=headers) as response:
        assert response.status == 413
        assert "error" in await response.json()


async def test_catalog_names_the_scope_of_all(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("a"))
    await rig.visit("/a")
    await rig.post("/v1/purge", {"all": True})
    records = await rig.purges.records(0)
    assert records[-1].selector.scope is Scope.ALL
    assert (await rig.visit("/a")).x_cache == "MISS"


# --- the PURGE method ---


async def test_purge_method_by_path(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("a"))
    await rig.visit("/a")
    first, second = await rig.purge("/a"), await rig.purge("/a")
    assert (first.status, first.json["matched"], second.status) == (200, 1, 404)
    assert (await rig.visit("/a")).x_cache == "MISS"


async def test_purge_method_soft_and_by_tag(rig: Rig, origin: ScriptedOrigin) -> None:
    origin.on("/a", page("a", {"Surrogate-Key": "one two"}))
    await rig.visit("/a")
    answer = await rig.purge("/", Surrogate_Key="two three", Fastly_Soft_Purge="1")
    assert answer.json["matched"] == 1
    assert (await rig.visit("/a")).x_cache == "STALE"


async def test_purge_method_of_an_absolute_target(origin: ScriptedOrigin, tmp_path: Path) -> None:
    async with running(settings(origin.url, tmp_path, hosts=())) as rig:
        origin.on("/a", page("a"))
        await rig.visit("/a", "one.example")
        await rig.visit("/a", "two.example")
        reader, writer = await asyncio.open_connection("127.0.0.1", int(rig.admin.rpartition(":")[2]))
        writer.write(b"PURGE http://one.example/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert (await reader.read()).endswith(b'"matched": 1}')
        writer.close()


async def test_purge_method_on_the_main_port_is_of_its_host(origin: ScriptedOrigin, tmp_path: Path) -> None:
    async with running(settings(origin.url, tmp_path, hosts=(), admin=with_token())) as rig:
        origin.on("/a", page("a"))
        await rig.visit("/a", "one.example")
        await rig.visit("/a", "two.example")
        answer = await rig.purge_on_site("/a", "one.example", Authorization=f"Bearer {TOKEN}")
        assert (answer.status, answer.json["matched"]) == (200, 1)
        assert (await rig.visit("/a", "two.example")).x_cache == "HIT"


async def test_purge_method_on_the_main_port_needs_the_token(origin: ScriptedOrigin, tmp_path: Path) -> None:
    async with running(settings(origin.url, tmp_path, admin=with_token())) as rig:
        origin.on("/a", page("a"))
        await rig.visit("/a")
        missing, wrong = (
            await rig.purge_on_site("/a"),
            await rig.purge_on_site("/a", Authorization="Bearer no"),
        )
        assert (missing.status, wrong.status) == (401, 403)
        assert (await rig.visit("/a")).x_cache == "HIT"


async def test_purge_method_without_any_token_is_refused_on_the_main_port(rig: Rig) -> None:
    assert (await rig.purge_on_site("/a", Authorization="Bearer x")).status == 403


async def test_a_purge_does_not_wait_for_the_sweep_of_many(rig: Rig, origin: ScriptedOrigin) -> None:
    held = asyncio.Event()
    await rig.operations.sweeper.caught_up(5.0)  # with what a new log begins with

    async def sweep(purge: Purge) -> int:
        await held.wait()
        return 0

    with (
        patch.object(rig.disk, "sweep", sweep),
        patch("isr_proxy.serve.sweep._LONG", 2),
        patch("isr_proxy.serve.operations._COUNT_AFTER", 60),
    ):
        for path in ("/a", "/b", "/c"):
            origin.on(path, page("old"))
            await rig.visit(path)
        first = await rig.post("/v1/purge", {"all": True})
        async with asyncio.timeout(30):  # half of what waiting would take
            second = await rig.post("/v1/purge", {"paths": ["/a"]})
        held.set()
    assert (first.json["matched"], second.json["matched"]) == (3, 1)
