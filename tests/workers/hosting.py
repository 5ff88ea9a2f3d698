"""Several workers as they are started by `isr-proxy serve`: real processes, to be watched and to be killed.

    async with hosted(config(...), tmp_path, workers=4) as host:
        visitors = await host.visitors(100)        # on connections that are spread over all workers
        host.kill(host.pid_serving(visitors[0]))

Which process has which connection is read from /proc, as an operator would with `ss -p`.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.harness import Visitor, config, eventually

ROOT = Path(__file__).parents[2]
ROUTE = "- {match: '/**', revalidate: 10s}"


@dataclass
class Hosted:
    """A running supervisor and its workers."""

    process: subprocess.Popen[bytes]
    log: Path
    config: Path
    url: str = ""
    admin: str = ""
    opened: list[Visitor] = field(default_factory=list)

    # --- processes ---

    @property
    def pids(self) -> list[int]:
        """Return the workers' processes."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in task.read_text().split()]

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        assert pid in self.pids, "only its own workers are killed"
        os.kill(pid, number)

    async def ended(self, within: float = 20.0) -> int:
        return await asyncio.to_thread(self.process.wait, within)

    def lines(self, event: str) -> list[dict[str, Any]]:
        """Return what was logged of one kind."""
        logged = (json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{"))
        return [line for line in logged if line["event"] == event]

    # --- visitors ---

    async def visitor(self) -> Visitor:
        visitor = await Visitor.connect(self.url)
        self.opened.append(visitor)
        return visitor

    async def visitors(self, count: int) -> list[Visitor]:
        """Open connections, so many that every worker has some."""
        opened = [await self.visitor() for _ in range(count)]
        await eventually(lambda: len(self.serving(opened)) == len(self.pids))
        return opened

    def serving(self, visitors: list[Visitor]) -> dict[int, list[Visitor]]:
        """Return which worker has which of these visitors' connections."""
        by_port = {visitor.writer.get_extra_info("sockname")[1]: visitor for visitor in visitors}
        found: dict[int, list[Visitor]] = {}
        for pid in self.pids:
            mine = [by_port[port] for port in _peer_ports(pid, _port(self.url)) if port in by_port]
            if mine:
                found[pid] = mine
        return found

    async def speaker(self) -> int:
        """Return the worker that speaks for all: the one that takes the admin port's connections."""
        visitor = await Visitor.connect(self.admin)
        await visitor.get("/healthz")
        mine = visitor.writer.get_extra_info("sockname")[1]
        (pid,) = [pid for pid in self.pids if mine in _peer_ports(pid, _port(self.admin))]
        await visitor.close()
        return pid

    def asking(self, origin: str) -> set[int]:
        """Return the workers that have a connection to an origin."""
        return {pid for pid in self.pids if _has_peer(pid, _port(origin))}

    # --- operators ---

    async def call(self, method: str, path: str, body: object = None, token: str = "none") -> tuple[int, Any]:
        """Call the admin API; returns status and what it said."""
        visitor = await Visitor.connect(self.admin)
        raw = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        head += f"Authorization: Bearer {token}\r\n"
        visitor.writer.write(f"{head}Content-Length: {len(raw)}\r\n\r\n".encode() + raw)
        try:
            reply = await visitor.reply()
        finally:
            await visitor.close()
        is_json = reply.headers.get("content-type", "").startswith("application/json")
        return reply.status, json.loads(reply.body) if is_json else reply.text

    async def status(self, token: str = "none") -> dict[str, Any]:
        status, said = await self.call("GET", "/v1/status", token=token)
        assert status == 200, said
        assert isinstance(said, dict)
        return said

    async def is_flying(self, count: int, token: str = "none") -> None:
        """Wait until so many fetches for the store are under way, over all workers."""
        async with asyncio.timeout(10):
            while True:
                if (await self.status(token))["regenerations"]["flying"] == count:
                    return
                await asyncio.sleep(0.02)

    async def all_ready(self, replaced: int = 0) -> None:
        """Wait until every worker serves, after so many were replaced."""
        async with asyncio.timeout(15):
            while True:
                try:
                    said = await self.status()
                except (ConnectionError, asyncio.IncompleteReadError):
                    said = {"worker_restarts": -1}
                if said["worker_restarts"] >= replaced and said["workers_alive"] == said["workers"]:
                    return
                await asyncio.sleep(0.02)


def text_of(origin: str, store: Path, routes: str = ROUTE, *, workers: int = 4, more: str = "") -> str:
    """Write a config for several workers, whose log tells where they listen."""
    text = config(origin, store, routes, more=f"workers: {workers}\n{more}")
    return text.replace("level: error", "level: info, format: json")


@asynccontextmanager
async def hosted(text: str, folder: Path, *, stdout: int = subprocess.DEVNULL) -> AsyncIterator[Hosted]:
    """Serve by this config until the end of the block; `stdout` is where the access log goes."""
    file, log = folder / "hosted.yaml", folder / "hosted.log"
    file.write_text(text)
    with log.open("wb") as out:
        process = subprocess.Popen(  # noqa: ASYNC220  forking takes a millisecond, and this is a test
            [sys.executable, "-m", "isr_proxy", "serve", "--config", str(file)],
            cwd=ROOT,
            stdout=stdout,
            stderr=out,
        )
    host = Hosted(process, log, file)
    try:
        await eventually(lambda: host.lines("serving") or process.poll() is not None, within=20.0)
        assert process.poll() is None, log.read_text()
        said = host.lines("serving")[0]
        host.url, host.admin = said["urls"][0], said["admin"]
        yield host
    finally:
        for visitor in host.opened:
            visitor.writer.close()
        await _end(process)


async def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            await asyncio.to_thread(process.wait, 20)
        except subprocess.TimeoutExpired:
            process.kill()
            await asyncio.to_thread(process.wait)
            raise


def _port(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


def _sockets(pid: int) -> set[str]:
    """Return the inodes of a process's sockets."""
    found = set()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(file)
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


def _connections(pid: int) -> list[tuple[int, int]]:
    """Return local and remote port of a process's TCP connections."""
    mine, found = _sockets(pid), []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "01" and fields[9] in mine:
            found.append((int(fields[1].split(":")[1], 16), int(fields[2].split(":")[1], 16)))
    return found


def _peer_ports(pid: int, port: int) -> list[int]:
    return [remote for local, remote in _connections(pid) if local == port]


def _has_peer(pid: int, port: int) -> bool:
    return any(remote == port for _, remote in _connections(pid))
