"""The frozen values that the YAML becomes.

Knows every key of the config and its default. Must not know YAML, pydantic or files: `run/config.py`
parses and checks; what arrives here is already valid. Durations are seconds, sizes are bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from typing import Final

FOREVER: Final = math.inf
KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

Network = IPv4Network | IPv6Network


class TlsVersion(Enum):
    """The oldest TLS that visitors may speak."""

    TLS_1_2 = "1.2"
    TLS_1_3 = "1.3"


@dataclass(frozen=True, slots=True)
class CertificateFiles:
    """A certificate with its chain; `key` is None where the same file holds it."""

    certificate: str
    key: str | None = None


@dataclass(frozen=True, slots=True)
class ListenTls:
    """TLS for visitors. The first certificate is for names that none of them has."""

    certificates: tuple[CertificateFiles, ...]
    min_version: TlsVersion = TlsVersion.TLS_1_2
    client_ca: str | None = None  # whose certificates visitors must show; None: nobody is asked


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host and port to listen on; port 0 lets the kernel choose (tests)."""

    host: str
    port: int
    tls: ListenTls | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A unix socket to listen on. `mode` is its file's permissions, None: as the umask says."""

    path: str
    mode: int | None = None
    tls: ListenTls | None = None

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


class RevalidateMode(Enum):
    """What `revalidate` of a route says."""

    TTL = "ttl"  # after so many seconds: serve stale, regenerate behind
    NEVER = "never"  # fresh until purged
    PASS = "pass"  # `revalidate: 0`: neither looked up nor stored
    ORIGIN = "origin"  # obey the origin's headers (RFC 9111)


@dataclass(frozen=True, slots=True)
class Revalidate:
    """How long a page of a route is fresh; `ttl` counts for TTL, and is FOREVER for NEVER."""

    mode: RevalidateMode
    ttl: float = 0.0

    @property
    def is_isr(self) -> bool:
        """Tell whether the route, not the origin, decides freshness (law 4 applies)."""
        return self.mode in (RevalidateMode.TTL, RevalidateMode.NEVER)


class FallbackKind(Enum):
    """What a visitor of a never generated path gets."""

    BLOCKING = "blocking"
    NOT_FOUND = "not_found"
    SHELL = "shell"


@dataclass(frozen=True, slots=True)
class Fallback:
    """`shell` is the raw path of the shell page, set for SHELL only."""

    kind: FallbackKind = FallbackKind.BLOCKING
    shell: str | None = None


class PathSourceKind(Enum):
    """Where a list of paths to prerender comes from."""

    PATH = "path"
    FILE = "file"
    SITEMAP = "sitemap"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class PathSource:
    """One item of `prerender`: a path itself, a file of paths, or an address at the origin."""

    kind: PathSourceKind
    value: str


class QueryMode(Enum):
    """Which query parameters are part of the key (and of the forwarded URL)."""

    ALL = "all"
    NONE = "none"
    LISTED = "listed"


@dataclass(frozen=True, slots=True)
class KeyRules:
    """What makes two requests of a route the same page."""

    query_mode: QueryMode = QueryMode.ALL
    query_names: tuple[str, ...] = ()
    ignore_query: tuple[str, ...] = ("utm_*", "gclid", "fbclid", "msclkid", "mc_cid", "mc_eid")
    headers: tuple[str, ...] = ()  # lower case
    cookies: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BypassRules:
    """What, when present in a request, makes it pass with the visitor's own request.

    A name may end in `*` (`wordpress_logged_in_*`). Headers are lower case.
    """

    cookies: tuple[str, ...] = ()
    headers: tuple[str, ...] = ("authorization",)
    query: tuple[str, ...] = ()


class Veto(Enum):
    """What an origin may say against storing, which an ISR route may override by name."""

    NO_STORE = "no-store"
    PRIVATE = "private"
    VARY = "vary"


class SetCookie(Enum):
    """What becomes of a response with Set-Cookie."""

    REFUSE = "refuse"  # it is not stored
    DROP = "drop"  # the cookie goes, the page is stored
    STORE = "store"  # stored with it, only where the origin says explicitly fresh


class RequestCookie(Enum):
    """What becomes of an answer to a request that had cookies, where the origin does not call it public."""

    REFUSE = "refuse"  # it is not stored
    STORE = "store"


class Heuristic(Enum):
    """For which answers a lifetime is guessed from Last-Modified (RFC 9111 §4.2.2)."""

    OFF = "off"
    PAGES = "pages"  # those that are pages, redirects, or say that there is none
    ALL = "all"  # also 405, 414 and 501, and whatever is called public


class UnsafeMethods(Enum):
    """What a successful POST, PUT, DELETE, ... does to the page at its URL (RFC 9111 §4.4)."""

    INVALIDATE = "invalidate"
    IGNORE = "ignore"


class ClientDirectives(Enum):
    """Whether Cache-Control of requests counts."""

    IGNORE = "ignore"
    HONOR = "honor"


