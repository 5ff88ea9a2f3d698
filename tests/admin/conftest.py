"""What the tests of the admin API share: an origin, and a proxy in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.admin.rig import Rig, running, settings
from tests.scripted_origin import ScriptedOrigin


@pytest.fixture
async def rig(origin: ScriptedOrigin, tmp_path: Path) -> AsyncIterator[Rig]:
    async with running(settings(origin.url, tmp_path)) as rig:
        yield rig
