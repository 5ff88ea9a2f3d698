"""What is fed where, and what must hold.

Each target takes one input and raises a Finding (or anything else but the proxy's own errors) when something
happens that must not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from ipaddress import ip_network

from isr_proxy.core import directives, entry, freshness, http, ranges, search_variance
from isr_proxy.core.arrival import Arrived, normal_host, settle
from isr_proxy.core.forward import shared_fields, visitor_fields
from isr_proxy.core.http import Fields, Request
from isr_proxy.core.key import canonical_query, derive
from isr_proxy.core.routes import target_problem
from isr_proxy.core.settings import KeyRules, QueryMode
from isr_proxy.errors import BadEntry, OriginError
from isr_proxy.origin.outgoing import Outgoing, request_head
from tests.fuzz.memory import SPLIT, Finding
from tests.fuzz.reading import stranger
from tests.fuzz.world import WAYS, World
from tests.http.attacking import problem_of

Target = Callable[[World, bytes], Awaitable[None]]


async def requests(world: World, data: bytes) -> None:
    """The request path: whatever a visitor sends, cut anywhere, into a connection of the front."""
    world.renew()
    await world.secret()
    pieces = data.split(SPLIT)
    got = await world.hostile(pieces)
    world.check(got)
    if (request := stranger(b"".join(pieces), world.origin.seen[1:])) is not None:
        raise Finding(f"nobody sent {request}")
    # What never came to the origin may have left something in the worker, but nothing in the store.
    for way in WAYS if len(world.origin.seen) > 1 else ("pass",):
        await world.honest(f"/{way}/honest")


async def answers(world: World, data: bytes) -> None:
    """The origin-response path: whatever an origin answers, up to the store and to the visitor."""
    pieces = [piece for piece in data.split(SPLIT) if piece]
    method = "HEAD" if data.endswith(b"!") else "GET"
    for way in WAYS:
        world.renew()
        await world.secret()
        world.origin.scripts[f"/{way}/target"] = pieces
        asked = f"{method} /{way}/target HTTP/1.1\r\nHost: site.example\r\n\r\n"
        for _ in range(1 if way == "pass" else 2):  # the second may come from the store
            world.check(await world.hostile([asked.encode()]))
        await world.honest("/pass/honest")


async def parsers(world: World, data: bytes) -> None:
    """The pure parsers of core: total, whatever they are given."""
    text = data.decode("latin-1")
    _values(text)
    _stored(data)
    _heads(data)


def _values(text: str) -> None:
    control = directives.parse_cache_control([text, text])
    for name in control.directives:
        seconds = control.seconds(name)
        if seconds is None or not 0 <= seconds <= http.DELTA_SECONDS_MAX:
            raise Finding(f"{name}: {seconds} seconds")
    instant = http.parse_date(text)
    if instant is not None and http.parse_date(http.format_date(instant)) != instant:
        raise Finding(f"{text!r} is not the date {instant}")
    for tag in http.parse_etags(text):
        http.weak_equal(tag, text)
    http.parse_cookies([text])
    if http.choose_encoding(text, ("br", "gzip")) not in ("br", "gzip", "identity"):
        raise Finding("a coding that there is not")
    host = normal_host(text, "http")
    if host is not None and normal_host(host, "http") != host:
        raise Finding(f"the host {text!r} has two spellings: {host!r}")


def _stored(data: bytes) -> None:
    for decode in (entry.decode_state, entry.decode_header):
        try:
            decode(data)
        except BadEntry:
            pass
    for magic, decode_meta in ((entry.MAGIC, entry.decode_meta), (entry.VARY_MAGIC, entry.decode_vary_index)):
        header = entry.decode_header(entry.encode_header(data, 0, magic))
        try:
            decode_meta(data, header)
        except BadEntry:
            pass


_TRUSTED = (ip_network("127.0.0.0/8"),)
_RULES = (KeyRules(), KeyRules(query_mode=QueryMode.LISTED, query_names=("a", "page")))


def _heads(data: bytes) -> None:
    """A head as a lenient parser might let it through: `target`, then `name:value` lines."""
    target, *rest = data.split(b"\n")
    pairs = (line.partition(b":") for line in rest)
    fields = Fields([(name, value.strip()) for name, _, value in pairs])
    freshness.read_origin_times(200, fields, 1e9)
    freshness.initial_age(fields, 1e9, 1e9)
    search_variance.search_variance(fields).shortened(target.decode("latin-1"))
    for span in ranges.wanted_spans(fields, 100, '"a"', None, None) or ():
        if not 0 <= span.start < span.stop <= 100:
            raise Finding(f"a part outside of the page: {span}")
    raw = target.decode("utf-8", "surrogateescape")
    request = settle(Arrived("GET", raw, fields, "http", "127.0.0.1", False), _TRUSTED, "default.example")
    if isinstance(request, Request) and target_problem(request.path, request.query) is None:
        _forwarded(request)


def _forwarded(request: Request) -> None:
    """What is sent on has one reading, or is not sent."""
    for rules in _RULES:
        query = canonical_query(request.query, rules)
        if canonical_query(query, rules) != query:
            raise Finding(f"the query {request.query!r} has two keys")
        key = derive(request, rules)
        for fields in (visitor_fields(request), shared_fields(request)):
            try:
                head = request_head(Outgoing("GET", key.target, request.host, fields))
            except OriginError:
                continue
            names = [line.partition(b":")[0].lower() for line in head.split(b"\r\n")]
            if names.count(b"host") != 1 or b"transfer-encoding" in names or b"content-length" in names:
                raise Finding(f"{problem_of(head)}: {head!r}")


TARGETS: dict[str, Target] = {"requests": requests, "answers": answers, "parsers": parsers}
