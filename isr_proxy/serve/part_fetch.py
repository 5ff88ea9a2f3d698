"""One fetch of a part of a page: ask for what is missing, judge, write, add it to what is stored.

Knows how a part joins the others, and that the last one makes them a page (RFC 9111 §3.3, §3.4). Must not
know visitors. An answer that is not a part is the page's own business: regenerate.py goes on with it.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from msgspec import structs

from isr_proxy.coord.base import Leases, PurgeLog
from isr_proxy.coord.eager import Work
from isr_proxy.coord.flight import Flight
from isr_proxy.coord.patience import Limit
from isr_proxy.core.admission import Asked, on_response
from isr_proxy.core.decision import Admit, Failed, Lend, Relay
from isr_proxy.core.entry import Meta, Partial, State
from isr_proxy.core.freshness import Phase, times
from isr_proxy.core.http import NO_FIELDS, Fields, Head, Line
from isr_proxy.core.key import PLAIN
from isr_proxy.core.partial import (
    Cut,
    Inquiry,
    Origin,
    as_whole,
    combine,
    fills,
    inquire,
    is_same,
    is_worth_adding,
    key_of_parts,
    missing,
    partial_of,
    plain_inquiry,
    spans_of,
)
from isr_proxy.core.purges import Subject
from isr_proxy.core.ranges import Ask, Span, content_range, strong_validator
from isr_proxy.core.reason import Reason
from isr_proxy.core.validation import on_304
from isr_proxy.errors import (
    OriginError,
    OriginTimeout,
    StoreError,
    Superseded,
    TooManyVariants,
    VisitorGone,
)
from isr_proxy.origin.answer import Assembled
from isr_proxy.origin.client import Answer
from isr_proxy.serve.freshening import Freshening
from isr_proxy.serve.job import Broken, Job, Landed, Lent, Opening, Relayed, Streaming
from isr_proxy.serve.outcome import Observer, Regenerated
from isr_proxy.serve.regenerate import Regenerator, meta_of, too_long
from isr_proxy.serve.sources import Given, exactly, filled, forget, stored_chunks
from isr_proxy.store.base import Entry, Store, Writer


@dataclass(frozen=True, slots=True)
class Draft:
    """A part that came: its place, and what was judged of it."""

    span: Span
    whole: int
    head: Head  # as of the page: 200
    admit: Admit


@dataclass(slots=True)
class _Trip:
    """One fetch under way."""

    flight: Flight[Opening]
    job: Job
    ask: Ask
    inquiry: Inquiry
    known: Entry | None = None  # the parts that are stored
    requested_at: float = 0.0
    other: Answer | None = None  # what came is not a part
    is_handed: bool = False  # the answer is somebody else's to close

    @property
    def fields(self) -> Fields:
        return NO_FIELDS if self.job.request is None else self.job.request.fields


class PartFetcher:
    """Flies every job of one process; those that ask for no part are the regenerator's alone."""

    def __init__(
        self,
        regenerator: Regenerator,
        store: Store,
        purges: PurgeLog,
        observer: Observer,
        now: Callable[[], float],
        leases: Leases,
    ) -> None:
        self._regenerator = regenerator
        self._store = store
        self._purges = purges
        self._observer = observer
        self._now = now
        self._leases = leases
        self._freshening = Freshening(store, purges, now)
        self._adding: weakref.WeakValueDictionary[bytes, asyncio.Lock] = weakref.WeakValueDictionary()

    def fly(self, flight: Flight[Opening], job: Job) -> Work:
        """Carry out a job and open its flight; never raises what an origin or a disk did."""
        if job.ask is None:
            return self._regenerator.fly(flight, job)
        return self._fly(_Trip(flight, job, job.ask, plain_inquiry(job.ask)))

    async def _fly(self, trip: _Trip) -> None:
        flight, job, started_at = trip.flight, trip.job, self._now()
        try:
            reason = await self._go_in_time(trip)
        except OriginError as error:
            reason = Reason(error.word)
            flight.open(Broken(Failed(reason)))
        if trip.other is not None:
            await self._go_on_as_page(trip, trip.other)
        elif reason is not None:
            seconds = self._now() - started_at
            self._observer.regenerated(Regenerated(job.key, job.match.route.match, reason, seconds))

    async def _go_on_as_page(self, trip: _Trip, answer: Answer) -> None:
        source = Given(answer, self._store, trip.known)
        try:
            await self._regenerator.fly(trip.flight, replace(trip.job, ask=None, source=source))
        finally:
            source.close()

    async def _go_in_time(self, trip: _Trip) -> Reason | None:
        patience = self._regenerator.patience
        try:
            async with patience.limit() as limit:
                return await self._go(trip, limit)
        except TimeoutError as error:
            raise too_long(patience) from error

    async def _go(self, trip: _Trip, limit: Limit) -> Reason | None:
        """Ask and judge; returns what came of it, None where somebody else says so."""
        trip.known = await self.find(trip.job)
        if trip.known is not None and self._was_fetched_just_now(trip, trip.known):
            trip.flight.open(Landed(trip.known))
            return None
        answer = await self._ask(trip)
        try:
            match answer.head.status:
                case 206:
                    return await self._take(trip, answer, limit)
                case 304 if trip.inquiry.is_validation and trip.known is not None:
                    return await self._freshen(trip, trip.known, answer.head)
                case 416:
                    return self._relay(trip, answer, Reason.PARTIAL)
                case _:
                    trip.other, trip.is_handed = answer, True
                    return None
        finally:
            if not trip.is_handed:
                answer.close()

    async def find(self, job: Job) -> Entry | None:
        """Look up the stored parts of a job's page, unless a purge hides them."""
        fields = NO_FIELDS if job.request is None else job.request.fields
        found = await self._store.lookup(key_of_parts(job.key), fields)
        if not isinstance(found, Entry) or found.meta.partial is None:
            return None
        return None if self._regenerator.verdict(found).hidden else found

    def _was_fetched_just_now(self, trip: _Trip, known: Entry) -> bool:
        """Tell whether who flew just before has stored what is wanted."""
        job, partial = trip.job, _partial(known)
        if missing(spans_of(partial), trip.ask.span(partial.whole_bytes)) is not None:
            return False
        is_newer = job.part is None or known.state.fetched_at > job.part.state.fetched_at
        stale_at = self._regenerator.verdict(known).stale_at
        at = times(known.meta, known.state, job.match.route, self._now(), soft_purged_at=stale_at)
        return is_newer and at.phase is Phase.FRESH

    async def _ask(self, trip: _Trip) -> Answer:
        """Ask for what is missing; once more where the origin's part does not fit to what is stored."""
        known = trip.known
        trip.inquiry = inquire(None if known is None else known.meta, trip.ask, self._max_entry)
        answer = await self._send(trip)
        if known is None or not self._is_of_another(trip, known, answer.head):
            return answer
        answer.close()
        await forget(self._store, known)
        trip.known, trip.inquiry = None, plain_inquiry(trip.ask)
        return await self._send(trip)

    def _is_of_another(self, trip: _Trip, known: Entry, head: Head) -> bool:
        """Tell whether an answer is to be read with what is stored, and does not fit to it."""
        gap = trip.inquiry.gap
        if gap is not None:
            return head.status in (206, 304, 416) and not fills(head, known.meta, _partial(known), gap)
        is_unchanged = trip.inquiry.is_validation and head.status == 304
        return is_unchanged and isinstance(on_304(self._asked(trip, known), head), Failed)

    async def _send(self, trip: _Trip) -> Answer:
        trip.requested_at = self._now()
        return await self._regenerator.send(self._regenerator.outgoing(trip.job, trip.inquiry.lines))

    @property
    def _max_entry(self) -> int:
        return self._regenerator.settings.store.max_entry

    # --- what came ---

    async def _take(self, trip: _Trip, answer: Answer, limit: Limit) -> Reason | None:
        """Judge a part as the page it is of would be, and store it if it can be told from others."""
        place = _place(trip, answer)
        if place is None:
            return self._relay(trip, answer, Reason.PARTIAL)
        span, whole = place
        known = trip.known
        is_known = known is not None and _fits(known.meta, answer.head.fields, whole)
        head = as_whole(answer.head, known.meta.fields if known is not None and is_known else None)
        judged = on_response(self._asked(trip), head)
        part = Head(206, "Partial Content", head.fields.plus(_content_range(span, whole)))
        whole_part = _assembled(trip, part, answer, span)
        if not isinstance(judged, Admit):
            if not trip.job.is_personal:  # what one visitor's cookies brought says nothing of what is stored
                await forget(self._store, known)
            reason = judged.reason if isinstance(judged, Relay) else Reason.BAD_RESPONSE
            return self._relay(trip, whole_part, reason)
        draft = Draft(span, whole, head, judged)
        reason_not = await self._refusal(trip, draft, known if is_known else None)
        if reason_not is not None:
            return self._relay(trip, whole_part, reason_not)
        return await self._store_part(trip, draft, whole_part, limit)

    def _asked(self, trip: _Trip, stored: Entry | None = None) -> Asked:
        return Asked(
            trip.job.match,
            trip.fields,
            trip.requested_at,
            self._now(),
            varies_on=trip.job.variant.names if trip.known is None else trip.known.variant.names,
            stored_fields=NO_FIELDS if stored is None else stored.meta.fields,
            stored_names=() if stored is None else stored.variant.names,
            site=(trip.job.key.scheme, trip.job.key.host),
        )

    async def _refusal(self, trip: _Trip, draft: Draft, known: Entry | None) -> Reason | None:
        """Say why a part that may be kept as a page may not be kept as a part."""
        if strong_validator(draft.head.fields) is None:
            return Reason.WEAK_VALIDATOR
        if not is_worth_adding(None if known is None else _partial(known), draft.span, self._max_entry):
            return Reason.TOO_LARGE
        variant = draft.admit.variant
        if variant != PLAIN and not await self._store.has_room(key_of_parts(trip.job.key), variant):
            return Reason.TOO_MANY_VARIANTS
        return None

    def _relay(self, trip: _Trip, answer: Answer, reason: Reason) -> Reason:
        """Let the leader's visitor take the answer; without him nobody does."""
        flight = trip.flight
        trip.is_handed = flight.has_leader
        taken = answer if flight.has_leader else None
        flight.open(Relayed(reason, answer.head, taken, trip.job.is_personal))
        return reason

    async def _freshen(self, trip: _Trip, known: Entry, head: Head) -> Reason:
        """The stored parts are still right, for all or for whoever asked (RFC 9111 §4.3.4)."""
        freshen = on_304(self._asked(trip, known), head)
        assert not isinstance(freshen, Failed), "one about something else was asked again"
        sequence = trip.flight.sequence
        if isinstance(freshen, Lend):  # law 4: one visitor's own answer
            lent = await self._freshening.lend(known, freshen, sequence)
            trip.flight.open(Lent(lent, 304, freshen.reason, trip.job.is_personal))
            return freshen.reason
        entry = await self._freshening.freshen(known, freshen, sequence)
        trip.flight.open(Landed(entry, 304, own=freshen.own))
        return Reason.STORED

    # --- storing ---

    async def _store_part(self, trip: _Trip, draft: Draft, answer: Answer, limit: Limit) -> Reason | None:
        key = key_of_parts(trip.job.key)
        async with self._store.begin(key, draft.admit.variant) as writer:
            trip.flight.open(Streaming(answer.head, draft.admit, draft.span.size, writer, 206))
            try:
                if not await _receive(trip.flight, answer, writer, limit):
                    return Reason.STORE_FAILED
            except OriginError as error:
                writer.fail(error)
                raise
            except asyncio.CancelledError:  # how the end of patience arrives in here
                writer.fail(OriginTimeout(Reason.REGENERATE_TIMEOUT.value, "the whole took too long"))
                raise
            async with self._lock(key.digest), self._leased(b"joining" + key.digest):
                return await self._add(trip, draft, writer)

    def _lock(self, digest: bytes) -> asyncio.Lock:
        """Return what serialises the parts of one page: two that come at once must both be there then."""
        lock = self._adding.get(digest)
        if lock is None:
            lock = self._adding[digest] = asyncio.Lock()
        return lock

    @asynccontextmanager
    async def _leased(self, digest: bytes) -> AsyncIterator[None]:
        """Keep the other workers from joining parts of the same page meanwhile."""
        try:
            await self._leases.acquire(digest, self._regenerator.settings.origin.regenerate_timeout)
        except TimeoutError as error:
            raise OriginTimeout(Reason.REGENERATE_TIMEOUT.value, "another worker does not let go") from error
        try:
            yield
        finally:
            self._leases.release(digest)

    async def _add(self, trip: _Trip, draft: Draft, writer: Writer) -> Reason | None:
        """Join a part with those stored, as they are now; returns None where it made a page."""
        key = trip.job.key
        subject = Subject(key.host, key.path, key.query, draft.admit.tags)
        if self._purges.index.verdict(subject, trip.flight.sequence).hidden:
            return Reason.SUPERSEDED
        stored = await self.find(trip.job)
        if await self._has_page(trip):
            await forget(self._store, stored)
            return Reason.SUPERSEDED
        is_base = (
            stored is not None
            and stored.variant == draft.admit.variant
            and _fits(stored.meta, draft.head.fields, draft.whole)
        )
        base = stored if is_base else None
        partial = None if base is None else _partial(base)
        if not is_worth_adding(partial, draft.span, self._max_entry):
            return Reason.TOO_LARGE
        spans, cuts = combine(() if partial is None else spans_of(partial), draft.span)
        chunks = _cut(cuts, base, writer)
        if spans == (Span(0, draft.whole),):
            await self._complete(trip, draft, stored, chunks)
            return None
        meta = self._meta(trip, draft, spans)
        return await self._commit(trip, meta, draft, writer, None if base is None else chunks)

    async def _has_page(self, trip: _Trip) -> bool:
        """Tell whether all of the page was stored meanwhile: it always wins."""
        found = await self._store.lookup(trip.job.key, trip.fields)
        return isinstance(found, Entry) and not self._regenerator.verdict(found).hidden

    async def _complete(
        self, trip: _Trip, draft: Draft, stored: Entry | None, chunks: AsyncIterator[bytes]
    ) -> None:
        """All parts are there: store them as a page, by the page's own rules."""
        since = max(0.0, self._now() - draft.admit.answered_at)
        age = (b"Age", b"%d" % int(draft.admit.initial_age + since))
        head = Head(200, "OK", Fields((*draft.admit.fields, age)))
        source = Given(Assembled(head, draft.whole, chunks), self._store, stored)
        flight = Flight[Opening](trip.flight.sequence, asyncio.get_running_loop().create_future())
        await self._regenerator.fly(flight, replace(trip.job, ask=None, interim=None, source=source))

    def _meta(self, trip: _Trip, draft: Draft, spans: tuple[Span, ...]) -> Meta:
        """Build the meta of the parts; what has no ETag gets none, as it is not all there."""
        head = Head(206, "Partial Content", draft.head.fields)
        meta = meta_of(key_of_parts(trip.job.key), head, draft.admit, b"", self._now())
        etag = draft.head.fields.first(b"etag") or ""
        return structs.replace(meta, etag=etag, partial=partial_of(spans, draft.whole))

    async def _commit(
        self, trip: _Trip, meta: Meta, draft: Draft, writer: Writer, joined: AsyncIterator[bytes] | None
    ) -> Reason:
        """Store the parts: the new one as it is, or all of them, written anew."""
        state = State(trip.flight.sequence, draft.admit.answered_at, draft.admit.initial_age)
        try:
            if joined is None:
                await writer.commit(meta, state)
                return Reason.STORED
            async with self._store.begin(meta.key, draft.admit.variant) as anew:
                async for chunk in joined:
                    await anew.write(chunk)
                await anew.commit(meta, state)
        except TooManyVariants:
            return Reason.TOO_MANY_VARIANTS
        except Superseded:
            return Reason.SUPERSEDED
        except (StoreError, OriginError, VisitorGone):
            return Reason.STORE_FAILED
        return Reason.STORED


