"""Who waits for a fetch that he began: without a task until it opens; with one where that is not enough."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from isr_proxy.serve.connection import Connection
from isr_proxy.serve.deliver import Delivery
from isr_proxy.serve.waiting import Waiting
from isr_proxy.serve.wire import HttpExchange
from tests.harness import Proxy, Visitor, config, eventually, running
from tests.scripted_origin import Hang, ScriptedOrigin, Send, Step, Wait, chunked, head, page

ROUTES = "- {match: /origin/**, revalidate: origin}\n- {match: '/**', revalidate: 60}"
PATHS = ("/p", "/origin/p")
FRESH = {"Cache-Control": "max-age=60"}


@contextmanager
def tasks_begun() -> Iterator[list[str]]:
    """Return the targets that a task had to go on with, as they come."""
    began: list[str] = []
    carry_on = Connection.carry_on

    def noted(self: Connection, exchange: HttpExchange, rest: Coroutine[Any, Any, None]) -> None:
        began.append(exchange.request.target)
        carry_on(self, exchange, rest)

    Connection.carry_on = noted  # type: ignore[method-assign]
    try:
        yield began
    finally:
        Connection.carry_on = carry_on  # type: ignore[method-assign]


class Held:
    """A visitor who waits for an answer that the origin holds back."""

    def __init__(
        self,
        proxy: Proxy,
        origin: ScriptedOrigin,
        visitor: Visitor,
        may_answer: asyncio.Event,
        began: list[str],
    ) -> None:
        self.proxy = proxy
        self.origin = origin
        self.visitor = visitor
        self.may_answer = may_answer
        self.began = began

    @property
    def has_task(self) -> bool:
        return bool(self.proxy.worker.front.running())

    @property
    def recorded(self) -> int:
        return sum(self.proxy.worker.observation.snapshot().requests.values())


@asynccontextmanager
async def held(
    store: Path, path: str, steps: list[Step], *, method: str = "GET", headers: Mapping[str, str] = {}
) -> AsyncIterator[Held]:
    may_answer = asyncio.Event()
    async with ScriptedOrigin() as origin, running(config(origin.url, store, ROUTES)) as proxy:
        origin.on(path, [Wait(may_answer), *steps])
        visitor = await proxy.visitor()
        with tasks_begun() as began:
            visitor.send(path, headers, method=method)
            await proxy.waiting(1)
            yield Held(proxy, origin, visitor, may_answer, began)


@pytest.mark.parametrize("path", PATHS)
async def test_a_small_page_takes_no_task(tmp_path: Path, path: str) -> None:
    async with held(tmp_path, path, page("hello", FRESH)) as waiting:
        assert not waiting.has_task
        assert [type(one.task) for one in waiting.proxy.worker.front.connections] == [Waiting]
        waiting.may_answer.set()
        reply = await waiting.visitor.reply()
        assert (reply.text, reply.x_cache, reply.headers["content-length"]) == ("hello", "MISS", "5")
        assert "stored" in reply.cache_status
        assert not waiting.began
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
        assert (reply.headers["content-length"], waiting.began) == ("5", [])
        assert (await waiting.visitor.get("/p")).text == "hello"


async def test_a_body_that_comes_later_is_read_along_by_a_task(tmp_path: Path) -> None:
    rest = asyncio.Event()
    steps: list[Step] = [Send(head(200, {"Content-Length": "5"}) + b"he"), Wait(rest), Send(b"llo")]
    async with held(tmp_path, "/p", steps) as waiting:
        waiting.may_answer.set()
        await eventually(lambda: waiting.began == ["/p"])
        assert waiting.has_task
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
    steps: list[Step] = [Send(head(200, {"Content-Length": "9", "Cache-Control": "no-store"})), Hang()]
    async with held(tmp_path, "/p", steps) as waiting:
        waiting.visitor.reset()
        await waiting.proxy.waiting(0)
        waiting.may_answer.set()
        await eventually(lambda: waiting.origin.open_now == 0)


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


async def test_a_visitor_who_has_the_page_gets_304(tmp_path: Path) -> None:
    known = {"If-None-Match": '"a"'}
    async with held(tmp_path, "/p", page("hello", {"ETag": '"a"'}), headers=known) as waiting:
        waiting.may_answer.set()
        reply = await waiting.visitor.reply()
        assert (reply.status, reply.body, waiting.began) == (304, b"", [])
        assert (await waiting.visitor.get("/p")).text == "hello"


async def test_who_speaks_http_1_0_is_answered_and_let_go(tmp_path: Path) -> None:
    async with held(tmp_path, "/p", chunked(b"hel", b"lo")) as waiting:
        old = await waiting.proxy.visitor()
        waiting.origin.on("/old", chunked(b"hel", b"lo"))
        old.writer.write(b"GET /old HTTP/1.0\r\nHost: site.example\r\n\r\n")
        head_of, _, body = (await old.reader.read()).partition(b"\r\n\r\n")
        assert (body, b"chunked" in head_of) == (b"hello", False)
        waiting.may_answer.set()
        assert (await waiting.visitor.reply()).text == "hello"


async def test_early_hints_come_before_the_page(tmp_path: Path) -> None:
    early: list[Step] = [Send(head(103, {"Link": "</a.css>; rel=preload"})), *page("hello")]
    async with held(tmp_path, "/origin/p", early) as waiting:
        waiting.may_answer.set()
        reply = await waiting.visitor.reply()
        assert (reply.text, reply.interim) == ("hello", (103,))


async def test_a_reload_waits_for_who_goes_on_with_a_task(tmp_path: Path) -> None:
    rest = asyncio.Event()
    private = {"Content-Length": "5", "Cache-Control": "private"}
    steps: list[Step] = [Send(head(200, private) + b"he"), Wait(rest), Send(b"llo")]
    async with held(tmp_path, "/p", steps) as waiting:
        await waiting.proxy.worker.reload()
        waiting.may_answer.set()
        await waiting.visitor.reader.readuntil(b"\r\n\r\nhe")
        await waiting.proxy.settled()
        for _ in range(10):
            await asyncio.sleep(0)
        rest.set()
        assert await waiting.visitor.reader.readexactly(3) == b"llo"


@pytest.mark.parametrize("is_answered", [True, False])
async def test_who_hangs_up_as_the_page_comes_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_answered: bool
) -> None:
    """`is_answered`: it is found out by the write; else by the task that would go on."""
    streamed = Delivery.streamed

    def hang_up_first(self: Delivery, *told: Any) -> bool:
        (connection,) = proxy.worker.front.connections
        connection.abort()
        return is_answered and streamed(self, *told)

    monkeypatch.setattr(Delivery, "streamed", hang_up_first)
    async with held(tmp_path, "/p", page("hello")) as waiting:
        proxy = waiting.proxy
        waiting.may_answer.set()
        await eventually(lambda: not proxy.worker.front.connections)
        await proxy.settled()
        assert waiting.recorded == 1
        assert sum(flight.waiters for flight in proxy.worker.engine.flights.in_flight()) == 0


async def test_a_task_goes_on_with_what_was_asked_behind_its_own_request(tmp_path: Path) -> None:
    """Pipelined: the first is answered by a task, and that same task hears the second."""
    async with ScriptedOrigin() as origin, running(config(origin.url, tmp_path, ROUTES)) as proxy:
        origin.on("/q?x=1", page("the first"))
        origin.on("/p", page("the second"))
        visitor = await proxy.visitor()
        requests = (f"GET {target} HTTP/1.1\r\nHost: site.example\r\n\r\n" for target in ("/q?x=1", "/p"))
        visitor.writer.write("".join(requests).encode())
        bodies = []
        for _ in range(2):
            answered = await visitor.reader.readuntil(b"\r\n\r\n")
            assert answered.startswith(b"HTTP/1.1 200 ")
            length = int(answered.lower().partition(b"content-length: ")[2].split(b"\r")[0])
            bodies.append(await visitor.reader.readexactly(length))
        assert bodies == [b"the first", b"the second"]
