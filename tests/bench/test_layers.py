"""Where a request's time goes: stacks become layers, layers become a table."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import CodeType, FrameType

import pytest

from bench.layers import LAYERS, layer_of, measure, table

ROOT = Path(__file__).resolve().parents[2]


def _note(frames: list[FrameType]) -> None:
    frames.append(sys._getframe(1))


def stack_in(*files: str) -> FrameType:
    """Return the innermost of frames that lie in these files, the outermost first."""
    frames: list[FrameType] = []
    inner: Callable[[], object] = partial(_note, frames)
    for file in reversed(files):
        code: CodeType = compile("def step(): inner()", str(ROOT / file), "exec")
        names: dict[str, object] = {"inner": inner}
        exec(code, names)
        made = names["step"]
        assert callable(made)
        inner = made
    inner()
    return frames[0]


@pytest.mark.parametrize(
    ("files", "layer"),
    [
        (("isr_proxy/serve/plain_pass.py", "isr_proxy/origin/connection.py"), "origin's connection"),
        (("isr_proxy/serve/respond.py", "isr_proxy/core/http.py"), "answer to the visitor"),
        (("isr_proxy/origin/connection.py", "isr_proxy/serve/wire.py", "/usr/lib/any.py"), "answer to the"),
        (("isr_proxy/store/disk.py", "/usr/lib/python3/asyncio/locks.py"), "store"),
        (("isr_proxy/serve/connection.py", "bench/origin.py"), "the visitors and the origin"),
    ],
)
def test_a_stack_is_in_the_innermost_layer(files: tuple[str, ...], layer: str) -> None:
    assert layer_of(stack_in(*files)).startswith(layer)


def test_what_is_nobodys_is_the_loops() -> None:
    assert layer_of(None).startswith("loop")


def test_the_table_leaves_out_what_the_measurement_takes() -> None:
    found = Counter({LAYERS[0][0]: 50, "store": 40, "metrics": 10})
    assert table(found, 200.0).splitlines()[2:] == [
        "| store | 80 | 80% |",
        "| metrics | 20 | 20% |",
        "| all | 100 | 100% |",
    ]


@pytest.mark.parametrize("case", ["miss", "pass", "hit"])
async def test_it_measures(case: str, tmp_path: Path) -> None:
    found, microseconds = await measure(case, 50, tmp_path)
    assert microseconds > 0
    assert all(isinstance(count, int) for count in found.values())
