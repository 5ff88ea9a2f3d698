"""A million stored pages beside a thousand: what grows with the store, and what does not.

    python -m bench.million [--pages 1000000]

Start-up to the first hit, memory after the same traffic, hits, purges by tag and of all. Knows the proxy from
outside; only the filling (stocking.py) knows the store's files. Exits 1 when a purged page was served.
"""

from __future__ import annotations

import argparse
import http.client
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median
from typing import Final

import uvloop

from bench import report
from bench.asking import ask, ask_all
from bench.costs import resident_bytes
from bench.heads import HOST, plain
from bench.origin import page
from bench.pacing import percentile
from bench.processes import end_on_term, free_port, isr_proxy, listening, origin
from bench.stocking import AT_ONCE, Template, stock, template_of

FEW: Final = 1_000
TAGS: Final = 10
_BYTES_EACH: Final = 5_500  # on disk: a block of the page, its name, its row
_STARTS: Final = 5
_REQUESTS: Final = 30_000
_TIMED: Final = 3_000
_SAMPLE: Final = 300
_PURGE_SECONDS: Final = 0.010
_RATIO: Final = 1.1

_CONFIG: Final = """\
listen: 127.0.0.1:{port}
admin: {{listen: "127.0.0.1:{admin_port}"}}
log: {{access: false, level: warning}}
origin: {{url: "http://127.0.0.1:{origin_port}"}}
store: {{path: "{directory}/store", max_size: 100GiB, memory: 16MiB, fsync: false}}
routes:
  - {{match: "/{{tag}}/{{number}}", revalidate: 1h, compress: false, tags: ["{{tag}}"]}}
"""


@dataclass(slots=True)
class Found:
    """What one store showed; seconds and bytes."""

    pages: int
    starts: list[float] = field(default_factory=list)
    resident: int = 0
    resident_after_scan: int = 0
    hits: list[float] = field(default_factory=list)
    disk_hits: list[float] = field(default_factory=list)
    purges: dict[str, float] = field(default_factory=dict)
    served_after_purge: int = 0


@dataclass(frozen=True, slots=True)
class Stored:
    """One store, and the config that serves it."""

    pages: int
    directory: Path
    config: Path
    port: int
    admin_port: int
    found: Found

    @contextmanager
    def serving(self) -> Iterator[int]:
        """Serve it while the block runs; gives the proxy's pid."""
        with listening(isr_proxy(self.config), self.port) as process:
            yield process.pid


def path_of_page(number: int) -> str:
    """Return the path of a page; every tenth has the same tag."""
    return f"/tag-{number % TAGS}/{number}"


def prepared(pages: int, directory: Path, origin_port: int, tell: Callable[[str], None]) -> Stored:
    """Make a store of so many pages: some by the proxy itself, the others like them."""
    directory.mkdir()
    port, admin_port, config = free_port(), free_port(), directory / "isr.yaml"
    config.write_text(
        _CONFIG.format(port=port, admin_port=admin_port, origin_port=origin_port, directory=directory)
    )
    stored = Stored(pages, directory, config, port, admin_port, Found(pages))
    with stored.serving():
        for number in range(TAGS):
            ask(port, plain(path_of_page(number)))
    root = directory / "store"
    templates = [template_of(root, path_of_page(number)) for number in range(TAGS)]

    def template_for(path: str) -> Template:
        return templates[int(path[len("/tag-")])]

    def told(done: int) -> None:
        if done % 50_000 < AT_ONCE:
            tell(f"  {done:,} pages stored")

    rest = (path_of_page(number) for number in range(TAGS, pages))
    uvloop.run(stock(root, rest, template_for, told))
    return stored


# --- measuring ---


