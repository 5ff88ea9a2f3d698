"""The hot lane for pages that the hot tier does not hold: their heads are ready, their bodies in files."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from isr_proxy.core.purges import Strength
from isr_proxy.serve.selection import Selection
from tests.lanes.conftest import Start
from tests.lanes.watching import PAGE, Watched, body, field
from tests.lanes.world import Asked
from tests.scripted_origin import ScriptedOrigin, page


@pytest.fixture
async def lane(start: Start) -> AsyncIterator[Watched]:
    """A proxy without a hot tier."""
    async with start(max_entry="64MiB, memory: 0") as watched:
        yield watched


def file_of(lane: Watched) -> Path:
    """Return where the one page that is stored lies."""
    (file,) = Path(lane.proxy.worker.settings.store.path).glob("pages/*/*")
    return file


async def test_a_page_is_read_from_its_file_each_time(lane: Watched, origin: ScriptedOrigin) -> None:
    visitor = await lane.learned()
    assert [body(await lane.ask(visitor)) for _ in range(3)] == [b"a page"] * 3
    assert (len(lane.proxy.worker.store), origin.hits("/p")) == (0, 1)


async def test_a_purge_counts_at_once(lane: Watched, origin: ScriptedOrigin) -> None:
    visitor = await lane.learned()
    origin.on("/p", page("another"))
    await lane.purge(Selection(paths=("/p",)))
    assert body(await lane.ask(visitor)) == b"another"


async def test_what_is_regenerated_is_sent_at_once(lane: Watched, origin: ScriptedOrigin) -> None:
    visitor = await lane.learned()
    origin.on("/p", page("another"))
    await lane.regenerate("/p")
    assert body(await lane.ask(visitor)) == b"another"


async def test_what_a_visitor_may_have_fetched_anew_is_sent_at_once(
    start: Start, origin: ScriptedOrigin
) -> None:
    routes = "- {match: '/**', revalidate: 10s, client_directives: honor}"
    async with start(routes, max_entry="64MiB, memory: 0") as lane:
        visitor = await lane.learned()
        origin.on("/p", page("another"))
        await lane.ask(visitor, Asked("/p", ("Cache-Control: no-cache",)))
        await lane.proxy.settled()
        assert body(await lane.ask(visitor)) == b"another"


async def test_a_soft_purge_makes_it_stale_at_once(lane: Watched) -> None:
    visitor = await lane.learned()
    await lane.purge(Selection(paths=("/p",)), Strength.SOFT)
    assert field(await lane.ask(visitor), b"x-cache") != b"HIT"


async def test_a_file_that_somebody_removes_is_missed_within_a_second(
    lane: Watched, origin: ScriptedOrigin
) -> None:
    visitor = await lane.learned()
    file_of(lane).unlink()
    lane.clock.advance(1.0)
    assert (body(await lane.ask(visitor)), origin.hits("/p")) == (b"a page", 2)


async def test_a_file_that_is_cut_short_is_missed_within_a_second(
    lane: Watched, origin: ScriptedOrigin
) -> None:
    visitor = await lane.learned()
    file = file_of(lane)
    with file.open("rb+") as opened:
        opened.truncate(322)
    lane.clock.advance(1.0)
    assert (body(await lane.ask(visitor)), origin.hits("/p")) == (b"a page", 2)


async def test_law_5_a_body_that_was_written_to_is_not_sent(lane: Watched, origin: ScriptedOrigin) -> None:
    visitor = await lane.learned()
    with file_of(lane).open("rb+") as opened:
        opened.seek(322)
        opened.write(b"damage")
    lane.clock.advance(1.0)
    assert (body(await lane.ask(visitor)), origin.hits("/p")) == (b"a page", 2)


async def test_a_file_is_closed_when_its_page_changes(lane: Watched) -> None:
    await lane.learned()
    store = lane.proxy.worker.store._behind
    slices = store._shelf._slices  # type: ignore[attr-defined]
    assert len(slices._open) == 1
    await lane.purge(Selection(paths=("/p",)))
    await lane.ask(await lane.visitor())
    assert len(slices._open) == 0


async def test_it_ends_with_its_ttl(lane: Watched, origin: ScriptedOrigin) -> None:
    visitor = await lane.learned()
    lane.clock.advance(9.5)
    assert field(await lane.ask(visitor), b"age") == b"9"
    lane.clock.advance(0.5)
    await lane.ask(visitor)
    assert origin.hits("/p") == 2


async def test_head_and_304_are_ready_too(lane: Watched) -> None:
    etag = field(await lane.ask(await lane.learned()), b"etag").decode()
    for asked, status in (
        (Asked("/p", method="HEAD"), b"200"),
        (Asked("/p", (f"If-None-Match: {etag}",)), b"304"),
    ):
        visitor = await lane.learned(asked)
        heard = await lane.ask(visitor, asked)
        assert (heard.split()[1], body(heard)) == (status, b"")


async def test_a_page_that_varies_is_decided_each_time(lane: Watched, origin: ScriptedOrigin) -> None:
    origin.on("/vary", page("hallo", {"Vary": "Accept-Language"}))
    visitor = await lane.visitor()
    german = Asked("/vary", ("Accept-Language: de",))
    assert not any([await lane.is_hot(visitor, german) for _ in range(5)])


async def test_law_8_what_is_kept_beside_the_tier_is_bounded(
    lane: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    beside = lane.hot._beside
    monkeypatch.setattr(beside, "_max_bytes", 64 * 1024)
    visitor = await lane.visitor()
    most = 0
    for number in range(300):
        asked = Asked(f"/p?{number}")
        for _ in range(4):
            await lane.ask(visitor, asked)
            await lane.proxy.settled()
        most = max(most, beside.size_bytes)
        weighed = sum(each.taken_bytes for one in lane.hot._pages.values() for each in one.answers.values())
        assert beside.size_bytes == weighed <= 64 * 1024
    assert most > 48 * 1024
    lane.hot.clear()
    assert beside.size_bytes == 0


async def test_who_is_asked_for_stays_when_others_must_go(
    lane: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    popular = await lane.learned()
    monkeypatch.setattr(lane.hot._beside, "_max_bytes", 48 * 1024)
    visitor = await lane.visitor()
    for number in range(100):
        assert await lane.is_hot(popular, PAGE)
        for _ in range(4):
            await lane.ask(visitor, Asked(f"/p?{number}"))
            await lane.proxy.settled()


async def test_a_crawler_pushes_out_nobody(start: Start) -> None:
    async with start(max_entry="64MiB, memory: 256KiB") as lane:
        visitor, store = await lane.visitor(), lane.proxy.worker.store
        number = 0
        while store.is_roomy:
            for _ in range(3):
                await lane.ask(visitor, Asked(f"/p?{number}"))
                await lane.proxy.settled()
            number += 1
        held = {*store._probation, *store._protected}
        weighed = lane.hot._beside.size_bytes
        for other in range(60):  # stored, and asked for once more
            for _ in range(2):
                await lane.ask(visitor, Asked(f"/p?crawled={other}"))
                await lane.proxy.settled()
        assert held <= {*store._probation, *store._protected}
        assert lane.hot._beside.size_bytes <= weighed + 8 * 1024


async def test_a_page_that_gets_popular_comes_into_the_tier(start: Start, origin: ScriptedOrigin) -> None:
    async with start(max_entry="64MiB, memory: 64KiB") as lane:
        store, visitor = lane.proxy.worker.store, await lane.visitor()
        for number in range(12):
            origin.on(f"/big/{number}", page(b"%d" % number * 6000, {"Content-Type": "image/png"}))
            for _ in range(3):
                await lane.ask(visitor, Asked(f"/big/{number}"))
                await lane.proxy.settled()
        await lane.learned(PAGE, visitor)
        asked = Asked("/big/11")
        for _ in range(4):
            lane.clock.advance(0.5)
            for _ in range(20):
                await lane.ask(visitor, asked)
                await lane.proxy.settled()
        (digest,) = (
            digest
            for digest, each in lane.hot._pages.items()
            if any(one.entry.key.path == "/big/11" for one in each.answers.values())
        )
        assert digest in {*store._probation, *store._protected}
