"""For every test: an origin, a clock, and what a whole run says of the standards (docs/conformance.md).

Hypothesis' pytest plugin imports the rest of itself when the first test fails. CPython 3.11 can die of that
import, deep inside a hook, with a SystemError that hides the failure; so it is imported here, early.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator
from pathlib import Path

import hypothesis.internal.observability
import pytest

from tests.harness import FakeClock
from tests.http.requirements import Result, Row, table
from tests.scripted_origin import ScriptedOrigin

assert hypothesis.internal.observability

_ROWS = pytest.StashKey[dict[tuple[str, str, str], Result]]()


@pytest.fixture
async def origin() -> AsyncIterator[ScriptedOrigin]:
    async with ScriptedOrigin() as origin:
        yield origin


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--conformance", metavar="FILE", help="write the table of requirements there")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_ROWS] = {}


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.when == "call" or report.outcome != "passed":
        _note(item, report)
    return report


def _note(item: pytest.Item, report: pytest.TestReport) -> None:
    """Keep the worst result of a test's runs, for each thing it proves."""
    results = item.config.stash[_ROWS]
    file = item.path.relative_to(item.config.rootpath / "tests")
    name = f"{file}::{getattr(item, 'originalname', item.name)}"
    order = list(Result)
    result = {"passed": Result.PASSED, "skipped": Result.SKIPPED}.get(report.outcome, Result.FAILED)
    for mark in item.iter_markers("requires"):
        row = (*mark.args, name)
        results[row] = max(results.get(row, Result.PASSED), result, key=order.index)


def pytest_sessionfinish(session: pytest.Session) -> None:
    target = session.config.getoption("--conformance")
    if target:
        found = session.config.stash[_ROWS]
        Path(target).write_text(table(Row(*row, result) for row, result in found.items()), "utf-8")
