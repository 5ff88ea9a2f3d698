"""kill -9 in the middle of regenerations, and TERM under load (laws 5 and 7)."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from tests.harness import Reply, Visitor, config
from tests.scripted_origin import Exchange, ScriptedOrigin, Send, Wait, head, page
from tests.serving_process import SUPERVISED, Serving

KILLS = 25
REGENERATIONS = 200
PATHS = [f"/page/{number}" for number in range(8)]
ROUTES = "- {match: '/**', revalidate: 20ms, compress: false}"
SIZE_MIN, SIZE_MAX = 10_000, 200_000


class Versions:
    """Writes pages that prove themselves whole: path, version, length and hash in the first line."""

    def __init__(self) -> None:
        self.written: Counter[str] = Counter()
        self._random = random.Random(5)

    def script(self, path: str) -> Callable[[Exchange], Coroutine[Any, Any, None]]:
        async def answer(exchange: Exchange) -> None:
            self.written[path] += 1
            await exchange.run(page(self._body(path, self.written[path])))

        return answer

    def _body(self, path: str, version: int) -> bytes:
        rest = self._random.randbytes(self._random.randrange(SIZE_MIN, SIZE_MAX))
        return f"{path} {version} {len(rest)} {blake2b(rest).hexdigest()}\n".encode() + rest

    def check(self, path: str, reply: Reply) -> int:
        """Return the version of a page, once it is sure to be whole and this path's."""
        first, _, rest = reply.body.partition(b"\n")
        said_path, version, length, digest = first.decode().split(" ")
        assert (reply.status, said_path, int(length)) == (200, path, len(rest))
        assert blake2b(rest).hexdigest() == digest
        assert 1 <= int(version) <= self.written[path]
        return int(version)


class Load:
    """Visitors who ask all the time; a connection that breaks is the kill's doing, a wrong page is not."""

    def __init__(self, url: str, versions: Versions) -> None:
        self._url = url
        self._versions = versions
        self.pages = 0
        self.stored: Counter[str] = Counter()  # the youngest version seen that was surely stored

    async def run(self, seed: int) -> None:
        order = random.Random(seed)
        visitor = await Visitor.connect(self._url)
        try:
            while await self._ask(visitor, order.choice(PATHS)):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # killed
        finally:
            visitor.reset()

    async def _ask(self, visitor: Visitor, path: str) -> bool:
        reply = await visitor.get(path)
        if not reply.is_whole:
            return False
        version = self._versions.check(path, reply)
        if reply.x_cache in ("HIT", "STALE"):
            self.stored[path] = max(self.stored[path], version)
        self.pages += 1
        return True


async def check_every_page(url: str, versions: Versions, stored: Counter[str]) -> None:
    """After a restart: each page is whole, and not older than what was surely stored."""
    visitor = await Visitor.connect(url)
    for path in PATHS:
        reply = await visitor.get(path)
        assert reply.is_whole
        assert versions.check(path, reply) >= stored[path]
        assert not stored[path] or reply.x_cache in ("HIT", "STALE")
    await visitor.close()


@asynccontextmanager
async def self_checking_origin() -> AsyncIterator[tuple[ScriptedOrigin, Versions]]:
    versions = Versions()
    async with ScriptedOrigin() as origin:
        for path in PATHS:
            origin.on(path, versions.script(path))
        yield origin, versions


@pytest.mark.slow
async def test_law_5_whenever_it_is_killed_every_page_is_whole(tmp_path: Path) -> None:
    moments = random.Random(9)
    store = tmp_path / "store"
    async with self_checking_origin() as (origin, versions):
        text = config(origin.url, store, ROUTES)
        stored: Counter[str] = Counter()
        pages = 0
        for _ in range(KILLS):
            serving = await Serving.start(text, tmp_path)
            assert os.listdir(store / "tmp") == []
            await check_every_page(serving.url, versions, stored)
            load = Load(serving.url, versions)
            async with asyncio.TaskGroup() as visitors:
                for seed in range(6):
                    visitors.create_task(load.run(seed))
                await asyncio.sleep(moments.uniform(0.05, 0.6))
                await serving.kill()
            stored |= load.stored
            pages += load.pages
        assert versions.written.total() >= REGENERATIONS
        assert pages > REGENERATIONS
        assert os.listdir(store / "bad") == []


@pytest.mark.slow
async def test_term_under_load_answers_what_is_in_flight(tmp_path: Path) -> None:
    release = asyncio.Event()
    async with ScriptedOrigin() as origin:
        origin.on("/slow", [Wait(release), *page("slow" * 1000)])
        origin.on(
            "/begun", [Send(head(200, {"Content-Length": "10"}) + b"begun"), Wait(release), Send(b"ended")]
        )
        serving = await Serving.start(config(origin.url, tmp_path / "store", ROUTES), tmp_path, SUPERVISED)
        slow, *begun = [await Visitor.connect(serving.url) for _ in range(20)]
        slow.send("/slow")
        for visitor in begun:
            visitor.send("/begun")
        for visitor in begun:
            await visitor.reader.readuntil(b"begun")
        await origin.received(2)  # now every one of them is in flight
        serving.process.terminate()
        await refused(serving.url)
        release.set()
        assert (await slow.reply()).text == "slow" * 1000
        assert {await visitor.reader.readexactly(5) for visitor in begun} == {b"ended"}
        assert await serving.gone() == 0


async def refused(url: str) -> None:
    """Wait until nobody listens any more."""
    async with asyncio.timeout(10):
        while True:
            try:
                visitor = await Visitor.connect(url)
            except ConnectionError:
                return
            await visitor.close()
            await asyncio.sleep(0.01)
