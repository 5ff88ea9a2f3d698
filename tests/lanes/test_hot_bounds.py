"""Law 8 for the hot lane: what it knows is weighed in the hot tier, and never more than that holds."""

from __future__ import annotations

from isr_proxy.serve import hot_lane
from tests.harness import Visitor
from tests.lanes.conftest import Start
from tests.lanes.watching import PAGE, Watched
from tests.lanes.world import Asked
from tests.scripted_origin import ScriptedOrigin, page


def held_bytes(lane: Watched) -> int:
    return lane.proxy.worker.store.size_bytes


async def many(lane: Watched, visitor: Visitor, heads: list[Asked]) -> None:
    """Ask for each, twice: the second time it is learned."""
    for asked in heads:
        for _ in range(2):
            await lane.ask(visitor, asked)


def weight_of(lane: Watched) -> int:
    """Return what the answers that are ready say they weigh."""
    return sum(ready.taken_bytes for one in lane.hot._pages.values() for ready in one.answers.values())


async def test_law_8_heads_of_one_page_are_bounded(start: Start) -> None:
    async with start(max_entry="64MiB, memory: 64KiB") as lane:
        visitor = await lane.learned()
        for number in range(1500):
            await many(lane, visitor, [Asked("/p", (f"X-Number: {number}",))])
            assert held_bytes(lane) <= 64 * 1024
        assert len(lane.hot) < 64 * 1024 // hot_lane._KNOWN_BYTES
        assert weight_of(lane) <= held_bytes(lane)


async def test_law_8_one_page_does_not_take_all_of_the_tier(lane: Watched) -> None:
    visitor = await lane.learned()
    most_bytes = most_heads = 0
    padding = "x" * 3000
    for number in range(400):
        await many(lane, visitor, [Asked("/p", (f"X-Number: {number}{padding}",))])
        most_bytes, most_heads = max(most_bytes, held_bytes(lane)), max(most_heads, len(lane.hot))
    assert most_heads > 100
    assert most_bytes <= hot_lane._MAX_PAGE_BYTES + 8192


async def test_law_8_heads_of_many_pages_are_bounded(start: Start, origin: ScriptedOrigin) -> None:
    async with start(max_entry="64MiB, memory: 64KiB") as lane:
        visitor = await lane.visitor()
        for number in range(150):
            asked = Asked(f"/p?{number}")
            await lane.ask(visitor, asked)
            await lane.proxy.settled()
            await many(lane, visitor, [asked])
            assert held_bytes(lane) <= 64 * 1024
        store = lane.proxy.worker.store
        held = {digest for digest, each in lane.hot._pages.items() if each.is_held}
        assert held <= {*store._probation, *store._protected}
        assert 0 < lane.hot._beside.size_bytes <= store.beside_bytes
        assert store.size_bytes + lane.hot._beside.size_bytes <= 64 * 1024


async def test_law_8_a_head_that_is_too_long_is_not_kept(lane: Watched) -> None:
    visitor = await lane.learned()
    long = Asked("/p", ("X-Long: " + "x" * hot_lane.MAX_HEAD_BYTES,))
    assert not any([await lane.is_hot(visitor, long) for _ in range(4)])
    assert len(lane.hot) == 1


async def test_law_8_what_is_forgotten_weighs_nothing(lane: Watched, origin: ScriptedOrigin) -> None:
    origin.on("/other", page("other"))
    visitor = await lane.visitor()
    for path in ("/p", "/other"):
        await lane.ask(visitor, Asked(path))
        await lane.proxy.settled()
    plain_bytes = held_bytes(lane)
    for asked in (PAGE, Asked("/p", method="HEAD"), Asked("/p", ("X: y",)), Asked("/other")):
        await lane.learned(asked)
    assert held_bytes(lane) == plain_bytes + weight_of(lane) > plain_bytes
    lane.hot.clear()
    assert (held_bytes(lane), len(lane.hot)) == (plain_bytes, 0)


async def test_law_8_a_page_replaced_again_and_again_weighs_what_it_did(
    lane: Watched, origin: ScriptedOrigin
) -> None:
    await lane.learned()
    before_bytes = held_bytes(lane)
    for _ in range(5):
        await lane.regenerate("/p")
        await lane.learned()
        assert held_bytes(lane) == before_bytes


async def test_law_8_whoever_is_told_is_weighed_too(lane: Watched) -> None:
    await lane.learned()
    quiet_bytes = held_bytes(lane)
    with lane.proxy.worker.operations.watchers.watching():
        await lane.learned()
        assert held_bytes(lane) == quiet_bytes + hot_lane._TOLD_BYTES


async def test_law_8_what_is_known_keeps_its_page(start: Start, origin: ScriptedOrigin) -> None:
    """Being answered by the hot lane is being served: such a page is not the next to be let go."""
    async with start(max_entry="64MiB, memory: 40KiB") as lane:
        visitor = await lane.learned()
        for number in range(30):
            lane.clock.advance(0.3)
            await lane.ask(visitor, Asked(f"/p?{number}"))
            await lane.proxy.settled()
            assert await lane.is_hot(visitor)
