"""Where the time of a miss and of a pass goes: a worker under load, sampled, layer by layer.

    python -m bench.layers [miss | pass | hit] [--requests 20000]

Knows which module is which layer. Must not know what a layer does. The worker, the origin and the visitors
run on one loop in this process, and a signal looks every millisecond of processor time at what Python is
doing: a system call counts for whoever made it, a read for whoever is given it, a thread's work for what the
loop does meanwhile. What origin and visitors take is told apart, and left out.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Final, cast

import uvloop

from bench.configs import USUAL, Place, isr_proxy
from bench.origin import Origin
from isr_proxy.run.config import parse
from isr_proxy.run.interpreter import tune
from isr_proxy.run.worker import Worker

VISITORS: Final = 16
WARMING: Final = 500  # requests before it is looked at
_EVERY: Final = 0.001

LAYERS: Final[Sequence[tuple[str, tuple[str, ...]]]] = (
    ("the visitors and the origin of this measurement", ("bench/",)),
    (
        "visitor's connection: read, parse, settle, keep-alive",
        ("serve/connection", "serve/link", "serve/intake", "serve/front", "serve/heard", "core/arrival"),
    ),
    (
        "deciding: route, key, policy",
        ("core/policy", "core/routes", "core/key", "core/limits", "serve/engine", "serve/at_once"),
    ),
    ("request to the origin, written", ("core/forward", "origin/outgoing", "serve/pass", "serve/plain")),
    ("origin's connection: pool, send, read, parse, frame", ("origin/",)),
    (
        "flight and judgement",
        ("coord/", "serve/boarding", "serve/regenerate", "serve/part", "serve/fresh", "serve/var", "core/"),
    ),
    ("store: look-ups, spool, file, catalog", ("store/",)),
    ("answer to the visitor: head, write", ("serve/respond", "serve/deliver", "serve/wire")),
    ("metrics", ("serve/observe", "serve/watchers", "serve/outcome", "serve/families")),
)
_LOOP: Final = "loop: tasks and timers"
_ANYBODYS: Final = ("core/http.py", "core/value.py", "core/reason.py")  # counts for whoever asked
_BELOW_ALL: Final = ("main", "<module>")  # of this file: beneath every stack
_PATHS: Final = {"miss": "/crowd/{number}", "pass": "/pass/10k", "hit": "/page/10k"}


def layer_of(frame: FrameType | None) -> str:
    """Return which layer a stack is in: that of its innermost frame which is in any."""
    while frame is not None:
        file = frame.f_code.co_filename
        module = file.rpartition("isr_proxy/")[2] if "isr_proxy/" in file else f"bench/{Path(file).name}"
        is_ours = "isr_proxy/" in file or ("/bench/" in file and frame.f_code.co_name not in _BELOW_ALL)
        if is_ours and module not in _ANYBODYS and (layer := _layer(module)) is not None:
            return layer
        frame = frame.f_back
    return _LOOP


def _layer(module: str) -> str | None:
    return next((name for name, prefixes in LAYERS if module.startswith(prefixes)), None)


@contextmanager
def sampled() -> Iterator[Counter[str]]:
    """Count layers, a sample each millisecond of processor time."""
    found: Counter[str] = Counter()

    def look(_: int, frame: FrameType | None) -> None:
        found[layer_of(frame)] += 1

    before = signal.signal(signal.SIGPROF, look)
    signal.setitimer(signal.ITIMER_PROF, _EVERY, _EVERY)
    try:
        yield found
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class Visitor(asyncio.Protocol):
    """Asks one request after the other, as long as there are any."""

    def __init__(self, heads: Iterator[bytes], done: Callable[[], None]) -> None:
        self._heads = heads
        self._done = done
        self._left_bytes = 0
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's is none by its type
        self._ask()

    def _ask(self) -> None:
        head = next(self._heads, None)
        if head is None:
            self._done()
        elif self._transport is not None:
            self._transport.write(head)

    def data_received(self, data: bytes) -> None:
        if not self._left_bytes:
            head, _, data = data.partition(b"\r\n\r\n")
            length = head.lower().partition(b"content-length:")[2].partition(b"\r")[0]
            if not head.startswith(b"HTTP/1.1 200") or not length:
                raise RuntimeError(f"not the answer that was asked for: {head!r}")
            self._left_bytes = int(length)
        self._left_bytes -= len(data)
        if not self._left_bytes:
            self._ask()


async def load(port: int, heads: Iterator[bytes]) -> None:
    """Send all requests, over a few connections."""
    loop = asyncio.get_running_loop()
    ends: list[asyncio.Future[None]] = [loop.create_future() for _ in range(VISITORS)]
    make = [partial(Visitor, heads, partial(end.set_result, None)) for end in ends]
    transports = [(await loop.create_connection(each, "127.0.0.1", port))[0] for each in make]
    await asyncio.gather(*ends)
    for transport in transports:
        transport.close()


def heads_of(case: str, numbers: range) -> Iterator[bytes]:
    """Write the requests of a case; a miss asks for what was never asked for."""
    for number in numbers:
        path = _PATHS[case].format(number=number)
        yield f"GET {path} HTTP/1.1\r\nHost: layers.example\r\nAccept: */*\r\n\r\n".encode()


async def measure(case: str, requests: int, directory: Path) -> tuple[Counter[str], float]:
    """Return the samples, and the microseconds of processor time for each request."""
    loop = asyncio.get_running_loop()
    origin = await loop.create_server(Origin, "127.0.0.1", 0)
    port = origin.sockets[0].getsockname()[1]
    settings = parse(isr_proxy(Place(directory, 0, 0, port), USUAL), file="layers.yaml", environ={})
    worker = await Worker.start(settings)
    tune()
    try:
        visited = int(worker.urls[0].rpartition(":")[2])
        await load(visited, heads_of(case, range(WARMING)))
        with sampled() as found:
            begun = time.process_time()
            await load(visited, heads_of(case, range(WARMING, WARMING + requests)))
            seconds = time.process_time() - begun
    finally:
        await worker.stop(drain=1.0)
        origin.close()
    return found, seconds / requests * 1e6


def table(found: Counter[str], microseconds: float) -> str:
    """Return the layers as Markdown, the costliest first; the measurement's own are left out."""
    each = microseconds / max(1, found.total())
    ours = found.copy()
    del ours[LAYERS[0][0]]
    rows = [
        f"| {layer} | {count * each:.0f} | {count / ours.total():.0%} |"
        for layer, count in ours.most_common()
    ]
    total = f"| all | {ours.total() * each:.0f} | 100% |"
    return "\n".join(["| layer | us | share |", "|---|---:|---:|", *rows, total])


def main() -> int:
    parser = argparse.ArgumentParser(description="Where the time of a request goes, layer by layer.")
    parser.add_argument("case", choices=_PATHS, nargs="?", default="miss")
    parser.add_argument("--requests", type=int, default=20_000)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="isr-layers-") as directory:
        print(table(*uvloop.run(measure(asked.case, asked.requests, Path(directory)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