def start_up(stored: Stored) -> None:
    """Time from starting the process to the first page from its store."""
    begun_at = time.perf_counter()
    with stored.serving():
        _expect_hit(stored, FEW // 2)
        stored.found.starts.append(time.perf_counter() - begun_at)


def _expect_hit(stored: Stored, number: int) -> None:
    answer = ask(stored.port, plain(path_of_page(number)))
    if answer.fields.get("x-cache") != "HIT" or answer.body != page(path_of_page(number).encode()):
        raise RuntimeError(f"page {number} of {stored.pages} is not stored: {answer}")


def traffic(stored: Stored, pid: int) -> None:
    """The same requests for every store, to the thousand pages that each has; then, to all that it has."""
    numbers = [number % FEW for number in range(_REQUESTS)]
    _ask_for(stored, numbers)
    stored.found.resident = resident_bytes(pid)
    stored.found.hits = sorted(_timed(stored, numbers[:_TIMED]))
    everywhere = Random(1).choices(range(stored.pages), k=_TIMED)
    stored.found.disk_hits = sorted(_timed(stored, everywhere))
    _ask_for(stored, Random(2).choices(range(stored.pages), k=_REQUESTS))
    stored.found.resident_after_scan = resident_bytes(pid)


def _ask_for(stored: Stored, numbers: Sequence[int]) -> None:
    heads = [plain(path_of_page(number)) for number in numbers]
    uvloop.run(ask_all(stored.port, heads, _is_hit))


def _is_hit(head: bytes, answer: bytes, body: bytes) -> bool:
    return b"X-Cache: HIT" in answer and body == page(head.split(b" ", 2)[1])


def _timed(stored: Stored, numbers: Sequence[int]) -> Iterator[float]:
    connection = http.client.HTTPConnection("127.0.0.1", stored.port, timeout=20)
    for number in numbers:
        begun_at = time.perf_counter()
        connection.request("GET", path_of_page(number), headers={"Host": HOST})
        answer = connection.getresponse()
        answer.read()
        yield time.perf_counter() - begun_at
        if answer.headers["X-Cache"] != "HIT":
            raise RuntimeError(f"page {number} of {stored.pages} is a {answer.headers['X-Cache']}")
    connection.close()


def purges(stored: Stored) -> None:
    """Purge a tenth by its tag, another while the first is still being swept, then all that is left."""
    admin = http.client.HTTPConnection("127.0.0.1", stored.admin_port, timeout=60)
    admin.request("GET", "/healthz")
    admin.getresponse().read()
    for words, selected, numbers in (
        ("purge by tag, a tenth", {"tags": ["tag-0"]}, range(0, stored.pages, TAGS)),
        ("another, while that is swept", {"tags": ["tag-1"]}, range(1, stored.pages, TAGS)),
        ("purge all, while those are swept", {"all": True}, range(2, stored.pages)),
    ):
        begun_at = time.perf_counter()
        admin.request("POST", "/v1/purge", json.dumps(selected), {"Content-Type": "application/json"})
        answer = admin.getresponse()
        said = answer.read()
        stored.found.purges[words] = time.perf_counter() - begun_at
        if answer.status != 200:
            raise RuntimeError(f"{words}: {answer.status} {said.decode()}")
        stored.found.served_after_purge += _still_served(stored, numbers)
    admin.close()


def _still_served(stored: Stored, numbers: Sequence[int]) -> int:
    """Count how many of a sample are not fetched anew."""
    sample = Random(3).sample(numbers, min(_SAMPLE, len(numbers)))
    answers = (ask(stored.port, plain(path_of_page(number))) for number in sample)
    return sum(answer.fields.get("x-cache") != "MISS" for answer in answers)


# --- telling ---


def table(few: Found, many: Found) -> str:
    """Return both stores side by side, with the goals."""
    rows = [
        _compared("start-up to first hit, ms", median(few.starts), median(many.starts), 1e3, _RATIO),
        _compared("RSS after the same traffic, MiB", few.resident, many.resident, 2**-20, _RATIO),
        _compared(
            f"RSS after {_REQUESTS:,} pages of all, MiB",
            few.resident_after_scan,
            many.resident_after_scan,
            2**-20,
            None,
        ),
        *(
            _compared(
                f"hit, {what}, {name}, us", percentile(one, percent), percentile(other, percent), 1e6, None
            )
            for what, one, other in (
                ("a popular page", few.hits, many.hits),
                ("any page", few.disk_hits, many.disk_hits),
            )
            for name, percent in (("p50", 50.0), ("p99", 99.0))
        ),
        *(
            [
                f"{words}, ms",
                f"{few.purges[words] * 1e3:.1f}",
                f"{seconds * 1e3:.1f}",
                f"{seconds / few.purges[words]:.2f} x",
                f"{_PURGE_SECONDS * 1e3:g} ms",
                report.verdict(seconds, _PURGE_SECONDS),
            ]
            for words, seconds in many.purges.items()
        ),
    ]
    head = ["", f"{few.pages:,} pages", f"{many.pages:,} pages", "ratio", "goal", "reached"]
    return report.table(head, rows)


def _compared(words: str, few: float, many: float, unit: float, goal: float | None) -> list[str]:
    against = many / few
    return [
        words,
        f"{few * unit:,.1f}",
        f"{many * unit:,.1f}",
        f"{against:.2f} x",
        "" if goal is None else f"{goal:g} x",
        "" if goal is None else report.verdict(against, goal),
    ]


def run(pages: int, directory: Path, tell: Callable[[str], None]) -> tuple[Found, Found]:
    """Make both stores and measure them in turn."""
    origin_port = free_port()
    with listening(origin(origin_port), origin_port):
        tell(f"storing {FEW:,} and {pages:,} pages")
        both = [
            prepared(count, directory / name, origin_port, tell)
            for count, name in ((FEW, "few"), (pages, "many"))
        ]
        for _ in range(_STARTS):
            for stored in both:
                start_up(stored)
        for stored in both:
            tell(f"traffic and purges, {stored.pages:,} pages")
            with stored.serving() as pid:
                traffic(stored, pid)
                purges(stored)
    return both[0].found, both[1].found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.million", description=__doc__.partition("\n")[0])
    parser.add_argument("--pages", type=int, default=1_000_000)
    asked = parser.parse_args()
    end_on_term()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="isr-million-")))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        free = shutil.disk_usage(directory).free
        if free < 2 * asked.pages * _BYTES_EACH:
            print(
                f"It takes {asked.pages * _BYTES_EACH / 1e9:.1f} GB; {free / 1e9:.1f} are free.",
                file=sys.stderr,
            )
            return 2
        few, many = run(asked.pages, directory, lambda line: print(line, file=sys.stderr, flush=True))
        print(table(few, many))
        served = few.served_after_purge + many.served_after_purge
        print(f"Of the pages asked for after each purge, {served or 'none'} came from the store.", flush=True)
        print("Removing the stores.", file=sys.stderr, flush=True)
    return 1 if served else 0


if __name__ == "__main__":
    sys.exit(main())
