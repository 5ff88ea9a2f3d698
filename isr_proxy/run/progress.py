"""A prerender job, followed to its end with a progress bar.

Knows how a job's JSON reads and how often to ask. Must not know who started it. The bar goes to stderr, so
that stdout has the answer alone; where stderr is not a terminal there is no bar.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from isr_proxy.run.admin_client import AdminClient, Done, Refused, Reply

_POLL_SECONDS: Final = 0.25
_pause: Callable[[float], None] = time.sleep


def follow(client: AdminClient, reply: Reply) -> Reply:
    """Ask for the job of a reply until it has ended; returns the last reply, Refused if pages failed."""
    with _bar() as bar:
        task = bar.add_task("prerender", total=None, failed=0)
        while isinstance(reply, Done) and is_under_way(reply.data):
            _show(bar, task, reply.data)
            _pause(_POLL_SECONDS)
            reply = client.get(f"/v1/jobs/{quote(str(reply.data['id']), safe='')}")
        if isinstance(reply, Done):
            _show(bar, task, reply.data)
    return judged(reply)


def is_under_way(job: Any) -> bool:
    return isinstance(job, Mapping) and job.get("state") == "running" and "id" in job


def judged(reply: Reply) -> Reply:
    """Return Refused for a job that failed, and for pages that did: what was asked is not done."""
    if not isinstance(reply, Done) or not isinstance(reply.data, Mapping):
        return reply
    said = reply.data
    pages = said.get("failures") or said.get("results") or ()
    failed = [one for one in pages if one.get("result") == "failed"]
    count = max(len(failed), said.get("failed", 0))  # of very many, only the first are listed
    if not count and said.get("state") not in ("failed", "cancelled"):
        return reply
    message = f"failed pages: {count}" if count else f"the job {said['state']}"
    if said.get("error"):
        message += f": {said['error']}"
    lines = tuple(f"{one.get('url')}: {one.get('reason')}" for one in failed)
    return Refused(200, message, lines, said)


def _bar() -> Progress:
    console = Console(file=sys.stderr)
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )


def _show(bar: Progress, task: TaskID, job: Mapping[str, Any]) -> None:
    total = job["total"] if job.get("listed") else None  # it grows while pages are still being listed
    bar.update(task, total=total, completed=job.get("done", 0), failed=job.get("failed", 0))
