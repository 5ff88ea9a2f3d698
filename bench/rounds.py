"""Measuring: every case on every server in turn, round after round.

Knows cores, rounds and what a run is. Must not know cases or servers by name. Requests per second depend on
the load generator's core too; processor time per request hardly does, so that is what is compared. Rounds
are interleaved, so that a noisy moment hits all servers, and the median leaves it out.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import loads
from bench.asking import ask
from bench.cases import LATENCY_OF, Case, Stage
from bench.checks import Unfit, asked, check_after, prepared
from bench.costs import cpu_seconds, settled_cpu_seconds
from bench.idle import idle_connections
from bench.loads import LoadFailed, Same, Script
from bench.pacing import Paced
from bench.processes import CannotStart, free_port, listening, origin
from bench.results import Results, Run
from bench.servers import Kind, Server, Variant, remove, running

SERVER_CORE: Final = 1
LOAD_CORE: Final = 0
_PACED_SECONDS: Final = 3
_TMPFS: Final = "/dev/shm"  # of Linux

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured, and how long."""

    cases: tuple[Case, ...]
    kinds: frozenset[Kind]
    rounds: int
    seconds: int
    paced_rounds: int  # 0: no latencies


@dataclass(frozen=True, slots=True)
class Ready:
    """A case on a server that answers as it should."""

    case: Case
    server: Server
    script: Script
    head: bytes


def measure(plan: Plan, results: Results, tell: Tell) -> None:
    """Measure everything planned; what cannot be is noted and left out."""
    for stage in Stage:
        cases = [case for case in plan.cases if case.stage is stage]
        if cases or (stage is Stage.PAGES and plan.paced_rounds):
            _Measuring(plan, results, tell).stage(stage, cases)


class _Measuring:
    """One stage at a time: servers started, checked, loaded, stopped."""

    def __init__(self, plan: Plan, results: Results, tell: Tell) -> None:
        self._plan = plan
        self._results = results
        self._tell = tell
        self._runs = 0
        self._origin_port = free_port()

    def stage(self, stage: Stage, cases: Sequence[Case]) -> None:
        self._tell(f"{stage.value}: starting and filling")
        with ExitStack() as stack:
            place = _TMPFS if stage is Stage.IN_MEMORY else None
            made = tempfile.TemporaryDirectory(prefix="isr-bench-", dir=place)
            directory = Path(stack.enter_context(made))
            stack.callback(remove, directory)
            stack.enter_context(listening(origin(self._origin_port), self._origin_port, LOAD_CORE))
            servers = self._started(stack, cases, directory)
            ready = list(self._prepared(cases, servers, directory))
            for number in range(self._plan.rounds):
                for each in ready:
                    self._measured(each, f"{stage.value} {number + 1}/{self._plan.rounds}")
            if stage is Stage.PAGES and self._plan.paced_rounds:
                self._paced([each for each in ready if each.case.name == LATENCY_OF], directory)

    def _started(self, stack: ExitStack, cases: Sequence[Case], directory: Path) -> dict[Variant, Server]:
        wanted = dict.fromkeys(variant for case in cases for variant in case.variants)
        servers = {}
        for number, variant in enumerate(wanted):
            if variant.kind not in self._plan.kinds:
                continue
            try:
                place = directory / str(number)
                servers[variant] = stack.enter_context(
                    running(variant, place, self._origin_port, SERVER_CORE)
                )
            except CannotStart as error:
                self._without(variant.name, error)
        return servers

    def _prepared(
        self, cases: Iterable[Case], servers: dict[Variant, Server], directory: Path
    ) -> Iterator[Ready]:
        for case in cases:
            if case.note:
                self._results.note(case.note)
            for server in (servers[variant] for variant in case.variants if variant in servers):
                try:
                    head = prepared(case, server, self._origin_port)
                except (Unfit, OSError) as error:
                    self._without(f"{server.variant.name}, {case.title}", error)
                    continue
                place = directory / f"{case.name}-{server.port}"
                place.mkdir()
                load = Same(head) if isinstance(case.load, Same) else case.load
                yield Ready(case, server, loads.write(load, place), head)

    def _without(self, what: str, error: Exception) -> None:
        self._results.note(f"{what}: not measured. {error}")
        self._tell(f"WITHOUT {what}: {error}")

    def _measured(self, ready: Ready, where: str) -> None:
        try:
            run = self._run(ready)
        except LoadFailed as error:
            self._without(f"{ready.server.variant.name}, {ready.case.title}, one run", error)
            return
        self._results.add(ready.case.name, ready.server.variant.name, run)
        self._tell(
            f"{where}  {ready.case.name:8} {ready.server.variant.name:22}"
            f" {run.cpu_microseconds:8.2f} us {run.per_second:9,.0f}/s"
        )

    def _run(self, ready: Ready) -> Run:
        server, case = ready.server, ready.case
        self._runs += 1
        with _idle(server, ready.head, case.idle):
            fetched, used = asked(self._origin_port), cpu_seconds(server.pids)
            said = loads.run(
                ready.script, server.port, self._plan.seconds, LOAD_CORE, self._runs * loads.UNSEEN_STEP
            )
            used = settled_cpu_seconds(server.pids) - used
        check_after(case, server, said, asked(self._origin_port) - fetched)
        return Run(said.per_second, used / said.requests * 1e6)

    # --- latencies ---

    def _paced(self, ready: Sequence[Ready], directory: Path) -> None:
        for number in range(self._plan.paced_rounds):
            for each in ready:
                name = each.server.variant.name
                maximum = self._results.per_second(each.case.name, name)
                if maximum is None:
                    continue
                try:
                    paced = _pace(each, maximum / 2, directory)
                except LoadFailed as error:
                    self._without(f"{name}, latency, one run", error)
                    continue
                self._results.paced.setdefault(name, []).append(paced)
                self._tell(
                    f"latency {number + 1}/{self._plan.paced_rounds}  {name:22} {paced.rate:9,.0f}/s"
                    f"  p50 {paced.p50 * 1e6:.0f}  p99 {paced.p99 * 1e6:.0f}  p99.9 {paced.p999 * 1e6:.0f} us"
                )


@contextmanager
def _idle(server: Server, head: bytes, count: int) -> Iterator[None]:
    with idle_connections(server.port, head, count) if count else nullcontext():
        yield


def _pace(ready: Ready, rate: float, directory: Path) -> Paced:
    """Run the rate-controlled client on the load's core."""
    head = directory / "paced"
    head.write_bytes(ready.head)
    body_bytes = len(ask(ready.server.port, ready.head).body)
    words = [ready.server.port, head, body_bytes, rate, _PACED_SECONDS]
    done = subprocess.run(
        ["taskset", "-c", str(LOAD_CORE), sys.executable, "-m", "bench.pacing", *map(str, words)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if done.returncode:
        raise LoadFailed(done.stderr.strip().splitlines()[-1])
    return Paced(**json.loads(done.stdout))
