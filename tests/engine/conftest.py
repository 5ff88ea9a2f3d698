"""An origin and a proxy in front of it, for the engine's tests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from tests.harness import FakeClock, Proxy, config, running
from tests.scripted_origin import ScriptedOrigin

Start = Callable[..., AbstractAsyncContextManager[Proxy]]


@pytest.fixture
def start(origin: ScriptedOrigin, tmp_path: Path, clock: FakeClock) -> Start:
    """Start a proxy on these routes; options as of `harness.config`."""

    def start(routes: str, **options: str) -> AbstractAsyncContextManager[Proxy]:
        return running(config(origin.url, tmp_path / "store", routes, **options), clock)

    return start
