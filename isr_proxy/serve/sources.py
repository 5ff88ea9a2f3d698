"""Other ways to get a page than to ask the origin for all of it.

Knows how a page is put together from its stored parts and what an origin adds, and how an answer that is
here already becomes the page's. Must not know what is done with the page.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Final, Protocol

from isr_proxy.core.http import Head
from isr_proxy.core.partial import Cut, around, as_whole, fills, gap_inquiry, missing, spans_of
from isr_proxy.core.purges import Verdict
from isr_proxy.core.ranges import Span
from isr_proxy.core.reason import Reason
from isr_proxy.errors import OriginProtocol, OriginReset, StoreError
from isr_proxy.origin.answer import Assembled
from isr_proxy.origin.client import Answer, Outgoing
from isr_proxy.store.base import Entry, Store

Send = Callable[[Outgoing], Awaitable[Answer]]

_IDENTITY: Final = "identity"


class Source(Protocol):
    """Where the answer for a page comes from."""

    async def fetch(self, asked: Outgoing, send: Send) -> Answer:
        """Return the answer, to `asked` or to less; OriginError as the client."""

    async def superseded(self) -> None:
        """Hear that the page is stored, or may not be: what it was made of can go."""


class Given:
    """An answer that is here already. `part`: the stored parts that it replaces."""

    def __init__(self, answer: Answer, store: Store, part: Entry | None) -> None:
        self._answer = answer
        self._store = store
        self._part = part
        self._is_taken = False

    async def fetch(self, asked: Outgoing, send: Send) -> Answer:
        self._is_taken = True
        return self._answer

    async def superseded(self) -> None:
        await forget(self._store, self._part)

    def close(self) -> None:
        """Give it up, unless it was taken."""
        if not self._is_taken:
            self._answer.close()


class Completion:
    """Stored parts of a page, and the origin for the rest (RFC 9111 §3.4)."""

    def __init__(self, store: Store, part: Entry, verdict: Callable[[Entry], Verdict]) -> None:
        self._store = store
        self._part = part
        self._verdict = verdict

    async def fetch(self, asked: Outgoing, send: Send) -> Answer:
        """Ask for what is missing; for all of it where the parts are of another version, or were purged."""
        meta = self._part.meta
        assert meta.partial is not None, "an entry of parts says which"
        wanted = Span(0, meta.partial.whole_bytes)
        gap = missing(spans_of(meta.partial), wanted)
        if gap is None or self._verdict(self._part).hidden:
            return await send(asked)
        lines = gap_inquiry(meta, gap).lines
        answer = await send(replace(asked, fields=asked.fields.plus(*lines)))
        if fills(answer.head, meta, meta.partial, gap):
            return filled(as_whole(answer.head, meta.fields), answer, self._part, wanted, gap)
        if answer.head.status not in (206, 304, 416):
            return answer
        answer.close()
        await forget(self._store, self._part)
        return await send(asked)

    async def superseded(self) -> None:
        await forget(self._store, self._part)


async def forget(store: Store, part: Entry | None) -> None:
    """Delete stored parts; should the disk refuse, they stay beside the page, which always wins."""
    if part is not None:
        with suppress(StoreError):
            await store.remove(part)


def filled(head: Head, answer: Answer, part: Entry, wanted: Span, gap: Span) -> Answer:
    """Return the wanted bytes, of which the origin sends what is missing."""
    assert part.meta.partial is not None, "an entry of parts says which"
    before, after = around(spans_of(part.meta.partial), wanted, gap)
    return Assembled(head, wanted.size, _filled(part, before, answer, gap, after), answer)


async def _filled(
    part: Entry, before: Iterable[Cut], answer: Answer, gap: Span, after: Iterable[Cut]
) -> AsyncIterator[bytes]:
    async for chunk in stored_chunks(part, before):
        yield chunk
    async for chunk in exactly(answer.chunks(), gap.size):
        yield chunk
    async for chunk in stored_chunks(part, after):
        yield chunk


async def stored_chunks(part: Entry, cuts: Iterable[Cut]) -> AsyncIterator[bytes]:
    """Read cuts of stored parts; a disk that fails is as bad as an origin that breaks off."""
    try:
        for cut in cuts:
            async for chunk in part.bodies.stream(_IDENTITY, cut.start, cut.stop):
                yield chunk
    except StoreError as error:
        raise OriginReset(Reason.STORE_FAILED.value, str(error), answered=True) from error


async def exactly(chunks: AsyncIterator[bytes], size: int) -> AsyncIterator[bytes]:
    """Yield a body that Content-Range gave a size; OriginProtocol when it has another."""
    async for chunk in chunks:
        size -= len(chunk)
        if size < 0:
            raise OriginProtocol(Reason.BAD_RESPONSE.value, "more than Content-Range says", answered=True)
        yield chunk
    if size:
        raise OriginProtocol(Reason.TRUNCATED.value, "less than Content-Range says", answered=True)
