"""One word for each cause: the same in Cache-Status, log line, metric and trace (law 10).

Knows the words, and how a visitor's `X-Cache` sums them up. Must not know who uses them.
"""

from __future__ import annotations

from enum import Enum


class Reason(Enum):
    """Why an answer is what it is. The value is the word people read."""

    __hash__ = object.__hash__  # Enum's own is Python code, and every request is counted by its reason

    # Served from the store.
    FRESH = "fresh"  # age < ttl
    REGENERATING = "regenerating"  # stale; a regeneration runs behind
    RETRY_LATER = "retry-later"  # stale; the last regeneration failed and its retry time has not come
    ORIGIN_FAILED = "origin-failed"  # stale; the origin failed just now (stale-if-error)
    SATURATED = "saturated"  # stale; as many regenerations run as may
    PRERENDERED_ONLY = "not-prerendered"  # fallback: not_found; the origin was not asked
    SHELL = "shell"  # fallback: shell; generated behind

    # Asked of the origin, because nothing stored could answer.
    URI_MISS = "uri-miss"  # this key was never stored
    VARY_MISS = "vary-miss"  # the key is stored, this variant is not
    STALE = "stale"  # beyond every stale window
    PURGED = "purged"  # hidden by a purge
    REQUEST = "request"  # the visitor's own Cache-Control asked for it, or If-Match
    MUST_VALIDATE = "must-validate"  # the origin wants every use validated
    PARTIAL = "partial"  # parts of it are stored, and the rest was asked; or a part that nobody asked for

    # Passed: neither looked up nor stored.
    METHOD = "method"  # not GET or HEAD
    REQUEST_BODY = "request-body"  # a GET with a body
    UPGRADE = "upgrade"  # WebSocket and its like
    BYPASS_COOKIE = "bypass-cookie"
    BYPASS_HEADER = "bypass-header"
    BYPASS_QUERY = "bypass-query"
    ROUTE_PASS = "route-pass"  # revalidate: 0
    NO_ROUTE = "no-route"  # no route matches
    ENCODED_PATH = "encoded-path"  # a delimiter hides behind a percent sign
    HIT_FOR_PASS = "hit-for-pass"  # remembered as uncacheable

    # Answered by the origin, and not stored.
    STORED = "stored"
    NO_STORE = "no-store"
    PRIVATE = "private"
    AUTHORIZATION = "authorization"  # RFC 9111 §3.5
    REQUEST_COOKIE = "request-cookie"  # the visitor's cookies went along and nothing says it is public
    SET_COOKIE = "set-cookie"
    VARY_STAR = "vary-star"
    VARY_COOKIE = "vary-cookie"
    NO_FRESHNESS = "no-freshness"  # nothing says how long it may be kept
    STATUS = "status"  # not a status that may be kept
    HEAD_ONLY = "head-only"  # an answer to HEAD has no body to keep
    WEAK_VALIDATOR = "weak-validator"  # a part that nothing tells from a part of another version
    EVENT_STREAM = "event-stream"  # server-sent events have no end to wait for
    TOO_MANY_VARIANTS = "too-many-variants"
    STORE_FAILED = "store-failed"  # the disk refused

    # The origin failed (law 1).
    REFUSED = "refused"
    UNRESOLVED = "unresolved"
    TLS_FAILED = "tls-failed"
    NO_HEALTHY_ORIGIN = "no-healthy-origin"
    RESET = "reset"
    CONNECT_TIMEOUT = "connect-timeout"
    FIRST_BYTE_TIMEOUT = "first-byte-timeout"
    CHUNK_TIMEOUT = "chunk-timeout"
    REGENERATE_TIMEOUT = "regenerate-timeout"
    BAD_RESPONSE = "bad-response"  # not HTTP
    OTHER_VALIDATOR = "other-validator"  # a 304 about something that is not stored
    TRUNCATED = "truncated"  # shorter than its length, or chunks without their end
    TOO_LARGE = "too-large"  # over max_entry
    SERVER_ERROR = "server-error"  # 5xx
    TOO_MANY_REQUESTS = "too-many-requests"  # 429
    CLIENT_ERROR = "client-error"  # any other 4xx: never replaces a good page
    GUARD_SIZE = "guard-min-bytes"
    GUARD_SHRINK = "guard-max-shrink"
    GUARD_CONTAINS = "guard-contains"
    GUARD_FORBIDS = "guard-forbids"
    GUARD_TYPE = "guard-content-type"
    BUSY = "origin-busy"  # max_connections are in use and none came free in time
    QUEUE_FULL = "origin-queue-full"  # as many wait for one of them as may
    VISITOR_GONE = "visitor-gone"  # he hung up before he was answered
    SUPERSEDED = "superseded"  # purged while it was fetched
    INTERNAL = "internal-error"

    # Refused here.
    BAD_REQUEST = "bad-request"
    BAD_TARGET = "bad-target"
    LOOP = "loop"  # this proxy stands in its Via too often
    MAX_FORWARDS = "max-forwards"  # TRACE or OPTIONS that may go no further
    UNKNOWN_HOST = "unknown-host"
    LINE_TOO_LONG = "request-line-too-long"
    FIELD_TOO_LARGE = "header-field-too-large"
    TOO_MANY_FIELDS = "too-many-header-fields"
    HEAD_TOO_LARGE = "head-too-large"
    BODY_TOO_LARGE = "body-too-large"
    HEAD_TIMEOUT = "head-timeout"  # its head did not end in time
    BODY_TIMEOUT = "body-timeout"  # its body came too slowly
    TOO_MANY_CONNECTIONS = "too-many-connections"
    TOO_MANY_OF_CLIENT = "too-many-connections-of-client"
    PLAIN_HTTP = "plain-http"  # on an address that speaks TLS
    TOO_MANY_WAITERS = "too-many-waiters"  # for the same fetch
    ONLY_IF_CACHED = "only-if-cached"
    TOKEN = "token"  # a PURGE without it
    DRAINING = "draining"

    # Admin.
    PURGE = "purge"


class XCache(Enum):
    """The one-word summary visitors see."""

    HIT = "HIT"
    STALE = "STALE"
    MISS = "MISS"
    PASS = "PASS"
    FALLBACK = "FALLBACK"
    ERROR = "ERROR"
