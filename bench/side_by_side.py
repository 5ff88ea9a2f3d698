"""isr-proxy beside nginx: the same load in turn, processor time of the server per request.

Knows the cases, the rounds and the table. Must not know how a server is configured (servers.py).

Requests per second depend on the load generator's core too; processor time per request does not, so that
is what the ratio compares. Rounds are interleaved, so that a noisy moment hits both.
"""

from __future__ import annotations

import http.client
import os
import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from bench.origin import ETAG
from bench.processes import cpu_seconds, free_port, listening, origin
from bench.servers import Server, running

CONNECTIONS: Final = 64
SERVER_CORE: Final = 1
LOAD_CORE: Final = 0

# A miss needs a path that was never asked for: every run has its own numbers.
_UNSEEN: Final = """
local number = tonumber(os.getenv("FIRST"))
request = function()
  number = number + 1
  return wrk.format("GET", "/page/" .. number)
end
"""
_UNSEEN_STEP: Final = 10_000_000


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of request; `path` None: a new path each time."""

    name: str
    path: str | None
    header: tuple[str, str] | None = None
    status: int = 200


CASES: Final = (
    Case("hit, 10 KB", "/large"),
    Case("304", "/large", ("If-None-Match", f'"{ETAG.decode()}"'), 304),
    Case("miss, 1 KB", None),
    Case("pass, 10 KB", "/pass/large"),
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One run of one case."""

    per_second: float
    cpu_microseconds: float  # of the server, per request


Measurements = Mapping[tuple[str, str], Sequence[Measured]]  # (case, server) -> its runs


def measure(rounds: int, seconds: int) -> Measurements:
    """Run every case on every server, in turn, so many times."""
    found: dict[tuple[str, str], list[Measured]] = {}
    port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="isr-bench-") as directory,
        listening(origin(port), port, LOAD_CORE),
        running(Path(directory), port, SERVER_CORE) as servers,
    ):
        script = Path(directory) / "unseen.lua"
        script.write_text(_UNSEEN)
        for case in CASES:
            for server in servers:
                _check(case, server)
        for number in range(rounds):
            for case in CASES:
                for server in servers:
                    run = _run(case, server, seconds, script, number * _UNSEEN_STEP)
                    found.setdefault((case.name, server.name), []).append(run)
                    print(f"round {number + 1}/{rounds}  {case.name:12} {server.name:10} {run}", flush=True)
    return found


def _check(case: Case, server: Server) -> None:
    """Make sure that a server answers as the case means it."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    headers = dict([case.header]) if case.header else {}
    for _ in range(2):
        connection.request("GET", case.path or "/page/0", headers=headers)
        answer = connection.getresponse()
        answer.read()
    connection.close()
    if answer.status != case.status:
        raise RuntimeError(f"{server.name} answers {answer.status} to {case.name}, not {case.status}")


def _run(case: Case, server: Server, seconds: int, script: Path, first: int) -> Measured:
    before = cpu_seconds(server.pid)
    said = subprocess.run(
        _wrk(case, server, seconds, script),
        env={**os.environ, "FIRST": str(first)},
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 30,
    ).stdout
    used = cpu_seconds(server.pid) - before
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"{server.name} failed under load ({case.name}):\n{said}")
    requests = int(_number(r"(\d+) requests in", said))
    return Measured(_number(r"Requests/sec:\s+([\d.]+)", said), used / requests * 1e6)


def _wrk(case: Case, server: Server, seconds: int, script: Path) -> list[str]:
    command = ["taskset", "-c", str(LOAD_CORE), "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    if case.header is not None:
        command += ["-H", ": ".join(case.header)]
    if case.path is None:
        command += ["-s", str(script)]
    return [*command, f"http://127.0.0.1:{server.port}{case.path or ''}"]


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise RuntimeError(f"wrk did not say {pattern}:\n{text}")
    return float(found[1])


def table(found: Measurements) -> str:
    """Return the medians as a Markdown table."""
    lines = [
        "| case | isr-proxy: CPU us / request | nginx | ratio | isr-proxy: requests/s | nginx |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for case in CASES:
        ours, theirs = (found[case.name, name] for name in ("isr-proxy", "nginx"))
        our_cpu, their_cpu = (median(run.cpu_microseconds for run in runs) for runs in (ours, theirs))
        our_rate, their_rate = (median(run.per_second for run in runs) for runs in (ours, theirs))
        lines.append(
            f"| {case.name} | {our_cpu:.1f} | {their_cpu:.1f} | {our_cpu / their_cpu:.1f} "
            f"| {our_rate:,.0f} | {their_rate:,.0f} |"
        )
    return "\n".join(lines)
