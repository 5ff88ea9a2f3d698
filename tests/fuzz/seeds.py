"""Where the bytes begin: the corpus, which is text, and every attack of tests/http.

A line of `corpus/TARGET.txt` is one input, its bytes written as in a Python literal; `#` begins a comment.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parent / "corpus"
_HTTP = Path(__file__).parent.parent / "http"


def corpus(target: str) -> list[bytes]:
    """Return the inputs that are kept for a target."""
    lines = (CORPUS / f"{target}.txt").read_text("ascii").splitlines()
    return [bytes_of(line) for line in lines if line and not line.startswith("#")]


def bytes_of(line: str) -> bytes:
    """Read a line of the corpus."""
    return line.encode("ascii").decode("unicode_escape").encode("latin-1")


def text_of(data: bytes) -> str:
    """Write an input as a line of the corpus."""
    return data.decode("latin-1").encode("unicode_escape").decode("ascii")


def seeds(target: str) -> list[bytes]:
    """Return everything to begin with."""
    return [*corpus(target), *_attacks(target)]


def _attacks(target: str) -> Iterator[bytes]:
    """Find what the tests of attacks send: their `attack` rows, or what their origins answer (`raw`)."""
    wanted = {"requests": "attack", "answers": "raw"}.get(target)
    for path in sorted(_HTTP.glob("test_attack_*.py")):
        module = import_module(f"tests.http.{path.stem}")
        for mark in (mark for test in vars(module).values() for mark in getattr(test, "pytestmark", ())):
            if mark.name == "parametrize" and mark.args[0] == wanted:
                yield from (_raw(row.values[0]) for row in mark.args[1])


def _raw(row: Any) -> bytes:
    raw: bytes = row if isinstance(row, bytes) else row.raw
    return raw.replace(b"PATH", b"/shared/target")
