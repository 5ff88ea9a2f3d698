"""Whether a server answers as a case means it, before it is measured; and whether it still did, afterwards.

Knows answers, and the origin's count of requests, which tells a hit from a miss with every server alike.
Must not know what anything costs.
"""

from __future__ import annotations

import asyncio
import gzip
from typing import Final

from bench import next_start
from bench.asking import Answer, ask, ask_all
from bench.cases import Asked, Case
from bench.costs import settled_cpu_seconds
from bench.heads import plain
from bench.loads import Drawn, LoadFailed, Said, Same
from bench.origin import page
from bench.servers import Kind, Server

_FILL_VISITORS: Final = 32
_FILL_PASSES: Final = 4
_LOST_SHARE: Final = 0.001  # of a crowd's pages: HAProxy never finds one of two whose hashes begin alike
_UNANSWERED: Final = 200  # requests under way when wrk ends, at most


class Unfit(Exception):
    """A server does not do what the case means."""


def prepared(case: Case, server: Server, origin_port: int) -> bytes:
    """Fill and check a server; returns the head of a request of this case as this server is sent it."""
    if isinstance(case.load, Drawn):
        _fill(case.load, server, origin_port)
    head = request(case, server, 0)
    ask(server.port, head)
    settled_cpu_seconds(server.pids)  # who answers before a page is stored may be storing it still
    before = asked(origin_port)
    answer = ask(server.port, request(case, server, 1))
    _check(case, server, answer, asked(origin_port) - before)
    return head


def request(case: Case, server: Server, number: int) -> bytes:
    """Return a request of a case; the app behind no proxy has one page, elsewhere."""
    head = case.load.sample(number)
    if server.variant.kind is Kind.NEXT:
        _, _, rest = head.partition(b" HTTP/1.1")
        return f"GET {next_start.PAGE} HTTP/1.1".encode() + rest
    return head


def _fill(load: Drawn, server: Server, origin_port: int) -> None:
    """Ask for every page, until hardly any is fetched: a server may store less than it is sent in a hurry."""
    for _ in range(_FILL_PASSES):
        before = asked(origin_port)
        try:
            asyncio.run(ask_all(server.port, load.heads, _is_right, _FILL_VISITORS))
        except* (RuntimeError, OSError, EOFError) as group:
            raise Unfit(f"{server.variant.name} could not be filled: {group.exceptions[0]}") from group
        settled_cpu_seconds(server.pids)
        if asked(origin_port) - before <= len(load.heads) * _LOST_SHARE:
            return
    raise Unfit(f"{server.variant.name} does not keep all of {len(load.heads)} pages")


def _is_right(head: bytes, answer: bytes, body: bytes) -> bool:
    return answer.startswith(b"HTTP/1.1 200") and body == page(head.split(b" ", 2)[1])


def asked(origin_port: int) -> int:
    """Return how many requests the origin has had."""
    return int(ask(origin_port, plain("/count")).body)


def _check(case: Case, server: Server, answer: Answer, fetched: int) -> None:
    name, kind = server.variant.name, server.variant.kind
    if answer.status != case.status:
        raise Unfit(f"{name} answers {answer.status} to {case.name}, not {case.status}")
    if answer.fields.get("content-encoding") != case.encoding:
        raise Unfit(
            f"{name} answers {case.name} in {answer.fields.get('content-encoding')}, not {case.encoding}"
        )
    if kind is Kind.NEXT:
        if answer.fields.get("x-nextjs-cache") != "HIT" or not 9_000 < len(answer.body) < 12_000:
            raise Unfit(f"{name} gives {len(answer.body)} bytes, {answer.fields.get('x-nextjs-cache')}")
        return
    if fetched != (1 if case.origin is Asked.ALWAYS else 0):
        raise Unfit(f"{name} made {fetched} requests to the origin for one of {case.name}")
    if case.status == 200 and _plain(answer) != page(request(case, server, 1).split(b" ", 2)[1]):
        raise Unfit(f"{name} gives {len(answer.body)} bytes to {case.name} that are not the page")
    if kind is Kind.ISR_PROXY and answer.fields.get("x-cache") != _x_cache(case):
        raise Unfit(f"{name} says {answer.fields.get('x-cache')} to {case.name}, not {_x_cache(case)}")


def _plain(answer: Answer) -> bytes:
    is_gzip = answer.fields.get("content-encoding") == "gzip"
    return gzip.decompress(answer.body) if is_gzip else answer.body


def _x_cache(case: Case) -> str:
    if case.origin is Asked.NEVER:
        return "HIT"
    return "PASS" if isinstance(case.load, Same) else "MISS"


def check_after(case: Case, server: Server, said: Said, fetched: int) -> None:
    """Make sure that a run was what it was meant to be; LoadFailed when it was not."""
    if server.variant.kind is Kind.NEXT:
        return
    name = f"{server.variant.name}, {case.name}"
    allowed = said.requests * _LOST_SHARE if isinstance(case.load, Drawn) else 0
    if case.origin is Asked.NEVER and fetched > allowed:
        raise LoadFailed(f"{name}: {fetched} requests went to the origin")
    if case.origin is Asked.ALWAYS and not said.requests <= fetched <= said.requests + _UNANSWERED:
        raise LoadFailed(f"{name}: {fetched} requests went to the origin for {said.requests}")
