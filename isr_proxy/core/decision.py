"""Decisions: what the policy returns and the engine carries out.

Knows the choices, each with its Reason. Must not know how one is reached or done.
"""

from __future__ import annotations

from isr_proxy.core.entry import Meta, OriginTimes, State
from isr_proxy.core.freshness import Times
from isr_proxy.core.http import Fields, Line
from isr_proxy.core.key import Key, Variant
from isr_proxy.core.purges import Verdict
from isr_proxy.core.reason import Reason
from isr_proxy.core.routes import Match
from isr_proxy.core.value import Value

# --- before the store is asked ---


class Pass(Value, frozen=True):
    """Forward the visitor's own request; look nothing up, store nothing."""

    reason: Reason
    match: Match | None = None  # the route, where one matched


class Refuse(Value, frozen=True):
    """Answer here, with a small plain error."""

    status: int
    reason: Reason
    retry_after: int | None = None


class LookUp(Value, frozen=True):
    """Ask the store for this key."""

    key: Key
    match: Match


Plan = Pass | Refuse | LookUp

# --- with what the store has ---


class Stored(Value, frozen=True):
    """An entry as the policy sees it, and what the purge log says of it."""

    meta: Meta
    state: State
    verdict: Verdict


class VaryMissed(Value, frozen=True):
    """The key is stored, this request's variant is not."""

    names: tuple[str, ...]


class Serve(Value, frozen=True):
    """Answer from the store."""

    times: Times
    reason: Reason = Reason.FRESH


class ServeStale(Value, frozen=True):
    """Answer from the store at once, without asking the origin."""

    times: Times
    reason: Reason


class ServeAndRegenerate(Value, frozen=True):
    """Answer from the store at once, and regenerate behind."""

    times: Times


class Fetch(Value, frozen=True):
    """Ask the origin while the visitor waits.

    `fallback` are the times of the stored page that is served when the origin fails; None: there is none.
    """

    reason: Reason
    variant: Variant
    fallback: Times | None = None
    is_head: bool = False  # asked with HEAD, of a page that is stored
    is_alone: bool = False  # nobody else joins: the answer is most likely not for all
    is_doubtful: bool = False  # such answers could not be stored, lately


class ServeShell(Value, frozen=True):
    """Answer with the shell page at once, and generate the page behind."""

    path: str


Decision = Serve | ServeStale | ServeAndRegenerate | Fetch | ServeShell | Pass | Refuse

# --- with what the origin answered ---


class Admit(Value, frozen=True):
    """Store it: what of the meta is known from the head."""

    variant: Variant
    fields: Fields
    tags: tuple[str, ...]
    origin_times: OriginTimes
    initial_age: float  # at `answered_at`
    answered_at: float  # when the head came: the age counts from then on


class Freshen(Value, frozen=True):
    """The stored page is still right (304), with these lines from now on."""

    lines: tuple[Line, ...]  # stored ones and new ones, laid over each other
    tags: tuple[str, ...]
    origin_times: OriginTimes
    initial_age: float
    answered_at: float
    own: tuple[Line, ...] = ()  # for whoever asked, and for nobody else


class Lend(Value, frozen=True):
    """The stored page is still right, but what says so is one visitor's: he alone gets the two together."""

    freshen: Freshen
    reason: Reason
    may_stay: bool  # False: nobody may be served what is stored any more, so it goes


class Outdated(Value, frozen=True):
    """The origin has another page by now (RFC 9111 §4.3.5): relay the answer, and ask before the next use."""


class Relay(Value, frozen=True):
    """Hand the answer to the visitor and store nothing; what was stored is no longer right."""

    reason: Reason


class Failed(Value, frozen=True):
    """The origin failed (law 1): whatever is stored stays."""

    reason: Reason
    retry_after: float | None = None


Judgement = Admit | Freshen | Lend | Outdated | Relay | Failed
