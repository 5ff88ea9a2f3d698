"""How many files a worker may open."""

from __future__ import annotations

import subprocess
import sys

import pytest

from isr_proxy.core.settings import LimitSettings, OriginSettings, Settings
from isr_proxy.run.descriptors import needed

RAISE = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
from isr_proxy.core.settings import Settings
from isr_proxy.run.descriptors import raise_limit
raise_limit(Settings())
print("now", resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(("soft", "hard", "warns"), [(64, 20_000, False), (64, 2000, True), (64, 64, True)])
def test_law_8_as_many_files_as_the_kernel_gives(soft: int, hard: int, warns: bool) -> None:
    script = RAISE.format(soft=soft, hard=hard)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert f"now ({hard}, {hard})" in done.stdout
    assert ("fewer open files are allowed" in done.stdout + done.stderr) is warns


def test_what_may_be_needed() -> None:
    origin = OriginSettings(("http://a", "http://b"), max_connections=100)
    settings = Settings(origin=origin, limits=LimitSettings(max_connections=1000))
    assert needed(settings) == 1000 + 200 + 1536
