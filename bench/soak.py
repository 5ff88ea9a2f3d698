"""An hour in miniature: mixed traffic against one proxy, whose memory, files and tasks must stay flat.

    python -m bench.soak [--seconds 300]

Visitors who hit, miss, pass, find pages stale, hang up or read slowly; purges and reloads meanwhile. Exits 1
when something grew, when descriptors or tasks are left once all visitors are gone, or an answer was wrong.
Knows the proxy from outside. Whether numbers grow is flatness.py's to say.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from random import Random
from typing import Final

from bench import counted, report
from bench.asking import content_length
from bench.costs import open_files, resident_bytes
from bench.flatness import flatness
from bench.heads import chrome, plain
from bench.origin import page
from bench.processes import end_on_term, free_port, listening, origin

MIB: Final = 2**20
_SAMPLES: Final = 60
_PATHS: Final = 6_000  # of misses: more than the store takes, so that each is gone when its turn comes again
_QUIET_SECONDS: Final = 5.0
_PAUSE: Final = 0.004  # between two requests of a visitor: the proxy is busy, not overrun

# What may grow between the second and the last third: share, and allowance for small numbers.
_BOUNDS: Final = {"RSS, MiB": (0.05, 2.0), "open files": (0.1, 8.0), "tasks": (0.25, 16.0)}
_LEFT: Final = {"open files": 8, "tasks": 4}  # more than before the first visitor, once the last is gone

_CONFIG: Final = """\
listen: 127.0.0.1:{port}
admin: {{listen: "127.0.0.1:{admin_port}"}}
log: {{access: true, format: json, level: warning}}
origin: {{url: "http://127.0.0.1:{origin_port}"}}
store: {{path: "{directory}/store", max_size: 32MiB, max_entry: 4MiB, memory: 8MiB, fsync: false}}
limits: {{idle_timeout: 5s}}
routes:
  - {{match: "/pass/**", revalidate: 0}}
  - {{match: "/stale/**", revalidate: 1s, tags: [stale]}}
  - {{match: "/**", revalidate: 1h}}
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """The proxy at one moment."""

    resident_mib: float
    open_files: int
    tasks: int


NAMES: Final = dict(zip((each.name for each in fields(Sample)), _BOUNDS, strict=True))


@dataclass(slots=True)
class Soak:
    """A run: where to, how it went."""

    port: int
    admin_port: int
    ends_at: float
    random: Random = field(default_factory=lambda: Random(7))
    done: dict[str, int] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    unseen: int = 0

    def is_over(self) -> bool:
        return time.monotonic() >= self.ends_at

    def count(self, kind: str) -> None:
        self.done[kind] = self.done.get(kind, 0) + 1


# --- visitors: each does one thing, again and again ---


async def _regular(soak: Soak, kind: str, head: Callable[[], bytes]) -> None:
    """Ask on a kept connection, and have each answer looked at; a new connection every hundred."""
    while not soak.is_over():
        reader, writer = await asyncio.open_connection("127.0.0.1", soak.port, limit=2 * MIB)
        for _ in range(100):
            await _ask_once(soak, kind, head(), reader, writer)
            await asyncio.sleep(_PAUSE)
            if soak.is_over():
                break
        writer.close()


