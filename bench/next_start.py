"""`next start`: the app of the benchmark, brought by npm and built once.

Knows npm, `next build` and where the result lies: `build/bench-next`, which git ignores. Must not know the
benchmark.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from hashlib import sha256
from pathlib import Path
from typing import Final

from bench.processes import CannotStart, path_of

APP: Final = Path(__file__).parent / "next_app"
BUILT: Final = Path(__file__).resolve().parents[1] / "build" / "bench-next"
PAGE: Final = "/page"
_QUIET: Final = {"NEXT_TELEMETRY_DISABLED": "1", "CI": "1"}
_INSTALL: Final = ("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error")
_SECONDS: Final = 240


def command(port: int) -> list[str]:
    """Return the command of the built app; npm in between would not pass signals on."""
    return [*_next("start"), "--hostname", "127.0.0.1", "--port", str(port)]


def _next(verb: str) -> list[str]:
    return ["node", str(BUILT / "node_modules" / "next" / "dist" / "bin" / "next"), verb]


def built() -> Path:
    """Return the folder of the built app, made now if need be; CannotStart where that cannot be."""
    for program in ("node", "npm"):
        if path_of(program) is None:
            raise CannotStart(f"{program} is not installed")
    stamp, digest = BUILT / ".built", _digest()
    if stamp.exists() and stamp.read_text() == digest:
        return BUILT
    shutil.rmtree(BUILT, ignore_errors=True)
    shutil.copytree(APP, BUILT)
    _run(_INSTALL)
    _run(_next("build"))
    stamp.write_text(digest)
    return BUILT


def _digest() -> str:
    hasher = sha256()
    for file in sorted(path for path in APP.rglob("*") if path.is_file()):
        hasher.update(f"{file.relative_to(APP)}\0".encode() + file.read_bytes())
    return hasher.hexdigest()


def _run(words: tuple[str, ...] | list[str]) -> None:
    try:
        done = subprocess.run(
            words, cwd=BUILT, env={**os.environ, **_QUIET}, capture_output=True, text=True, timeout=_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotStart(f"{words[0]}: {error}") from error
    if done.returncode:
        last = (done.stdout + done.stderr).strip().splitlines()[-3:]
        raise CannotStart(f"`{' '.join(words[:2])}` failed: {' '.join(last)}")
