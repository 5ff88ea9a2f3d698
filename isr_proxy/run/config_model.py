"""The shape of a config: every key, what it takes, and what it says of itself to an editor.

Knows keys, kinds and descriptions. Must not know positions, nor what keys mean together. Defaults live in
`core/settings.py`: a key that was not given is absent from `given()`, and the default shown in the schema is
documentation that a test compares with the real one.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from isr_proxy.run import config_kinds as kinds


def _key(description: str, default: object = None, *, example: object = None) -> Any:
    shown = default if example is None else example
    return Field(
        default=None,
        description=description,
        examples=None if shown in (None, [], {}) else [shown],
        json_schema_extra={"default": default},  # type: ignore[dict-item]
    )


class Block(BaseModel):
    """A mapping of the config; nothing at all (`store:`) is an empty one."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _none_is_empty(cls, value: object) -> object:
        return {} if value is None else value

    def given(self) -> dict[str, Any]:
        """Return the keys that the file has, with their values."""
        return {
            name: getattr(self, name) for name in type(self).model_fields if name in self.model_fields_set
        }


class CertificateBlock(Block):
    """A certificate of this proxy."""

    certificate: kinds.Text = Field(
        description="PEM file with the certificate and its chain, beside this file.",
        examples=["fullchain.pem"],
    )
    key: kinds.Text | None = _key(
        "PEM file with its private key, without a passphrase; null: in the same file.", example="privkey.pem"
    )


class ListenTlsBlock(CertificateBlock):
    """TLS for visitors. Files are read again at every reload."""

    sni: tuple[CertificateBlock, ...] = _key(
        "Further certificates, chosen by the host that a visitor asks for.",
        [],
        example=[{"certificate": "other.pem", "key": "other.key"}],
    )
    min_version: kinds.Version = _key("The oldest TLS that visitors may speak: 1.2 or 1.3.", "1.2")
    client_ca: kinds.Text | None = _key(
        "PEM file of CAs; a visitor must show a certificate that one of them signed; null: nobody is asked.",
        example="visitors-ca.pem",
    )


class ListenBlock(Block):
    """An address where visitors come in."""

    address: kinds.Listen = Field(
        description="host:port, :8443, [::1]:8443 or unix:/path.", examples=["0.0.0.0:8443"]
    )
    mode: kinds.FileMode | None = _key(
        "Permissions of a unix socket's file; null: as the umask says.", example="660"
    )
    tls: ListenTlsBlock | None = _key("TLS for visitors; null: plain HTTP.")


Listens = Annotated[tuple[ListenBlock, ...], BeforeValidator(kinds.listen_items), kinds.ListenSchema()]


class OriginTlsBlock(Block):
    """TLS to an origin with https://. Files are read again at every reload."""

    ca: kinds.Text | None = _key(
        "PEM file of CAs that sign the origin's certificate; null: whom the system trusts.",
        example="internal-ca.pem",
    )
    certificate: kinds.Text | None = _key(
        "PEM file of the certificate that is shown to the origin.", example="proxy.pem"
    )
    key: kinds.Text | None = _key(
        "PEM file with its private key; null: in the same file.", example="proxy.key"
    )
    server_name: kinds.Host | None = _key(
        "Name asked of the origin (SNI) and wanted in its certificate; null: `host`, or the URL's.",
        example="app.internal",
    )
    verify: kinds.Switch = _key(
        "false takes any certificate: whoever stands on the way can read and change pages.", default=True
    )


class HealthBlock(Block):
    """Active health checks of the origin."""

    path: kinds.UrlPath | None = _key(
        "Asked every `interval`; null: an origin's health is learned from its answers.", example="/healthz"
    )
    interval: kinds.Deadline = _key("Time between two checks of an origin.", "5s")


