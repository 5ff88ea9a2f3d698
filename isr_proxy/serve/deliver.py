"""One answer on its way to one visitor, and the Outcome that says what it was.

Knows how a stored page, a page in the making, the origin's own answer or an error of ours is sent.
Must not know how any of them was chosen. Exactly one Outcome is recorded for each request.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress

from msgspec import structs

from isr_proxy.core.chunks import NO_TRAILERS
from isr_proxy.core.decision import Refuse
from isr_proxy.core.entry import shown
from isr_proxy.core.freshness import Times
from isr_proxy.core.http import Fields, Head, content_length, parse_date
from isr_proxy.core.partial import offset_of, spans_of
from isr_proxy.core.ranges import Span, content_range, wanted_spans
from isr_proxy.core.reason import Reason, XCache
from isr_proxy.core.settings import Route
from isr_proxy.errors import BodyRefused, OriginError, StoreError, VisitorGone
from isr_proxy.origin.client import Answer
from isr_proxy.serve.exchange import Exchange
from isr_proxy.serve.job import Broken, Streaming
from isr_proxy.serve.outcome import Observer, Outcome
from isr_proxy.serve.ready import Ready
from isr_proxy.serve.respond import (
    IDENTITY,
    entry_head,
    error_head,
    is_unchanged,
    not_modified,
    opening_head,
    part_head,
    partial_head,
    pick_encoding,
    reflected,
    relayed_head,
    relayed_trailers,
    validators,
    whole_body,
)
from isr_proxy.store.base import Entry


class Delivery:
    """The one response of one exchange."""

    def __init__(self, exchange: Exchange, observer: Observer, now: Callable[[], float]) -> None:
        self._exchange = exchange
        self._observer = observer
        self._now = now
        self._started_at = now()
        self._is_recorded = False
        self.route: Route | None = None

    async def entry(
        self, entry: Entry, route: Route, times: Times, status: str, x_cache: XCache, reason: Reason
    ) -> None:
        """Send a stored page: whole, parts of it, or as 304."""
        if self.at_once(entry, route, times, status, x_cache, reason):
            return
        meta = entry.meta
        encoding = pick_encoding(self._exchange.request, meta)
        head = entry_head(meta, entry.state, route, encoding, times, status, x_cache)
        if (spans := self._spans(head, meta.body_bytes, meta.generated_at)) is not None:
            await self._parts(entry, head, spans, x_cache, reason)
            return
        size = meta.body(encoding).size
        await self._stream(head, size, entry.bodies.stream(encoding), x_cache, reason)

    def at_once(
        self, entry: Entry, route: Route, times: Times, status: str, x_cache: XCache, reason: Reason
    ) -> bool:
        """Send a stored page if that takes no waiting; False: nothing was sent."""
        request, meta = self._exchange.request, entry.meta
        encoding = pick_encoding(request, meta)
        head = entry_head(meta, entry.state, route, encoding, times, status, x_cache)
        if is_unchanged(request.fields, validators(head, meta)):
            self._whole(not_modified(head), b"", x_cache, reason)
            return True
        if b"range" in request.fields and self._spans(head, meta.body_bytes, meta.generated_at) is not None:
            return False
        body = whole_body(entry, encoding, self._exchange.most_at_once)
        if body is None:
            return False
        self._whole(head, body, x_cache, reason)
        return True

    @property
    def most_at_once(self) -> int:
        """Return how large a body may be that is sent without waiting for the visitor."""
        return self._exchange.most_at_once

    def repeat(self, ready: Ready, body: bytes, *, is_plain: bool) -> bool:
        """Send a hit whose head is ready; False where this visitor's framing is another.

        `is_plain`: the same head gets the same answer as long as that is ready.
        """
        if not self._exchange.repeat(ready.head, body):
            return False
        meta, is_304 = ready.entry.meta, ready.kind.is_304
        outcome = self._outcome(304 if is_304 else meta.status, XCache.HIT, Reason.FRESH, ready.body_bytes)
        self._record(outcome)
        if is_plain:
            self._exchange.answered(ready, outcome)
        return True

    def _spans(self, head: Head, whole: int, made_at: float) -> tuple[Span, ...] | None:
        """Return the parts that are wanted of a page, None for the whole.

        Several parts of an encoded page would be told apart from nothing: they are answered with the whole.
        """
        request, fields = self._exchange.request, head.fields
        if request.method != "GET" or head.status != 200 or b"range" not in request.fields:
            return None
        dated_at = parse_date(fields.first(b"date"))
        known_at = made_at if dated_at is None else min(dated_at, made_at)
        etag, modified = fields.first(b"etag"), fields.first(b"last-modified")
        spans = wanted_spans(request.fields, whole, etag, modified, known_at)
        is_encoded = b"content-encoding" in fields
        return None if spans is not None and len(spans) > 1 and is_encoded else spans

    async def _parts(
        self, entry: Entry, head: Head, spans: tuple[Span, ...], x_cache: XCache, reason: Reason
    ) -> None:
        """Send parts of a stored page: one as it is, several as multipart/byteranges, none as 416."""
        whole, boundary = entry.meta.body_bytes, shown(entry.meta.body_checksum)
        partial = partial_head(head, spans, whole, boundary)
        if not spans:
            self._whole(partial, b"", x_cache, reason)
        elif len(spans) == 1:
            chunks = entry.bodies.stream(IDENTITY, spans[0].start, spans[0].stop)
            await self._stream(partial, spans[0].size, chunks, x_cache, reason)
        else:
            kind = head.fields.first(b"content-type")
            heads = [part_head(span, whole, kind, boundary) for span in spans]
            end = f"\r\n--{boundary}--\r\n".encode()
            length = sum(map(len, heads)) + sum(span.size for span in spans) + len(end)
            await self._stream(partial, length, _multipart(entry, spans, heads, end), x_cache, reason)

    async def part(
        self, entry: Entry, route: Route, times: Times, status: str, x_cache: XCache, reason: Reason
    ) -> bool:
        """Send what is wanted of the stored parts of a page; False where that is the whole of it."""
        partial = entry.meta.partial
        assert partial is not None, "an entry of parts says which"
        meta = structs.replace(entry.meta, status=200, reason="OK")
        head = entry_head(meta, entry.state, route, IDENTITY, times, status, x_cache)
        if is_unchanged(self._exchange.request.fields, validators(head)):
            self._whole(not_modified(head), b"", x_cache, reason)
            return True
        spans = self._spans(head, partial.whole_bytes, meta.generated_at)
        if spans is None or len(spans) > 1:
            return False
        sent = partial_head(head, spans, partial.whole_bytes)
        if not spans:
            self._whole(sent, b"", x_cache, reason)
            return True
        offset = offset_of(spans_of(partial), spans[0])
        if offset is None:
            return False
        chunks = entry.bodies.stream(IDENTITY, offset, offset + spans[0].size)
        await self._stream(sent, spans[0].size, chunks, x_cache, reason)
        return True

    async def streaming(self, opening: Streaming, route: Route, status: str, reason: Reason) -> None:
        """Send a page while it is being stored, or the one part of it that is wanted, as it comes."""
        now, length = self._now(), opening.body_bytes
        head = opening_head(opening.head, opening.admit, route, status, XCache.MISS, now)
        if is_unchanged(self._exchange.request.fields, validators(head)):
            self._whole(not_modified(head), b"", XCache.MISS, reason)
            return
        spans = None if length is None else self._spans(head, length, now)
        if spans is None or length is None or len(spans) > 1:
            await self._stream(head, length, opening.writer.reader(), XCache.MISS, reason)
            return
        sent = partial_head(head, spans, length)
        if not spans:
            self._whole(sent, b"", XCache.MISS, reason)
            return
        chunks = opening.writer.reader(spans[0].start, spans[0].stop)
        await self._stream(sent, spans[0].size, chunks, XCache.MISS, reason)

    def streamed(self, opening: Streaming, route: Route, status: str, reason: Reason) -> bool:
        """Send a page that is being stored, if all of it is here and wanted; False: nothing was sent."""
        request, body = self._exchange.request, opening.writer.complete()
        if body is None or len(body) > self.most_at_once or b"range" in request.fields:
            return False
        head = opening_head(opening.head, opening.admit, route, status, XCache.MISS, self._now())
        if is_unchanged(request.fields, validators(head)):
            self._whole(not_modified(head), b"", XCache.MISS, reason)
            return True
        self._exchange.hold()
        self._exchange.start(head, opening.body_bytes)
        if request.method != "HEAD" and body:
            self._exchange.push(body)
        self._exchange.finish()
        self.record(head.status, XCache.MISS, reason, 0 if request.method == "HEAD" else len(body))
        return True

    async def streaming_part(self, opening: Streaming, route: Route, status: str, reason: Reason) -> bool:
        """Send a part while it is being stored; False where the whole of the page is wanted."""
        came = content_range(opening.head.fields)
        assert came is not None, "a part says which"
        span, whole = came
        as_page = Head(200, "OK", opening.head.fields)
        now = self._now()
        head = opening_head(as_page, opening.admit, route, status, XCache.MISS, now)
        if is_unchanged(self._exchange.request.fields, validators(head)):
            self._whole(not_modified(head), b"", XCache.MISS, reason)
            return True
        if self._spans(head, whole, now) != (span,):
            return False
        chunks = opening.writer.reader()
        await self._stream(partial_head(head, (span,), whole), span.size, chunks, XCache.MISS, reason)
        return True

    def switched(self, head: Head, status: str) -> Head:
        """Return the head of a 101, whose sending leaves HTTP."""
        return relayed_head(head, status, XCache.PASS, self._now())

    async def relay(self, answer: Answer, status: str, x_cache: XCache, reason: Reason) -> None:
        """Send the origin's own answer as it comes."""
        head = relayed_head(answer.head, status, x_cache, self._now())
        try:
            await self._stream(
                head,
                self._length(answer),
                answer.chunks(),
                x_cache,
                reason,
                lambda: relayed_trailers(answer.head, answer.trailers),
            )
        finally:
            await answer.aclose()

    def _length(self, answer: Answer) -> int | None:
        """An answer to HEAD repeats the length the origin said, though no body follows."""
        if self._exchange.request.method != "HEAD":
            return answer.body_bytes
        return content_length(answer.head.fields)

    def broken(self, broken: Broken, head: Head, status: str) -> None:
        """Send the origin's own error page, where nothing is stored."""
        told = relayed_head(head, status, XCache.ERROR, self._now())
        shared = Head(told.status, told.reason, told.fields.without(frozenset({b"set-cookie", b"trailer"})))
        self._whole(shared, broken.body, XCache.ERROR, broken.failed.reason)

    def refuse(self, refuse: Refuse) -> None:
        """Send an error of ours that a Decision asked for."""
        self.error(refuse.status, refuse.reason, refuse.retry_after)

    def reflect(self) -> None:
        """Answer as the last on the way (RFC 9110 §7.6.2)."""
        head, body = reflected(self._exchange.request, self._now())
        self._whole(head, body, XCache.PASS, Reason.MAX_FORWARDS)

    def error(self, status: int, reason: Reason, retry_after: int | None = None) -> None:
        x_cache = XCache.FALLBACK if reason is Reason.PRERENDERED_ONLY else XCache.ERROR
        if status == 503 and retry_after is None:
            retry_after = 1
        head, body = error_head(status, reason, x_cache, self._now(), retry_after)
        self._whole(head, body, x_cache, reason)

    def gone(self) -> None:
        """Note that the visitor hung up; 499 is what nginx writes of it."""
        if not self._is_recorded:
            self.record(499, XCache.ERROR, Reason.VISITOR_GONE)

    def record(self, status: int, x_cache: XCache, reason: Reason, sent_bytes: int = 0) -> None:
        """Say what became of the request."""
        self._record(self._outcome(status, x_cache, reason, sent_bytes))

    def _outcome(self, status: int, x_cache: XCache, reason: Reason, sent_bytes: int) -> Outcome:
        route = None if self.route is None else self.route.match
        seconds = self._now() - self._started_at
        return Outcome(self._exchange.request, route, status, x_cache, reason, sent_bytes, seconds)

    def _record(self, outcome: Outcome) -> None:
        self._is_recorded = True
        self._observer.visited(outcome)

    def _whole(self, head: Head, body: bytes, x_cache: XCache, reason: Reason) -> None:
        self._exchange.send(head, body)
        is_bodiless = self._exchange.request.method == "HEAD" or not head.has_body
        self.record(head.status, x_cache, reason, 0 if is_bodiless else len(body))

    async def _stream(
        self,
        head: Head,
        length: int | None,
        chunks: AsyncIterator[bytes],
        x_cache: XCache,
        reason: Reason,
        trailers: Callable[[], Fields] = lambda: NO_TRAILERS,
    ) -> None:
        """Send a body piece by piece; one that breaks off cuts the connection, so it never looks whole."""
        self._exchange.hold()  # for a moment: what is here already goes with the head
        asyncio.get_running_loop().call_soon(self._release)
        self._exchange.start(head, length)
        sent_bytes = 0
        try:
            if self._exchange.request.method != "HEAD":
                async for chunk in chunks:
                    await self._exchange.write(chunk)
                    sent_bytes += len(chunk)
            self._exchange.finish(trailers())
        except (OriginError, StoreError, BodyRefused) as error:
            self._release()
            self._exchange.abort()
            reason = Reason.STORE_FAILED if isinstance(error, StoreError) else Reason(error.word)
            x_cache = XCache.ERROR
        finally:
            self.record(head.status, x_cache, reason, sent_bytes)

    def _release(self) -> None:
        with suppress(VisitorGone):  # whoever writes next finds out
            self._exchange.release()


async def _multipart(
    entry: Entry, spans: tuple[Span, ...], heads: list[bytes], end: bytes
) -> AsyncIterator[bytes]:
    for span, head in zip(spans, heads, strict=True):
        yield head
        async for chunk in entry.bodies.stream(IDENTITY, span.start, span.stop):
            yield chunk
    yield end


def failure_status(reason: Reason) -> int:
    """Choose the status that tells a visitor how the origin failed (RFC 9110 §15.6)."""
    match reason:
        case (
            Reason.CONNECT_TIMEOUT
            | Reason.FIRST_BYTE_TIMEOUT
            | Reason.CHUNK_TIMEOUT
            | Reason.REGENERATE_TIMEOUT
        ):
            return 504
        case Reason.BUSY | Reason.QUEUE_FULL | Reason.NO_HEALTHY_ORIGIN:
            return 503
        case Reason.INTERNAL:
            return 500
        case _:
            return 502
