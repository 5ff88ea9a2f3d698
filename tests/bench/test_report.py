"""The result in words and as a picture."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bench import plot, report
from bench.cases import all_cases
from bench.goals import GOALS
from bench.pacing import Paced
from bench.plot import Bar, Group
from bench.results import Results, Run

TITLES = {"hit-10k": "hit, 10 KB", "miss": "miss"}
COLOURS = {"isr-proxy": "#0969da", "nginx": "#6e7781"}


def measured() -> Results:
    results = Results()
    for cpu in (5.0, 6.0, 90.0):
        results.add("hit-10k", "isr-proxy", Run(100_000, cpu))
        results.add("hit-10k", "nginx", Run(120_000, cpu + 2))
    results.add("hit-10k", "next start", Run(1_500, 600.0))
    return results


def test_medians_leave_a_noisy_round_out() -> None:
    results = measured()
    assert (results.cpu("hit-10k", "isr-proxy"), results.cpu("hit-10k", "nginx")) == (6.0, 8.0)


def test_figures_stand_beside_their_ratio() -> None:
    (head, _, line) = report.cpu_table(measured(), TITLES).splitlines()
    assert head == "|  | isr-proxy | nginx | next start |"
    assert line == "| hit, 10 KB | 6.0 (0.75) | 8.0 | 600.0 (75.00) |"


def test_a_goal_says_whether_it_is_reached() -> None:
    lines = report.goal_table(measured(), TITLES).splitlines()
    assert lines[2] == "| hit, 10 KB, against nginx | 0.8 x | 0.75 x | yes |"
    assert lines[3] == "| hit, 10 KB, against Varnish | 0.45 x | — | not measured |"
    assert lines[4] == "| hit, 10 KB, against next start | 0.02 x | 0.010 x | yes |"


@pytest.mark.parametrize(
    ("found", "said"), [(0.8, "yes"), (0.81, "**no**, 1.0 x the goal"), (1.6, "**no**, 2.0 x the goal")]
)
def test_the_verdict(found: float, said: str) -> None:
    assert report.verdict(found, 0.8) == said


def test_latencies_tell_whether_the_client_kept_its_schedule() -> None:
    results = measured()
    results.paced["nginx"] = [Paced(1000, 1000, 1e-4, 2e-4, 3e-4, 1e-5)]
    results.paced["isr-proxy"] = [Paced(1000, 900, 1e-4, 3e-4, 3e-4, 1e-5)]
    text = whole(results)
    assert "| nginx | 1,000 | 100 | 200 | 300 | 1.00 x | 10 | yes |" in text
    assert "| isr-proxy | 1,000 | 100 | 300 | 300 | 1.50 x | 10 | no |" in text
    words = "| p99 at half of the maximum rate, against nginx | 1.5 x |"
    assert f"{words} — | not measured |" in text  # it was not the server that was late
    results.paced["isr-proxy"] = [Paced(1000, 1000, 1e-4, 3e-4, 3e-4, 1e-5)]
    assert f"{words} 1.50 x | yes |" in whole(results)


def test_more_workers_are_held_against_one() -> None:
    results = measured()
    for name, cpu in (("isr-proxy", 10.0), ("isr-proxy, 2 workers", 10.5), ("isr-proxy, 4 workers", 12.0)):
        results.add("workers", name, Run(1, cpu))
    text = whole(results)
    assert "| CPU per request with 2 workers, against 1 | 1.1 x | 1.05 x | yes |" in text
    assert "| CPU per request with 4 workers, against 1 | 1.1 x | 1.20 x | **no**, 1.1 x the goal |" in text


def test_what_could_not_be_measured_is_said() -> None:
    results = measured()
    results.note("Varnish: not measured. /tmp/isr-bench-x_1/0/isr.yaml:2:\nno")
    results.note("Varnish: not measured. /tmp/isr-bench-y_2/3/isr.yaml:2:\nno")
    assert whole(results).count("- Varnish: not measured. isr.yaml:2: no\n") == 1


def test_every_goal_is_of_a_case_that_is_there() -> None:
    names = {case.name for case in all_cases()} | {"latency"}
    assert {goal.case for goal in GOALS} <= names


def whole(results: Results) -> str:
    return report.markdown(
        results,
        TITLES,
        command="make bench",
        date="today",
        machine="a machine",
        versions={"nginx": "1.2"},
        rounds="1 round",
        plot="benchmark.svg",
    )


def test_the_picture_is_well_formed() -> None:
    groups = [
        Group("hit & miss <10 KB>", (Bar("isr-proxy", 0.7, "5.0 us"), Bar("nginx", 1.0, "7.1 us"))),
        Group("next", (Bar("nginx", 1.0, "7.1 us"), Bar("isr-proxy", 80.0, "600 us"))),
    ]
    root = ElementTree.fromstring(plot.svg("CPU", "a note", groups, COLOURS, 4.0))
    space = "{http://www.w3.org/2000/svg}"
    words = [text.text for text in root.iter(f"{space}text")]
    assert {"hit & miss <10 KB>", "5.0 us", "600 us", "isr-proxy"} <= set(words)
    widths = [float(bar.get("width", "0")) for bar in root.iter(f"{space}rect") if bar.get("height") == "13"]
    assert widths[0] / widths[1] == pytest.approx(0.7, abs=0.01)
    assert max(widths) == widths[3] == pytest.approx(4 * widths[1], abs=1)  # cut at the end of the scale
    assert len(list(root.iter(f"{space}polygon"))) == 1
