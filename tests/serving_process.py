"""A worker in a process of its own, to be killed or to be starved of disk and descriptors by its test.

    python -m tests.serving_process CONFIG.yaml [supervised]

prints its URL once it serves. Supervised, it is the process that `isr-proxy serve` is: TERM drains and stops.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import uvloop

from isr_proxy.core.settings import Settings
from isr_proxy.run import logs, supervisor
from isr_proxy.run.config import parse
from isr_proxy.run.worker import Worker

ROOT = Path(__file__).parent.parent
BARE = "bare"
SUPERVISED = "supervised"


@dataclass
class Serving:
    """The process as its test holds it."""

    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @classmethod
    async def start(
        cls, text: str, directory: Path, how: str = BARE, *, prepare: Callable[[], None] | None = None
    ) -> Serving:
        """Start a worker on this YAML; `prepare` runs in the new process (limits)."""
        config, log = directory / "serving.yaml", directory / "serving.log"
        config.write_text(text)
        with log.open("ab") as out:
            process = subprocess.Popen(  # noqa: ASYNC220  forking takes a millisecond, and this is a test
                [sys.executable, "-m", "tests.serving_process", str(config), how],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=out,
                preexec_fn=prepare,
            )
        assert process.stdout is not None
        url = (await asyncio.to_thread(process.stdout.readline)).decode().strip()
        assert url, log.read_text()
        return cls(process, url, log)

    async def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        self.process.kill()
        await self.gone()

    async def gone(self) -> int:
        """Wait until it is gone; returns the exit code."""
        code = await asyncio.to_thread(self.process.wait, 30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


class Announced(Worker):
    """A worker that prints where it listens, as its test let the kernel choose the port."""

    @classmethod
    async def start(cls, settings: Settings, **options: Any) -> Worker:
        worker = await super().start(settings, **options)
        print(worker.urls[0], flush=True)
        return worker


def load() -> Settings:
    settings = parse(Path(sys.argv[1]).read_text(), file=sys.argv[1], environ=os.environ)
    logs.configure(settings.log)
    return settings


async def serve_bare() -> None:
    await Announced.start(load())
    await asyncio.Event().wait()


if __name__ == "__main__":
    if sys.argv[2] == SUPERVISED:
        with patch.object(supervisor, "Worker", Announced):
            sys.exit(supervisor.run(load))
    uvloop.run(serve_bare())
