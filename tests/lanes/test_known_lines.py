"""Lines that are said again are not parsed again, whatever stands before them (serve/known_lines.py)."""

from __future__ import annotations

import pytest

from isr_proxy.core.http import Request
from isr_proxy.core.settings import LimitSettings
from isr_proxy.serve.known_lines import KnownLines, Said
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

        def watched(known: KnownLines, head: bytes, scheme: str, peer: str) -> Said | None:
            said = find(known, head, scheme, peer)
            self.parsed.append(said is None)
            return said

        def handle(exchange):  # type: ignore[no-untyped-def]
            self.requests.append(exchange.request)
            return decide(exchange)

        monkeypatch.setattr(KnownLines, "find", watched)
        monkeypatch.setattr(lane.proxy.worker.front, "handle", handle)


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
    front = ears.lane.proxy.worker.front
    parsing, again = await ears.lane.visitor(), await ears.lane.visitor()
    parsing.writer.write(Asked(target, LINES).raw)
    await parsing.reader.readuntil(b"\r\n\r\n")
    front.reconfigure(front.limits, front.trusted, front.default_host)
    again.writer.write(Asked("/before?q=1", LINES).raw)
    await again.reader.readuntil(b"\r\n\r\n")
    third = await ears.lane.visitor()
    third.writer.write(Asked(target, LINES).raw)
    await third.reader.readuntil(b"\r\n\r\n")
    assert ears.parsed == [True, True, False]
    assert ears.requests[2] == ears.requests[0]


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
    visitor = await ears.lane.visitor()
    await ears.lane.ask(visitor, Asked("/a", LINES))
    visitor.writer.write(Asked(target, LINES).raw)
    assert (await visitor.reader.readline()).startswith(b"HTTP/1.1 ")
    assert ears.parsed[-1]


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
    await ears.lane.ask(await ears.lane.visitor(), Asked("/a", LINES))
    visitor = await ears.lane.visitor()
    visitor.writer.write(asked.raw)
    await visitor.reader.readuntil(b"\r\n\r\n")
    assert ears.parsed == [True, True]


@pytest.mark.parametrize("line", ["Connection: close", "Upgrade: websocket"])
async def test_what_ends_http_is_parsed_each_time(ears: Ears, line: str) -> None:
    lines = (line, "Connection: upgrade") if line.startswith("Upgrade") else (line,)
    for path in ("/a", "/b"):
        visitor = await ears.lane.visitor()
        visitor.writer.write(Asked(path, lines).raw)
        await visitor.reader.readuntil(b"\r\n\r\n")
    assert all(ears.parsed)


async def test_who_comes_from_elsewhere_is_somebody_else(ears: Ears) -> None:
    known = ears.lane.proxy.worker.front.lines
    visitor = await ears.lane.visitor()
    await ears.lane.ask(visitor, Asked("/a", LINES))
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
    assert ears.parsed == [True, False, False, False]


async def test_a_reload_counts_at_once(ears: Ears, write: Write) -> None:
    """Whom the config trusts by now is believed, though his lines were known."""
    visitor = await ears.lane.visitor()
    lines = ("X-Forwarded-For: 192.0.2.7",)
    for path in ("/a", "/b"):
        await ears.lane.ask(visitor, Asked(path, lines))
    await ears.lane.reload(
        write("- {match: '/**', revalidate: 10s}", more="trusted_proxies: [127.0.0.0/8]\n")
    )
    await ears.lane.ask(visitor, Asked("/c", lines))
    assert [request.client for request in ears.requests] == ["127.0.0.1", "127.0.0.1", "192.0.2.7"]
    assert ears.parsed == [True, False, True]


async def test_a_head_near_a_limit_is_parsed(start: Start) -> None:
    """What is judged by its size is judged each time."""
    async with start(more="limits: {max_request_line: 64}\n") as lane:
        visitor = await lane.visitor()
        await lane.ask(visitor, Asked("/a"))
        assert lane.proxy.worker.front.lines._said == {}
        visitor.writer.write(Asked("/" + "b" * 80).raw)
        assert (await visitor.reader.readline()).startswith(b"HTTP/1.1 414 ")


def test_what_is_known_is_bounded() -> None:
    known = KnownLines(LimitSettings())
    said = Said(None, None)  # type: ignore[arg-type]  # nobody looks at it
    for number in range(2000):
        known.remember(b"GET / HTTP/1.1\r\nHost: %d\r\n\r\n" % number, "http", "", said)
        assert len(known._said) <= 512
    known.remember(b"GET / HTTP/1.1\r\nHost: h\r\nX: %b\r\n\r\n" % (b"x" * 4096), "http", "", said)
    assert len(known._said) == 2000 % 512
