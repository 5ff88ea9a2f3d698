"""Law 5: a disk that is full, read-only, or out of descriptors costs freshness, never an answer."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.harness import FakeClock, Proxy, Reply, Visitor, config, running
from tests.ranging_origin import ranged
from tests.scripted_origin import Exchange, ScriptedOrigin, page
from tests.serving_process import Serving

ROUTE = "- {match: '/**', revalidate: 10s}"
SIZE = 60_000


@contextmanager
def mounted(path: Path, *arguments: str) -> Iterator[Path]:
    path.mkdir(exist_ok=True)
    if subprocess.run(["mount", *arguments, str(path)], capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def make_read_only(path: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro,bind", str(path)], check=True)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MiB."""
    with mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=4m", "none") as path:
        yield path


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass


async def numbered(exchange: Exchange) -> None:
    """A large page that names its path."""
    await exchange.run(page(body_of(exchange.request.path)))


def body_of(path: str) -> bytes:
    return (f"{path} ".encode() * SIZE)[:SIZE]


async def whole(proxy: Proxy, path: str, *x_caches: str) -> None:
    reply = await proxy.get(path)
    assert (reply.status, reply.body) == (200, body_of(path))
    assert reply.x_cache in x_caches
    await proxy.settled()


async def test_law_5_a_full_disk_costs_freshness_only(
    small_disk: Path, origin: ScriptedOrigin, clock: FakeClock
) -> None:
    for path in ("/old", "/a", "/b"):
        origin.on(path, numbered)
    async with running(config(origin.url, small_disk / "store", ROUTE), clock) as proxy:
        await whole(proxy, "/old", "MISS")
        fill(small_disk / "filler")
        with capture_logs() as lines:
            for _ in range(3):
                await whole(proxy, "/a", "MISS")
                await whole(proxy, "/b", "MISS")
                await whole(proxy, "/old", "HIT")
        refusals = [line for line in lines if line["event"] == "the store's disk refused"]
        assert [line["log_level"] for line in refusals] == ["error"]
        assert "free space" in refusals[0]["advice"]
        assert proxy.worker.disk.failures >= 6
        (small_disk / "filler").unlink()
        await whole(proxy, "/a", "MISS")
        await whole(proxy, "/a", "HIT")


async def test_law_5_on_a_full_disk_a_stale_page_stays_and_is_regenerated_later(
    small_disk: Path, origin: ScriptedOrigin, clock: FakeClock
) -> None:
    origin.on("/p", page(b"old" * SIZE), page(b"new" * SIZE))
    async with running(config(origin.url, small_disk / "store", ROUTE), clock) as proxy:
        await proxy.get("/p")
        await proxy.settled()
        fill(small_disk / "filler")
        clock.advance(11)
        for _ in range(2):
            assert (await proxy.get("/p")).body == b"old" * SIZE
            await proxy.settled()
        (small_disk / "filler").unlink()
        clock.advance(60)
        await proxy.get("/p")
        await proxy.settled()
        assert (await proxy.get("/p")).body == b"new" * SIZE


async def test_law_5_on_a_full_disk_parts_are_given_and_the_stored_ones_kept(
    small_disk: Path, origin: ScriptedOrigin, clock: FakeClock
) -> None:
    body = os.urandom(SIZE * 20)
    origin.on("/p", ranged(body))
    route = "- {match: '/**', revalidate: origin}"
    async with running(config(origin.url, small_disk / "store", route), clock) as proxy:
        for spec, x_cache in (
            ("0-9", "MISS"),
            ("10-1000000", "MISS"),
            ("0-9", "HIT"),
            ("10-1000000", "MISS"),
        ):
            first, last = map(int, spec.split("-"))
            reply = await proxy.get("/p", {"Range": f"bytes={spec}"})
            assert (reply.body, reply.x_cache) == (body[first : last + 1], x_cache)
            await proxy.settled()
            fill(small_disk / "filler")


async def test_law_5_a_body_larger_than_the_disk_reaches_its_visitor(
    small_disk: Path, origin: ScriptedOrigin, clock: FakeClock
) -> None:
    body = os.urandom(9_000_000)
    origin.on("/big", page(body))
    async with running(config(origin.url, small_disk / "store", ROUTE), clock) as proxy:
        for _ in range(2):
            assert (await proxy.get("/big")).body == body
            await proxy.settled()
        assert os.listdir(small_disk / "store" / "tmp") == []


async def test_law_5_a_read_only_disk_is_served_from(
    tmp_path: Path, origin: ScriptedOrigin, clock: FakeClock
) -> None:
    for path in ("/old", "/new"):
        origin.on(path, numbered)
    store = tmp_path / "store"
    text = config(origin.url, store, ROUTE)
    async with running(text, clock) as proxy:
        await whole(proxy, "/old", "MISS")
    with mounted(store, "--bind", str(store)):
        make_read_only(store)
        async with running(text, clock) as proxy:
            await whole(proxy, "/old", "HIT")
            await whole(proxy, "/new", "MISS")
            clock.advance(11)
            await whole(proxy, "/old", "STALE")
            await whole(proxy, "/old", "STALE", "HIT")
            assert proxy.worker.disk.failures >= 1
    async with running(text, clock) as proxy:
        await whole(proxy, "/new", "MISS")
        await whole(proxy, "/new", "HIT")


async def test_law_5_without_free_descriptors_visitors_are_still_answered(
    tmp_path: Path, origin: ScriptedOrigin
) -> None:
    """The limit leaves room for connections, and then visitors take all of it."""
    paths = [f"/p/{number}" for number in range(30)]
    for path in paths:
        origin.on(path, numbered)
    text = config(origin.url, tmp_path / "store", ROUTE)
    serving = await Serving.start(text, tmp_path, prepare=few_descriptors)
    try:
        visitors = [await Visitor.connect(serving.url) for _ in range(30)]
        first = await asyncio.gather(*(v.get(p) for v, p in zip(visitors[:5], paths[:5], strict=True)))
        crowd = [await Visitor.connect(serving.url) for _ in range(40)]  # the last of them cannot be accepted
        replies = await asyncio.gather(*(v.get(p) for v, p in zip(visitors, paths, strict=True)))
        for visitor in crowd:
            visitor.reset()
        late = [await answered(v, p) for v, p in zip(visitors, paths, strict=True)]
        for reply, path in [*zip(first, paths[:5], strict=True), *zip(late, paths, strict=True)]:
            assert (reply.status, reply.body) == (200, body_of(path))
        assert {reply.status for reply in replies} <= {200, 502, 503}
        assert (await visitors[0].get(paths[0])).x_cache == "HIT"
        for visitor in visitors:
            await visitor.close()
    finally:
        await serving.kill()


async def answered(visitor: Visitor, path: str) -> Reply:
    """Ask until the crowd's descriptors are free again, which the kernel tells the proxy in its own time."""
    deadline = time.monotonic() + 10
    while True:
        reply = await visitor.get(path)
        if reply.status == 200 or time.monotonic() > deadline:
            return reply
        await asyncio.sleep(0.01)


def few_descriptors() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (70, 70))
