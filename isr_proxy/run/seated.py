"""The process of one worker among several: from the fork to its end.

Knows what its supervisor tells it: to drain, to end now, to take a new config. Must not know the others. It
ends with its supervisor, however that ends. TERM sent to it alone drains it, and another takes its seat; INT
and HUP, which a terminal sends to all, are the supervisor's.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
from collections.abc import Callable
from typing import Any

import msgspec
import structlog
import uvloop

from isr_proxy.core.settings import Settings
from isr_proxy.errors import ConfigError, IsrProxyError
from isr_proxy.run import logs
from isr_proxy.run.interpreter import tune
from isr_proxy.run.share import ADOPT, CUT, GIVE_BACK, LEAVING, READY, RELOAD, Share
from isr_proxy.run.worker import Worker
from isr_proxy.serve.admin import Reloaded

_log = structlog.get_logger("isr_proxy.worker")


def serve(settings: Settings, share: Share) -> int:
    """Serve until told to stop; returns the exit code. The process was forked for this."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    structlog.contextvars.bind_contextvars(worker=share.slot)
    try:
        return uvloop.run(_serve(settings, share))
    except (IsrProxyError, OSError) as error:
        _log.error("cannot start", error=str(error))
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


async def _serve(settings: Settings, share: Share) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stopping.set)
    loop.add_reader(share.lifeline, _supervisor_ended, loop, share.lifeline, stopping)
    worker = await Worker.start(settings, share=share)
    assert worker.foundations.seat is not None, "it has a share"
    tune()
    post = worker.foundations.seat.post
    post.on(CUT, lambda sender, body: _cut(worker, stopping))
    post.answer(RELOAD, _reloading(worker, share))
    post.answer(ADOPT, _adopting(worker))
    post.on(GIVE_BACK, lambda sender, body: worker.give_back(body[0]))
    post.tell(post.supervisor, READY, ticket=share.incarnation)
    await stopping.wait()
    post.tell(post.supervisor, LEAVING, ticket=share.incarnation)
    await worker.stop()
    return 0


def _supervisor_ended(loop: asyncio.AbstractEventLoop, lifeline: int, stopping: asyncio.Event) -> None:
    loop.remove_reader(lifeline)
    _log.error("the supervisor is gone; draining")
    stopping.set()


def _cut(worker: Worker, stopping: asyncio.Event) -> None:
    worker.cut()
    stopping.set()


def _adopting(worker: Worker) -> Callable[[bytes], Any]:
    async def adopt(body: bytes) -> bytes:
        await worker.adopt_seat(body[0])
        return b""

    return adopt


def _reloading(worker: Worker, share: Share) -> Callable[[bytes], Any]:
    """Return what answers the supervisor, who has read the config and found nothing wrong with it."""

    async def reload(_: bytes) -> bytes:
        settings: Settings = pickle.loads(share.settings.read())  # the supervisor's own, out of its memory
        logs.configure(settings.log)
        try:
            return msgspec.json.encode(Reloaded(needs_restart=await worker.adopt(settings)))
        except ConfigError as error:
            return msgspec.json.encode(Reloaded(problems=error.problems))

    return reload


def forked(settings: Settings, share: Share, forget: Callable[[], None]) -> int:
    """Fork a worker; returns its pid. `forget` closes, in the child, what is the supervisor's alone."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        forget()
        code = serve(settings, share)
    except BaseException:
        _log.critical("a worker ended by an error", exc_info=True)
    finally:
        os._exit(code)
