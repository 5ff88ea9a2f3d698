"""Every difference between nginx and the pass path that is meant, by name and with its reason.

Each turns what was seen of nginx into what is expected of us; `order of names` and `framing` are taken from
both. What differs still is a fault. Must not hide more than its name says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from isr_proxy.core.http import format_date
from tests.differential.exchanges import HINT_FIELDS, TRAILERS, Exchange
from tests.differential.messages import Line
from tests.differential.proxies import Seen
from tests.harness import START

NOW = format_date(START).encode()
Change = Callable[[Exchange, Seen], Seen]
Lines = tuple[Line, ...]


@dataclass(frozen=True)
class Known:
    """One difference."""

    name: str
    reason: str
    expected: Change  # of nginx's side


def sent(change: Callable[[Lines], Lines]) -> Change:
    """Change the fields that the origin gets."""

    def changed(_: Exchange, seen: Seen) -> Seen:
        assert seen.request is not None
        return replace(seen, request=replace(seen.request, fields=change(seen.request.fields)))

    return changed


def told(change: Callable[[Lines], Lines]) -> Change:
    """Change the fields that the client gets."""
    return lambda _, seen: replace(seen, reply=replace(seen.reply, fields=change(seen.reply.fields)))


def when(is_so: Callable[[Exchange], bool], change: Change) -> Change:
    return lambda exchange, seen: change(exchange, seen) if is_so(exchange) else seen


def after(*changes: Change) -> Change:
    def changed(exchange: Exchange, seen: Seen) -> Seen:
        for change in changes:
            seen = change(exchange, seen)
        return seen

    return changed


def less(*names: bytes) -> Callable[[Lines], Lines]:
    return lambda fields: tuple(line for line in fields if line[0] not in names)


def plus(*lines: Line) -> Callable[[Lines], Lines]:
    return lambda fields: (*fields, *lines)


def by_name(fields: Lines) -> Lines:
    return tuple(sorted(fields, key=lambda line: line[0]))


def is_asking(line: Line) -> Callable[[Exchange], bool]:
    return lambda exchange: line in exchange.fields


def is_new(exchange: Exchange) -> bool:
    return "HTTP/1.1" in exchange.traits


def has_interims(exchange: Exchange, seen: Seen) -> Seen:
    count = exchange.interims.count(b"HTTP/1.1 103 ")
    return replace(seen, reply=replace(seen.reply, interims=((103, HINT_FIELDS),) * count))


def has_trailers_sent(_: Exchange, seen: Seen) -> Seen:
    assert seen.request is not None
    return replace(seen, request=replace(seen.request, trailers=TRAILERS))


def has_trailers_told(_: Exchange, seen: Seen) -> Seen:
    return replace(seen, reply=replace(seen.reply, trailers=TRAILERS))


def is_chunked(_: Exchange, seen: Seen) -> Seen:
    assert seen.request is not None
    fields = less(b"content-length")(seen.request.fields)
    return replace(seen, request=replace(seen.request, fields=fields, is_chunked=True))


def has_own_lines(exchange: Exchange, seen: Seen) -> Seen:
    reason = "fwd=bypass" if exchange.method in (b"GET", b"HEAD") and not exchange.has_body else "fwd=method"
    detail = "; detail=route-pass"
    if exchange.method in (b"GET", b"HEAD") and exchange.has_body:
        reason, detail = "fwd=bypass", "; detail=request-body"
    elif exchange.method not in (b"GET", b"HEAD"):
        detail = ""
    status = f"isr-proxy; {reason}; fwd-status={seen.reply.status}{detail}".encode()
    own = told(plus((b"cache-status", status), (b"x-cache", b"PASS")))
    return own(exchange, told(less(b"x-cache"))(exchange, seen))


def is_unsaid_empty(exchange: Exchange) -> bool:
    return "request none" in exchange.traits and exchange.method in (b"POST", b"PUT", b"PATCH")


FRAMING = less(b"connection", b"keep-alive", b"transfer-encoding")
FORWARDED = (
    (b"x-forwarded-for", b"127.0.0.1"),
    (b"x-forwarded-proto", b"http"),
    (b"x-forwarded-host", b"site.example"),
    (b"x-forwarded-port", b"80"),
    (b"forwarded", b"for=127.0.0.1;host=site.example;proto=http"),
)

KNOWN = [
    Known(
        "forwarded fields",
        "who asked is rebuilt here and never believed of a stranger; nginx adds none unless told to",
        after(sent(less(b"x-forwarded-for", b"forwarded")), sent(plus(*FORWARDED))),
    ),
    Known(
        "via of HTTP/1.1",
        "RFC 9110 §7.6.3: a gateway says in Via that a request came through it; nginx does not",
        when(is_new, sent(plus((b"via", b"1.1 isr-proxy")))),
    ),
    Known(
        "via of HTTP/1.0",
        "the same, with the version that was received",
        when(lambda exchange: not is_new(exchange), sent(plus((b"via", b"1.0 isr-proxy")))),
    ),
    Known("cache status", "what became of the request, and X-Cache is ours alone (README)", has_own_lines),
    Known(
        "tag fields",
        "Cache-Tag and its like are for caches, and are consumed here",
        told(less(b"cache-tag")),
    ),
    Known(
        "httpoxy",
        "a Proxy field becomes HTTP_PROXY at CGI-style origins; nginx leaves it to its operator",
        sent(less(b"proxy")),
    ),
    Known(
        "proxy-connection",
        "RFC 9110 §7.6.1: hop-by-hop by habit; nginx passes it on",
        sent(less(b"proxy-connection")),
    ),
    Known(
        "fields named in a request's Connection",
        "RFC 9110 §7.6.1: they end at this hop; nginx passes them on",
        when(is_asking((b"connection", b"X-Named")), sent(less(b"x-named"))),
    ),
    Known(
        "fields named in a response's Connection",
        "the same on the way back",
        when(lambda exchange: b"connection" in exchange.told_names, told(less(b"x-hop"))),
    ),
    Known(
        "te",
        "RFC 9110 §10.1.4: said anew for the next hop, as trailers are passed; nginx drops it",
        when(
            lambda exchange: is_new(exchange) and is_asking((b"te", b"trailers"))(exchange),
            sent(plus((b"te", b"trailers"))),
        ),
    ),
    Known(
        "expect",
        "RFC 9110 §10.1.1: an expectation not known here is the origin's to refuse; nginx drops it",
        when(is_asking((b"expect", b"teapot")), sent(plus((b"expect", b"teapot")))),
    ),
    Known(
        "trailers of a request",
        "RFC 9110 §6.5: passed on apart from the headers; nginx 1.22 drops them",
        when(lambda exchange: "request trailers" in exchange.traits, has_trailers_sent),
    ),
    Known(
        "trailers of a response",
        "the same on the way back, to who knows chunks",
        when(lambda exchange: is_new(exchange) and "response trailers" in exchange.traits, has_trailers_told),
    ),
    Known(
        "chunks read ahead",
        "nginx frames a chunked request anew with a length when all of it is in before it connects",
        when(lambda exchange: "request chunked" in exchange.traits, is_chunked),
    ),
    Known(
        "empty bodies",
        "RFC 9110 §8.6: POST, PUT and PATCH say that they have no content; nginx says nothing",
        when(is_unsaid_empty, sent(plus((b"content-length", b"0")))),
    ),
    Known(
        "interim responses",
        "RFC 9110 §15.2: forwarded; nginx 1.22 takes a 103 for the answer, so its origin sends none",
        when(is_new, has_interims),
    ),
    Known(
        "date",
        "RFC 9110 §6.6.1: added where the origin sent none; nginx does not while it passes the origin's",
        when(lambda exchange: b"date" not in exchange.told_names, told(plus((b"date", NOW)))),
    ),
]

# Of both sides: what says nothing of what passed.
ALIKE: list[Known] = [
    Known(
        "order of names",
        "RFC 9110 §5.3: only the order of lines of one name means anything; nginx moves those it knows",
        after(sent(by_name), told(by_name)),
    ),
    Known(
        "framing",
        "each hop frames anew; bodies, and whether a request is chunked, are compared",
        after(sent(FRAMING), told(FRAMING)),
    ),
]

# What nginx passes and we refuse, with 400 and without asking the origin.
REFUSED: dict[str, Callable[[Exchange], bool]] = {
    "raw bytes beyond ASCII in a target (RFC 9112 §3.2: not a request target)": (
        lambda exchange: not exchange.target.isascii()
    ),
}
