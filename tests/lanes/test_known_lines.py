"""Lines that are said again are not parsed again, whatever stands before them (serve/known_lines.py)."""

from __future__ import annotations

import asyncio
import string
import tracemalloc
from collections.abc import Iterator

import pytest
from aiohttp.base_protocol import BaseProtocol
from hypothesis import given
from hypothesis import strategies as st

from isr_proxy.core.admission import is_personal
from isr_proxy.core.http import Fields, Request
from isr_proxy.core.settings import MIB, LimitSettings
from isr_proxy.serve.front_parser import new_parser
from isr_proxy.serve.heard import Heard
from isr_proxy.serve.known_lines import KnownLines
from tests.lanes.conftest import Start, Write
from tests.lanes.watching import Watched, body
from tests.lanes.world import Asked
from tests.scripted_origin import ScriptedOrigin, page

LINES = ("Accept: */*", "X-Said: twice", "X-Said: again", "Cookie: a=1; b=2")


class Ears:
    """The requests that come to be decided, and whether each was parsed."""

    def __init__(self, lane: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[Request] = []
        self.parsed: list[bool] = []
        self.lane = lane
        find, decide = KnownLines.find, lane.proxy.worker.front.handle

        def watched(known: KnownLines, head: bytes, scheme: str, peer: str) -> Request | None:
            found = find(known, head, scheme, peer)
            self.parsed.append(found is None)
            return found

        def handle(exchange):  # type: ignore[no-untyped-def]
            self.requests.append(exchange.request)
            return decide(exchange)

        monkeypatch.setattr(KnownLines, "find", watched)
        monkeypatch.setattr(lane.proxy.worker.front, "handle", handle)

    async def know(self, lines: tuple[str, ...] = LINES) -> None:
        """Have these lines known: they come a second time."""
        for path in ("/first?q=1", "/second"):
            visitor = await self.lane.visitor()
            await self.lane.ask(visitor, Asked(path, lines))
        self.requests.clear()
        self.parsed.clear()

    async def has_parsed(self, asked: Asked) -> bool:
        """Send one request to who knows the lines; tells whether it had to be parsed."""
        await self.know()
        visitor = await self.lane.visitor()
        visitor.writer.write(asked.raw)
        assert (await visitor.reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 ")
        (parsed,) = self.parsed
        return parsed


@pytest.fixture
def ears(lane: Watched, monkeypatch: pytest.MonkeyPatch) -> Ears:
    return Ears(lane, monkeypatch)


TARGETS = [
    "/",
    "/?",
    "/?a=1",
    "/a/b.html?x=1&y=%2F",
    "/a?b?c=d/e",
    "/a%20b;p=1/@x:y,(z)*'!$&+=~_-.",
    "/a/../b/./c",
]


@pytest.mark.parametrize("target", TARGETS)
async def test_it_is_the_request_that_the_parser_would_have_made(ears: Ears, target: str) -> None:
    """The same target twice, first with lines that nobody knows."""
    await ears.lane.ask(await ears.lane.visitor(), Asked(target, LINES))
    parsed = ears.requests[0]
    await ears.know()
    await ears.lane.ask(await ears.lane.visitor(), Asked(target, LINES))
    assert ears.parsed == [False]
    assert ears.requests == [parsed]


ODD = [
    "//other.example/a",
    "http://site.example/a",
    "*",
    "/a b",
    "/a#b",
    "/a\\b",
    '/a"b',
    "/a{b}",
    "/\u00e9",
    "",
]


@pytest.mark.parametrize("target", ODD)
async def test_an_odd_target_is_the_parser_s_to_judge(ears: Ears, target: str) -> None:
    assert await ears.has_parsed(Asked(target, LINES))


@pytest.mark.parametrize(
    "asked",
    [
        Asked("/b", LINES, method="HEAD"),
        Asked("/b", LINES, version="1.0"),
        Asked("/b", (*LINES, "X-More: 1")),
        Asked("/b", LINES[:-1]),
        Asked("/b", LINES, before="\r\n"),
    ],
)
async def test_all_but_the_target_must_be_the_same(ears: Ears, asked: Asked) -> None:
    assert await ears.has_parsed(asked)


@pytest.mark.parametrize("line", ["Connection: close", "Upgrade: websocket"])
async def test_what_ends_http_is_parsed_each_time(ears: Ears, line: str) -> None:
    lines = (line, "Connection: upgrade") if line.startswith("Upgrade") else (line,)
    for path in ("/a", "/b", "/c"):
        visitor = await ears.lane.visitor()
        visitor.writer.write(Asked(path, lines).raw)
        await visitor.reader.readuntil(b"\r\n\r\n")
    assert ears.parsed == [True] * 3


async def test_who_comes_from_elsewhere_is_somebody_else(ears: Ears) -> None:
    await ears.know()
    known = ears.lane.proxy.worker.front.lines
    head = Asked("/b", LINES).raw
    assert known.find(head, "http", "127.0.0.1") is not None
    assert known.find(head, "http", "192.0.2.1") is None
    assert known.find(head, "https", "127.0.0.1") is None


async def test_a_page_is_fetched_as_if_each_had_been_parsed(ears: Ears, origin: ScriptedOrigin) -> None:
    visitor = await ears.lane.visitor()
    for number in range(4):
        origin.on(f"/n/{number}", page(f"number {number}"))
        heard = await ears.lane.ask(visitor, Asked(f"/n/{number}", LINES))
        assert body(heard) == b"number %d" % number
    assert ears.parsed == [True, True, False, False]


async def test_a_reload_counts_at_once(ears: Ears, write: Write) -> None:
    """Whom the config trusts by now is believed, though his lines were known."""
    visitor = await ears.lane.visitor()
    lines = ("X-Forwarded-For: 192.0.2.7",)
    for path in ("/a", "/b", "/c"):
        await ears.lane.ask(visitor, Asked(path, lines))
    await ears.lane.reload(
        write("- {match: '/**', revalidate: 10s}", more="trusted_proxies: [127.0.0.0/8]\n")
    )
    await ears.lane.ask(visitor, Asked("/d", lines))
    assert [request.client for request in ears.requests] == [*["127.0.0.1"] * 3, "192.0.2.7"]
    assert ears.parsed == [True, True, False, True]


async def test_a_head_near_a_limit_is_parsed(start: Start) -> None:
    """What is judged by its size is judged each time."""
    async with start(more="limits: {max_request_line: 64}\n") as lane:
        visitor = await lane.visitor()
        for path in ("/a", "/b"):
            await lane.ask(visitor, Asked(path))
        assert not lane.proxy.worker.front.lines._known
        visitor.writer.write(Asked("/" + "b" * 80).raw)
        assert (await visitor.reader.readline()).startswith(b"HTTP/1.1 414 ")


def heads(count: int, fields: int) -> Iterator[bytes]:
    """Write different heads of almost the largest size, each twice."""
    size = (4096 - 64) // fields - len("X-000: \r\n")
    for number in range(count):
        lines = "".join(f"X-{field:03d}: {number:x}{'x' * (size - 4)}\r\n" for field in range(fields))
        for path in ("/a", "/b"):
            yield f"GET {path} HTTP/1.1\r\nHost: h\r\n{lines}\r\n".encode()


def learn(known: KnownLines, head: bytes) -> None:
    lines = head.split(b"\r\n")[1:-2]
    fields = Fields(
        (bytes(name), bytes(value)) for name, _, value in (line.partition(b": ") for line in lines)
    )
    is_personal(fields)  # has them indexed, as every request does
    known.remember(head, "http", "192.0.2.1", Request("GET", "http", "h", "/a", None, fields))


def test_law_8_what_is_known_takes_five_mib_at_most() -> None:
    known = KnownLines(LimitSettings())
    tracemalloc.start()
    try:
        for head in heads(1000, fields=31):
            learn(known, head)
        taken_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(known._known) == 256
    assert taken_bytes < 5 * MIB


@pytest.mark.parametrize("fields", [32, 100])
def test_a_head_of_many_fields_is_not_remembered(fields: int) -> None:
    known = KnownLines(LimitSettings())
    for head in heads(1, fields):
        learn(known, head)
    assert not known._known


def test_who_speaks_stays_and_the_oldest_goes() -> None:
    known = KnownLines(LimitSettings())
    first, *others = heads(257, fields=1)
    for head in (first, *others):
        learn(known, head)
        assert known.find(first, "http", "192.0.2.1") is not None or head is first
    assert known.find(others[2], "http", "192.0.2.1") is None


# Every byte but those that end a line, and texts of the bytes that a target is made of.
BYTES = st.binary(max_size=8).filter(lambda raw: not set(raw) & set(b"\r\n \x00"))
TEXTS = st.text(string.ascii_letters + string.digits + "/?%:@!$&'()*+,;=._~#-", max_size=12).map(str.encode)


@given(BYTES | TEXTS)
async def test_nothing_is_known_that_the_parser_reads_otherwise(target: bytes) -> None:
    known = KnownLines(LimitSettings())
    for path in (b"/first?q=1", b"/second"):
        head = b"GET %b HTTP/1.1\r\nHost: site.example\r\nCookie: a=1\r\n\r\n" % path
        known.remember(head, "http", "192.0.2.1", parsed(head))
    asked = head.replace(b"/second", b"/" + target)
    found = known.find(asked, "http", "192.0.2.1")
    assert found is None or found == parsed(asked)


def parsed(head: bytes) -> Request:
    limits = LimitSettings()
    loop = asyncio.get_running_loop()
    (message, _), *_ = new_parser(BaseProtocol(loop), loop, limits).feed_data(head)[0]
    heard = Heard(
        message.method,
        message.path,
        message.raw_headers,
        message.version,
        "http",
        "192.0.2.1",
        has_body=False,
        protocols=None,
        head_bytes=len(head),
    )
    request = heard.settled(limits, (), "localhost")
    assert isinstance(request, Request)
    return request
