"""What a visitor is shown of what his fetch brought.

Knows whose an answer is, and what is said of it. Must not know how it was fetched.
"""

from __future__ import annotations

from isr_proxy.core.decision import Fetch
from isr_proxy.core.key import PLAIN
from isr_proxy.core.reason import Reason, XCache
from isr_proxy.origin.client import Answer
from isr_proxy.serve.deliver import failure_status
from isr_proxy.serve.job import Broken, Job, Opening, Streaming
from isr_proxy.serve.respond import forward_status
from isr_proxy.serve.sharing import for_leader, streaming_status
from isr_proxy.serve.visit import Visit


def show_failure(visit: Visit, decision: Fetch, job: Job, broken: Broken, *, is_leader: bool) -> None:
    """Show what failed; a page that one visitor's own request brought is shown to him alone (law 4)."""
    reason = broken.failed.reason
    is_his = is_leader or (not broken.is_personal and broken.wanted in (None, visit.asked))
    if broken.head is not None and is_his:
        status = forward_status(decision.reason, status=broken.head.status, outcome=reason)
        visit.delivery.broken(broken, broken.head, status)
    elif job.stored is not None and job.stored.meta.origin_times.is_validated_only:
        visit.delivery.error(504, reason)  # RFC 9111 §5.2.2.2, §4.3.3
    else:
        visit.delivery.error(failure_status(reason), reason)


def show_at_once(visit: Visit, decision: Fetch, opening: Opening) -> bool:
    """Send the leader's visitor a page that is here as a whole; False: nothing is done."""
    if not isinstance(opening, Streaming) or opening.admit.variant != PLAIN:
        return False
    route = visit.match.route
    status = streaming_status(decision.reason, opening, is_leader=True)
    return visit.delivery.streamed(for_leader(opening, route), route, status, decision.reason)


async def relay_own(visit: Visit, decision: Fetch, answer: Answer, why: Reason) -> None:
    """Send what cannot be stored to whoever it was fetched for; where that was expected, it is a pass."""
    if decision.is_doubtful:
        status = forward_status(Reason.HIT_FOR_PASS, status=answer.status)
        await visit.delivery.relay(answer, status, XCache.PASS, Reason.HIT_FOR_PASS)
    else:
        status = forward_status(decision.reason, status=answer.status, outcome=why)
        await visit.delivery.relay(answer, status, XCache.MISS, why)
