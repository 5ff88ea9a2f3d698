"""Who waits for a fetch that he began: without a task until it opens; with one where that is not enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from isr_proxy.serve.deliver import Delivery
from isr_proxy.serve.waiting import Waiting
from tests.harness import Proxy, Visitor, config, eventually, running
from tests.scripted_origin import ScriptedOrigin, Send, Step, Wait, chunked, head, page

ROUTES = "- {match: /origin/**, revalidate: origin}\n- {match: '/**', revalidate: 60}"
PATHS = ("/p", "/origin/p")
FRESH = {"Cache-Control": "max-age=60"}


class Held:
    """A visitor who waits for an answer that the origin holds back."""

    def __init__(
        self, proxy: Proxy, origin: ScriptedOrigin, visitor: Visitor, may_answer: asyncio.Event
    ) -> None:
        self.proxy = proxy
        self.origin = origin
        self.visitor = visitor
        self.may_answer = may_answer

    @property
    def has_task(self) -> bool:
        return bool(self.proxy.worker.front.running())

    @property
    def recorded(self) -> int:
        return sum(self.proxy.worker.observation.snapshot().requests.values())


@asynccontextmanager
async def held(store: Path, path: str, steps: list[Step], *, method: str = "GET") -> AsyncIterator[Held]:
    may_answer = asyncio.Event()
    async with ScriptedOrigin() as origin, running(config(origin.url, store, ROUTES)) as proxy:
        origin.on(path, [Wait(may_answer), *steps])
        visitor = await proxy.visitor()
        visitor.send(path, method=method)
        await proxy.waiting(1)
        yield Held(proxy, origin, visitor, may_answer)


@pytest.mark.parametrize("path", PATHS)
async def test_a_small_page_takes_no_task(tmp_path: Path, path: str) -> None:
    async with held(tmp_path, path, page("hello", FRESH)) as waiting:
        assert not waiting.has_task
        assert [type(one.task) for one in waiting.proxy.worker.front.connections] == [Waiting]
        waiting.may_answer.set()
        reply = await waiting.visitor.reply()
        assert (reply.text, reply.x_cache, reply.headers["content-length"]) == ("hello", "MISS", "5")
        assert "stored" in reply.cache_status
        await waiting.proxy.settled()
        assert (await waiting.visitor.get(path)).x_cache == "HIT"


async def test_a_small_page_of_unknown_length_is_chunked(tmp_path: Path) -> None:
    async with held(tmp_path, "/p", chunked(b"hel", b"lo")) as waiting:
        waiting.may_answer.set()
        reply = await waiting.visitor.reply()
        assert (reply.text, reply.headers["transfer-encoding"], reply.is_whole) == ("hello", "chunked", True)


async def test_head_gets_no_body(tmp_path: Path) -> None:
    async with held(tmp_path, "/p", page("hello"), method="HEAD") as waiting:
        waiting.may_answer.set()
        reply = await waiting.visitor.reply(method="HEAD")
        assert reply.headers["content-length"] == "5"
        assert (await waiting.visitor.get("/p")).text == "hello"


async def test_a_body_that_comes_later_is_read_along_by_a_task(tmp_path: Path) -> None:
    rest = asyncio.Event()
    steps: list[Step] = [Send(head(200, {"Content-Length": "5"}) + b"he"), Wait(rest), Send(b"llo")]
    async with held(tmp_path, "/p", steps) as waiting:
        waiting.may_answer.set()
        await eventually(lambda: waiting.has_task)
        rest.set()
        assert (await waiting.visitor.reply()).text == "hello"


async def test_what_is_not_stored_is_relayed_by_a_task(tmp_path: Path) -> None:
    async with held(tmp_path, "/p", page("mine", {"Cache-Control": "private"})) as waiting:
        waiting.may_answer.set()
        reply = await waiting.visitor.reply()
        assert (reply.text, reply.x_cache) == ("mine", "MISS")
        assert (await waiting.visitor.get("/p")).x_cache == "PASS"


async def test_an_origin_that_fails_is_told(tmp_path: Path) -> None:
    async with held(tmp_path, "/p", page("broken", status=500)) as waiting:
        waiting.may_answer.set()
        assert (await waiting.visitor.reply()).status == 500
        assert (await waiting.visitor.get("/none")).status == 404  # and the connection goes on


async def test_the_fetch_of_a_visitor_who_hangs_up_goes_on(tmp_path: Path) -> None:
    async with held(tmp_path, "/p", page("hello")) as waiting:
        waiting.visitor.reset()
        await waiting.proxy.waiting(0)
        assert waiting.recorded == 1
        waiting.may_answer.set()
        await waiting.proxy.settled()
        assert (await waiting.proxy.get("/p")).x_cache == "HIT"
        assert waiting.origin.hits("/p") == 1


async def test_what_nobody_takes_any_more_leaves_the_origin_at_once(tmp_path: Path) -> None:
    never = asyncio.Event()
    steps: list[Step] = [Send(head(200, {"Content-Length": "9", "Cache-Control": "no-store"})), Wait(never)]
    async with held(tmp_path, "/p", steps) as waiting:
        waiting.visitor.reset()
        await waiting.proxy.waiting(0)
        waiting.may_answer.set()
        await waiting.proxy.settled()
        never.set()


async def test_the_next_request_waits_for_its_turn(tmp_path: Path) -> None:
    async with held(tmp_path, "/p", page("hello")) as waiting:
        waiting.origin.on("/q", page("world"))
        waiting.visitor.send("/q")
        waiting.may_answer.set()
        assert [(await waiting.visitor.reply()).text for _ in range(2)] == ["hello", "world"]


async def test_others_join_who_waits_without_a_task(tmp_path: Path) -> None:
    async with held(tmp_path, "/p", page("hello")) as waiting:
        joined = [await waiting.proxy.visitor() for _ in range(20)]
        for visitor in joined:
            visitor.send("/p")
        await waiting.proxy.waiting(21)
        waiting.may_answer.set()
        assert [(await visitor.reply()).text for visitor in [waiting.visitor, *joined]] == ["hello"] * 21
        assert waiting.origin.hits("/p") == 1


async def test_a_drain_waits_for_who_waits(tmp_path: Path) -> None:
    async with held(tmp_path, "/p", page("hello")) as waiting:
        draining = asyncio.ensure_future(waiting.proxy.worker.front.drain(5.0))
        await asyncio.sleep(0)
        waiting.may_answer.set()
        reply = await waiting.visitor.reply()
        assert (reply.text, reply.headers["connection"]) == ("hello", "close")
        await draining


async def test_a_defect_of_ours_is_500(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> bool:
        raise RuntimeError("a defect")

    monkeypatch.setattr(Delivery, "streamed", breaks)
    async with held(tmp_path, "/p", page("hello")) as waiting:
        waiting.may_answer.set()
        assert (await waiting.visitor.reply()).status == 500