class OriginBlock(Block):
    """The app behind the proxy."""

    url: kinds.OriginUrls = _key(
        "Where the app listens; a list is used round robin, healthy ones only.", "http://localhost:3000"
    )
    host: kinds.Host | None = _key("Host sent to the origin; null: the visitor's.", example="app.internal")
    connect_timeout: kinds.Deadline = _key("Longest wait for a connection.", "2s")
    timeout: kinds.Deadline = _key("Longest wait for the first byte of an answer, and between chunks.", "10s")
    regenerate_timeout: kinds.Deadline = _key("Longest time of a whole regeneration; always on.", "30s")
    max_connections: kinds.Count = _key("Connections to one origin.", 100)
    max_queue: kinds.Count = _key("Requests that wait for one of them; what is more gets 503 at once.", 1000)
    max_regenerations: kinds.Count = _key("Background regenerations at once.", 50)
    health: HealthBlock = _key("Active health checks.", {})
    tls: OriginTlsBlock = _key("TLS to an origin with https://.", {})


class StoreBlock(Block):
    """Where pages lie."""

    path: kinds.Text = _key(
        "Directory of the pages; made when missing. A relative one starts where the proxy was started.",
        "./.isr-cache",
    )
    max_size: kinds.Room = _key("Disk space for pages; the least recently served ones go first.", "10GiB")
    memory: kinds.Size = _key("Memory for the pages served most, all workers together; 0: none.", "128MiB")
    max_entry: kinds.Room = _key("Larger responses pass and are not stored.", "64MiB")
    max_variants: kinds.Count = _key("Variants of one page, from the origin's Vary.", 16)
    fsync: kinds.Switch = _key("Survive a power failure; false is faster on slow disks.", default=True)


class AdminBlock(Block):
    """The admin API and the dashboard."""

    listen: kinds.Listen = _key(
        "Address of the admin API; beyond this host it needs a `token`.", "127.0.0.1:8081"
    )
    token: kinds.Token = Field(
        default=None,
        repr=False,
        description="Bearer token of the admin API: at least 32 characters. Keep it in the environment.",
        examples=["${ISR_ADMIN_TOKEN:-}"],
    )
    purge_method: kinds.Switch = _key(
        "Accept `PURGE /path` on the main listener too; needs a `token`.", default=False
    )


class KeyBlock(Block):
    """What makes two requests the same page."""

    query: kinds.KeyedQuery = _key(
        "Query parameters in the key: all, none or a list of names; the others are not forwarded.", "all"
    )
    ignore_query: kinds.QueryPatterns = _key(
        "Parameters dropped from the key and from the forwarded URL; `name*` drops all that begin so.",
        ["utm_*", "gclid", "fbclid", "msclkid", "mc_cid", "mc_eid"],
    )
    headers: kinds.KeyedHeaders = _key(
        "Request headers that are part of the key, and forwarded.", [], example=["accept-language"]
    )
    cookies: kinds.KeyedCookies = _key(
        "Cookies that are part of the key, and forwarded.", [], example=["currency"]
    )


class BypassBlock(Block):
    """What makes a request pass with the visitor's own request."""

    cookies: kinds.CookiePatterns = _key(
        "A request with such a cookie passes; `name*` means all that begin so.", [], example=["session*"]
    )
    headers: kinds.HeaderPatterns = _key("A request with such a header passes.", ["authorization"])
    query: kinds.QueryPatterns = _key(
        "A request with such a query parameter passes.", [], example=["preview"]
    )


class GuardBlock(Block):
    """What a new page must be like to replace the stored one."""

    min_bytes: kinds.Size = _key("Smallest body.", 0)
    max_shrink: kinds.Fraction | None = _key(
        "Largest loss against the stored page, as a fraction of its size.", example=0.5
    )
    contains: kinds.Texts = _key("Texts that must be in the body.", [], example=["</html>"])
    forbids: kinds.Texts = _key("Texts that must not be in the body.", [], example=["Traceback"])
    content_type: kinds.Text | None = _key("How Content-Type must begin.", example="text/html")


