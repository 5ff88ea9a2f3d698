"""One fetch for the store: re-check, ask the origin, judge, write, commit.

Knows the order in which a page is replaced, so that a failed regeneration leaves the old one untouched
(law 1), a purge that came meanwhile wins (law 2), and waiters are told as soon as the head is judged.
Must not know visitors: they read what the flight opens to them.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import structlog
from msgspec import structs

from isr_proxy.coord.base import PurgeLog
from isr_proxy.coord.flight import Flight
from isr_proxy.core.admission import PERSONAL_HEADERS, Asked, on_failure, on_response
from isr_proxy.core.decision import Admit, Failed, Freshen, Relay
from isr_proxy.core.entry import Meta, State
from isr_proxy.core.forward import conditional_lines, neutral_fields, shared_fields
from isr_proxy.core.freshness import Phase, lifetime, times
from isr_proxy.core.guard import GuardScan
from isr_proxy.core.http import Fields, Head, Line, Request
from isr_proxy.core.key import PLAIN, Key, Variant
from isr_proxy.core.purges import Subject, Verdict, normal_tag
from isr_proxy.core.reason import Reason
from isr_proxy.core.routes import Match
from isr_proxy.core.settings import Guard, Route, Settings
from isr_proxy.errors import (
    EntryTooLarge,
    OriginError,
    OriginTimeout,
    StoreError,
    Superseded,
    TooManyVariants,
    VisitorGone,
)
from isr_proxy.origin.client import Answer, Client, Outgoing
from isr_proxy.serve.compress import MAX_BYTES, is_compressible, make_copies
from isr_proxy.serve.outcome import Observer, Regenerated
from isr_proxy.store.base import Entry, Store, Writer

_log = structlog.get_logger("isr_proxy.regenerate")

_NO_FIELDS: Final = Fields()
_SHARED_ERROR_BYTES: Final = 64 * 1024  # of a failing origin's error page, shown to all who waited


@dataclass(frozen=True, slots=True)
class Job:
    """What to fetch. `stored` is the entry it would replace, as it was looked up."""

    key: Key
    variant: Variant
    match: Match
    stored: Entry | None = None
    request: Request | None = None  # the leader's, sent only where the origin decides what is shared
    reason: Reason = Reason.URI_MISS
    interim: Callable[[Head], None] | None = None  # where the leader's visitor takes 1xx

    @property
    def is_personal(self) -> bool:
        """Tell whether one visitor's cookies or authorization go along: what they bring is his alone."""
        fields = _NO_FIELDS if self.request is None else self.request.fields
        return any(name.encode() in fields for name in PERSONAL_HEADERS)

    @property
    def known_tags(self) -> tuple[str, ...]:
        """Return the tags the page will have, as far as they are known before it is fetched."""
        stored = () if self.stored is None else self.stored.meta.tags
        return (*stored, *map(normal_tag, self.match.tags()))

    @property
    def identity(self) -> bytes:
        return self.key.digest + self.variant.digest


@dataclass(frozen=True, slots=True)
class Streaming:
    """The answer is good so far, and being stored; read along."""

    head: Head
    admit: Admit
    body_bytes: int | None
    writer: Writer


@dataclass(frozen=True, slots=True)
class Landed:
    """The store has it. `status` is what the origin said, None when it was not asked."""

    entry: Entry
    status: int | None = None


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


@dataclass(frozen=True, slots=True)
class Broken:
    """The origin failed. `head` and `body` are its own error page, where it gave one."""

    failed: Failed
    head: Head | None = None
    body: bytes = b""
    is_personal: bool = False


Opening = Streaming | Landed | Relayed | Broken