def _partial(entry: Entry) -> Partial:
    assert entry.meta.partial is not None, "an entry of parts says which"
    return entry.meta.partial


def _content_range(span: Span, whole: int) -> Line:
    return (b"Content-Range", span.content_range(whole).encode())


def _place(trip: _Trip, answer: Answer) -> tuple[Span, int] | None:
    """Return where what will be sent belongs; None where that is not what was asked for."""
    came = content_range(answer.head.fields)
    kind = (answer.head.fields.first(b"content-type") or "").lower()
    if came is None or kind.startswith("multipart/byteranges"):
        return None
    span, whole = came
    if answer.body_bytes not in (None, span.size):
        return None
    wanted = trip.ask.span(whole)
    expected = wanted if trip.inquiry.gap is None else trip.inquiry.gap
    return (wanted, whole) if span == expected else None


def _fits(meta: Meta, fields: Fields, whole: int) -> bool:
    """Tell whether an answer is of the same representation as stored parts."""
    return meta.partial is not None and meta.partial.whole_bytes == whole and is_same(meta.fields, fields)


def _assembled(trip: _Trip, head: Head, answer: Answer, span: Span) -> Answer:
    """Return the visitor's part: what came, with what was not asked for because it is stored."""
    gap = trip.inquiry.gap
    if trip.known is not None and gap is not None:
        return filled(head, answer, trip.known, span, gap)
    return Assembled(head, span.size, exactly(answer.chunks(), span.size), answer)


async def _receive(flight: Flight[Opening], answer: Answer, writer: Writer, limit: Limit) -> bool:
    """Write a part; False where the disk refused it, and nobody is left to read it."""
    async for chunk in answer.chunks():
        try:
            await writer.write(chunk)
        except (StoreError, VisitorGone):
            return False
        if writer.is_abandoned:
            flight.free(Broken(Failed(Reason.STORE_FAILED)))
            limit.lift()  # now it is the visitors' own pace
    await writer.finish()
    return not writer.is_abandoned


async def _cut(cuts: tuple[Cut, ...], base: Entry | None, writer: Writer) -> AsyncIterator[bytes]:
    """Yield the joined parts: from the stored body and from the one that has just come."""
    for cut in cuts:
        if cut.origin is Origin.FETCHED:
            async for chunk in writer.reader(cut.start, cut.stop):
                yield chunk
        elif base is not None:
            async for chunk in stored_chunks(base, (cut,)):
                yield chunk
