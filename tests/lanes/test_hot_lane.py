"""What the hot lane answers, from when on, and what makes an answer drop out of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from isr_proxy.core.purges import Strength
from isr_proxy.serve.selection import Selection
from tests.harness import START
from tests.lanes.conftest import Start, Write
from tests.lanes.watching import PAGE, ROUTE, Watched, body, field
from tests.lanes.world import Asked
from tests.scripted_origin import ScriptedOrigin, page

GERMAN = Asked("/vary", ("Accept-Language: de",))
FRENCH = Asked("/vary", ("Accept-Language: fr",))


def ages(heard: bytes) -> tuple[int, int]:
    """Return Age and what is left."""
    return int(field(heard, b"age")), int(field(heard, b"cache-status").rpartition(b"=")[2])


# --- from when on ---


async def test_a_known_head_is_answered_without_asking_anybody(lane: Watched, origin: ScriptedOrigin) -> None:
    visitor = await lane.learned()
    heard, is_hot = await lane.told(visitor)
    assert (is_hot, body(heard), origin.hits("/p")) == (True, b"a page", 1)


async def test_a_head_is_known_on_every_connection(lane: Watched) -> None:
    await lane.learned()
    assert await lane.is_hot(await lane.visitor())


async def test_a_head_is_known_after_its_first_hit(lane: Watched) -> None:
    visitor = await lane.visitor()
    await lane.ask(visitor)
    await lane.proxy.settled()
    assert [await lane.is_hot(visitor) for _ in range(3)] == [False, True, True]


async def test_where_room_is_scarce_a_head_that_comes_once_is_not_kept(start: Start) -> None:
    async with start(max_entry="64MiB, memory: 64KiB") as lane:
        visitor = await lane.visitor()
        for number in range(200):
            await lane.ask(visitor, Asked("/p", (f"X-Number: {number}",)))
            await lane.proxy.settled()
        before = len(lane.hot)
        for number in range(200, 240):
            await lane.ask(visitor, Asked("/p", (f"X-Number: {number}",)))
        assert len(lane.hot) == before


async def test_a_head_of_another_spelling_is_another(lane: Watched) -> None:
    visitor = await lane.learned()
    assert not await lane.is_hot(visitor, Asked("/p", ("X-More: 1",)))


async def test_a_head_that_is_known_already_weighs_nothing_more(lane: Watched) -> None:
    visitor = await lane.learned()
    before_bytes = lane.proxy.worker.store.size_bytes
    for _ in range(20):  # what is pipelined goes by the parser
        visitor.writer.write(PAGE.raw * 2)
        for _ in range(2):
            await visitor.reply()
    assert lane.proxy.worker.store.size_bytes == before_bytes


@pytest.mark.parametrize(
    "asked",
    [Asked("/p", ("Range: bytes=0-2",)), Asked("/p", ("Connection: close",)), Asked("/p", version="1.0")],
    ids=str,
)
async def test_what_is_framed_otherwise_is_never_known(asked: Asked, lane: Watched) -> None:
    await lane.learned()
    for _ in range(4):
        assert not await lane.is_hot(await lane.visitor(), asked)
    assert len(lane.hot) == 1


@pytest.mark.parametrize("said", ["Cache-Control: no-cache", "Cache-Control: max-age=1", "Pragma: no-cache"])
async def test_a_visitors_directives_are_judged_each_time(said: str, start: Start) -> None:
    async with start("- {match: '/**', revalidate: 10s, client_directives: honor}") as lane:
        await lane.learned()
        visitor = await lane.visitor()
        assert not any([await lane.is_hot(visitor, Asked("/p", (said,))) for _ in range(4)])


# --- what drops it ---

Changes = dict[str, Callable[[Watched], Awaitable[None]]]


def purge(selection: Selection, strength: Strength = Strength.HARD) -> Callable[[Watched], Awaitable[None]]:
    return lambda lane: lane.purge(selection, strength)


PURGES: Changes = {
    f"{strength.value} {name}": purge(selection, strength)
    for strength in Strength
    for name, selection in {
        "path": Selection(paths=("/p",)),
        "prefix": Selection(prefixes=("/p",)),
        "tag": Selection(tags=("every",)),
        "host": Selection(hosts=("site.example",)),
        "all": Selection(is_all=True),
    }.items()
}


@pytest.mark.parametrize("name", PURGES)
async def test_law_2_a_purged_page_is_not_sent_again(
    name: str, lane: Watched, origin: ScriptedOrigin
) -> None:
    visitor = await lane.learned()
    origin.on("/p", page("another"))
    await PURGES[name](lane)
    heard, is_hot = await lane.told(visitor)
    assert (is_hot, body(heard)) == (False, b"another")


async def test_a_purge_of_other_pages_leaves_it(lane: Watched, origin: ScriptedOrigin) -> None:
    origin.on("/other", page("other"))
    visitor = await lane.learned()
    await lane.learned(Asked("/other"))
    for _ in range(3):
        await lane.purge(Selection(paths=("/other",)))
        assert await lane.is_hot(visitor)
    assert not await lane.is_hot(visitor, Asked("/other"))


async def test_a_page_that_was_replaced_is_not_sent_again(lane: Watched, origin: ScriptedOrigin) -> None:
    visitor = await lane.learned()
    origin.on("/p", page("another"))
    await lane.regenerate("/p")
    heard, is_hot = await lane.told(visitor)
    assert (is_hot, body(heard)) == (False, b"another")
    assert body((await lane.told(await lane.learned()))[0]) == b"another"


async def test_a_page_that_was_freshened_is_as_young_as_it_says(start: Start, origin: ScriptedOrigin) -> None:
    async with start("- {match: '/**', revalidate: 10s}") as lane:
        origin.on("/p", page("kept", {"ETag": '"1"'}), page("", {"ETag": '"1"'}, status=304))
        visitor = await lane.learned()
        lane.clock.advance(4)
        assert ages((await lane.told(visitor))[0]) == (4, 6)
        await lane.regenerate("/p")
        heard, is_hot = await lane.told(visitor)
        assert (is_hot, ages(heard), body(heard)) == (False, (0, 10), b"kept")


async def test_a_page_that_was_let_go_is_not_sent_again(lane: Watched) -> None:
    visitor = await lane.learned()
    (name,) = [*lane.proxy.worker.store._probation, *lane.proxy.worker.store._protected]
    lane.proxy.worker.store.forget(name)
    assert len(lane.hot) == 0
    assert not await lane.is_hot(visitor)


async def test_a_page_that_others_pushed_out_is_not_sent_again(start: Start, origin: ScriptedOrigin) -> None:
    async with start(max_entry="64MiB, memory: 64KiB") as lane:
        visitor = await lane.learned()
        origin.on("/large", page(b"x" * 15_000, {"Content-Type": "image/png"}))
        for number in range(8):
            for _ in range(12):  # more often than what it pushes out
                await lane.ask(visitor, Asked(f"/large?{number}"))
                await lane.proxy.settled()
        assert not await lane.is_hot(visitor)
        assert lane.proxy.worker.store.size_bytes <= 64 * 1024


async def test_a_page_that_turns_out_to_vary_is_not_sent_again(lane: Watched, origin: ScriptedOrigin) -> None:
    origin.on("/vary", page("for all"), page("auf Deutsch", {"Vary": "Accept-Language"}))
    french = await lane.learned(FRENCH)
    german = await lane.learned(GERMAN)
    origin.on("/vary", page("auf Deutsch", {"Vary": "Accept-Language"}))
    await lane.purge(Selection(paths=("/vary",)))
    assert body(await lane.ask(german, GERMAN)) == b"auf Deutsch"
    await lane.proxy.settled()
    origin.on("/vary", page("en français", {"Vary": "Accept-Language"}))
    assert body(await lane.ask(french, FRENCH)) == "en français".encode()


async def test_variants_are_known_apart(lane: Watched, origin: ScriptedOrigin) -> None:
    origin.on("/vary", page("auf Deutsch", {"Vary": "Accept-Language"}))
    german = await lane.learned(GERMAN)
    origin.on("/vary", page("en français", {"Vary": "Accept-Language"}))
    french = await lane.learned(FRENCH)
    assert body(await lane.ask(french, FRENCH)) == "en français".encode()
    assert body(await lane.ask(german, GERMAN)) == b"auf Deutsch"


RELOADS = {
    "client_cache_control": (ROUTE.replace("tags:", "client_cache_control: 'max-age=7', tags:"), ""),
    "revalidate": (ROUTE.replace("revalidate: 10s", "revalidate: 3s"), ""),
    "hosts": (ROUTE, "hosts: [other.example]\n"),
    "bypass": (ROUTE.replace("tags:", "bypass: {headers: [Host]}, tags:"), ""),
    "trusted_proxies": (ROUTE, "trusted_proxies: [127.0.0.1/32]\n"),
    "limits": (ROUTE, "limits: {max_request_line: 20}\n"),
    "nothing": (ROUTE, ""),
}


@pytest.mark.parametrize("name", RELOADS)
async def test_a_reload_has_everything_decided_anew(name: str, lane: Watched, write: Write) -> None:
    visitor = await lane.learned()
    routes, more = RELOADS[name]
    await lane.reload(write(routes, more=more))
    assert len(lane.hot) == 0
    assert not await lane.is_hot(visitor)


async def test_connections_of_before_a_reload_of_limits_know_no_heads(lane: Watched, write: Write) -> None:
    """What he is let send is more than others are: what he is answered is not theirs."""
    visitor, long = await lane.visitor(), Asked("/p?" + "x" * 100)
    await lane.reload(write(more="limits: {max_request_line: 60}\n"))
    assert not any([await lane.is_hot(visitor, long) for _ in range(4)])
    assert len(lane.hot) == 0
    assert b"414" in await lane.ask(await lane.visitor(), long)


async def test_after_a_reload_a_head_is_learned_again(lane: Watched, write: Write) -> None:
    visitor = await lane.learned()
    await lane.reload(write(ROUTE.replace("tags:", "client_cache_control: 'max-age=7', tags:")))
    heard, is_hot = await lane.told(await lane.learned(visitor=visitor))
    assert (is_hot, field(heard, b"cache-control")) == (True, b"max-age=7")


# --- how old it is ---


async def test_age_and_ttl_are_right_at_every_quarter_of_a_second(lane: Watched) -> None:
    visitor = await lane.learned()
    date = field(await lane.ask(visitor), b"date")
    for quarter in range(40):
        lane.clock.now = START + quarter / 4
        heard, is_hot = await lane.told(visitor)
        assert (is_hot, ages(heard)) == (True, (quarter // 4, (40 - quarter) // 4))
        assert field(heard, b"date") == date
    lane.clock.now = START + 10
    assert not await lane.is_hot(visitor)


async def test_an_answer_is_not_sent_at_the_instant_it_turns_stale(lane: Watched) -> None:
    visitor = await lane.learned()
    lane.clock.now = START + 9.999999
    assert await lane.is_hot(visitor)
    lane.clock.now = START + 10
    assert not await lane.is_hot(visitor)


async def test_a_clock_that_went_back_is_judged_the_long_way(lane: Watched) -> None:
    visitor = await lane.learned()
    lane.clock.now = START - 3
    heard, is_hot = await lane.told(visitor)
    assert (is_hot, ages(heard)) == (False, (3, 7))


async def test_before_it_was_made_a_page_grows_younger(lane: Watched) -> None:
    visitor = await lane.learned()
    for step in range(7):
        seconds = 2.9 - 0.4 * step  # so that a page that grew older would seem to read the same for one step
        lane.clock.now = START - seconds
        assert ages(await lane.ask(visitor)) == (int(seconds), int(10 - seconds))


async def test_a_clock_that_went_back_a_little_makes_it_younger(lane: Watched) -> None:
    visitor = await lane.learned()
    for seconds, expected in ((8, (8, 2)), (2, (2, 8)), (5, (5, 5))):
        lane.clock.now = START + seconds
        assert ages(await lane.ask(visitor)) == expected


async def test_a_page_that_is_fresh_for_ever_grows_old(start: Start) -> None:
    async with start("- {match: '/**', revalidate: never}") as lane:
        visitor = await lane.learned()
        for seconds in (0.5, 1.0, 86400.0, 1e8):
            lane.clock.now = START + seconds
            heard, is_hot = await lane.told(visitor)
            assert (is_hot, int(field(heard, b"age"))) == (True, int(seconds))
