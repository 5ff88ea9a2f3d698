"""Filling the catalog again from the pages, after it was lost or left behind.

Knows the pages directory and the catalog. Must not know requests, which never wait for it: it goes
through one shard at a time, at a bounded rate. A file is read only when its row is missing or older.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from typing import Final

from isr_proxy.errors import BadEntry
from isr_proxy.store.catalog import Catalog
from isr_proxy.store.changes import Forgotten, Row
from isr_proxy.store.layout import SHARDS, Layout, Name, parse_file_name
from isr_proxy.store.reading import BrokenFile, open_file
from isr_proxy.store.rows import read_row

_FILES_AT_ONCE: Final = 50
_PAUSE: Final = 0.02

Found = dict[Name, tuple[int, int]]  # inode, mtime_ns


async def rescan(
    layout: Layout,
    catalog: Catalog,
    executor: Executor,
    broken: Callable[[BrokenFile], Awaitable[None]],
) -> None:
    """Bring every row up to its file; `broken` hears of files that are not whole."""
    loop = asyncio.get_running_loop()
    for number, shard in enumerate(SHARDS):
        known = await catalog.shard(number)
        found = await loop.run_in_executor(executor, list_shard, f"{layout.pages}/{shard}")
        for name in known.keys() - found.keys():
            if _stat(layout.page(name)) is None:
                catalog.record(Forgotten(name))
        missing = [name for name, file in found.items() if known.get(name) != file]
        for start in range(0, len(missing), _FILES_AT_ONCE):
            rows = await loop.run_in_executor(
                executor, _read_rows, layout, missing[start : start + _FILES_AT_ONCE]
            )
            await _record(rows, layout, catalog, broken)
            await asyncio.sleep(_PAUSE)
    await catalog.flush()


def list_shard(path: str) -> Found:
    """List the page files of one directory."""
    found: Found = {}
    try:
        files = os.scandir(path)
    except FileNotFoundError:
        return found
    with files:
        for file in files:
            name = parse_file_name(file.name)
            status = _stat(file.path)
            if name is not None and status is not None:
                found[name] = status
    return found


def _stat(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_mtime_ns


def _read_rows(layout: Layout, names: list[Name]) -> list[Row | BrokenFile]:
    rows: list[Row | BrokenFile] = []
    for name in names:
        file = open_file(layout.page(name))
        if file is None:
            continue
        try:
            rows.append(read_row(name, file))
        except BadEntry as error:
            rows.append(BrokenFile(name, os.fstat(file.descriptor).st_ino, str(error)))
    return rows


async def _record(
    rows: list[Row | BrokenFile],
    layout: Layout,
    catalog: Catalog,
    broken: Callable[[BrokenFile], Awaitable[None]],
) -> None:
    for row in rows:
        if isinstance(row, BrokenFile):
            await broken(row)
        elif _stat(layout.page(row.name)) == (row.inode, row.mtime_ns):
            catalog.record(row)  # else whoever changed it records it, later than this
    await catalog.settle()
