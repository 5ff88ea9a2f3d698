"""What a fetch is asked to do, and what it opens to those who wait for it.

Knows the shapes. Must not know how a page is fetched (regenerate.py) or who waits (boarding.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from isr_proxy.core.admission import is_personal
from isr_proxy.core.decision import Admit, Failed
from isr_proxy.core.http import Head, Line, Request
from isr_proxy.core.key import Key, Variant
from isr_proxy.core.purges import normal_tag
from isr_proxy.core.ranges import Ask
from isr_proxy.core.reason import Reason
from isr_proxy.core.routes import Match
from isr_proxy.core.value import Value
from isr_proxy.origin.client import Answer
from isr_proxy.serve.sources import Source
from isr_proxy.store.base import Entry, Writer


class Job(Value, frozen=True):
    """What to fetch. `stored` is the entry it would replace, as it was looked up.

    `key` is where the page is looked for, which may lack what its query does not count; the origin is asked
    for `wanted`, as the visitor asked (RFC 9110 §7.7).
    """

    key: Key
    variant: Variant
    match: Match
    stored: Entry | None = None
    request: Request | None = None  # the leader's, sent only where the origin decides what is shared
    reason: Reason = Reason.URI_MISS
    interim: Callable[[Head], None] | None = None  # where the leader's visitor takes 1xx
    is_head: bool = False  # only the head is asked for, of a page that is stored
    is_alone: bool = False  # no other visitor joins
    ask: Ask | None = None  # only this part of the page is wanted: part_fetch.py
    part: Entry | None = None  # the parts that were stored when it was looked up
    source: Source | None = None  # another way to the page than to ask the origin for all of it
    asked: Key | None = None  # what was asked for, where that may be another query than the key's

    @property
    def wanted(self) -> Key:
        """Return the key of what the origin is asked for."""
        return self.key if self.asked is None else self.asked

    @property
    def is_personal(self) -> bool:
        """Tell whether one visitor's cookies or authorization go along: what they bring is his alone."""
        return self.request is not None and is_personal(self.request.fields)

    @property
    def known_tags(self) -> tuple[str, ...]:
        """Return the tags the page will have, as far as they are known before it is fetched."""
        stored = () if self.stored is None else self.stored.meta.tags
        return (*stored, *map(normal_tag, self.match.tags()))

    @property
    def identity(self) -> bytes:
        part = b"" if self.ask is None else str(self.ask).encode()
        return self.key.digest + self.variant.digest + (b"HEAD" if self.is_head else b"") + part


class Streaming(Value, frozen=True):
    """The answer is good so far, and being stored; read along."""

    head: Head
    admit: Admit
    body_bytes: int | None
    writer: Writer
    status: int  # what the origin said; of a page that it completed, 206
    wanted: Key | None = None  # what the origin was asked for, where other queries may have joined


class Landed(Value, frozen=True):
    """The store has it. `status` is what the origin said, None when it was not asked."""

    entry: Entry
    status: int | None = None
    is_new: bool = True  # False: what was stored already proved right
    own: tuple[Line, ...] = ()  # for whoever it was asked for, and for nobody else


class Lent(Value, frozen=True):
    """What is stored, as one visitor's answer makes it: his alone. The others ask for themselves."""

    entry: Entry
    status: int
    reason: Reason  # why nobody else may have it
    is_personal: bool = False


@dataclass(slots=True)
class Relayed:
    """Not to be stored. The leader's visitor may take the answer, once; the others ask for themselves."""

    reason: Reason
    head: Head
    answer: Answer | None
    is_personal: bool = False

    def take(self) -> Answer | None:
        answer, self.answer = self.answer, None
        return answer


class Broken(Value, frozen=True):
    """The origin failed. `head` and `body` are its own error page, where it gave one."""

    failed: Failed
    head: Head | None = None
    body: bytes = b""
    is_personal: bool = False
    wanted: Key | None = None  # what the origin was asked for


Opening = Streaming | Landed | Lent | Relayed | Broken


def is_for_one(opening: Opening, job: Job) -> bool:
    """Tell whether the origin wants each request to ask for itself: one answer is not for all."""
    if job.match.route.revalidate.is_isr:
        return False
    match opening:
        case Streaming():
            return opening.admit.origin_times.is_for_one
        case Landed(entry):
            return entry.meta.origin_times.is_for_one
        case _:
            return False
