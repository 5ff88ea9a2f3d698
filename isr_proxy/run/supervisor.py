"""The process that `serve` is: a worker itself, or the supervisor of several (host.py).

Knows when a worker starts, reloads and ends. Must not know what it is made of. TERM or INT drains then
stops, a second one stops now, HUP reloads; a reload with a bad file keeps the old config and says so.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
import uvloop

from isr_proxy.core.settings import Settings
from isr_proxy.errors import ConfigError, IsrProxyError
from isr_proxy.run.descriptors import raise_limit
from isr_proxy.run.host import Host
from isr_proxy.run.interpreter import tune
from isr_proxy.run.worker import Worker

_log = structlog.get_logger("isr_proxy.supervisor")

Load = Callable[[], Settings]


def run(load: Load) -> int:
    """Serve until stopped; returns the exit code. `load` reads the config, now and at every reload."""
    settings = load()
    raise_limit(settings)
    try:
        if settings.workers > 1:
            return Host(settings, load).run()
        return uvloop.run(_supervise(settings, load))
    except (IsrProxyError, OSError) as error:
        _log.error("cannot start", error=str(error))
        return 1


async def _supervise(settings: Settings, load: Load) -> int:
    worker = await Worker.start(settings, load=load)
    tune()
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _on_stop, worker, stopping)
    reloads: set[asyncio.Task[None]] = set()
    loop.add_signal_handler(signal.SIGHUP, lambda: _spawn(reloads, _reload(worker)))
    _log.info("serving", urls=list(worker.urls), admin=worker.admin_url, store=settings.store.path)
    await stopping.wait()
    _log.info("draining")
    await worker.stop()
    _log.info("stopped")
    return 0


def _on_stop(worker: Worker, stopping: asyncio.Event) -> None:
    """The first signal drains; the second cuts what is left."""
    if stopping.is_set():
        worker.cut()
    stopping.set()


def _spawn(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.get_running_loop().create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def _reload(worker: Worker) -> None:
    try:
        await worker.reload()
    except ConfigError as error:
        _log.error("config not reloaded, the old one stays", problems=[str(one) for one in error.problems])
