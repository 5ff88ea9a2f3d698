"""From a page file to its row in the catalog.

Knows both shapes. Must not know SQL.
"""

from __future__ import annotations

import os
from dataclasses import replace

from isr_proxy.core.entry import Meta, State, VaryIndex
from isr_proxy.core.key import Dimension
from isr_proxy.errors import BadEntry
from isr_proxy.store.changes import FOREVER_SERVED, INDEX_STATUS, Change, Forgotten, Freshened, Row
from isr_proxy.store.layout import Layout, Name
from isr_proxy.store.opened import OpenFile
from isr_proxy.store.reading import Stamp, open_file, read_summary
from isr_proxy.store.writing import allocated


def page_row(name: Name, meta: Meta, state: State, status: os.stat_result, now: float) -> Row:
    """Return the row of a page in a file with this status."""
    return Row(
        name=name,
        scheme=meta.scheme,
        host=meta.host,
        path=meta.path,
        query=meta.query,
        variant=_spelled((*meta.dimensions, *meta.vary)),
        encodings=",".join(ref.encoding for ref in meta.bodies[1:]),
        status=meta.status,
        size_bytes=_size_on_disk(status),
        body_bytes=meta.body_bytes,
        inode=status.st_ino,
        mtime_ns=status.st_mtime_ns,
        sequence=state.sequence,
        generated_at=meta.generated_at,
        fetched_at=state.fetched_at,
        stale_at=state.stale_at,
        failures=state.failures,
        last_error=state.last_error,
        retry_at=state.retry_at,
        served_at=now,
        tags=meta.tags,
    )


def index_row(name: Name, index: VaryIndex, file: OpenFile) -> Row:
    """Return the row of an index: it takes space, and is neither listed nor evicted."""
    status = os.fstat(file.descriptor)
    return Row(
        name=name,
        scheme=index.scheme,
        host=index.host,
        path=index.path,
        query=index.query,
        variant=",".join(index.names),
        encodings="",
        status=INDEX_STATUS,
        size_bytes=_size_on_disk(status),
        body_bytes=0,
        inode=status.st_ino,
        mtime_ns=status.st_mtime_ns,
        sequence=0,
        generated_at=0.0,
        fetched_at=0.0,
        stale_at=0.0,
        failures=0,
        last_error="",
        retry_at=0.0,
        served_at=FOREVER_SERVED,
    )


def read_row(name: Name, file: OpenFile) -> Row:
    """Return the row of a file whose row was lost; BadEntry or OSError."""
    match read_summary(file):
        case VaryIndex() as index:
            return index_row(name, index, file)
        case meta, state:
            return page_row(name, meta, state, os.fstat(file.descriptor), state.fetched_at)


def current(layout: Layout, change: Change) -> Change:
    """Return what a change has come to by now: others may have changed the same file since."""
    try:
        file = open_file(layout.page(change.name))
        if file is None:
            return Forgotten(change.name)
        row = read_row(change.name, file)
        return replace(row, served_at=change.served_at) if isinstance(change, Row) else row
    except (BadEntry, OSError):
        return change


def freshened(name: Name, state: State, stamp: Stamp) -> Freshened:
    """Return what a state written in place changes of the row."""
    return Freshened(
        name,
        stamp.mtime_ns,
        state.sequence,
        state.fetched_at,
        state.stale_at,
        state.failures,
        state.last_error,
        state.retry_at,
    )


def _size_on_disk(status: os.stat_result) -> int:
    return max(allocated(status.st_size), status.st_blocks * 512)


def _spelled(dimensions: tuple[Dimension, ...]) -> str:
    return "; ".join(f"{name}={'' if value is None else value}" for name, value in dimensions)
