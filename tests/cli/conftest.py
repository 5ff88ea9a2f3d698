"""Fixtures of the command line's tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from isr_proxy.cli import app
from tests.cli.standin import Admin, Run, serve

GOOD = """
origin: {url: "http://localhost:3000"}
routes:
  - {match: "/blog/{slug}", revalidate: 90s, tags: ["post:{slug}"]}
  - {match: "/api/**", revalidate: 0}
  - {match: "/**", revalidate: origin}
"""


@pytest.fixture
def admin() -> Iterator[Admin]:
    """The stand-in, on a loop of its own, because commands block."""
    admin, started = Admin(), Future[asyncio.Event]()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(admin, started),))
    thread.start()
    stopping = started.result(timeout=10)
    yield admin
    loop.call_soon_threadsafe(stopping.set)
    thread.join()
    loop.close()


@pytest.fixture
def run(admin: Admin) -> Run:
    """Run a command in this process, against the stand-in."""
    runner = CliRunner(
        env={"ISR_ADMIN_URL": admin.url, "ISR_ADMIN_TOKEN": None, "NO_COLOR": "1", "COLUMNS": "200"}
    )

    def invoke(*arguments: str) -> Result:
        return runner.invoke(app, list(arguments))

    return invoke


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "isr.yaml"
    path.write_text(GOOD)
    return path
