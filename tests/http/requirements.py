"""What a test proves of a standard, and the table that the test run makes of it.

    @requires("RFC 9111 §4.2.1", "s-maxage counts before max-age")
    async def test_...

Whatever a test run finds of marked tests becomes one row each of docs/conformance.md (`--conformance FILE`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

import pytest

_HEADER: Final = """\
# Conformance

What the standards demand of a shared cache, and of whoever stands between a visitor and an origin; which
test shows it, and what came of it. Made by `make test`; do not edit.

"""


class Result(Enum):
    """What came of all runs of one test."""

    PASSED = "passed"
    SKIPPED = "skipped"
    FAILED = "FAILED"


@dataclass(frozen=True, slots=True)
class Row:
    """One requirement. `section` is "RFC 9111 §4.2.1", or the name of an attack."""

    section: str
    requirement: str
    test: str
    result: Result


def requires(section: str, requirement: str) -> pytest.MarkDecorator:
    """Say what a test proves."""
    return pytest.mark.requires(section, requirement)


def order_of(section: str) -> tuple[object, ...]:
    """Sort sections as people count: §4.10 after §4.9, RFCs before everything else."""
    numbers = [(int(digits), "") if digits else (0, text) for digits, text in _PARTS.findall(section)]
    return (not section.startswith("RFC"), *numbers)


_PARTS: Final = re.compile(r"(\d+)|(\D+)")


def table(rows: Iterable[Row]) -> str:
    """Write the page; the same rows give the same bytes."""
    ordered = sorted(rows, key=lambda row: (order_of(row.section), row.requirement, row.test))
    parts, heading = [_HEADER], ""
    passed = sum(row.result is Result.PASSED for row in ordered)
    parts.append(f"{len(ordered)} requirements, {passed} passed.\n")
    for row in ordered:
        standard = row.section.partition(" §")[0]
        if standard != heading:
            heading = standard
            parts.append(f"\n## {heading}\n\n| section | requirement | test | result |\n|---|---|---|---|\n")
        section = "".join(row.section.partition("§")[1:])
        parts.append(f"| {section} | {row.requirement} | `{row.test}` | {row.result.value} |\n")
    return "".join(parts)
