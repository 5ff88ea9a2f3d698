"""The Next.js app, installed and built: once per machine, and again when one of its files changes.

Knows npm and `next build`. Lies in `build/e2e-next`, which git ignores.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Final

import pytest

APP: Final = Path(__file__).parent / "next_app"
BUILT: Final = Path(__file__).resolve().parents[2] / "build" / "e2e-next"
OLDEST_NODE: Final = (20, 9)  # of Next.js 16
QUIET: Final = {"NEXT_TELEMETRY_DISABLED": "1", "CI": "1"}
_INSTALL: Final = ("install", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error")


def built_app() -> Path:
    """Return the folder of the built app; fails where Node.js is missing or too old."""
    _need_node()
    BUILT.mkdir(parents=True, exist_ok=True)
    with _locked(BUILT.with_suffix(".lock")):
        packages, whole = _digest([APP / "package.json"]), _digest(_sources())
        if _stamp("installed") != packages:
            _install(packages)
        if _stamp("built") != whole:
            _build(whole)
    return BUILT


def next_command(*arguments: str) -> list[str]:
    """Return the command line of the app's own `next`; npm in between would not pass signals on."""
    return ["node", str(BUILT / "node_modules" / "next" / "dist" / "bin" / "next"), *arguments]


def _need_node() -> None:
    for name in ("node", "npm"):
        if shutil.which(name) is None:
            pytest.fail(f"{name} is not installed; `make test` as root installs it", pytrace=False)
    said = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    major, minor = (int(part) for part in said.strip().lstrip("v").split(".")[:2])
    if (major, minor) < OLDEST_NODE:
        pytest.fail(f"Next.js 16 needs Node.js 20.9 or newer; this is {said.strip()}", pytrace=False)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one test run at a time install and build."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sources() -> list[Path]:
    return sorted(path for path in APP.rglob("*") if path.is_file())


def _digest(files: list[Path]) -> str:
    hasher = sha256()
    for file in files:
        hasher.update(f"{file.relative_to(APP)}\0{file.stat().st_size}\0".encode())
        hasher.update(file.read_bytes())
    return hasher.hexdigest()


def _stamp(step: str) -> str | None:
    """Return the digest that a step was finished for."""
    stamp = BUILT / f".{step}"
    return stamp.read_text("utf-8") if stamp.exists() else None


def _install(digest: str) -> None:
    shutil.rmtree(BUILT)
    BUILT.mkdir()
    shutil.copy(APP / "package.json", BUILT)
    _run("npm", *_INSTALL)
    (BUILT / ".installed").write_text(digest, "utf-8")


def _build(digest: str) -> None:
    (BUILT / ".built").unlink(missing_ok=True)
    for child in BUILT.iterdir():
        if child.name not in ("node_modules", ".installed"):
            shutil.rmtree(child) if child.is_dir() else child.unlink()
    shutil.copytree(APP, BUILT, dirs_exist_ok=True)
    _run(*next_command("build"))
    (BUILT / ".built").write_text(digest, "utf-8")


def _run(*command: str) -> None:
    done = subprocess.run(
        command, cwd=BUILT, env={**os.environ, **QUIET}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{' '.join(command)} failed:\n{(done.stdout + done.stderr)[-4000:]}"
