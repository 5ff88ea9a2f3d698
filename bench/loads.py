"""The load: wrk, told by a script what to send.

Knows wrk's scripts and what wrk says. Must not know the servers. The bytes of every request are made here, so
that each server gets the same: wrk's own way with headers would put them in any order.
"""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.heads import plain
from bench.processes import path_of

CONNECTIONS: Final = 64
_TIMEOUT_SECONDS: Final = 20  # wrk's own two are too few for the slowest, on a machine that is shared
UNSEEN_STEP: Final = 10_000_000  # numbers between two runs, so that no path comes twice

_SAME: Final = """\
local head = io.open(os.getenv("HEADS"), "rb"):read("*a")
wrk.format = function() return head end
"""
_UNSEEN: Final = """\
local number = tonumber(os.getenv("FIRST"))
local start, rest = io.open(os.getenv("HEADS"), "rb"):read("*a"):match("^(.-)%%(.*)$")
request = function()
  number = number + 1
  return start .. number .. rest
end
"""
_DRAWN: Final = """\
local heads, draws = {}, {}
local text = io.open(os.getenv("HEADS"), "rb"):read("*a")
for head in text:gmatch(".-\\r\\n\\r\\n") do heads[#heads + 1] = head end
for rank in io.lines(os.getenv("DRAWS")) do draws[#draws + 1] = tonumber(rank) + 1 end
local turn = tonumber(os.getenv("FIRST")) % #draws
request = function()
  turn = turn % #draws + 1
  return heads[draws[turn]]
end
"""


class LoadFailed(Exception):
    """The server did not answer everything as it should."""


@dataclass(frozen=True, slots=True)
class Same:
    """The same request again and again."""

    head: bytes

    def sample(self, _: int) -> bytes:
        return self.head


@dataclass(frozen=True, slots=True)
class Unseen:
    """A path that was never asked for, each time: `prefix` and a number."""

    prefix: str

    def sample(self, number: int) -> bytes:
        return plain(f"{self.prefix}{number}")


@dataclass(frozen=True, slots=True)
class Drawn:
    """Requests drawn from a crowd's heads (zipf.py)."""

    heads: tuple[bytes, ...]
    draws: tuple[int, ...]

    def sample(self, number: int) -> bytes:
        return self.heads[self.draws[number % len(self.draws)]]


Load = Same | Unseen | Drawn


@dataclass(frozen=True, slots=True)
class Said:
    """What wrk counted."""

    requests: int
    per_second: float


@dataclass(frozen=True, slots=True)
class Script:
    """A load written down for wrk."""

    script: Path
    heads: Path
    draws: Path


def write(load: Load, directory: Path) -> Script:
    """Write the files of a load."""
    script = Script(directory / "load.lua", directory / "heads", directory / "draws")
    match load:
        case Same(head):
            script.script.write_text(_SAME)
            script.heads.write_bytes(head)
        case Unseen(prefix):
            script.script.write_text(_UNSEEN)
            script.heads.write_bytes(plain(f"{prefix}%"))
        case Drawn(heads, draws):
            script.script.write_text(_DRAWN)
            script.heads.write_bytes(b"".join(heads))
            script.draws.write_text("".join(f"{rank}\n" for rank in draws))
    return script


def run(script: Script, port: int, seconds: int, core: int, first: int) -> Said:
    """Load a server; `first` is the number of the first request of this run. LoadFailed tells of errors."""
    command = [
        "taskset",
        "-c",
        str(core),
        path_of("wrk") or "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        f"--timeout={_TIMEOUT_SECONDS}s",
    ]
    done = subprocess.run(
        [*command, "-s", str(script.script), f"http://127.0.0.1:{port}/"],
        env={**os.environ, "HEADS": str(script.heads), "DRAWS": str(script.draws), "FIRST": str(first)},
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=False,
    )
    if done.returncode:
        raise LoadFailed(f"wrk ended with {done.returncode}: {done.stdout}{done.stderr}")
    return parse(done.stdout)


def parse(said: str) -> Said:
    """Read what wrk says; LoadFailed when it saw an error."""
    for sign in ("Non-2xx", "Socket errors"):
        if sign in said:
            raise LoadFailed(next(line.strip() for line in said.splitlines() if sign in line))
    requests = int(_number(r"(\d+) requests in", said))
    if not requests:
        raise LoadFailed("not one answer came")
    return Said(requests, _number(r"Requests/sec:\s+([\d.]+)", said))


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    if found is None:
        raise LoadFailed(f"wrk did not say {pattern}:\n{text}")
    return float(found[1])