@dataclass(frozen=True, slots=True)
class Guard:
    """What a body must be like to replace a stored page.

    `max_shrink` is the largest allowed loss against the stored page, as a fraction of its size (0.5).
    """

    min_bytes: int = 0
    max_shrink: float | None = None
    contains: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()
    content_type: str | None = None

    @property
    def is_set(self) -> bool:
        return self != Guard()


DEFAULT_STATUS_TTL: Final = ((404, 10.0), (410, 60.0), (301, 3600.0), (308, 3600.0))
DEFAULT_CLIENT_CACHE_CONTROL: Final = "public, max-age=0, must-revalidate"
ORIGIN_OWN: Final = "origin"


@dataclass(frozen=True, slots=True)
class Route:
    """One config block, matched by host and raw path."""

    match: str
    host: str | None = None  # lower case; `*.example.org` allowed
    revalidate: Revalidate = Revalidate(RevalidateMode.ORIGIN)
    stale_while_revalidate: float | None = None  # None: FOREVER on an ISR route, else what the origin says
    stale_if_error: float | None = None  # None: FOREVER, unless the origin forbids stale or says how long
    fallback: Fallback = Fallback()
    prerender: tuple[PathSource, ...] = ()
    status_ttl: tuple[tuple[int, float], ...] = DEFAULT_STATUS_TTL
    key: KeyRules = KeyRules()
    bypass: BypassRules = BypassRules()
    tags: tuple[str, ...] = ()
    ignore_origin: frozenset[Veto] = frozenset()
    set_cookie: SetCookie = SetCookie.REFUSE
    request_cookie: RequestCookie = RequestCookie.REFUSE
    heuristic: Heuristic = Heuristic.PAGES
    unsafe_methods: UnsafeMethods | None = None  # None: INVALIDATE where the origin decides, else IGNORE
    client_directives: ClientDirectives = ClientDirectives.IGNORE
    client_cache_control: str | None = None  # ORIGIN_OWN, a value; None: ORIGIN_OWN where the origin decides
    guard: Guard = Guard()
    compress: bool = True


@dataclass(frozen=True, slots=True)
class HealthSettings:
    path: str | None = None  # None: passive health only
    interval: float = 5.0


@dataclass(frozen=True, slots=True)
class OriginTls:
    """TLS to the origin. Files are absolute."""

    ca: str | None = None  # who signs origins' certificates; None: whom the system trusts
    certificate: str | None = None  # shown to the origin
    key: str | None = None  # None: in the certificate's file
    server_name: str | None = None  # for SNI and the certificate; None: `host`, or the URL's name
    verify: bool = True


@dataclass(frozen=True, slots=True)
class OriginSettings:
    urls: tuple[str, ...] = ("http://localhost:3000",)
    host: str | None = None
    connect_timeout: float = 2.0
    timeout: float = 10.0
    regenerate_timeout: float = 30.0
    max_connections: int = 100
    max_queue: int = 1000  # requests that wait for one of them
    max_regenerations: int = 50
    health: HealthSettings = HealthSettings()
    tls: OriginTls = OriginTls()


@dataclass(frozen=True, slots=True)
class StoreSettings:
    path: str = "./.isr-cache"
    max_size: int = 10 * GIB
    memory: int = 128 * MIB
    max_entry: int = 64 * MIB
    max_variants: int = 16
    fsync: bool = True


@dataclass(frozen=True, slots=True)
class AdminSettings:
    listen: Address = TcpAddress("127.0.0.1", 8081)
    token: str | None = field(default=None, repr=False)
    purge_method: bool = False


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What a visitor may send, and how long he may take (law 8). None: no limit.

    Sizes are at or below common origins' limits, so that no error of theirs can be provoked.
    """

    max_request_line: int = 8 * KIB
    max_header_field: int = 8 * KIB  # name and value
    max_headers: int = 128
    max_head: int = 32 * KIB  # request line and fields together
    max_body: int | None = GIB
    head_timeout: float = 30.0  # from a connection's start, or a head's first byte, to its end
    body_timeout: float = 30.0  # in which `min_rate` must be kept
    send_timeout: float = 60.0  # likewise, for taking an answer
    min_rate: int = 500  # bytes a second
    idle_timeout: float = 75.0  # between requests
    handshake_timeout: float = 10.0  # of TLS
    max_requests: int | None = None  # a connection
    max_connections: int = 10_000  # a worker
    max_connections_per_client: int | None = None
    max_waiters: int = 10_000  # for one fetch


class LogFormat(Enum):
    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class LogSettings:
    level: str = "info"
    format: LogFormat = LogFormat.AUTO
    access: bool = True


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole config, as every room receives it."""

    listen: tuple[Address, ...] = (TcpAddress("0.0.0.0", 8080),)  # noqa: S104  the contract's default
    workers: int = 1
    hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[Network, ...] = ()
    origin: OriginSettings = OriginSettings()
    store: StoreSettings = StoreSettings()
    admin: AdminSettings = AdminSettings()
    limits: LimitSettings = LimitSettings()
    routes: tuple[Route, ...] = ()
    log: LogSettings = LogSettings()
