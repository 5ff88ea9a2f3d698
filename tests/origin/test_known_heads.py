"""Heads of an origin that come again, byte for byte, are not parsed again; nothing else is taken for them."""

from __future__ import annotations

import asyncio

import pytest

from isr_proxy.errors import OriginProtocol
from isr_proxy.origin import parser
from isr_proxy.origin.parser import HeadParser

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: 1\r\n\r\n"


@pytest.fixture
async def heads() -> HeadParser:
    parser._KNOWN.clear()
    return HeadParser(asyncio.get_running_loop())


async def test_the_very_bytes_again_say_the_same(heads: HeadParser) -> None:
    first = heads.feed(HEAD)
    assert first is not None
    assert heads.feed(HEAD) is first
    assert (first.head.status, first.head.fields.get(b"x")) == (200, "1")


async def test_another_head_is_parsed(heads: HeadParser) -> None:
    heads.feed(HEAD)
    other = heads.feed(HEAD.replace(b"X: 1", b"X: 2"))
    assert other is not None
    assert other.head.fields.get(b"x") == "2"


async def test_every_connection_knows_it(heads: HeadParser) -> None:
    first = heads.feed(HEAD)
    assert HeadParser(asyncio.get_running_loop()).feed(HEAD) is first


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 3000 + b"\r\nContent-Length: 0\r\n\r\n",
    ],
)
async def test_what_changes_the_parser_or_is_large_is_parsed_each_time(
    heads: HeadParser, head: bytes
) -> None:
    assert heads.feed(head) is not None
    assert parser._KNOWN == {}


async def test_what_is_refused_is_refused_again(heads: HeadParser) -> None:
    for _ in range(2):
        with pytest.raises(OriginProtocol):
            HeadParser(asyncio.get_running_loop()).feed(b"HTTP/1.1 200 OK\r\nX : 1\r\n\r\n")


async def test_law_8_few_are_known(heads: HeadParser) -> None:
    for number in range(2000):
        heads.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: %d\r\n\r\n" % number)
    assert 0 < len(parser._KNOWN) <= 256
