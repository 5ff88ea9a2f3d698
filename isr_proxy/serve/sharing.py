"""Whose an opening is: everybody's who waits for it, or one visitor's (law 4).

Knows what of an answer is for whoever it was fetched for. Must not know how it is fetched or sent.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from isr_proxy.coord.flight import Flight
from isr_proxy.core.admission import fields_for_leader, is_personal
from isr_proxy.core.http import Line, Request
from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import Route
from isr_proxy.serve.job import Landed, Lent, Opening, Relayed, Streaming
from isr_proxy.serve.respond import collapsed_status, forward_status, validated_status


async def opening_of(flight: Flight[Opening], *, is_leader: bool) -> Opening:
    """Wait for the opening; a leader who leaves gives back what only he could have taken."""
    try:
        return await flight.opened()
    except asyncio.CancelledError:
        if is_leader:
            leave(flight)
        raise


def leave(flight: Flight[Opening]) -> None:
    """Have a flight go on without its leader's visitor."""
    flight.has_leader = False
    if flight.opening.done() and isinstance(opening := flight.opening.result(), Relayed):
        answer = opening.take()
        if answer is not None:
            answer.close()


def own_lines(opening: Opening, route: Route) -> tuple[Line, ...]:
    """Return the lines of an answer that are for whoever it was fetched for."""
    if isinstance(opening, Landed):
        return opening.own
    if not isinstance(opening, Streaming):
        return ()
    shared = {b"content-range", *(name.lower() for name, _ in opening.admit.fields)}
    fields = fields_for_leader(opening.head, route)
    return tuple(line for line in fields if line[0].lower() not in shared)


def for_leader(opening: Streaming, route: Route) -> Streaming:
    """Return an opening with all the lines of the answer; where the route decides, all get the same."""
    if route.revalidate.is_isr:
        return opening
    fields = fields_for_leader(opening.head, route)
    return replace(opening, admit=replace(opening.admit, fields=fields))


def streaming_status(reason: Reason, opening: Streaming, *, is_leader: bool) -> str:
    """Write Cache-Status for a page that is being stored."""
    if not is_leader:
        return collapsed_status(reason)
    return forward_status(reason, status=opening.status, outcome=Reason.STORED)


def is_his_too(opening: Opening, request: Request, route: Route) -> bool:
    """Tell whether what was one visitor's will most likely be this one's alone too, when he asks."""
    if not isinstance(opening, Lent) or route.revalidate.is_isr:
        return False
    return is_personal(request.fields) or not opening.is_personal


def landed_status(reason: Reason, landed: Landed, *, is_leader: bool) -> str:
    """Write Cache-Status for what a fetch left in the store."""
    if not is_leader:
        return collapsed_status(reason)
    if landed.is_new:
        return forward_status(reason, status=landed.status, outcome=Reason.STORED)
    return validated_status(reason, landed.status)