class Regenerator:
    """Runs jobs as flights. One a process."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        purges: PurgeLog,
        client: Client,
        observer: Observer,
        now: Callable[[], float],
    ) -> None:
        self.settings = settings
        self._store = store
        self._purges = purges
        self._client = client
        self._observer = observer
        self._now = now

    def reconfigure(self, settings: Settings, client: Client) -> None:
        """Take new settings; flights under way go on with what they have."""
        self.settings = settings
        self._client = client

    async def fly(self, flight: Flight[Opening], job: Job) -> None:
        """Carry out a job and open its flight; never raises what an origin or a disk did."""
        started_at = self._now()
        job, landed = await self._recheck(flight, job)
        if landed is not None:
            flight.open(landed)
            return
        try:
            reason, is_unchanged = await self._fetch(flight, job)
        except OriginError as error:
            reason, is_unchanged = Reason(error.word), False
            await self._fail(flight, job, Broken(Failed(reason)))
        if reason is not Reason.STORED:
            flight.end = Broken(Failed(reason))
        self._observer.regenerated(
            Regenerated(job.key, job.match.route.match, reason, self._now() - started_at, is_unchanged)
        )

    async def _recheck(self, flight: Flight[Opening], job: Job) -> tuple[Job, Landed | None]:
        """Look up again inside the flight: whoever flew just before may have stored it."""
        found = await self._store.lookup(job.key, Fields(_variant_lines(job.variant)))
        if not isinstance(found, Entry):
            return job, None
        verdict = self.verdict(found)
        is_newer = job.stored is None or found.state.fetched_at > job.stored.state.fetched_at
        at = times(found.meta, found.state, job.match.route, self._now(), soft_purged_at=verdict.stale_at)
        if is_newer and not verdict.hidden and at.phase is Phase.FRESH:
            return job, Landed(found)
        return replace(job, stored=found), None

    def verdict(self, entry: Entry) -> Verdict:
        """Say what the purge log makes of an entry."""
        return self._purges.index.verdict(subject_of(entry), entry.state.sequence)

    async def _fetch(self, flight: Flight[Opening], job: Job) -> tuple[Reason, bool]:
        """Ask and judge, within the regeneration's whole time; a relayed answer streams beyond it."""
        limit = self.settings.origin.regenerate_timeout
        usable = self._usable(job)  # as it is now: a purge that comes meanwhile wins at the commit
        answer: Answer | None = None
        try:
            async with asyncio.timeout(limit) as deadline:
                requested_at = self._now()
                answer = await self._ask(job, usable)
                judged = self._judge(self._asked(job, usable, requested_at), answer)
                if isinstance(judged, Admit) and not await self._has_room(job, judged):
                    judged = Relay(Reason.TOO_MANY_VARIANTS)
                match judged:
                    case Freshen():
                        return await self._freshen(flight, job, judged)
                    case Admit():
                        return await self._admit(flight, job, answer, judged, deadline)
                    case Failed():
                        await self._fail(flight, job, await _error_page(answer, judged, job))
                        return judged.reason, False
                    case Relay():
                        await self._relay(flight, job, answer, judged)
                        answer = None
                        return judged.reason, False
        except TimeoutError as error:
            raise OriginTimeout(Reason.REGENERATE_TIMEOUT.value, f"took longer than {limit} s") from error
        finally:
            if answer is not None:
                await answer.aclose()

    async def _ask(self, job: Job, usable: Entry | None) -> Answer:
        fields = _outgoing_fields(job)
        if usable is not None:
            fields = fields.plus(*conditional_lines(usable.meta))
        host = self.settings.origin.host or job.key.host
        asked = Outgoing("GET", job.key.target, host, fields, on_interim=_guarded(job.interim))
        return await self._client.fetch(asked)

    def _usable(self, job: Job) -> Entry | None:
        """Return the stored page, unless a purge says that it is wrong: then it is not even validated."""
        if job.stored is None or self.verdict(job.stored).hidden:
            return None
        return job.stored

    def _asked(self, job: Job, usable: Entry | None, requested_at: float) -> Asked:
        sent = job.request.fields if job.request is not None else Fields(_variant_lines(job.variant))
        return Asked(
            job.match,
            sent,
            requested_at,
            self._now(),
            has_stored=self._is_worth_keeping(usable, job),
            is_conditional=usable is not None,
            varies_on=job.variant.names,
            stored_fields=Fields() if usable is None else usable.meta.fields,
        )

    def _is_worth_keeping(self, usable: Entry | None, job: Job) -> bool:
        """Tell whether what is stored is a good page that may still be served some way."""
        if usable is None or usable.meta.status >= 400:
            return False
        at = times(usable.meta, usable.state, job.match.route, self._now(), soft_purged_at=None)
        return at.phase is not Phase.DEAD

    def _judge(self, asked: Asked, answer: Answer) -> Admit | Freshen | Relay | Failed:
        judged = on_response(asked, answer.head)
        if not isinstance(judged, Admit) or (answer.body_bytes or 0) <= self.settings.store.max_entry:
            return judged
        return Failed(Reason.TOO_LARGE) if asked.has_stored else Relay(Reason.TOO_LARGE)

    async def _has_room(self, job: Job, admit: Admit) -> bool:
        """Tell, before a body is received, whether its variant may be kept at all (law 8)."""
        return admit.variant == PLAIN or await self._store.has_room(job.key, admit.variant)

    # --- the four ways it ends ---

    async def _freshen(self, flight: Flight[Opening], job: Job, freshen: Freshen) -> tuple[Reason, bool]:
        """The origin says the stored page is still right."""
        assert job.stored is not None, "a 304 was judged, so a page was validated"
        meta = replace_lines(job.stored.meta, freshen)
        flight.open(Landed(await self._keep(flight, job.stored, meta, freshen.initial_age), 304))
        return Reason.STORED, True

    async def _is_overtaken(self, flight: Flight[Opening], key: Key, variant: Variant) -> bool:
        """Tell whether a fetch that began after a later purge has stored its page: the younger wins."""
        if self._purges.index.sequence <= flight.sequence:
            return False
        found = await self._store.lookup(key, Fields(_variant_lines(variant)))
        return isinstance(found, Entry) and found.state.sequence > flight.sequence

    async def _keep(self, flight: Flight[Opening], stored: Entry, meta: Meta, age: float) -> Entry:
        """Freshen a stored page: its state, and its meta only where that says something new."""
        state = State(flight.sequence, self._now(), age, count=stored.state.count + 1)
        if await self._is_overtaken(flight, stored.key, stored.variant):
            return replace(stored, state=state)
        if says_the_same(meta, stored.meta):
            return await self._store.update(stored, state)
        return await self._store.rewrite(stored, meta, state)

    async def _relay(self, flight: Flight[Opening], job: Job, answer: Answer, relay: Relay) -> None:
        if job.stored is not None and not job.is_personal and relay.reason is not Reason.TOO_LARGE:
            with suppress(StoreError):  # it stays, stale, until the disk lets go of it
                await self._store.remove(job.stored)
        if flight.has_leader:
            flight.open(Relayed(relay.reason, answer.head, answer, job.is_personal))
        else:
            await answer.aclose()
            flight.open(Relayed(relay.reason, answer.head, None, job.is_personal))

    async def _fail(self, flight: Flight[Opening], job: Job, broken: Broken) -> None:
        """Law 1: whatever is stored stays; only the time to try again is noted."""
        if job.stored is not None and not await self._is_overtaken(flight, job.key, job.stored.variant):
            ttl = lifetime(job.stored.meta, job.match.route).ttl
            state = on_failure(job.stored.state, broken.failed, ttl, self._now(), random.random())
            await self._store.update(job.stored, state)
        flight.open(broken)

    async def _admit(
        self,
        flight: Flight[Opening],
        job: Job,
        answer: Answer,
        admit: Admit,
        deadline: asyncio.Timeout,
    ) -> tuple[Reason, bool]:
        async with self._store.begin(job.key, admit.variant) as writer:
            flight.open(Streaming(answer.head, admit, answer.body_bytes, writer))
            try:
                problem = await self._receive(flight, answer, writer, job, deadline)
                if problem is not None:
                    await self._fail(flight, job, Broken(Failed(problem)))
                    return problem, False
                return await self._commit(flight, job, answer.head, admit, writer)
            except OriginError as error:
                writer.fail(error)
                raise
            except asyncio.CancelledError:  # how asyncio.timeout arrives in here
                writer.fail(OriginTimeout(Reason.REGENERATE_TIMEOUT.value, "the whole took too long"))
                raise

    async def _receive(
        self, flight: Flight[Opening], answer: Answer, writer: Writer, job: Job, deadline: asyncio.Timeout
    ) -> Reason | None:
        """Write the body; returns why it is not to be stored, or None."""
        has_page = 200 <= answer.head.status < 300  # a guard says what pages are like, not what 404 is
        scan = GuardScan(job.match.route.guard if has_page else Guard())
        async for chunk in answer.chunks():
            try:
                await writer.write(chunk)
            except EntryTooLarge:
                return await _pour_out(flight, answer, writer, chunk, deadline)
            except StoreError:
                return Reason.STORE_FAILED
            if writer.is_abandoned:
                deadline.reschedule(None)  # the disk refused: now it is the visitors' own pace
            scan.feed(chunk)
        await writer.finish()
        if writer.is_abandoned:
            return Reason.STORE_FAILED
        stored_bytes = job.stored.meta.body_bytes if job.stored is not None else None
        return scan.problem(answer.head.fields.first(b"content-type"), stored_bytes)

    async def _commit(
        self,
        flight: Flight[Opening],
        job: Job,
        head: Head,
        admit: Admit,
        writer: Writer,
    ) -> tuple[Reason, bool]:
        meta = meta_of(job.key, head, admit, writer.checksum, self._now())
        subject = Subject(job.key.host, job.key.path, job.key.query, admit.tags)
        if self._purges.index.verdict(subject, flight.sequence).hidden:
            return Reason.SUPERSEDED, False
        if job.stored is not None and self._is_same_page(job.stored, meta, writer):
            old = job.stored.meta
            kept = structs.replace(meta, bodies=old.bodies, generated_at=old.generated_at)
            await self._keep(flight, job.stored, kept, admit.initial_age)
            return Reason.STORED, True
        copies = await _copies(head, job.match.route, writer)
        state = State(flight.sequence, self._now(), admit.initial_age)
        try:
            await writer.commit(meta, state, copies)
        except TooManyVariants:
            return Reason.TOO_MANY_VARIANTS, False
        except Superseded:
            return Reason.SUPERSEDED, False
        except StoreError as error:
            _log.debug("page not stored", url=job.key.url, error=str(error))
            return Reason.STORE_FAILED, False
        return Reason.STORED, False

    def _is_same_page(self, stored: Entry, meta: Meta, writer: Writer) -> bool:
        """Unchanged output writes no body, unless the stored one is purged: it may be swept any moment."""
        return (
            not self.verdict(stored).hidden
            and stored.meta.body_checksum == writer.checksum
            and stored.meta.status == meta.status
            and stored.meta.variant == meta.variant
            and stored.meta.body_bytes == writer.size_bytes
        )


