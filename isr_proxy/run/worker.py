"""One worker: its object graph, its sockets, its end.

Knows every adapter by name, and in which order they are built and let go. Must not know signals
(supervisor.py) or where settings come from: `load` is given. It serves alone, or has a share of what several
workers have together (share.py).
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec
import structlog
from aiohttp import web

from isr_proxy.coord.host_log import HostPurgeLog
from isr_proxy.core.settings import Settings, TcpAddress, UnixAddress
from isr_proxy.errors import ConfigError, Problem
from isr_proxy.origin.client import Client
from isr_proxy.origin.connection import require_c_parser
from isr_proxy.run.config import diff
from isr_proxy.run.foundations import Foundations, lay
from isr_proxy.run.listeners import Listeners, contexts_of, shown
from isr_proxy.run.neighbours import Neighbours, Parts, is_flying_here
from isr_proxy.run.share import RELOAD, Share, settings_of_one
from isr_proxy.run.sockets import SocketFile, bind_unix
from isr_proxy.serve.admin import Reloaded, Wiring, alone, application
from isr_proxy.serve.connection import Connection
from isr_proxy.serve.engine import Engine
from isr_proxy.serve.front import Front
from isr_proxy.serve.invalidate import Invalidation
from isr_proxy.serve.observe import Observation, Readings
from isr_proxy.serve.operations import Operations
from isr_proxy.serve.purge_method import PurgeMethod
from isr_proxy.serve.waiting import Waiting
from isr_proxy.serve.watchers import Watchers
from isr_proxy.store.memory import MemoryTier

_log = structlog.get_logger("isr_proxy.worker")

DRAIN_SECONDS: Final = 30.0
_RELOAD_SECONDS: Final = 60.0  # of all workers
_ADMIN_SECONDS: Final = 2.0  # for admin calls that still run when everything else has ended

Load = Callable[[], Settings]


class Worker:
    """Serves one config. Build it with `start`; every part is let go by `stop`."""

    def __init__(
        self,
        settings: Settings,
        foundations: Foundations,
        now: Callable[[], float],
        load: Load,
        share: Share | None,
    ) -> None:
        self.settings = settings
        self.foundations = foundations
        self.disk = disk = foundations.disk
        self.store = MemoryTier(disk, settings.store.memory)
        self.purges = purges = foundations.purges
        self.observation = Observation(settings.log)
        self.client = self._new_client(settings)
        watchers = Watchers(self.observation)
        self.engine = Engine(
            settings, self.store, purges, self.client, watchers, now, foundations.leases, hot_tier=self.store
        )
        self.operations = Operations(self.engine, disk, purges, self.client, watchers, now)
        self.neighbours = self._meet_neighbours(share, watchers)
        self.engine.purge_method = PurgeMethod(self.operations, self._purge_token)
        self.engine.after_pass = Invalidation(
            lambda: self.engine.routes,
            self.store,
            self.engine.variances,
            is_flying_here(self.engine.flights) if self.neighbours is None else self.neighbours.is_flying,
            self.operations.invalidate,
        ).after
        self.front = Front(self.engine.begin, observer=watchers, hot=self.engine.hot, now=now)
        if self.engine.hot is not None:
            watchers.on_turn = self.engine.hot.clear if self.neighbours is None else self.neighbours.turned
        app = application(self._wiring())
        self._admin = web.AppRunner(app, access_log=None, shutdown_timeout=_ADMIN_SECONDS)
        self.observation.watch(self._readings)
        self._load = load
        self._share = share
        self._listeners = Listeners(self.front)
        self._admin_file: SocketFile | None = None
        self._retiring: set[asyncio.Task[None]] = set()
        self._is_cut = False
        self.admin_url = ""
        self._configure_front(settings)

    @classmethod
    async def start(
        cls,
        settings: Settings,
        *,
        now: Callable[[], float] = time.time,  # noqa: TID251  the one wall clock of the worker
        load: Load | None = None,
        share: Share | None = None,
    ) -> Worker:
        """Open the store, listen, and serve. StoreError or OSError say why it cannot.

        `load` reads the config again for a reload; without it a reload finds the same settings. With a
        `share` it is one of several workers.
        """
        require_c_parser()
        if share is not None:
            settings = settings_of_one(settings, share.workers)
        foundations = await lay(settings, now, share)
        worker: Worker | None = None
        try:
            worker = cls(settings, foundations, now, load or (lambda: settings), share)
            await worker._listeners.open(settings.listen, None if share is None else share.listen[share.slot])
            await worker._listen_admin()
        except BaseException:
            if worker is not None:
                await worker._unlisten()
            await foundations.aclose()
            raise
        worker._begin()
        return worker

    def _begin(self) -> None:
        seat = self.foundations.seat
        if seat is None or seat.is_first:
            self.operations.start()
        else:
            self.operations.follow()
        if seat is not None and self._share is not None:
            self.operations.started_at = self._share.started_at
            seat.post.open()
            seat.row.is_ready = True

    async def adopt_seat(self, seat: int) -> None:
        """Serve who comes to a seat that is empty."""
        assert self._share is not None, "there are other seats"
        await self._listeners.adopt(seat, self._share.listen[seat])

    def give_back(self, seat: int) -> None:
        self._listeners.give_back(seat)

    def _meet_neighbours(self, share: Share | None, watchers: Watchers) -> Neighbours | None:
        seat, purges = self.foundations.seat, self.purges
        if share is None or seat is None or not isinstance(purges, HostPurgeLog):
            return None
        parts = Parts(self.disk, self.store, purges, self.engine, self.operations, watchers, self.observation)
        return Neighbours(seat, parts, share.counts)

    @property
    def urls(self) -> tuple[str, ...]:
        """Return where visitors come in, in the config's order."""
        return self._listeners.urls

    def _new_client(self, settings: Settings) -> Client:
        if not settings.origin.tls.verify:
            _log.warning(
                "certificates of the origin are NOT verified: anybody on the way can read and change pages",
                key="origin.tls.verify",
            )
        return Client(settings.origin, on_error=self.observation.origin_failed)

    def _configure_front(self, settings: Settings) -> None:
        default_host = urlsplit(settings.origin.urls[0]).netloc or "localhost"
        self.front.reconfigure(settings.limits, settings.trusted_proxies, default_host)

    def _wiring(self) -> Wiring:
        seen, neighbours = self.observation, self.neighbours
        if neighbours is None:
            gather = alone(self.operations)
            return Wiring(
                self.operations, seen.render, seen.snapshot, self._reload_told, self._is_ready, gather
            )
        return Wiring(
            self.operations,
            lambda: neighbours.all.render(),
            lambda: neighbours.all.snapshot(),
            self._ask_for_reload,
            self._is_ready,
            neighbours.gather,
        )

    def _purge_token(self) -> str | None:
        """Return what a PURGE on the main port must bring; None: it is not allowed there."""
        admin = self.settings.admin
        return admin.token if admin.purge_method else None

    def _is_ready(self) -> bool:
        return self._listeners.are_open and not self.front.is_draining

    def _readings(self) -> Readings:
        stat = self.disk.stat()
        return Readings(
            len(self.engine.flights), stat.size_bytes, stat.entries, stat.bad_entries, stat.failures
        )

    async def _listen_admin(self) -> None:
        await self._admin.setup()
        listen = self.settings.admin.listen
        if self._share is not None:
            if self._share.slot == 0:
                await self._serve_admin(self._share.admin)
                self.admin_url = shown(listen, self._share.admin[0].getsockname())
            return
        site: web.BaseSite
        match listen:
            case TcpAddress(host, port):
                site = web.TCPSite(self._admin, host or None, port)
            case UnixAddress(path):
                site = web.SockSite(self._admin, bind_unix(listen))
                self._admin_file = SocketFile(path)
        await site.start()
        self.admin_url = shown(listen, self._admin.addresses[0])

    async def _serve_admin(self, sockets: Sequence[socket.socket]) -> None:
        """Speak for all workers, on sockets that are bound already."""
        for sock in sockets:
            await web.SockSite(self._admin, sock).start()

    async def _unlisten(self) -> None:
        """Let go of the sockets of a start that failed."""
        await self._listeners.aclose()
        self.front.cut()
        await self._close_admin()
        await self.client.aclose()

    async def _close_admin(self) -> None:
        await self._admin.cleanup()
        if self._admin_file is not None:
            self._admin_file.remove()

    async def _reload_told(self) -> Reloaded:
        try:
            return Reloaded(needs_restart=await self.reload())
        except ConfigError as error:
            return Reloaded(problems=error.problems)

    async def _ask_for_reload(self) -> Reloaded:
        """Have the supervisor reload all workers."""
        assert self.foundations.seat is not None, "only one of several workers asks"
        post = self.foundations.seat.post
        answer = await post.ask(post.supervisor, RELOAD, timeout=_RELOAD_SECONDS)
        if answer is None:
            raise TimeoutError("not all workers have reloaded yet")
        return msgspec.json.decode(answer, type=Reloaded)

    async def reload(self) -> tuple[str, ...]:
        """Read the config again and serve by it; ConfigError leaves everything as it is.

        Returns what only a restart can change, as readable lines.
        """
        return await self.adopt(await asyncio.to_thread(self._load))

    async def adopt(self, settings: Settings) -> tuple[str, ...]:
        """Serve by these settings, which were read just now."""
        if self._share is not None:
            settings = settings_of_one(settings, self._share.workers)
        contexts = await asyncio.to_thread(contexts_of, settings.listen)
        client = self._next_client(settings)
        changes = diff(self.settings, settings)
        old, self.settings = self.client, settings
        self.client = client
        self._listeners.use(contexts)
        self.engine.reconfigure(settings, self.client)
        self.operations.reconfigured(self.client)
        self.observation.reconfigure(settings.log)
        self._configure_front(settings)
        self._retire(old)
        _log.info("config reloaded", changed=list(changes.keys), needs_restart=list(changes.needs_restart))
        return changes.needs_restart

    def _next_client(self, settings: Settings) -> Client:
        """Make the client of a reload; a file that changed since it was checked leaves the old one."""
        try:
            return self._new_client(settings)
        except OSError as error:
            raise ConfigError((Problem("origin.tls", 1, 1, "origin.tls", str(error)),)) from None

    def _retire(self, client: Client) -> None:
        """Close a client once nothing that uses it runs any more."""
        busy = {*self.front.running(), *self.engine.flights.tasks()} - {asyncio.current_task()}
        waiting = [one for one in self.front.connections if isinstance(one.task, Waiting)]
        task = asyncio.get_running_loop().create_task(_close_after(client, busy, waiting))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def cut(self) -> None:
        """End now what `stop` waits for: every visitor's connection and every regeneration."""
        self._is_cut = True
        self.front.cut()
        for task in self.engine.flights.tasks():
            task.cancel()

    async def stop(self, *, drain: float = DRAIN_SECONDS) -> None:
        """Take no new connections, let what runs end within `drain` seconds, let everything go."""
        ends_at = time.monotonic() + drain
        self._listeners.close()
        if self._share is not None:
            self._share.close_sockets()
        await self.front.drain(drain)
        await self._listeners.aclose()
        await self.operations.aclose()
        await self._close_admin()
        await self.engine.drain(0.0 if self._is_cut else max(0.0, ends_at - time.monotonic()))
        for task in self._retiring:
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        await self.client.aclose()
        if self.neighbours is not None:
            self.neighbours.publish()
        await self.foundations.aclose()
        self.observation.close()


async def _close_after(
    client: Client, busy: set[asyncio.Future[None]], waiting: Sequence[Connection]
) -> None:
    try:
        if busy:
            await asyncio.wait(busy)
        # Their flights have opened: whoever is not answered yet has a task by now.
        answering = {one.task for one in waiting if isinstance(one.task, asyncio.Task)}
        if answering:
            await asyncio.wait(answering)
        await client.called()
    finally:
        await client.aclose()
