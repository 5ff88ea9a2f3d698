"""A body over `max_entry`: nothing of it is stored, and whoever reads gets all of it.

Knows the writer as a pipe and the pace of its readers. Must not know pages.
"""

from __future__ import annotations

import asyncio
from typing import Any

from isr_proxy.coord.flight import Flight
from isr_proxy.coord.patience import Limit
from isr_proxy.core.decision import Failed
from isr_proxy.core.reason import Reason
from isr_proxy.errors import VisitorGone
from isr_proxy.origin.client import Answer
from isr_proxy.serve.job import Broken
from isr_proxy.store.base import Writer


async def pour_out(flight: Flight[Any], answer: Answer, writer: Writer, chunk: bytes, limit: Limit) -> Reason:
    """Over max_entry: nothing is stored, but whoever reads gets all of it, at the readers' own pace."""
    while flight.waiters:  # noqa: ASYNC110  told of the opening, about to read in this very turn
        await asyncio.sleep(0)
    writer.abandon()
    flight.free(Broken(Failed(Reason.TOO_LARGE)))
    limit.lift()
    try:
        await writer.write(chunk)
        async for more in answer.chunks():
            await writer.write(more)
    except VisitorGone:
        return Reason.TOO_LARGE
    await writer.finish()
    return Reason.TOO_LARGE