def _outgoing_fields(job: Job) -> Fields:
    if job.request is not None:
        return shared_fields(job.request, job.match.route.key.headers)
    return neutral_fields(job.key, job.variant)


def _guarded(interim: Callable[[Head], None] | None) -> Callable[[Head], None] | None:
    """Let a visitor who hung up miss his 1xx, without harm to the fetch."""
    if interim is None:
        return None

    def tell(head: Head) -> None:
        with suppress(VisitorGone):
            interim(head)

    return tell


async def _copies(head: Head, route: Route, writer: Writer) -> list[tuple[str, bytes]]:
    """Make the encoded copies of a finished body, in a thread."""
    if not route.compress or not is_compressible(head.fields) or writer.size_bytes > MAX_BYTES:
        return []
    body = writer.resident()
    if body is None:
        body = b"".join([chunk async for chunk in writer.reader()])
    return await asyncio.to_thread(make_copies, body)


async def _pour_out(
    flight: Flight[Opening], answer: Answer, writer: Writer, chunk: bytes, deadline: asyncio.Timeout
) -> Reason:
    """Over max_entry: nothing is stored, but whoever reads gets all of it, at the readers' own pace."""
    while flight.waiters:  # noqa: ASYNC110  told of the opening, about to read in this very turn
        await asyncio.sleep(0)
    writer.abandon()
    deadline.reschedule(None)
    try:
        await writer.write(chunk)
        async for more in answer.chunks():
            await writer.write(more)
    except VisitorGone:
        return Reason.TOO_LARGE
    await writer.finish()
    return Reason.TOO_LARGE


