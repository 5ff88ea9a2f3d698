"""Attacks as rows: bytes on the wire, tried on every kind of route, each with honest visitors behind it.

    Attack("both lengths", post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"))

`PATH` in the bytes is the path under attack. An attack is sent three times: with an honest request behind it
in one write, alone with one on the same connection after the answer, and alone with honest visitors on
connections of their own. They ask for another path and for the very path that was attacked.

The origin is gullible: it believes every header, method and body that anybody ever believed, and its page
says so. A page that differs from what an honest visitor is owed is a poisoned one.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import pytest

from tests.harness import Proxy, Reply, Visitor
from tests.scripted_origin import Exchange, Recorded, ScriptedOrigin, page

ROUTES: Final = """\
- {match: /isr/**, revalidate: 60s}
- {match: /shared/**, revalidate: origin}
- {match: /pass/**, revalidate: 0}
"""
WAYS: Final = ("isr", "shared", "pass")  # how the path under attack is served
CACHED: Final = ("isr", "shared")
HOST: Final = b"Host: site.example"
BELIEVED: Final = (  # at some origin or other: FIELD.md section 4, and what header miners try
    *("host", "forwarded", "x-host", "x-original-host", "x-forwarded-host", "x-http-host-override"),
    *("x-forwarded-server", "x-forwarded-proto", "x-forwarded-scheme", "x-forwarded-port"),
    *("x-forwarded-ssl", "x-url-scheme", "x-forwarded-prefix", "x-forwarded-path", "x-forwarded-uri"),
    *("x-original-url", "x-rewrite-url", "x-matched-path", "x-invoke-path", "x-now-route-matches"),
    *("x-http-method", "x-http-method-override", "x-method-override", "x-middleware-subrequest"),
    *("x_forwarded_host", "x_original_url"),
)
_WITHIN: Final = 5.0  # seconds; whatever takes longer hangs


def lines(*field_lines: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in field_lines)


def get(*field_lines: bytes, target: bytes = b"PATH", body: bytes = b"", method: bytes = b"GET") -> bytes:
    """Write a GET with its Host, and these lines."""
    return b"%b %b HTTP/1.1\r\n%b\r\n%b" % (method, target, lines(HOST, *field_lines), body)


def post(*field_lines: bytes, body: bytes = b"") -> bytes:
    return get(*field_lines, body=body, method=b"POST")


# A whole request nobody sent, and the beginning of one that would swallow the next visitor's.
SMUGGLED: Final = get(target=b"/smuggled")
PREFIX: Final = b"GET /smuggled HTTP/1.1\r\n" + HOST + b"\r\nX-Swallow: "


@dataclass(frozen=True, slots=True)
class Attack:
    """One row. `ways` are the routes it is tried on."""

    name: str
    raw: bytes
    ways: tuple[str, ...] = WAYS

    def on(self, path: str) -> bytes:
        return self.raw.replace(b"PATH", path.encode())


def table(*attacks: Attack) -> pytest.MarkDecorator:
    """Try each of these attacks, as `attack`."""
    return pytest.mark.parametrize("attack", [pytest.param(attack, id=attack.name) for attack in attacks])


class Gullible(ScriptedOrigin):
    """Answers whatever has no script with a page of all it believed of the request."""

    otherwise: Callable[[Exchange], Awaitable[None]] | None = None

    async def _run(self, exchange: Exchange) -> None:
        request = exchange.request
        if request.target in self._paths or request.path in self._paths:
            await super()._run(exchange)
            return
        if self.otherwise is not None:
            await self.otherwise(exchange)
            return
        body = await exchange.body()
        await exchange.run(page(believed(request) + body, {"Cache-Control": "max-age=60"}))


def believed(request: Recorded) -> bytes:
    said = [f"{name}: {_shared(name, value)}" for name in BELIEVED if (value := request.header(name))]
    return "\n".join([f"{request.method} {request.target}", *said, ""]).encode()


def _shared(name: str, value: str) -> str:
    """Leave out who asks, which an honest origin makes no page of."""
    return re.sub(r"for=[^;,]*;", "", value) if name == "forwarded" else value


def owed(target: str, host: str = "site.example") -> bytes:
    """Return the page that an honest visitor gets of the gullible origin."""
    name, colon, port = host.rpartition(":")
    quoted = f'"{host}"' if colon else host
    said = {
        "host": host,
        "forwarded": f"host={quoted};proto=http",
        "x-forwarded-host": host,
        "x-forwarded-proto": "http",
        "x-forwarded-port": port if name else "80",
    }
    return "".join([f"GET {target}\n", *(f"{key}: {value}\n" for key, value in said.items())]).encode()


@dataclass
class Scene:
    """A gullible origin, the proxy, and who asks."""

    origin: Gullible
    proxy: Proxy

    async def send(self, raw: bytes) -> Visitor:
        visitor = await self.proxy.visitor()
        visitor.writer.write(raw)
        return visitor

    async def ask(self, raw: bytes) -> Reply:
        """Send bytes on a connection of their own; returns the first answer."""
        return await answered(await self.send(raw), _method(raw))

    async def honest(self, target: str, headers: Mapping[str, str] = {}) -> None:
        """Ask as anybody does, and get what anybody gets."""
        reply = await self.proxy.get(target, headers)
        await self.proxy.settled()
        assert (reply.status, reply.body) == (200, owed(target))

    # --- what came of an attack ---

    async def refused(self, attack: Attack, *statuses: int) -> None:
        """It is refused and the connection closed; nothing of it came to the origin, or to anybody else."""
        for way in attack.ways:
            path = f"/{way}/target"
            for behind in (get(target=f"/{way}/honest".encode()), b""):
                visitor = await self.send(attack.on(path) + behind)
                reply = await answered(visitor)
                assert reply.status in (statuses or (400,)), f"{way}: {reply}"
                assert reply.headers["connection"] == "close"
                assert await closed(visitor) == b""
            assert self.origin.requests == [], f"{way}: {self.origin.requests[0].raw_head!r}"
        await self.nobody_else_is_hit(attack.ways)

    async def harmless(self, attack: Attack, *, targets: Iterable[str] = ()) -> None:
        """It may be answered; whoever comes behind it is not touched.

        `targets` are those that the origin may be asked for besides the path itself.
        """
        allowed = {*targets}
        for way in attack.ways:
            path, behind, after = f"/{way}/target", f"/{way}/behind", f"/{way}/after"
            await self._pipelined(attack.on(path), behind)
            await self._in_turn(attack.on(path), after)
            allowed |= {path, behind, after}
        self.only_asked(allowed)
        await self.nobody_else_is_hit(attack.ways)
        self.one_framing_each()

    async def _pipelined(self, raw: bytes, target: str) -> None:
        visitor = await self.send(raw + get(target=target.encode()))
        await answered(visitor, _method(raw))
        await self._is_honest_or_closed(visitor, target)

    async def _in_turn(self, raw: bytes, target: str) -> None:
        visitor = await self.send(raw)
        await answered(visitor, _method(raw))
        await self.proxy.settled()
        visitor.send(target)
        await self._is_honest_or_closed(visitor, target)

    async def _is_honest_or_closed(self, visitor: Visitor, target: str) -> None:
        try:
            reply = await answered(visitor)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            if getattr(error, "partial", b""):
                raise AssertionError("half an answer") from error
            return
        assert (reply.status, reply.body) in ((200, owed(target)), (400, b"400 Bad Request: bad-request\n"))
        visitor.reset()

    async def nobody_else_is_hit(self, ways: Iterable[str] = WAYS) -> None:
        """Everybody who comes later gets the page he is owed: another one, and the one under attack."""
        await self.proxy.settled()
        for way in ways:
            for target in (f"/{way}/honest", f"/{way}/target"):
                await self.honest(target)
                await self.honest(target)

    def only_asked(self, targets: set[str]) -> None:
        """The origin saw no request but these."""
        assert {request.target for request in self.origin.requests} <= targets

    def one_framing_each(self) -> None:
        """Each request that came to the origin has one reading, whoever reads it."""
        for request in self.origin.requests:
            assert problem_of(request.raw_head) is None, request.raw_head


def problem_of(head: bytes) -> str | None:
    """Say what two servers could read differently in a request head that we sent, or None."""
    if head.count(b"\n") != head.count(b"\r") or head.count(b"\r\n") != head.count(b"\n"):
        return "a bare CR or LF"
    first, *rest = head[:-4].split(b"\r\n")
    if not _REQUEST_LINE.fullmatch(first):
        return "the request line"
    if not all(FIELD_LINE.fullmatch(line) for line in rest):
        return "a field line"
    names = [line.partition(b":")[0].lower() for line in rest]
    twins = [name.replace(b"_", b"-") for name in names]
    framings = twins.count(b"content-length") + twins.count(b"transfer-encoding")
    if framings > 1 or twins.count(b"host") != 1:
        return "two lengths, or not one Host"
    return None


_REQUEST_LINE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+ [^\x00-\x20\x7f#]+ HTTP/1\.1")
FIELD_LINE: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t\x20-\x7e\x80-\xff]*")


async def answered(visitor: Visitor, method: str = "GET") -> Reply:
    """Return the next answer."""
    return await asyncio.wait_for(visitor.reply(method=method), _WITHIN)


async def closed(visitor: Visitor) -> bytes:
    """Wait until the proxy closes; returns what it said before."""
    try:
        return await asyncio.wait_for(visitor.reader.read(), _WITHIN)
    except ConnectionError:
        return b""


def _method(raw: bytes) -> str:
    return raw.lstrip().partition(b" ")[0].decode("latin-1")