async def _ask_once(
    soak: Soak, kind: str, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    writer.write(head)
    answer = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(content_length(answer))
    path, status = head.split(b" ", 2)[1], answer.partition(b"\r\n")[0]
    encoded = b"content-encoding" in answer.lower()
    if not answer.startswith(b"HTTP/1.1 200") or not (encoded or body == page(path)):
        soak.wrong.append(f"{kind} {path.decode()}: {status.decode()}")
    soak.count(kind)


async def _hits(soak: Soak) -> None:
    await _regular(soak, "hit", lambda: chrome(f"/page/{soak.random.randrange(100)}"))


async def _stale(soak: Soak) -> None:
    await _regular(soak, "stale", lambda: plain(f"/stale/{soak.random.randrange(20)}"))


async def _misses(soak: Soak) -> None:
    def head() -> bytes:
        soak.unseen = (soak.unseen + 1) % _PATHS
        return plain(f"/slow/{soak.unseen}")

    await _regular(soak, "miss", head)


async def _passes(soak: Soak) -> None:
    await _regular(soak, "pass", lambda: plain("/pass/10k"))


async def _hangs_up(soak: Soak) -> None:
    """Go away in the middle: of the request, before the answer, or in it."""
    heads = (b"GET /page/10k HTTP/1.1\r\nHo", plain("/slow/hung-up"), plain("/page/1m"))
    while not soak.is_over():
        reader, writer = await asyncio.open_connection("127.0.0.1", soak.port)
        head = soak.random.choice(heads)
        writer.write(head)
        if head is heads[2]:
            await reader.read(1000)
        writer.transport.abort()
        soak.count("hung up")
        await asyncio.sleep(5 * _PAUSE)


async def _reads_slowly(soak: Soak) -> None:
    """Take a megabyte in small sips, to its end."""
    while not soak.is_over():
        reader, writer = await asyncio.open_connection("127.0.0.1", soak.port, limit=8192)
        writer.write(plain("/page/1m"))
        head = await reader.readuntil(b"\r\n\r\n")
        left = content_length(head)
        while left and not soak.is_over():
            piece = await reader.read(16_384)
            if not piece:
                soak.wrong.append("a slow reader was cut off")
                break
            left -= len(piece)
            await asyncio.sleep(0.02)
        soak.count("read slowly")
        writer.close()


async def _purges(soak: Soak) -> None:
    bodies = ('{"paths": ["/page/1"]}', '{"tags": ["stale"]}', '{"prefixes": ["/slow/1"]}', '{"all": true}')
    turn = 0
    while not soak.is_over():
        await _admin(soak, "purge", "/v1/purge", bodies[turn % len(bodies)])
        turn += 1
        await asyncio.sleep(0.5)


async def _reloads(soak: Soak) -> None:
    while not soak.is_over():
        await _admin(soak, "reload", "/v1/reload", "")
        await asyncio.sleep(2.0)


async def _admin(soak: Soak, kind: str, path: str, body: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", soak.admin_port)
    writer.write(
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    answer = await reader.read()
    writer.close()
    if b" 200 " not in answer.partition(b"\r\n")[0]:
        soak.wrong.append(f"{kind}: {answer.decode()}")
    soak.count(kind)


_VISITORS: Final[dict[Callable[[Soak], Awaitable[None]], int]] = {
    _hits: 6,
    _stale: 2,
    _misses: 4,
    _passes: 3,
    _hangs_up: 2,
    _reads_slowly: 3,
    _purges: 1,
    _reloads: 1,
}


# --- the run ---


async def visit(soak: Soak, look: Callable[[], Sample], seconds: float) -> list[Sample]:
    """Let everybody in until the time is over; returns what was seen of the proxy meanwhile."""
    samples: list[Sample] = []
    async with asyncio.TaskGroup() as group:
        for visitor, count in _VISITORS.items():
            for _ in range(count):
                group.create_task(_forgiving(soak, visitor))
        while not soak.is_over():
            await asyncio.sleep(seconds / _SAMPLES)
            samples.append(await asyncio.to_thread(look))
            print(f"{samples[-1]}  {dict(sorted(soak.done.items()))}", file=sys.stderr, flush=True)
    return samples


async def _forgiving(soak: Soak, visitor: Callable[[Soak], Awaitable[None]]) -> None:
    """Come back after a connection that broke, and say so."""
    while not soak.is_over():
        try:
            await visitor(soak)
        except (OSError, asyncio.IncompleteReadError) as error:
            soak.wrong.append(f"{visitor.__name__.strip('_')}: {error!r}")
            await asyncio.sleep(0.1)


def problems(soak: Soak, before: Sample, samples: Sequence[Sample], after: Sample) -> list[str]:
    """Return what is not as it should be, in words."""
    found = [f"{len(soak.wrong)} wrong answers, the first: {soak.wrong[0]}"] if soak.wrong else []
    for attribute, name in NAMES.items():
        series = flatness([getattr(sample, attribute) for sample in samples])
        if series.grows(*_BOUNDS[name]):
            found.append(
                f"{name} grew from {series.before:.1f} to {series.after:.1f},"
                f" and at most from {series.most_before:.1f} to {series.most_after:.1f}"
            )
        left = getattr(after, attribute) - getattr(before, attribute)
        if left > _LEFT.get(name, left):
            found.append(f"{name}: {left} more than before the first visitor are left")
    return found


def table(before: Sample, samples: Sequence[Sample], after: Sample) -> str:
    """Return the samples as a Markdown table."""
    rows = []
    for attribute, name in NAMES.items():
        series = flatness([getattr(sample, attribute) for sample in samples])
        numbers = (series.before, series.after, series.most_before, series.most_after)
        shown = (getattr(before, attribute), *numbers, getattr(after, attribute))
        rows.append([name, *(f"{number:,.1f}" for number in shown)])
    return report.table(
        ["", "before", "second third", "last third", "most, second", "most, last", "afterwards"], rows
    )


def run(seconds: float, directory: Path) -> tuple[str, list[str]]:
    """Soak for so long; returns the table and the problems."""
    ports = free_port(), free_port(), free_port()
    config = directory / "soak.yaml"
    config.write_text(
        _CONFIG.format(port=ports[0], admin_port=ports[1], origin_port=ports[2], directory=directory)
    )
    file = directory / "tasks"
    command = [sys.executable, "-m", "bench.counted", str(file), "serve", "--config", str(config)]
    with listening(origin(ports[2]), ports[2]), listening(command, ports[0]) as process:

        def look() -> Sample:
            pid = process.pid
            return Sample(resident_bytes(pid) / MIB, open_files(pid), counted.tasks(pid, file))

        before = look()
        soak = Soak(ports[0], ports[1], time.monotonic() + seconds)
        samples = asyncio.run(visit(soak, look, seconds))
        after = _quiet(look, before)
    said = f"{table(before, samples, after)}\n{dict(sorted(soak.done.items()))}"
    return said, problems(soak, before, samples, after)


def _quiet(look: Callable[[], Sample], before: Sample) -> Sample:
    """Look again once the last visitor is gone, idle connections are closed and sweeps are done."""
    deadline = time.monotonic() + 4 * _QUIET_SECONDS
    time.sleep(_QUIET_SECONDS)
    after = look()
    while after.open_files > before.open_files and time.monotonic() < deadline:
        time.sleep(1.0)
        after = look()
    return after


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=300)
    asked = parser.parse_args()
    end_on_term()
    with tempfile.TemporaryDirectory(prefix="isr-soak-") as directory, suppress(KeyboardInterrupt):
        said, found = run(asked.seconds, Path(directory))
        print(said)
        print("\n".join(found) or f"Flat over {asked.seconds:g} seconds.")
        return 1 if found else 0
    return 130


if __name__ == "__main__":
    sys.exit(main())