class RouteKeys(Block):
    """What a route may say, and `defaults` for all routes."""

    host: kinds.HostPattern | None = _key(
        "Host of the route; `*.example.org` is any name below; null: any.", example="www.example.org"
    )
    revalidate: kinds.Fresh = _key(
        "How long a page is fresh: a duration; 0: pass; never: until purged; origin: obey its headers.",
        "origin",
        example="60s",
    )
    stale_while_revalidate: kinds.Window | None = _key(
        "After that, serve the old page this long while a new one is made; not given: forever where the "
        "route sets `revalidate`, else what the origin says.",
        example="forever",
    )
    stale_if_error: kinds.Window | None = _key(
        "Serve the old page this long while the origin fails; not given: forever, unless the origin forbids.",
        example="forever",
    )
    fallback: kinds.FallbackRule = _key(
        "A path never generated: blocking (the visitor waits), not_found (404, the origin is not asked) or "
        "{shell: /path} (that page at once, generate behind).",
        "blocking",
    )
    prerender: kinds.Sources = _key(
        "Made at start: /path, {file: paths.txt} (beside this file), {sitemap: /path} or {json: /path}.",
        [],
        example=["/blog/hello", {"sitemap": "/sitemap.xml"}],
    )
    status_ttl: kinds.StatusTtl = _key(
        "Freshness by status, where it differs from `revalidate`; given statuses are added to the default.",
        {"404": "10s", "410": "60s", "301": "1h", "308": "1h"},
    )
    key: KeyBlock = _key("What makes two requests the same page.", {})
    bypass: BypassBlock = _key("What makes a request pass.", {})
    tags: kinds.Tags = _key(
        "Labels for purging, besides those of the origin's headers; {name} is a capture of `match`.",
        [],
        example=["blog", "post:{slug}"],
    )
    ignore_origin: kinds.Vetoes = _key(
        "What the origin may say against storing and this route overrides: no-store, private, vary.",
        [],
        example=["private"],
    )
    set_cookie: kinds.CookieRule = _key(
        "A response with Set-Cookie: refuse (not stored), drop (the cookie goes, the page is stored) or "
        "store (only with `revalidate: origin`).",
        "refuse",
    )
    request_cookie: kinds.RequestCookieRule = _key(
        "With `revalidate: origin`, the answer to a request with cookies that is not called public: refuse "
        "(not stored) or store.",
        "refuse",
    )
    heuristic: kinds.Guess = _key(
        "With `revalidate: origin`, where nothing says how long: guess from Last-Modified for pages, "
        "all (405, 414 and 501 too) or off.",
        "pages",
    )
    unsafe_methods: kinds.UnsafeRule | None = _key(
        "A POST, PUT, DELETE, ... that succeeded: invalidate the page at its URL, or ignore; not given: "
        "invalidate with `revalidate: origin`, else ignore.",
        example="invalidate",
    )
    client_directives: kinds.DirectiveRule = _key("Cache-Control of requests: ignore or honor.", "ignore")
    client_cache_control: kinds.FieldValue | None = _key(
        "Cache-Control sent to visitors; origin: the origin's own; not given: `public, max-age=0, "
        "must-revalidate` where the route sets `revalidate`, else the origin's own.",
        example="public, max-age=0, must-revalidate",
    )
    guard: GuardBlock = _key("What a new page must be like to replace the stored one.", {})
    compress: kinds.Switch = _key("Make br, zstd and gzip copies once, at regeneration.", default=True)


def _requires_match(schema: dict[str, Any]) -> None:
    schema["required"] = ["match"]
    del schema["properties"]["match"]["default"]


class RouteBlock(RouteKeys):
    """One route; the first that matches a request wins."""

    model_config = ConfigDict(json_schema_extra=_requires_match)

    # Not required here, so that a route without it is still checked; `config_checks` asks for it.
    match: kinds.Pattern = _key(
        "Path: literal, {name} for one segment, {name:path} or ** for the rest, * within one segment.",
        example="/blog/{slug}",
    )


