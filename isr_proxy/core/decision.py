"""Decisions: what the policy returns and the engine carries out.

Knows the choices, each with its Reason. Must not know how one is reached or done.
"""

from __future__ import annotations

from dataclasses import dataclass

from isr_proxy.core.entry import Meta, OriginTimes, State
from isr_proxy.core.freshness import Times
from isr_proxy.core.http import Line
from isr_proxy.core.key import Key, Variant
from isr_proxy.core.purges import Verdict
from isr_proxy.core.reason import Reason
from isr_proxy.core.routes import Match

# --- before the store is asked ---


@dataclass(frozen=True, slots=True)
class Pass:
    """Forward the visitor's own request; look nothing up, store nothing."""

    reason: Reason
    match: Match | None = None  # the route, where one matched


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer here, with a small plain error."""

    status: int
    reason: Reason
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask the store for this key."""

    key: Key
    match: Match


Plan = Pass | Refuse | LookUp

# --- with what the store has ---


@dataclass(frozen=True, slots=True)
class Stored:
    """An entry as the policy sees it, and what the purge log says of it."""

    meta: Meta
    state: State
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class VaryMissed:
    """The key is stored, this request's variant is not."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Serve:
    """Answer from the store."""

    times: Times
    reason: Reason = Reason.FRESH


@dataclass(frozen=True, slots=True)
class ServeStale:
    """Answer from the store at once, without asking the origin."""

    times: Times
    reason: Reason


@dataclass(frozen=True, slots=True)
class ServeAndRegenerate:
    """Answer from the store at once, and regenerate behind."""

    times: Times


@dataclass(frozen=True, slots=True)
class Fetch:
    """Ask the origin while the visitor waits.

    `fallback` are the times of the stored page that is served when the origin fails; None: there is none.
    """

    reason: Reason
    variant: Variant
    fallback: Times | None = None
    is_head: bool = False  # asked with HEAD, of a page that is stored
    is_alone: bool = False  # nobody else joins: the answer is most likely not for all
    is_doubtful: bool = False  # such answers could not be stored, lately


@dataclass(frozen=True, slots=True)
class ServeShell:
    """Answer with the shell page at once, and generate the page behind."""

    path: str


Decision = Serve | ServeStale | ServeAndRegenerate | Fetch | ServeShell | Pass | Refuse

# --- with what the origin answered ---


@dataclass(frozen=True, slots=True)
class Admit:
    """Store it: what of the meta is known from the head."""

    variant: Variant
    lines: tuple[Line, ...]
    tags: tuple[str, ...]
    origin_times: OriginTimes
    initial_age: float  # at `answered_at`
    answered_at: float  # when the head came: the age counts from then on


@dataclass(frozen=True, slots=True)
class Freshen:
    """The stored page is still right (304), with these lines from now on."""

    lines: tuple[Line, ...]  # stored ones and new ones, laid over each other
    tags: tuple[str, ...]
    origin_times: OriginTimes
    initial_age: float
    answered_at: float
    own: tuple[Line, ...] = ()  # for whoever asked, and for nobody else


@dataclass(frozen=True, slots=True)
class Lend:
    """The stored page is still right, but what says so is one visitor's: he alone gets the two together."""

    freshen: Freshen
    reason: Reason
    may_stay: bool  # False: nobody may be served what is stored any more, so it goes


@dataclass(frozen=True, slots=True)
class Outdated:
    """The origin has another page by now (RFC 9111 §4.3.5): relay the answer, and ask before the next use."""


@dataclass(frozen=True, slots=True)
class Relay:
    """Hand the answer to the visitor and store nothing; what was stored is no longer right."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Failed:
    """The origin failed (law 1): whatever is stored stays."""

    reason: Reason
    retry_after: float | None = None


Judgement = Admit | Freshen | Lend | Outdated | Relay | Failed
