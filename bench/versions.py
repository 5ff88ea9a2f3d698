"""What was measured, and where: versions of the servers, the machine, the revision.

Knows how each program tells its version. Must not know what was measured on it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Final

from bench import next_start
from bench.processes import path_of
from bench.servers import Kind
from isr_proxy import __version__

_ROOT: Final = Path(__file__).resolve().parent.parent
_FLAGS: Final = {
    Kind.NGINX: ("nginx", "-v"),
    Kind.HAPROXY: ("haproxy", "-v"),
    Kind.VARNISH: ("varnishd", "-V"),
}


def versions() -> dict[str, str]:
    """Return the version of everything that can be compared; what is not installed is left out."""
    found = {
        Kind.ISR_PROXY.value: f"{__version__} ({revision()})",
        **{kind.value: number for kind in _FLAGS if (number := _told(kind)) is not None},
        "Python": platform.python_version(),
        "aiohttp": version("aiohttp"),
        "uvloop": version("uvloop"),
    }
    package = next_start.BUILT / "node_modules" / "next" / "package.json"
    if package.exists():
        found["Next.js"] = str(json.loads(package.read_text())["version"])
    return found


def _told(kind: Kind) -> str | None:
    program, flag = _FLAGS[kind]
    path = path_of(program)
    if path is None:
        return None
    done = subprocess.run([path, flag], capture_output=True, text=True, check=False)
    return first_number(done.stdout + done.stderr)


def first_number(said: str) -> str | None:
    """Return the first thing that looks like a version, as all these programs begin with it."""
    found = re.search(r"\d+\.\d+(\.\d+)?", said)
    return None if found is None else found[0]


def revision() -> str:
    """Return the commit that is measured, and whether it was changed."""
    try:
        commit = _git("rev-parse", "--short", "HEAD")
        is_changed = _git("status", "--porcelain", "--", "isr_proxy")
    except (OSError, subprocess.CalledProcessError):
        return "unknown revision"
    return f"{commit}, changed" if is_changed else commit


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=_ROOT, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def machine() -> str:
    """Return the processor, its number of cores and the kernel."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    return f"{model}, {os.cpu_count()} cores, Linux {platform.release().partition('-')[0]}"
