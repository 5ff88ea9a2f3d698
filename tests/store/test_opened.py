"""A large body is read as it is taken, in constant memory, without a thread where the page cache has it."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from isr_proxy.core.entry import BodyRef
from isr_proxy.core.settings import KIB, MIB
from isr_proxy.errors import StoreUnavailable
from isr_proxy.store.opened import CHUNK_BYTES, WAITING_BYTES, FileBodies, FileId, OpenFile

BODY = os.urandom(1 * MIB + 100)
COPY = b"brotli" * 1000


class NoThreads(Executor):
    """Fails who asks for a thread."""

    def submit(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("a thread was asked for")


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as executor:
        yield executor


def opened(directory: Path, executor: Executor) -> FileBodies:
    path = directory / "page"
    path.write_bytes(bytes(320) + BODY + COPY)
    refs = [BodyRef("identity", 320, len(BODY), b""), BodyRef("br", 320 + len(BODY), len(COPY), b"")]
    return FileBodies(OpenFile(os.open(path, os.O_RDONLY)), refs, FileId(1, b""), executor)


class Reads:
    """Stands for `preadv`: counts, and answers as a page cache that has everything, or not."""

    def __init__(self, most: int = MIB, refusal: int | None = None, every: int = 1) -> None:
        self.count = 0
        self._preadv = os.preadv
        self._most = most
        self._refusal = refusal
        self._every = every

    def __call__(self, descriptor: int, buffers: tuple[memoryview], offset: int, flags: int) -> int:
        assert flags == os.RWF_NOWAIT
        self.count += 1
        if self._refusal is not None and self.count % self._every == 0:
            raise OSError(self._refusal, os.strerror(self._refusal))
        return self._preadv(descriptor, (buffers[0][: self._most],), offset)


async def whole(bodies: FileBodies, *asked: Any) -> bytes:
    return b"".join([chunk async for chunk in bodies.stream(*asked)])


async def test_what_the_page_cache_has_takes_no_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "preadv", Reads())
    bodies = opened(tmp_path, NoThreads())
    assert await whole(bodies, "identity") == BODY
    assert await whole(bodies, "br") == COPY
    assert await whole(bodies, "identity", 100, 300_000) == BODY[100:300_000]
    assert await whole(bodies, "identity", len(BODY)) == b""


@pytest.mark.parametrize(
    "reads",
    [
        lambda: Reads(refusal=errno.EAGAIN),
        lambda: Reads(refusal=errno.EOPNOTSUPP),
        lambda: Reads(refusal=errno.EAGAIN, every=3),
        lambda: Reads(most=4096),
        lambda: Reads(most=0),
    ],
)
async def test_the_rest_is_read_in_a_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: Executor, reads: Callable[[], Reads]
) -> None:
    monkeypatch.setattr(os, "preadv", reads())
    bodies = opened(tmp_path, threads)
    assert await whole(bodies, "identity") == BODY
    assert await whole(bodies, "br", 10, 20) == COPY[10:20]


async def test_law_8_nothing_is_read_before_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = Reads()
    monkeypatch.setattr(os, "preadv", reads)
    stream = opened(tmp_path, NoThreads()).stream("identity")
    chunks = [await anext(stream), await anext(stream)]
    assert reads.count == 2
    assert [len(chunk) for chunk in chunks] == [CHUNK_BYTES] * 2
    assert b"".join(chunks) == BODY[: 2 * CHUNK_BYTES]  # each is its own, though read through one buffer


async def test_law_8_a_thread_reads_boundedly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: Executor
) -> None:
    monkeypatch.setattr(os, "preadv", Reads(refusal=errno.EAGAIN))
    sizes = [len(chunk) async for chunk in opened(tmp_path, threads).stream("identity")]
    assert max(sizes) == WAITING_BYTES
    assert sum(sizes) == len(BODY)


async def test_law_5_a_file_that_ends_early_is_an_error(tmp_path: Path, threads: Executor) -> None:
    bodies = opened(tmp_path, threads)
    os.truncate(tmp_path / "page", 320 + 500 * KIB)
    with pytest.raises(StoreUnavailable):
        await whole(bodies, "identity")
    with pytest.raises(StoreUnavailable):
        await bodies.load()


async def test_bodies_are_loaded_whole(tmp_path: Path, threads: Executor) -> None:
    loaded = await opened(tmp_path, threads).load()
    assert (loaded.resident("identity"), loaded.resident("br")) == (BODY, COPY)
    assert await loaded.load() is loaded
    assert b"".join([chunk async for chunk in loaded.stream("identity", 5, 700_000)]) == BODY[5:700_000]
