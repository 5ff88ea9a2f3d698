"""Many distinct URLs against a small store: the disk stays under max_size, memory is flat (law 8).

    python -m bench.many_urls [--urls 200000] [--max-size 64]

Exits 1 when a bound is broken. Knows only what an operator sees: `du`, RSS and answers.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import uvloop

from bench.asking import ask_all
from bench.costs import disk_bytes, resident_bytes
from bench.heads import plain
from bench.origin import page
from bench.processes import end_on_term, free_port, isr_proxy, listening, origin

MIB: Final = 1024 * 1024
SAMPLES: Final = 40
FLAT_RATIO: Final = 1.25  # RSS at the end against RSS at a quarter


@dataclass(frozen=True, slots=True)
class Sample:
    """The proxy's size after so many URLs."""

    urls: int
    disk_bytes: int
    resident_bytes: int


@dataclass(slots=True)
class Result:
    """What a run showed."""

    max_bytes: int
    samples: list[Sample] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def disk_max(self) -> int:
        return max(sample.disk_bytes for sample in self.samples)

    @property
    def growth(self) -> float:
        """RSS at the end against RSS when a quarter was done."""
        quarter = self.samples[len(self.samples) // 4]
        return self.samples[-1].resident_bytes / quarter.resident_bytes

    def problems(self) -> list[str]:
        """Return what is broken, in words."""
        found = []
        if self.disk_max > self.max_bytes:
            found.append(f"the disk took {self.disk_max / MIB:.1f} MiB, more than max_size")
        if self.growth > FLAT_RATIO:
            found.append(f"memory grew by {self.growth:.2f}")
        return found


def run(urls: int, max_bytes: int, directory: Path, samples: int = SAMPLES) -> Result:
    """Ask for so many distinct URLs through a proxy with so small a store."""
    proxy_port, origin_port = free_port(), free_port()
    config = directory / "many.yaml"
    config.write_text(_config(proxy_port, free_port(), origin_port, directory / "store", max_bytes))
    result = Result(max_bytes)
    begun_at = time.monotonic()
    with listening(origin(origin_port), origin_port), listening(isr_proxy(config), proxy_port) as process:
        for done in _rounds(urls, samples):
            heads = [plain(f"/url/{number}") for number in done]
            uvloop.run(ask_all(proxy_port, heads, _is_right))
            sample = Sample(done.stop, disk_bytes(directory / "store"), resident_bytes(process.pid))
            result.samples.append(sample)
            print(
                f"{sample.urls:>8} URLs  disk {sample.disk_bytes / MIB:6.1f} MiB  "
                f"RSS {sample.resident_bytes / MIB:6.1f} MiB  {time.monotonic() - begun_at:5.0f} s",
                flush=True,
            )
    result.seconds = time.monotonic() - begun_at
    return result


def _config(port: int, admin_port: int, origin_port: int, store: Path, max_bytes: int) -> str:
    return (
        f"listen: 127.0.0.1:{port}\n"
        f"admin: {{listen: 127.0.0.1:{admin_port}}}\n"
        "log: {access: false, level: warning}\n"
        f"origin: {{url: 'http://127.0.0.1:{origin_port}'}}\n"
        f"store: {{path: '{store}', max_size: {max_bytes}, max_entry: 64KiB, "
        f"memory: {max_bytes // 4}, fsync: false}}\n"
        "routes: [{match: '/**', revalidate: 1h}]\n"
    )


def _rounds(urls: int, samples: int) -> Iterator[range]:
    step = max(1, urls // samples)
    for start in range(0, urls, step):
        yield range(start, min(start + step, urls))


def _is_right(head: bytes, answer: bytes, body: bytes) -> bool:
    return answer.startswith(b"HTTP/1.1 200") and body == page(head.split(b" ", 2)[1])


def main() -> int:
    parser = argparse.ArgumentParser(description="Many distinct URLs against a small store.")
    parser.add_argument("--urls", type=int, default=200_000)
    parser.add_argument("--max-size", type=int, default=64, help="MiB")
    asked = parser.parse_args()
    end_on_term()
    with tempfile.TemporaryDirectory(prefix="isr-many-") as directory:
        result = run(asked.urls, asked.max_size * MIB, Path(directory))
    problems = result.problems()
    print(
        f"{asked.urls} URLs in {result.seconds:.0f} s: disk at most {result.disk_max / MIB:.1f} of "
        f"{asked.max_size} MiB, RSS at the end {result.growth:.2f} of RSS at a quarter. "
        + ("; ".join(problems) or "Bounded.")
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
