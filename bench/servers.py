"""The servers that are compared, running.

Knows how each is started, and which processes are its own. Must not know what is asked of it, nor how it is
configured (configs.py). All of them are pinned to one core, and never loaded at the same time.
"""

from __future__ import annotations

import os
import resource
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final, assert_never

from bench import configs, next_start
from bench.configs import USUAL, Place, Setup
from bench.processes import CannotStart, free_port, isr_proxy, listening, path_of, started

_MAX_FILES: Final = 200_000
PACKAGES: Final = {"nginx": "nginx-light", "haproxy": "haproxy", "varnishd": "varnish", "wrk": "wrk"}


class Kind(Enum):
    """What is compared."""

    ISR_PROXY = "isr-proxy"
    NGINX = "nginx"
    HAPROXY = "HAProxy"
    VARNISH = "Varnish"
    NEXT = "next start"
    AIOHTTP = "bare aiohttp"


@dataclass(frozen=True, slots=True)
class Variant:
    """A kind in one setup; one column of the result."""

    kind: Kind
    setup: Setup = USUAL

    @property
    def name(self) -> str:
        """Return how it is called in the result; its hot tier is told by the case."""
        workers = self.setup.workers
        return self.kind.value if workers == 1 else f"{self.kind.value}, {workers} workers"


@dataclass(frozen=True, slots=True)
class Server:
    """A variant that runs. `pids` are its processes; their descendants are its own too."""

    variant: Variant
    port: int
    pids: tuple[int, ...]


@contextmanager
def running(variant: Variant, directory: Path, origin_port: int, core: int) -> Iterator[Server]:
    """Run one server until the block ends; CannotStart says why it does not."""
    place = Place(directory, free_port(), free_port(), origin_port)
    directory.mkdir()
    command, cwd = _command(variant, place)
    output = directory / "output"
    with ExitStack() as stack:
        process = stack.enter_context(listening(command, place.port, core, output=output, cwd=cwd))
        pids = [process.pid]
        if variant.kind is Kind.VARNISH and variant.setup.has_access_log:
            log = [_installed("varnishncsa"), "-n", f"{directory}/work", "-w", f"{directory}/access.log"]
            pids.append(stack.enter_context(started(log, core)).pid)
        yield Server(variant, place.port, tuple(pids))


def _command(variant: Variant, place: Place) -> tuple[list[str], Path | None]:
    """Write what the server reads; return its command, and where that is to run."""
    directory, setup = place.directory, variant.setup
    match variant.kind:
        case Kind.ISR_PROXY:
            file = _written(directory / "isr.yaml", configs.isr_proxy(place, setup))
            return isr_proxy(file), None
        case Kind.NGINX:
            user = "root" if os.geteuid() == 0 else None  # else its worker may not enter our directory
            file = _written(
                directory / "nginx.conf", configs.nginx(place, setup, user=user, files=_open_files())
            )
            return [_installed("nginx"), "-c", str(file), "-p", str(directory)], None
        case Kind.HAPROXY:
            file = _written(directory / "haproxy.cfg", configs.haproxy(place, setup))
            return [_installed("haproxy"), "-db", "-f", str(file)], None
        case Kind.VARNISH:
            _written(directory / "pages.vcl", configs.varnish(place))
            return [_installed("varnishd"), *configs.varnish_arguments(place, setup)], None
        case Kind.NEXT:
            return next_start.command(place.port), next_start.built()
        case Kind.AIOHTTP:
            return [sys.executable, "-m", "bench.bare_aiohttp", str(place.port), str(place.origin_port)], None
        case _:
            assert_never(variant.kind)


def _open_files() -> int:
    """Return how many files a process may open, as far as a benchmark needs them."""
    return min(resource.getrlimit(resource.RLIMIT_NOFILE)[1], _MAX_FILES)


def _written(file: Path, text: str) -> Path:
    file.write_text(text)
    return file


def _installed(program: str) -> str:
    found = path_of(program)
    if found is None:
        raise CannotStart(f"{program} is not installed (Debian: {PACKAGES.get(program, 'varnish')})")
    return found


def remove(directory: Path) -> None:
    """Remove what a server has left, which may be many files."""
    shutil.rmtree(directory, ignore_errors=True)