async def _error_page(answer: Answer, failed: Failed, job: Job) -> Broken:
    """Read the origin's own error page, so that whoever waits can be shown it."""
    if answer.head.status < 400:
        return Broken(failed)
    body = bytearray()
    try:
        async for chunk in answer.chunks():
            body += chunk
            if len(body) > _SHARED_ERROR_BYTES:
                return Broken(failed)
    except OriginError:
        return Broken(failed)
    return Broken(failed, answer.head, bytes(body), job.is_personal)


def meta_of(key: Key, head: Head, admit: Admit, checksum: bytes, now: float) -> Meta:
    """Build the meta of a new entry; a page without an ETag gets one made from its body."""
    fields = Fields(admit.lines)
    return Meta(
        key.scheme,
        key.host,
        key.path,
        key.query,
        key.dimensions,
        admit.variant.headers,
        head.status,
        head.reason,
        admit.lines,
        admit.tags,
        fields.first(b"etag") or f'"{checksum.hex()}"',
        fields.first(b"last-modified"),
        admit.origin_times,
        now,
    )


def replace_lines(meta: Meta, freshen: Freshen) -> Meta:
    """Merge a 304's fields into a meta (RFC 9111 §3.2): same names replaced, the others kept."""
    names = frozenset(name.lower() for name, _ in freshen.lines)
    merged = (*meta.fields.without(names), *freshen.lines)
    return structs.replace(meta, lines=merged, tags=freshen.tags, origin_times=freshen.origin_times)


_CHANGES_EVERY_TIME: Final = frozenset({b"date", b"expires", b"x-request-id", b"server-timing"})


def says_the_same(one: Meta, other: Meta) -> bool:
    """Tell whether two metas differ in nothing worth writing."""
    same_lines = one.fields.without(_CHANGES_EVERY_TIME) == other.fields.without(_CHANGES_EVERY_TIME)
    return same_lines and one.tags == other.tags and one.origin_times == other.origin_times


def subject_of(entry: Entry) -> Subject:
    return Subject(entry.key.host, entry.key.path, entry.key.query, entry.meta.tags)


def _variant_lines(variant: Variant) -> list[Line]:
    return [
        (name.encode("latin-1"), value.encode("latin-1"))
        for name, value in variant.headers
        if value is not None
    ]
