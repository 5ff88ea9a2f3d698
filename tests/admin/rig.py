"""A proxy with its admin API on real sockets: real store, real origin connections, a clock tests move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from isr_proxy.coord.local import LocalPurgeLog
from isr_proxy.core.settings import (
    AdminSettings,
    LogSettings,
    OriginSettings,
    Revalidate,
    RevalidateMode,
    Route,
    Settings,
)
from isr_proxy.core.settings import StoreSettings as StoreConfig
from isr_proxy.errors import Problem
from isr_proxy.origin.client import Client
from isr_proxy.serve.admin import Reloaded, Wiring, application
from isr_proxy.serve.engine import Engine
from isr_proxy.serve.front import Front
from isr_proxy.serve.observe import Observation
from isr_proxy.serve.operations import Operations
from isr_proxy.serve.purge_method import PurgeMethod
from isr_proxy.serve.watchers import Watchers
from isr_proxy.store.disk import DiskStore
from isr_proxy.store.memory import MemoryTier
from tests.harness import FakeClock

HOST = "site.example"
TTL = Revalidate(RevalidateMode.TTL, 60.0)
ISR = Route("/**", revalidate=TTL)
TOKEN = "t" * 32


def settings(origin: str, store: Path, routes: Sequence[Route] = (ISR,), **changes: Any) -> Settings:
    """Return the settings of a test's proxy."""
    given = Settings(
        hosts=(HOST,),
        origin=OriginSettings(urls=(origin,), timeout=2.0, connect_timeout=1.0, regenerate_timeout=5.0),
        store=StoreConfig(path=str(store), fsync=False),
        routes=tuple(routes),
    )
    return replace(given, **changes)


def with_token() -> AdminSettings:
    return AdminSettings(token=TOKEN)


@dataclass
class Answer:
    """One response, its body read."""

    status: int
    headers: Mapping[str, str]
    raw: bytes
    json: Any = None

    @property
    def x_cache(self) -> str:
        return self.headers.get("X-Cache", "")


@dataclass
class Rig:
    """The running parts, and what tests do to them."""

    engine: Engine
    operations: Operations
    purges: LocalPurgeLog
    disk: DiskStore
    clock: FakeClock
    session: aiohttp.ClientSession
    site: str
    admin: str
    problems: list[Problem] = field(default_factory=list)
    is_ready: bool = True

    async def visit(self, path: str, host: str = HOST, **headers: str) -> Answer:
        """Ask as a visitor, and wait until what he was given is stored."""
        answer = await self._ask("GET", self.site + path, headers={"Host": host, **headers})
        await self.settled()
        return answer

    async def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        return await self._ask("GET", self.admin + path, headers=headers)

    async def post(
        self, path: str, content: object = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        return await self._ask("POST", self.admin + path, json=content, headers=headers)

    async def purge(self, path: str, **headers: str) -> Answer:
        """Send PURGE to the admin port."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self._ask("PURGE", self.admin + path, headers=named)

    async def purge_on_site(self, path: str, host: str = HOST, **headers: str) -> Answer:
        """Send PURGE to the main port."""
        return await self._ask("PURGE", self.site + path, headers={"Host": host, **headers})

    async def _ask(self, method: str, url: str, **arguments: Any) -> Answer:
        async with self.session.request(method, url, **arguments) as response:
            raw = await response.read()
            is_json = response.content_type == "application/json"
            return Answer(response.status, response.headers, raw, await response.json() if is_json else None)

    async def settled(self) -> None:
        """Wait until no regeneration is under way."""
        while tasks := self.engine.flights.tasks():
            await asyncio.wait(tasks)

    async def job(self, job_id: str) -> Any:
        """Wait for a job's end; returns what the API says of it."""
        batch = self.operations.batches.find(job_id)
        assert batch is not None
        await batch.ended()
        return (await self.get(f"/v1/jobs/{job_id}")).json

    async def reloaded(self) -> Reloaded:
        return Reloaded(problems=self.problems, needs_restart=("listen: a -> b needs a restart",))

    def ready(self) -> bool:
        return self.is_ready


@asynccontextmanager
async def running(config: Settings, clock: FakeClock | None = None) -> AsyncIterator[Rig]:
    """Run a proxy and its admin API on these settings."""
    now = clock or FakeClock()
    disk = DiskStore.open(config.store, now=now)
    purges = await LocalPurgeLog.open(Path(config.store.path) / "purges.sqlite", now=now())
    store = MemoryTier(disk, config.store.memory)
    observation = Observation(LogSettings(access=False))
    client, watchers = Client(config.origin), Watchers(observation)
    engine = Engine(config, store, purges, client, watchers, now, hot_tier=store)
    operations = Operations(engine, disk, purges, client, watchers, now)
    method = PurgeMethod(operations, lambda: engine.settings.admin.token)  # admin.purge_method is true
    engine.purge_method = method
    front = Front(engine.begin, observer=watchers, hot=engine.hot, now=now)
    server = await asyncio.get_running_loop().create_server(front.connection, "127.0.0.1", 0)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:
        rig = Rig(engine, operations, purges, disk, now, session, _url(server), "")
        wiring = Wiring(operations, observation.render, observation.snapshot, rig.reloaded, rig.ready)
        runner = web.AppRunner(application(wiring))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        rig.admin = f"http://127.0.0.1:{runner.addresses[0][1]}"
        operations.start()
        try:
            yield rig
        finally:
            await session.close()
            await runner.cleanup()
            server.close()
            await operations.aclose()
            await front.drain(1.0)
            await engine.drain(1.0)
            await client.aclose()
            await store.aclose()
            await purges.aclose()
            observation.close()


def _url(server: asyncio.Server) -> str:
    return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