class LimitBlock(Block):
    """What visitors may send, and how long they may take."""

    max_request_line: kinds.Room = _key("Longest request line; a longer one gets 414.", "8KiB")
    max_header_field: kinds.Room = _key(
        "Largest header field, name and value; a larger one gets 431.", "8KiB"
    )
    max_headers: kinds.Count = _key("Header fields of a request; more get 431.", 128)
    max_head: kinds.Room = _key("Request line and header fields together; larger ones get 431.", "32KiB")
    max_body: kinds.Room | None = _key("Largest request body; a larger one gets 413; null: any.", "1GiB")
    head_timeout: kinds.Deadline = _key("Longest time of a whole request head; then 408.", "30s")
    body_timeout: kinds.Deadline = _key(
        "Time in which a request body must end or keep `min_rate`; a slower one gets 408.", "30s"
    )
    send_timeout: kinds.Deadline = _key(
        "Time in which an unsent answer must be taken or keep `min_rate`; then the connection is cut.", "60s"
    )
    min_rate: kinds.Size = _key("Bytes a second of a body, or of an answer that is taken; 0: any.", 500)
    idle_timeout: kinds.Deadline = _key("Time that a connection is kept between requests.", "75s")
    handshake_timeout: kinds.Deadline = _key("Longest time of a TLS handshake.", "10s")
    max_requests: kinds.Count | None = _key("Requests of one connection; null: any number.", example=1000)
    max_connections: kinds.Count = _key(
        "Connections of visitors to one worker; beyond it idle ones close, then 503.", 10_000
    )
    max_connections_per_client: kinds.Count | None = _key(
        "Connections from one address (IPv6: one /64) that is no trusted proxy's; more get 503; null: any.",
        example=100,
    )
    max_waiters: kinds.Count = _key("Visitors who wait for one page; more get 503.", 10_000)


class LogBlock(Block):
    """What is logged, and how."""

    level: kinds.Level = _key("Least level that is logged.", "info")
    format: kinds.Format = _key("console, json, or auto: console on a terminal.", "auto")
    access: kinds.Switch = _key("One line per request.", default=True)


class Config(Block):
    """Config of isr-proxy."""

    listen: Listens = _key(
        "Where visitors come in: host:port, :8080, [::1]:8080, unix:/path, a mapping with `tls`, or a list.",
        "0.0.0.0:8080",
    )
    workers: kinds.Workers = _key(
        "Serving processes: a number, or auto: one for each processor that may be used.", 1
    )
    hosts: kinds.HostPatterns = _key(
        "Allowed Host names, others get 421; empty: any.", [], example=["example.org", "*.example.org"]
    )
    trusted_proxies: kinds.Cidrs = _key(
        "Networks whose X-Forwarded-* headers are believed.", [], example=["10.0.0.0/8"]
    )
    origin: OriginBlock = _key("The app behind the proxy.", {})
    store: StoreBlock = _key("Where pages lie.", {})
    admin: AdminBlock = _key("The admin API and the dashboard.", {})
    limits: LimitBlock = _key("What visitors may send, and how long they may take.", {})
    defaults: RouteKeys = _key("Any route key; routes override.", {}, example={"revalidate": "60s"})
    routes: tuple[RouteBlock, ...] = _key(
        "First match wins. None at all: one route `/**` that obeys the origin's headers.",
        [],
        example=[{"match": "/blog/{slug}", "revalidate": "60s"}],
    )
    log: LogBlock = _key("What is logged, and how.", {})

    @model_validator(mode="before")
    @classmethod
    def _no_routes(cls, value: object) -> object:
        """Read `routes:` without anything below it as no routes."""
        if isinstance(value, dict) and "routes" in value and value["routes"] is None:
            return {**value, "routes": []}
        return value
