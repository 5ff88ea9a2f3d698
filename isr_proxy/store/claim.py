"""Taking a directory for one serving process, or for several that belong together.

Knows the lock, the version and the leftovers of the last holder. A lock that is taken before a fork is held
until the last of those processes has closed it or died. Must not look at the pages: a start
costs the same for ten of them and for ten million (law 7).
"""

from __future__ import annotations

import fcntl
import os

from isr_proxy.errors import StoreError, StoreInUse
from isr_proxy.store.layout import VERSION, Layout
from isr_proxy.store.opened import OpenFile
from isr_proxy.store.refusals import Refusals


def claim(layout: Layout, refusals: Refusals) -> OpenFile | None:
    """Make the directory ours while the returned file is open; None when it can only be read."""
    try:
        for path in (layout.root, layout.tmp, layout.bad, layout.pages):
            os.makedirs(path, exist_ok=True)
        lock = OpenFile(os.open(layout.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
        _lock_or_raise(lock, layout)
        _check_version(layout)
        for left in os.scandir(layout.tmp):
            os.unlink(left.path)
    except OSError as error:
        refusals.refused(error, "opening the store; it is only read from")
        return None
    return lock


def has_pages(layout: Layout) -> bool:
    return os.path.isdir(layout.pages) and bool(os.listdir(layout.pages))


def clear_leftovers(layout: Layout, seat: str) -> None:
    """Delete what a process that sat here before left in the making; its names begin with `seat`."""
    try:
        for left in os.scandir(layout.tmp):
            if left.name.startswith(seat):
                os.unlink(left.path)
    except OSError:
        pass  # it goes at the next start


def _lock_or_raise(lock: OpenFile, layout: Layout) -> None:
    try:
        fcntl.flock(lock.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock.descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise StoreInUse(f"{layout.root} is used by process {holder}") from error
    os.ftruncate(lock.descriptor, 0)
    os.pwrite(lock.descriptor, b"%d\n" % os.getpid(), 0)


def _check_version(layout: Layout) -> None:
    try:
        with open(layout.version) as file:
            found = file.read()
    except FileNotFoundError:
        found = ""
    if not found:
        with open(layout.version, "w") as file:
            file.write(VERSION)
    elif found != VERSION:
        raise StoreError(f"{layout.root} was written by another version (layout {found.strip()!r})")
