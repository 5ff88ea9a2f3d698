"""One request on its way through the engine's loop.

Knows what was learned of it so far. Must not know what is done next.
"""

from __future__ import annotations

from dataclasses import dataclass

from isr_proxy.core.http import Request
from isr_proxy.core.key import Key
from isr_proxy.core.reason import Reason
from isr_proxy.core.routes import Match
from isr_proxy.serve.deliver import Delivery
from isr_proxy.serve.exchange import Exchange
from isr_proxy.store.base import Entry


@dataclass(slots=True)
class Visit:
    """One request, and what was learned of it."""

    exchange: Exchange
    delivery: Delivery
    key: Key
    match: Match
    names: tuple[str, ...] = ()  # the answer is known to vary on these
    part: Entry | None = None  # parts of the page that are stored, where the page is not
    why_not: Reason | None = None  # why they are not served though all that is wanted is there
    goes_alone: bool = False  # whom he waited for got what was for one; so will he
    wants_whole: bool = False  # If-Range does not hold: the Range is as if it were not there

    @property
    def request(self) -> Request:
        return self.exchange.request
