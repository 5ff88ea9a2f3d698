"""One fetch for the store: re-check, ask the origin, judge, write, commit.

Knows the order in which a page is replaced, so that a failed regeneration leaves the old one untouched
(law 1), a purge that came meanwhile wins (law 2), and waiters are told as soon as the head is judged.
Must not know visitors: they read what the flight opens to them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

import structlog
from msgspec import structs

from isr_proxy.coord.base import PurgeLog
from isr_proxy.coord.flight import Flight
from isr_proxy.coord.patience import Limit, Patience
from isr_proxy.core.admission import Asked, on_response
from isr_proxy.core.decision import Admit, Failed, Freshen, Judgement, Lend, Outdated, Relay
from isr_proxy.core.entry import Meta, State, shown
from isr_proxy.core.forward import conditional_lines, neutral_fields, shared_fields, which_of
from isr_proxy.core.freshness import Phase, times
from isr_proxy.core.guard import GuardScan
from isr_proxy.core.http import NO_FIELDS, Fields, Head, Line
from isr_proxy.core.key import PLAIN, Key
from isr_proxy.core.purges import Subject, Verdict
from isr_proxy.core.reason import Reason
from isr_proxy.core.settings import Guard, Settings
from isr_proxy.core.validation import on_304, on_head
from isr_proxy.core.value import Value
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
from isr_proxy.serve.compress import copies_of
from isr_proxy.serve.freshening import Freshening, variant_fields
from isr_proxy.serve.job import Broken, Job, Landed, Lent, Opening, Relayed, Streaming
from isr_proxy.serve.outcome import Observer, Regenerated
from isr_proxy.serve.pouring import pour_out
from isr_proxy.serve.relatives import Relatives, meant_by
from isr_proxy.serve.variances import Variances, covers, has_rule, kept_key
from isr_proxy.store.base import Entry, Store, Writer, look

_log = structlog.get_logger("isr_proxy.regenerate")

# What is stored stays, although the answer is not.
_SAYS_NOTHING_OF_OTHERS: Final = frozenset(
    {Reason.TOO_LARGE, Reason.CLIENT_ERROR, Reason.HEAD_ONLY, Reason.TOO_MANY_VARIANTS}
)
_SHARED_ERROR_BYTES: Final = 64 * 1024  # of a failing origin's error page, shown to all who waited


class _Told(Value, frozen=True):
    """An answer and what becomes of it. `stored` is the page that a 304 is about."""

    answer: Answer
    judged: Judgement
    stored: Entry | None


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
        self.patience = Patience(settings.origin.regenerate_timeout)
        self._freshening = Freshening(store, purges, now)
        self.variances = Variances(store, self.verdict)
        self._relatives = Relatives(store, self.verdict)

    def reconfigure(self, settings: Settings, client: Client) -> None:
        """Take new settings; flights under way go on with what they have."""
        self.settings = settings
        self._client = client
        self.patience = Patience(settings.origin.regenerate_timeout)

    async def fly(self, flight: Flight[Opening], job: Job) -> None:
        """Carry out a job and open its flight; never raises what an origin or a disk did."""
        started_at = self._now()
        job, landed = await self._recheck(job)
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
        elif job.source is not None:
            await job.source.superseded()
        self._observer.regenerated(
            Regenerated(job.key, job.match.route.match, reason, self._now() - started_at, is_unchanged)
        )

    async def _recheck(self, job: Job) -> tuple[Job, Landed | None]:
        """Look up again inside the flight: whoever flew just before may have stored it."""
        found = await look(self._store, job.key, variant_fields(job.variant))
        if not isinstance(found, Entry) or not covers(found, job.wanted):
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
        patience, answer = self.patience, None
        try:
            async with patience.limit() as limit:
                told = await self._ask_and_judge(job, await self._validated(job))
                if isinstance(told.judged, Failed) and told.judged.reason is Reason.OTHER_VALIDATOR:
                    await told.answer.aclose()  # RFC 9111 §4.3.4: such a 304 says nothing of what is stored
                    told = await self._ask_and_judge(job, ())
                answer, judged = told.answer, told.judged
                match judged:
                    case Freshen():
                        job = replace(job, stored=told.stored)
                        return await self._freshen(flight, job, judged, answer.head.status)
                    case Lend():
                        job = replace(job, stored=told.stored)
                        return await self._lend(flight, job, judged, answer.head.status)
                    case Admit():
                        return await self._admit(flight, job, answer, judged, limit)
                    case Failed():
                        await self._fail(flight, job, await _error_page(answer, judged, job))
                        return judged.reason, False
                    case Outdated():
                        await self._note_stale(flight, job)
                        judged = Relay(Reason.HEAD_ONLY)
                    case Relay():
                        pass
                await self._relay(flight, job, answer, judged)
                answer = None
                return judged.reason, False
        except TimeoutError as error:
            raise too_long(patience) from error
        finally:
            if answer is not None:
                await answer.aclose()

    async def _validated(self, job: Job) -> Sequence[Entry]:
        """Return the pages that a 304 could be about, as it is now: a purge that comes meanwhile wins.

        That is what is stored; or, where a page is stored in other variants only, any of those.
        """
        usable = self._usable(job)
        if usable is not None or job.reason is not Reason.VARY_MISS:
            return () if usable is None else (usable,)
        return [each for each in await self._relatives.of(job.key) if covers(each, job.wanted)]

    async def _ask_and_judge(self, job: Job, validated: Sequence[Entry]) -> _Told:
        """Ask, and say what becomes of the answer."""
        requested_at = self._now()
        answer = await self._ask(job, validated)
        stored = meant_by(answer.head, validated) if answer.head.status == 304 else self._usable(job)
        asked = self._asked(job, stored, requested_at)
        judged = self._judge(job, asked, answer, stored)
        if answer.head.status == 304 and validated and stored is None:
            judged = Failed(Reason.OTHER_VALIDATOR)
        if isinstance(judged, Admit) and not await self._has_room(job, judged):
            judged = Relay(Reason.TOO_MANY_VARIANTS)
        return _Told(answer, judged, stored)

    async def _ask(self, job: Job, validated: Sequence[Entry]) -> Answer:
        asked = self.outgoing(job, _conditions(job, validated))
        return await (self.send(asked) if job.source is None else job.source.fetch(asked, self.send))

    def outgoing(self, job: Job, lines: Iterable[Line]) -> Outgoing:
        """Build the request of a job, with these lines more."""
        host = self.settings.origin.host or job.key.host
        fields = _outgoing_fields(job).plus(*lines)
        method = "HEAD" if job.is_head else "GET"
        return Outgoing(method, job.wanted.target, host, fields, on_interim=_guarded(job.interim))

    async def send(self, asked: Outgoing) -> Answer:
        """Ask the origin; OriginError says why there is no answer."""
        return await self._client.fetch(asked)

    def _usable(self, job: Job) -> Entry | None:
        """Return the stored page, unless a purge says that it is wrong: then it is not even validated."""
        if job.stored is None or self.verdict(job.stored).hidden:
            return None
        return job.stored

    def _asked(self, job: Job, usable: Entry | None, requested_at: float) -> Asked:
        sent = job.request.fields if job.request is not None else variant_fields(job.variant)
        return Asked(
            job.match,
            sent,
            requested_at,
            self._now(),
            has_stored=usable is not None and usable.meta.status < 400,
            varies_on=job.variant.names,
            stored_fields=NO_FIELDS if usable is None else usable.meta.fields,
            stored_status=200 if usable is None else usable.meta.status,
            stored_names=() if usable is None else usable.variant.names,
            site=(job.key.scheme, job.key.host),
        )

    def _judge(self, job: Job, asked: Asked, answer: Answer, stored: Entry | None) -> Judgement:
        if answer.head.status == 304 and stored is not None:
            return on_304(asked, answer.head)
        if job.is_head:
            return on_head(asked, answer.head, None if stored is None else stored.meta.body_bytes)
        judged = on_response(asked, answer.head)
        if not isinstance(judged, Admit) or (answer.body_bytes or 0) <= self.settings.store.max_entry:
            return judged
        is_failure = asked.has_stored and asked.match.route.revalidate.is_isr
        if is_failure and stored is not None and self._may_be_served(stored, job):
            return Failed(Reason.TOO_LARGE)
        return Relay(Reason.TOO_LARGE)

    def _may_be_served(self, stored: Entry, job: Job) -> bool:
        """Tell whether a page is within one of its windows still."""
        at = times(stored.meta, stored.state, job.match.route, self._now(), soft_purged_at=None)
        return at.phase is not Phase.DEAD

    async def _has_room(self, job: Job, admit: Admit) -> bool:
        """Tell, before a body is received, whether its variant may be kept at all (law 8)."""
        key = kept_key(job.wanted, admit.fields)
        return admit.variant == PLAIN or await self._store.has_room(key, admit.variant)

    # --- the ways it ends ---

    async def _relay(self, flight: Flight[Opening], job: Job, answer: Answer, relay: Relay) -> None:
        if job.stored is not None and not job.is_personal and relay.reason not in _SAYS_NOTHING_OF_OTHERS:
            with suppress(StoreError):  # it stays, stale, until the disk lets go of it
                await self._store.remove(job.stored)
        if relay.reason is Reason.CLIENT_ERROR and job.stored is not None and job.request is None:
            refused = Failed(relay.reason)  # nobody saw it, so it would be asked again at every hit (law 3)
            await self._freshening.note_failure(job.stored, job.match.route, refused, flight.sequence)
        if job.source is not None and not job.is_personal and relay.reason is not Reason.TOO_LARGE:
            await job.source.superseded()
        if flight.has_leader:
            flight.open(Relayed(relay.reason, answer.head, answer, job.is_personal))
        else:
            await answer.aclose()
            flight.open(Relayed(relay.reason, answer.head, None, job.is_personal))

    async def _freshen(
        self, flight: Flight[Opening], job: Job, freshen: Freshen, status: int
    ) -> tuple[Reason, bool]:
        """The origin says the stored page is still right."""
        assert job.stored is not None, "a 304 was judged, so a page was validated"
        entry = await self._freshening.freshen(job.stored, freshen, flight.sequence)
        if job.reason is Reason.VARY_MISS and entry.variant != job.variant:
            entry = await self._relatives.adopt(entry, job.variant)
        if entry.key == job.stored.key:
            entry = await self._under_its_new_key(entry, job.stored, flight.sequence)
        flight.open(Landed(entry, status, is_new=False, own=freshen.own))
        return Reason.STORED, True

    async def _under_its_new_key(self, entry: Entry, before: Entry, sequence: int) -> Entry:
        """Put a page where it belongs when a 304 has changed its No-Vary-Search."""
        wanted, fields = entry.meta.asked_key, entry.meta.fields
        await self.variances.learn(wanted, fields, before, entry.state)
        key = kept_key(wanted, fields)
        if key == entry.key or self._is_purged(entry.meta, sequence):
            return entry
        return await self._relatives.move(entry, key)

    async def _lend(self, flight: Flight[Opening], job: Job, lend: Lend, status: int) -> tuple[Reason, bool]:
        """The stored page is still right for one visitor; where nobody asked, it is tried again later."""
        assert job.stored is not None, "a page was validated"
        entry = await self._freshening.lend(job.stored, lend, flight.sequence)
        if job.request is None and lend.may_stay:
            failed = Failed(lend.reason)
            await self._freshening.note_failure(job.stored, job.match.route, failed, flight.sequence)
        flight.open(Lent(entry, status, lend.reason, job.is_personal))
        return lend.reason, True

    async def _note_stale(self, flight: Flight[Opening], job: Job) -> None:
        if job.stored is not None:
            await self._freshening.note_stale(job.stored, flight.sequence)

    async def _fail(self, flight: Flight[Opening], job: Job, broken: Broken) -> None:
        """Note when to try again. An error in answer to HEAD says nothing of GET."""
        is_about_head = job.is_head and broken.head is not None
        if job.stored is not None and not is_about_head:
            await self._freshening.note_failure(job.stored, job.match.route, broken.failed, flight.sequence)
        flight.open(broken)

    async def _admit(
        self,
        flight: Flight[Opening],
        job: Job,
        answer: Answer,
        admit: Admit,
        limit: Limit,
    ) -> tuple[Reason, bool]:
        async with self._store.begin(kept_key(job.wanted, admit.fields), admit.variant) as writer:
            flight.open(Streaming(answer.head, admit, answer.body_bytes, writer, answer.status, job.wanted))
            try:
                problem = await self._receive(flight, answer, writer, job, limit)
                if problem is not None:
                    await self._fail(flight, job, Broken(Failed(problem)))
                    return problem, False
                return await self._commit(flight, job, answer.head, admit, writer)
            except OriginError as error:
                writer.fail(error)
                raise
            except asyncio.CancelledError:  # how the end of patience arrives in here
                writer.fail(OriginTimeout(Reason.REGENERATE_TIMEOUT.value, "the whole took too long"))
                raise

    async def _receive(
        self, flight: Flight[Opening], answer: Answer, writer: Writer, job: Job, limit: Limit
    ) -> Reason | None:
        """Write the body; returns why it is not to be stored, or None."""
        has_page = 200 <= answer.head.status < 300  # a guard says what pages are like, not what 404 is
        scan = GuardScan(job.match.route.guard if has_page else Guard())
        async for chunk in answer.chunks():
            try:
                await writer.write(chunk)
            except EntryTooLarge:
                return await pour_out(flight, answer, writer, chunk, limit)
            except StoreError:
                return Reason.STORE_FAILED
            if writer.is_abandoned:
                flight.free(Broken(Failed(Reason.STORE_FAILED)))
                limit.lift()  # the disk refused: now it is the visitors' own pace
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
        fields = admit.fields
        key = kept_key(job.wanted, fields)
        asked = None if key == job.wanted else job.wanted.query
        meta = structs.replace(meta_of(key, head, admit, writer.checksum, self._now()), asked=asked)
        # The rule before the page: a purge of a query has to know which page that is.
        state = State(flight.sequence, admit.answered_at, admit.initial_age)
        await self.variances.learn(job.wanted, fields, job.stored, state)
        if self._is_purged(meta, flight.sequence):
            return Reason.SUPERSEDED, False
        if job.stored is not None and self._is_same_page(job.stored, meta, writer):
            old = job.stored.meta
            kept = structs.replace(meta, bodies=old.bodies, generated_at=old.generated_at)
            await self._freshening.keep(job.stored, kept, state)
            return Reason.STORED, True
        copies = await copies_of(head.fields, job.match.route, writer)
        if await self._freshening.is_older(job.stored, key, meta, state):
            return Reason.SUPERSEDED, False
        try:
            await writer.commit(meta, state, copies)
        except TooManyVariants:
            return Reason.TOO_MANY_VARIANTS, False
        except Superseded:
            return Reason.SUPERSEDED, False
        except StoreError as error:
            _log.debug("page not stored", url=job.key.url, error=str(error))
            return Reason.STORE_FAILED, False
        if job.stored is not None and job.stored.key != key:
            with suppress(StoreError):  # it is found before the new one, until the disk lets go of it
                await self._store.remove(job.stored)
        return Reason.STORED, False

    def _is_purged(self, meta: Meta, sequence: int) -> bool:
        """Tell whether a purge since names a new page; what answers for many queries, by any of them."""
        index = self._purges.index
        subject = Subject(meta.host, meta.path, meta.query, meta.tags, meta.asked)
        is_named = has_rule(meta) and index.names_a_query(meta.host, meta.path, sequence)
        return is_named or index.verdict(subject, sequence).hidden

    def _is_same_page(self, stored: Entry, meta: Meta, writer: Writer) -> bool:
        """Unchanged output writes no body, unless the stored one is purged: it may be swept any moment."""
        return (
            not self.verdict(stored).hidden
            and stored.meta.body_checksum == writer.checksum
            and stored.meta.status == meta.status
            and stored.meta.variant == meta.variant
            and stored.key == meta.key
            and stored.meta.body_bytes == writer.size_bytes
        )


def too_long(patience: Patience) -> OriginTimeout:
    return OriginTimeout(Reason.REGENERATE_TIMEOUT.value, f"took longer than {patience.seconds} s")


def _conditions(job: Job, validated: Sequence[Entry]) -> list[Line]:
    if job.stored is not None and validated:
        return conditional_lines(validated[0].meta)
    return which_of(each.meta for each in validated)


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
    return Broken(failed, answer.head, bytes(body), job.is_personal, job.wanted)


def meta_of(key: Key, head: Head, admit: Admit, checksum: bytes, now: float) -> Meta:
    """Build the meta of a new entry; a page without an ETag gets one made from its body."""
    fields = admit.fields
    return Meta(
        key.scheme,
        key.host,
        key.path,
        key.query,
        key.dimensions,
        admit.variant.headers,
        head.status,
        head.reason,
        fields.lines,
        admit.tags,
        fields.first(b"etag") or f'"{shown(checksum)}"',
        fields.first(b"last-modified"),
        admit.origin_times,
        now,
    )


def subject_of(entry: Entry) -> Subject:
    meta = entry.meta
    return Subject(meta.host, meta.path, meta.query, meta.tags, meta.asked)
