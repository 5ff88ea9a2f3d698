"""python -m bench [--quick] [--write] [--case NAME] [--server NAME]: all of them, on this machine.

Knows the arguments and where the result goes. Must not know how anything is measured. `docs/benchmark.md` and
`docs/benchmark.svg` are written where `--write` asks for it.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench import plot, report
from bench.cases import LATENCY, LATENCY_OF, Case, all_cases
from bench.processes import end_on_term, missing
from bench.results import Results, ratio
from bench.rounds import Plan, measure
from bench.servers import PACKAGES, Kind
from bench.versions import machine, versions

_DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
_NEEDED: Final = ("wrk", "nginx")
_COLOURS: Final = {
    Kind.ISR_PROXY.value: "#0969da",
    Kind.NGINX.value: "#6e7781",
    Kind.HAPROXY.value: "#bf8700",
    Kind.VARNISH.value: "#8250df",
    Kind.NEXT.value: "#24292f",
    Kind.AIOHTTP.value: "#cf222e",
}
_SCALE_END: Final = 4.0


def main() -> int:
    """Measure, print the result, and write it where that is asked for; 2 when something is not installed."""
    asked = _parser().parse_args()
    end_on_term()
    if lacking := missing(_NEEDED):
        packages = " ".join(PACKAGES[program] for program in lacking)
        print(f"Not installed: {', '.join(lacking)}. As root: apt-get install {packages}", file=sys.stderr)
        return 2
    if len(os.sched_getaffinity(0)) < 2:
        print("It takes two cores: one for the server, one for the load.", file=sys.stderr)
        return 2
    cases = all_cases()
    plan = _plan(asked, cases)
    results = Results()
    is_whole = _measured(plan, results)
    text = _report(results, plan, cases)
    print(text)
    if asked.write and is_whole:
        (_DOCS / "benchmark.md").write_text(text)
        (_DOCS / "benchmark.svg").write_text(_picture(results, cases))
    return 0 if is_whole else 130


def _measured(plan: Plan, results: Results) -> bool:
    """Measure; tells whether that went to its end. What ctrl-C leaves is worth showing, not writing."""
    try:
        measure(plan, results, lambda line: print(line, file=sys.stderr, flush=True))
    except KeyboardInterrupt:
        results.note("It was interrupted: what came later is not here.")
        return False
    return True


def _parser() -> argparse.ArgumentParser:
    names = [case.name for case in all_cases()] + [LATENCY]
    parser = argparse.ArgumentParser(
        prog="python -m bench", description="isr-proxy beside what else there is."
    )
    parser.add_argument("--quick", action="store_true", help="the main cases, short: under two minutes")
    parser.add_argument("--write", action="store_true", help="write docs/benchmark.md and benchmark.svg")
    parser.add_argument("--case", action="append", choices=names, help="only this case; may be repeated")
    parser.add_argument(
        "--server", action="append", choices=[kind.value for kind in Kind], help="only this; may be repeated"
    )
    parser.add_argument("--rounds", type=int, help="rounds of each case")
    parser.add_argument("--seconds", type=int, default=1, help="seconds of each run")
    return parser


def _plan(asked: argparse.Namespace, cases: Sequence[Case]) -> Plan:
    chosen = asked.case or [
        case.name for case in cases if (case.is_quick if asked.quick else not case.is_extra)
    ]
    if not asked.case and not asked.quick:
        chosen = [*chosen, LATENCY]
    if LATENCY in chosen:
        chosen = [*chosen, LATENCY_OF]  # whose rate is halved
    kinds = {Kind(name) for name in asked.server} if asked.server else set(Kind)
    if asked.quick and not asked.server:
        kinds -= {Kind.NEXT}
    return Plan(
        tuple(case for case in cases if case.name in chosen),
        frozenset(kinds),
        rounds=asked.rounds or (3 if asked.quick else 7),
        seconds=asked.seconds,
        paced_rounds=3 if LATENCY in chosen else 0,
    )


def _report(results: Results, plan: Plan, cases: Sequence[Case]) -> str:
    arguments = [word for word in sys.argv[1:] if word != "--write"]
    command = f"make bench ARGS={shlex.quote(shlex.join(arguments))}" if arguments else "make bench"
    return report.markdown(
        results,
        {case.name: case.title for case in cases},
        command=command,
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),  # noqa: TID251  a date for people
        machine=machine(),
        versions=versions(),
        rounds=f"medians of {plan.rounds} interleaved rounds of {plan.seconds} s",
        plot="benchmark.svg",
    )


def _picture(results: Results, cases: Sequence[Case]) -> str:
    groups = []
    for case in cases:
        nginx = results.cpu(case.name, Kind.NGINX.value)
        bars = tuple(
            plot.Bar(name, against, f"{cpu:,.1f} us ({against:.2f})")
            for name in results.servers(case.name)
            if name in _COLOURS
            and (cpu := results.cpu(case.name, name)) is not None
            and (against := ratio(cpu, nginx)) is not None
        )
        if bars and case.name != "workers":
            groups.append(plot.Group(case.title, bars))
    return plot.svg(
        "CPU per request, nginx = 1",
        "Shorter is better. Beside each bar: microseconds of CPU per request, and the ratio to nginx.",
        groups,
        _COLOURS,
        _SCALE_END,
    )


if __name__ == "__main__":
    sys.exit(main())
