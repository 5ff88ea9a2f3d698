"""Filling a store with many pages, without asking an origin for each.

Knows the store's own parts: its workshop writes a page and its catalog records it, as a commit does, so that
what lies there is what the proxy itself would have made. What a page is like is learned from one
that the proxy made. Must not know what is measured. The store must be closed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import msgspec

from bench.heads import HOST
from bench.origin import page
from isr_proxy.core.entry import Meta, State, VaryIndex, checksum
from isr_proxy.core.key import Key
from isr_proxy.core.settings import StoreSettings
from isr_proxy.store.changes import Row
from isr_proxy.store.disk import DiskStore
from isr_proxy.store.layout import SHARDS, Layout
from isr_proxy.store.reading import open_file, read_summary
from isr_proxy.store.rows import page_row
from isr_proxy.store.writing import Identity, Workshop

AT_ONCE: Final = 2_000  # pages of one transaction

Template = tuple[Meta, State]


def template_of(root: Path, path: str) -> Template:
    """Return what the proxy has stored for a path; RuntimeError when it has not."""
    file = open_file(Layout(str(root)).page(_key(path).digest))
    summary = None if file is None else read_summary(file)
    if summary is None or isinstance(summary, VaryIndex):
        raise RuntimeError(f"the proxy has not stored {path}")
    return summary


def _key(path: str) -> Key:
    return Key("http", HOST, path, None)


async def stock(
    root: Path, paths: Iterable[str], template_for: Callable[[str], Template], tell: Callable[[int], None]
) -> None:
    """Store a page for every path; `tell` hears how many there are, now and then."""
    layout = Layout(str(root))
    for shard in SHARDS:
        os.makedirs(f"{layout.pages}/{shard}", exist_ok=True)
    store = DiskStore.open(StoreSettings(path=str(root), max_size=sys.maxsize, fsync=False), now=time.time)  # noqa: TID251
    done = 0
    with get_context("spawn").Pool(os.cpu_count()) as pool:
        batches = ((root, batch) for batch in _batches((path, template_for(path)) for path in paths))
        for rows in pool.imap_unordered(_made, batches):
            for row in rows:
                store.catalog.record(row)
            await store.catalog.flush()
            done += len(rows)
            tell(done)
    await store.aclose()


def _batches(pages: Iterable[tuple[str, Template]]) -> Iterator[list[tuple[str, Template]]]:
    left = iter(pages)
    while batch := list(islice(left, AT_ONCE)):
        yield batch


def _made(work: tuple[Path, list[tuple[str, Template]]]) -> list[Row]:
    root, pages = work
    layout = Layout(str(root))
    workshop = Workshop(layout, str(os.getpid()), fsync=False)
    return [_placed(workshop, layout, path, template) for path, template in pages]


def _placed(workshop: Workshop, layout: Layout, path: str, template: Template) -> Row:
    meta, state = template
    key, body = _key(path), page(path.encode())
    temp, meta = workshop.make_page(
        Identity(body, 0, checksum(body)), (), msgspec.structs.replace(meta, path=path, bodies=()), state
    )
    row = page_row(key.digest, meta, state, os.fstat(temp.file.descriptor), state.fetched_at)
    workshop.install(temp, layout.page(key.digest))
    return row
