"""The house's own rules: budget of lines, names, docstrings, and who may import what.

Reads the source as text and as trees; runs none of it.
"""

from __future__ import annotations

import ast
import statistics
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from importlinter import api
from importlinter.application import use_cases

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "isr_proxy"

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 500
NAMES_THAT_SAY_NOTHING = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def modules_below(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


MODULES = modules_below("isr_proxy", "tests", "bench", "examples")


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf-8"), filename=str(path))


def functions_of(path: Path) -> Iterator[tuple[str, int]]:
    """Yield each function as `file:line name`, with its number of lines."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            yield f"{path.relative_to(ROOT)}:{node.lineno} {node.name}", lines


def imports_of(path: Path) -> set[str]:
    """Return every absolute name that a module imports: `from a.b import c` gives a.b and a.b.c."""
    names: set[str] = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)})
    return names


def importers_of(name: str) -> list[str]:
    """Return the modules of the package, as paths within it, that import a module or a part of it."""
    found = (
        path
        for path in modules_below("isr_proxy")
        if any(got == name or got.startswith(f"{name}.") for got in imports_of(path))
    )
    return [path.relative_to(PACKAGE).as_posix() for path in found]


def test_there_is_something_to_check() -> None:
    assert PACKAGE / "core" / "policy.py" in MODULES


def test_no_function_is_longer_than_a_screen() -> None:
    lines = [item for path in MODULES for item in functions_of(path)]
    assert [f"{name}: {count} lines" for name, count in lines if count > MAX_FUNCTION_LINES] == []


def test_most_functions_are_short() -> None:
    lines = sorted(count for path in modules_below("isr_proxy") for _, count in functions_of(path))
    assert statistics.median(lines) <= 8
    assert lines[len(lines) * 9 // 10] <= 30


def test_no_file_is_longer_than_one_thought() -> None:
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: count for name, count in lengths.items() if count > MAX_FILE_LINES} == {}


def test_every_module_says_what_it_knows() -> None:
    silent = [path for path in MODULES if path.read_text().strip() and not ast.get_docstring(tree_of(path))]
    assert [path.relative_to(ROOT).as_posix() for path in silent] == []


def test_every_module_has_a_name_that_says_something() -> None:
    names = {path: {path.stem, path.parent.name} for path in modules_below("isr_proxy")}
    assert [str(path) for path, parts in names.items() if parts & NAMES_THAT_SAY_NOTHING] == []


def test_imports_go_one_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    api.read_configuration()
    assert use_cases.lint_imports(cache_dir=None, no_logo=True)


def test_every_room_of_the_house_is_in_the_layers() -> None:
    contract = api.read_configuration(str(ROOT / "pyproject.toml"))["contracts_options"][0]
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    listed = {
        part.strip().removeprefix("isr_proxy.") for line in contract["layers"] for part in line.split("|")
    }
    assert rooms <= listed


def test_yaml_is_read_by_the_config_only() -> None:
    importers = importers_of("yaml")
    assert importers
    assert [name for name in importers if not name.startswith("run/config")] == []


def test_aiohttp_web_is_for_the_shells_only() -> None:
    importers = importers_of("aiohttp.web")
    assert importers
    assert [name for name in importers if not name.startswith(("serve/", "run/"))] == []


def test_aiohttps_parsers_are_used_in_the_front_and_towards_the_origin_only() -> None:
    importers = importers_of("aiohttp.http_parser")
    assert importers
    assert [name for name in importers if not name.startswith(("origin/", "serve/front"))] == []


def test_core_takes_no_clock_and_does_no_io() -> None:
    forbidden = {
        "asyncio",
        "socket",
        "time",
        "os",
        "aiohttp",
        "aiofiles",
        "threading",
        "sqlite3",
        "structlog",
    }
    impure = {path.name: imports_of(path) & forbidden for path in modules_below("isr_proxy/core")}
    assert {name: found for name, found in impure.items() if found} == {}
