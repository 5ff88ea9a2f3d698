"""python -m bench [--quick] [--write]: isr-proxy beside nginx, on this machine.

Knows the arguments and where the result goes. Must not know how anything is measured.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
from pathlib import Path

from bench import side_by_side
from bench.processes import missing
from bench.servers import nginx_path

PACKAGES = {"nginx": "nginx-light", "wrk": "wrk", "taskset": "util-linux"}
RESULT = Path(__file__).parent.parent / "docs" / "benchmark.md"


def main() -> int:
    """Measure, print the table, and write it where that is asked for; 2 when something is not installed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description="isr-proxy beside nginx.")
    parser.add_argument("--quick", action="store_true", help="three short rounds, under two minutes")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.name} in docs/")
    asked = parser.parse_args()
    if lacking := missing(list(PACKAGES)):
        packages = " ".join(PACKAGES[program] for program in lacking)
        print(f"Not installed: {', '.join(lacking)}. As root: apt-get install {packages}", file=sys.stderr)
        return 2
    if (os.cpu_count() or 1) < 2:
        print("It takes two cores: one for the server, one for the load.", file=sys.stderr)
        return 2
    rounds, seconds = (3, 3) if asked.quick else (7, 5)
    report = _report(side_by_side.table(side_by_side.measure(rounds, seconds)), rounds, seconds)
    print(f"\n{report}")
    if asked.write:
        RESULT.write_text(report)
    return 0


def _report(table: str, rounds: int, seconds: int) -> str:
    said = subprocess.run([nginx_path(), "-v"], capture_output=True, text=True, check=True).stderr
    nginx = said.strip().rpartition("/")[2]
    return (
        "# Benchmark\n\n"
        f"Medians of {rounds} interleaved rounds of {seconds} s. One worker each, pinned to one core; wrk "
        f"with {side_by_side.CONNECTIONS} connections and the origin on another. Plain HTTP over loopback. "
        "CPU is user and system time of the server's processes: how fast wrk can ask does not count.\n\n"
        f"nginx {nginx}, Python {platform.python_version()}, {platform.system()} on {platform.machine()}.\n\n"
        f"{table}\n\n"
        "`make bench` measures it on your machine; `python -m bench --write` writes this file.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
