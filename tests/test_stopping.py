"""How a worker ends: in its own time, in the time it is given, or now; and how a start fails."""

from __future__ import annotations

import asyncio
import socket
import time
from pathlib import Path

import pytest

from isr_proxy.run.config import parse
from isr_proxy.run.worker import Worker
from tests.harness import Visitor, config
from tests.scripted_origin import Hang, ScriptedOrigin, Wait, page

ROUTE = "- {match: '/**', revalidate: 10s}"


async def started(origin: ScriptedOrigin, store: Path) -> tuple[Worker, Visitor]:
    """Start a worker, and have a visitor wait for a page that the origin was asked for."""
    settings = parse(config(origin.url, store, ROUTE), file="test.yaml", environ={})
    worker = await Worker.start(settings)
    visitor = await Visitor.connect(worker.urls[0])
    visitor.send("/p")
    await origin.received(1)
    return worker, visitor


async def test_an_answer_while_draining_says_that_it_is_the_last(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    release = asyncio.Event()
    origin.on("/p", [Wait(release), *page("hello")])
    worker, visitor = await started(origin, tmp_path)
    stopping = asyncio.ensure_future(worker.stop(drain=5.0))
    await asyncio.sleep(0)
    release.set()
    reply = await visitor.reply()
    assert (reply.text, reply.headers["connection"]) == ("hello", "close")
    await stopping
    await visitor.close()


async def test_visitors_and_regenerations_share_the_time_to_end(
    origin: ScriptedOrigin, tmp_path: Path
) -> None:
    origin.on("/p", [Hang()])
    worker, visitor = await started(origin, tmp_path)
    began_at = time.monotonic()
    await worker.stop(drain=1.0)
    assert 1.0 <= time.monotonic() - began_at < 1.8
    await visitor.close()


async def test_a_second_signal_stops_now(origin: ScriptedOrigin, tmp_path: Path) -> None:
    origin.on("/p", [Hang()])
    worker, visitor = await started(origin, tmp_path)
    stopping = asyncio.ensure_future(worker.stop(drain=30.0))
    await asyncio.sleep(0)
    worker.cut()
    await asyncio.wait_for(stopping, 5)
    await visitor.close()


async def test_a_start_that_fails_keeps_no_port(origin: ScriptedOrigin, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as free:
        port, free_port = taken.getsockname()[1], free.getsockname()[1]
        free.close()
        text = config(origin.url, tmp_path, ROUTE)
        text = text.replace("listen: 127.0.0.1:0\n", f"listen: 127.0.0.1:{free_port}\n", 1)
        text = text.replace("admin: {listen: 127.0.0.1:0}", f"admin: {{listen: 127.0.0.1:{port}}}")
        with pytest.raises(OSError, match="in use"):
            await Worker.start(parse(text, file="test.yaml", environ={}))
        with pytest.raises(ConnectionError):
            socket.create_connection(("127.0.0.1", free_port))
