"""The cases: what is asked, what the answer must be, and of which servers.

Knows requests and answers. Must not know how they are sent or measured. Cases of one stage share their
servers; each stage has fresh ones, so that what one stores is in nobody else's way.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Final

from bench import zipf
from bench.configs import Setup
from bench.heads import chrome, plain
from bench.loads import Drawn, Load, Same, Unseen
from bench.origin import ETAG
from bench.servers import Kind, Variant


class Stage(Enum):
    """Cases that share their servers, in the order they are run."""

    PAGES = "pages"
    FETCHES = "fetches"
    IN_MEMORY = "in-memory"  # the servers' files lie on tmpfs, so that no disk has a say
    CROWD = "crowd"
    DISK = "disk"
    LOG = "log"
    WORKERS = "workers"


class Asked(Enum):
    """How often a request may reach the origin, once the page was asked for."""

    NEVER = "never"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of load. `idle` connections are held beside it."""

    name: str
    title: str
    stage: Stage
    load: Load
    variants: tuple[Variant, ...]
    status: int = 200
    encoding: str | None = None
    origin: Asked = Asked.NEVER
    idle: int = 0
    is_quick: bool = False
    is_extra: bool = False  # only where it is asked for by its name
    note: str = ""  # why a server is not among the variants


CROWD_PAGES: Final = 100_000
CROWD_DRAWS: Final = 400_000
LATENCY: Final = "latency"  # measured beside the cases, in its own way (latency.py)
LATENCY_OF: Final = "hit-10k"

_TEN: Final = "/page/10k"
_PAGE: Final = Same(plain(_TEN))
_PROXIES: Final = tuple(Variant(kind) for kind in (Kind.ISR_PROXY, Kind.NGINX, Kind.HAPROXY, Kind.VARNISH))
_BUT_HAPROXY: Final = tuple(each for each in _PROXIES if each.kind is not Kind.HAPROXY)
_AND_NEXT: Final = (*_PROXIES, Variant(Kind.NEXT))
_AND_BARE: Final = (*_PROXIES, Variant(Kind.AIOHTTP))
_COUNTS: Final = (1, 2, 4)


def _logging() -> tuple[Variant, ...]:
    return tuple(Variant(each.kind, Setup(has_access_log=True)) for each in _PROXIES)


def _in_memory() -> tuple[Variant, ...]:
    """Return the proxies with room for all pages of the crowd; nginx has them in the kernel's page cache."""
    return Variant(Kind.ISR_PROXY, Setup(memory="2GiB")), *_PROXIES[1:]


def _from_disk() -> tuple[Variant, ...]:
    return Variant(Kind.ISR_PROXY, Setup(memory="0")), Variant(Kind.NGINX)


def _workers() -> tuple[Variant, ...]:
    return tuple(
        Variant(kind, Setup(workers=count)) for kind in (Kind.ISR_PROXY, Kind.NGINX) for count in _COUNTS
    )


@cache
def crowd() -> Drawn:
    """Return the load of 100,000 pages; it takes a second to draw."""
    ranks = zipf.draws(CROWD_PAGES, CROWD_DRAWS)
    return Drawn(tuple(zipf.heads(CROWD_PAGES)), tuple(ranks))


def all_cases() -> list[Case]:
    """Return every case, in the order of the result."""
    return [
        *_sizes(),
        *_ways_to_ask(),
        Case("crowd", "hit, 100,000 URLs, Zipf(1.0)", Stage.CROWD, crowd(), _in_memory()),
        Case(
            "crowd-files",
            "the same, most pages not in the hot tier",
            Stage.CROWD,
            crowd(),
            (Variant(Kind.ISR_PROXY), Variant(Kind.NGINX)),
            is_extra=True,
        ),
        Case("disk", "hit, 10 KB, from disk", Stage.DISK, _PAGE, _from_disk()),
        *_fetches(),
        Case("log", "hit, 10 KB, with access log", Stage.LOG, _PAGE, _logging()),
        Case("workers", "hit, 10 KB, workers", Stage.WORKERS, _PAGE, _workers()),
    ]


def _sizes() -> list[Case]:
    return [
        Case(name, title, Stage.PAGES, Same(plain(f"/page/{size}")), variants, is_quick=name == LATENCY_OF)
        for name, title, size, variants in (
            ("hit-1k", "hit, 1 KB", "1k", _PROXIES),
            (LATENCY_OF, "hit, 10 KB", "10k", _AND_NEXT),
            ("hit-100k", "hit, 100 KB", "100k", _PROXIES),
            ("hit-1m", "hit, 1 MB", "1m", _PROXIES),
        )
    ]


def _ways_to_ask() -> list[Case]:
    unchanged = plain(_TEN, ("If-None-Match", f'"{ETAG.decode()}"'))
    zipped = plain("/gzip/10k", ("Accept-Encoding", "gzip"))
    return [
        Case(
            "chrome", "hit, 10 KB, Chrome's head", Stage.PAGES, Same(chrome(_TEN)), _AND_NEXT, is_quick=True
        ),
        Case("gzip", "hit, gzip", Stage.PAGES, Same(zipped), _PROXIES, encoding="gzip"),
        Case(
            "304",
            "304",
            Stage.PAGES,
            Same(unchanged),
            _BUT_HAPROXY,
            304,
            is_quick=True,
            note="HAProxy, 304: not measured. Its 304 tells the page's length, for which wrk waits in vain.",
        ),
        Case("idle", "hit, 10 KB, 1,000 idle connections", Stage.PAGES, _PAGE, _PROXIES, idle=1000),
    ]


def _fetches() -> list[Case]:
    on_tmpfs = Case(
        "miss-tmpfs",
        "the same, files on tmpfs",
        Stage.IN_MEMORY,
        Unseen("/slow/"),
        (Variant(Kind.ISR_PROXY), Variant(Kind.NGINX)),
        origin=Asked.ALWAYS,
    )
    miss, passed = [
        Case(name, title, Stage.FETCHES, load, _AND_BARE, origin=Asked.ALWAYS, is_quick=True)
        for name, title, load in (
            ("miss", "miss, 10 KB, 1 ms origin", Unseen("/slow/")),
            ("pass", "pass, 10 KB", Same(plain("/pass/10k"))),
        )
    ]
    return [miss, on_tmpfs, passed]
