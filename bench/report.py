"""The result in words: docs/benchmark.md.

Knows results, goals and Markdown. Must not know how anything is measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from bench.cases import LATENCY
from bench.goals import GOALS, Goal, Measure
from bench.results import Latency, Results, ratio
from bench.servers import Kind

_NONE: Final = "—"
_NGINX: Final = Kind.NGINX.value
_COLUMNS: Final = tuple(kind.value for kind in Kind)

_HOW: Final = """\
One worker or thread each, pinned to one core with everything it starts; load generator and origin on
another; plain HTTP over loopback. `wrk` holds 64 connections and sends exactly the bytes of each case. Every
feature of isr-proxy is on (checks, metrics, purges); the access log is off in all but one case. Caches are
on, connections are kept, to visitors and to the origin, and no page is fsynced.
All are the distribution's builds, isr-proxy's Python too where it has one (`/usr/bin/python3`). For the crowd
of 100,000 URLs all have memory for all pages: isr-proxy 2 GiB, HAProxy 1.5 GB, Varnish 4 GB, nginx the
kernel's page cache.
[bench/configs.py](../bench/configs.py) has each configuration, and why it is so.

**CPU** is what the server's processes used, their children and ended threads included, divided by the
requests that were answered. It hardly depends on how fast the load generator can ask, so it is what the
ratios compare. **Requests/s** do, and with the faster servers it is the load generator that is at its end.
Figures are medians of interleaved rounds. Before each case every server is checked for status, body and
encoding; whether a request was a hit is known from the origin's own count of requests, before and after. A
run with one error does not count.
"""


def markdown(
    results: Results,
    titles: Mapping[str, str],
    *,
    command: str,
    date: str,
    machine: str,
    versions: Mapping[str, str],
    rounds: str,
    plot: str,
) -> str:
    """Return the whole file; `titles` are the cases' words by their names, in the order of the table."""
    shown = ", ".join(f"{name} {number}" for name, number in versions.items())
    parts = [
        f"# Benchmark\n\n{date}: `{command}` ({rounds}).\\\n{shown}.\\\n{machine}.\n\n"
        "The figures are one machine's; `make bench` makes yours.\n",
        f"![CPU per request, nginx = 1]({plot})\n",
        f"## Goals\n\n{goal_table(results, titles)}",
        f"## CPU per request\n\nMicroseconds, and how many times nginx's.\n\n{cpu_table(results, titles)}",
        f"## Requests per second\n\n{rate_table(results, titles)}",
        _latencies(results),
        _workers(results),
        "## What could not be measured\n\n" + "".join(f"- {note}\n" for note in results.notes)
        if results.notes
        else "",
        f"## How it is measured\n\n{_HOW}",
    ]
    return "\n".join(part for part in parts if part)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table; all columns but the first are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def goal_table(results: Results, titles: Mapping[str, str]) -> str:
    """Return what was to be reached, what was, and whether that is enough."""
    return table(
        ["goal", "at most", "measured", "reached"],
        [
            [_words(goal, titles), f"{goal.limit:g} x", _times(found), verdict(found, goal.limit)]
            for goal in GOALS
            if (found := goal.reached(results)) is not None or goal.case in (*results.cases(), LATENCY)
        ],
    )


def _words(goal: Goal, titles: Mapping[str, str]) -> str:
    if goal.measure is Measure.P99:
        return f"p99 at half of the maximum rate, against {goal.theirs.name}"
    if goal.mine.setup.workers > 1:
        return f"CPU per request with {goal.mine.setup.workers} workers, against 1"
    return f"{titles.get(goal.case, goal.case)}, against {goal.theirs.name}"


def verdict(found: float | None, limit: float) -> str:
    """Say whether a goal is reached, as shown: rounded to what the table tells."""
    if found is None:
        return "not measured"
    return "yes" if found <= limit + 0.0005 else f"**no**, {found / limit:.1f} x the goal"


def _times(found: float | None) -> str:
    if found is None:
        return _NONE
    return f"{found:.3f} x" if found < 0.1 else f"{found:.2f} x"


def cpu_table(results: Results, titles: Mapping[str, str]) -> str:
    """Return CPU per request by case and server; variants with more workers have a table of their own."""
    return _by_server(results, titles, lambda case, server: _cpu(results, case, server))


def _cpu(results: Results, case: str, server: str) -> str:
    found = results.cpu(case, server)
    if found is None:
        return _NONE
    against = ratio(found, results.cpu(case, _NGINX))
    shown = f"{found:.1f}" if found < 1000 else f"{found:,.0f}"
    return shown if against is None or server == _NGINX else f"{shown} ({_times(against)[:-2]})"


def rate_table(results: Results, titles: Mapping[str, str]) -> str:
    """Return requests per second by case and server."""
    return _by_server(results, titles, lambda case, server: _number(results.per_second(case, server)))


def _by_server(results: Results, titles: Mapping[str, str], cell: Callable[[str, str], str]) -> str:
    measured = [case for case in titles if case in results.cases() and case != "workers"]
    shown = [name for name in _COLUMNS if any(name in results.servers(case) for case in measured)]
    return table(["", *shown], [[titles[case], *(cell(case, name) for name in shown)] for case in measured])


def _number(found: float | None) -> str:
    return _NONE if found is None else f"{found:,.0f}"


def _latencies(results: Results) -> str:
    rows = [
        _latency(name, latency, results)
        for name in _COLUMNS
        if (latency := results.latency(name)) is not None
    ]
    if not rows:
        return ""
    head = [
        "",
        "requests/s",
        "p50, us",
        "p99, us",
        "p99.9, us",
        "p99 / nginx's",
        "client late, p99, us",
        "kept",
    ]
    return (
        "## Latency at half of the maximum rate\n\n"
        "10 KB hit, each server at half of its own requests/s above. The time counts from when a request was "
        "to be sent, so that a slow server cannot slow the client down (no coordinated omission). The client "
        "tells how late it was by itself, and whether that left the server's time visible: late by at most "
        "half of the p99.\n\n" + table(head, rows)
    )


def _latency(name: str, latency: Latency, results: Results) -> list[str]:
    nginx = results.latency(_NGINX)
    return [
        name,
        f"{latency.rate:,.0f}",
        *(f"{seconds * 1e6:,.0f}" for seconds in (latency.p50, latency.p99, latency.p999)),
        _times(ratio(latency.p99, nginx.p99 if nginx else None)),
        f"{latency.late_p99 * 1e6:,.0f}",
        "yes" if latency.is_kept else "no",
    ]


def _workers(results: Results) -> str:
    servers = results.servers("workers")
    if not servers:
        return ""
    rows = []
    for name in servers:
        alone = results.cpu("workers", name.partition(",")[0])
        found = results.cpu("workers", name)
        rate = _number(results.per_second("workers", name))
        rows.append([name, f"{found:.1f}", _times(ratio(found, alone)), rate])
    return (
        "## Workers\n\n10 KB hit. All workers share the one core, so what is seen is what they cost each "
        "other, not how they scale.\n\n"
        + table(["", "CPU us / request", "against one worker", "requests/s"], rows)
    )
