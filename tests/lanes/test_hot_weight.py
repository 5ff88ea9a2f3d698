"""What is ready of pages on disk takes what it says it takes: heads are memory too."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from tests.lanes.conftest import Start
from tests.lanes.world import Asked
from tests.scripted_origin import ScriptedOrigin, page

PAGES = 200
CHROME = (
    "Connection: keep-alive",
    "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/144.0.0.0 Safari/537.36",
    "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
    "Accept-Encoding: gzip, deflate, br, zstd",
    "Accept-Language: en-US,en;q=0.9",
)
FIELDS = {f"X-Field-{number}": "some value of it" for number in range(8)}


@pytest.mark.parametrize("lines", [(), CHROME], ids=["plain", "chrome"])
@pytest.mark.parametrize("fields", [{}, FIELDS], ids=["few", "many"])
async def test_law_8_what_is_kept_beside_the_tier_weighs_what_it_takes(
    start: Start, origin: ScriptedOrigin, lines: tuple[str, ...], fields: dict[str, str]
) -> None:
    async with start(max_entry="64MiB, memory: 0") as lane:
        origin.on("/p", page("a page", fields))
        visitor = await lane.visitor()
        heads = [Asked(f"/p?{number}", lines) for number in range(PAGES)]
        for asked in heads:
            await lane.ask(visitor, asked)
            await lane.proxy.settled()
        catalog = lane.proxy.worker.store._behind.catalog  # type: ignore[attr-defined]
        await lane.ask(visitor, heads[0])  # what is made once is there
        lane.proxy.worker.store._behind._shelf._peeker._max_files = 0  # type: ignore[attr-defined]
        gc.collect()
        before_bytes = lane.hot._beside.size_bytes
        tracemalloc.start()
        try:
            for asked in heads[1:]:
                await lane.ask(visitor, asked)
                await lane.proxy.settled()
            catalog._noted.clear()
            catalog._served.clear()
            lane.decided.clear()
            for one in list(lane.hot._pages.values()):
                for ready in one.answers.values():
                    ready.let_go()
            gc.collect()
            taken = tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
        assert len(lane.hot) == PAGES
        assert 0.9 < (lane.hot._beside.size_bytes - before_bytes) / taken < 1.3
