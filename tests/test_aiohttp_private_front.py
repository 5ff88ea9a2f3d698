"""Every private thing of aiohttp that the front relies on: an upgrade that moves one fails here."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import http_parser
from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD

from isr_proxy.serve.front_parser import require_c_parser

REQUEST = b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n"


async def _parser() -> Any:
    loop = asyncio.get_running_loop()
    parser: Any = http_parser.HttpRequestParser
    return parser(
        BaseProtocol(loop),
        loop,
        2**16,
        max_line_size=100,
        max_field_size=100,
        max_headers=3,
        auto_decompress=False,
        max_msg_queue_size=1,
    )


def test_the_c_parser_is_there() -> None:
    require_c_parser()
    assert http_parser.HttpRequestParser.__module__ == "aiohttp._http_parser"


async def test_one_message_at_a_time() -> None:
    parser = await _parser()
    messages, _, _ = parser.feed_data(REQUEST % b"1" + REQUEST % b"2")
    assert [message.path for message, _ in messages] == ["/1"]
    parser.message_consumed()
    messages, _, _ = parser.feed_data(b"")
    assert [message.path for message, _ in messages] == ["/2"]


async def test_a_parser_that_is_fed_does_not_wait_for_its_message_to_be_consumed() -> None:
    parser = await _parser()
    parser.feed_data(REQUEST % b"1")
    messages, _, _ = parser.feed_data(REQUEST % b"2")
    assert [message.path for message, _ in messages] == ["/2"]  # so the front keeps what comes meanwhile


async def test_a_message_without_a_body_has_the_empty_payload() -> None:
    (message, payload), *_ = (await _parser()).feed_data(REQUEST % b"1")[0]
    assert payload is EMPTY_PAYLOAD
    assert payload.is_eof()
    assert (message.method, message.raw_headers, message.should_close) == ("GET", ((b"Host", b"a"),), False)


async def test_an_upgrade_is_told_with_the_head() -> None:
    parser = await _parser()
    asked = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: foo\r\n\r\n"
    assert parser.feed_data(asked)[0][0][0].upgrade


async def test_a_payload_counts_what_came_of_it() -> None:
    parser = await _parser()
    (_, payload), *_ = parser.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n")[0]
    assert (payload.total_bytes, payload.is_eof()) == (0, False)
    parser.feed_data(b"ab")
    assert (payload.total_bytes, payload.is_eof()) == (2, False)


async def test_a_last_chunk_ends_a_payload() -> None:
    parser = await _parser()
    asked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    (message, payload), *_ = parser.feed_data(asked)[0]
    assert message.chunked
    parser.feed_data(b"2\r\nab\r\n0\r\n\r\n")
    assert (await payload.readany(), payload.is_eof()) == (b"ab", True)


@pytest.mark.parametrize(
    ("raw", "error"),
    [
        (b"GET /" + b"x" * 200 + b" HTTP/1.1\r\n\r\n", LineTooLong),
        (b"GET / HTTP/1.1\r\nHost: a\r\na: 1\r\nb: 2\r\nc: 3\r\n\r\n", BadHttpMessage),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", BadHttpMessage),
        (b"GET / HTTP/1.1\r\n\r\n", BadHttpMessage),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            BadHttpMessage,
        ),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", BadHttpMessage),
        (b"GET / HTTP/1.1\r\nHost: a\r\n b: c\r\n\r\n", BadHttpMessage),
    ],
)
async def test_what_the_parser_refuses(raw: bytes, error: type[Exception]) -> None:
    parser = await _parser()
    with pytest.raises(error):
        parser.feed_data(raw)


@pytest.mark.parametrize(
    ("raw", "limit"),
    [
        (b"GET /" + b"x" * 200 + b" HTTP/1.1\r\n\r\n", 100),
        (b"GET / HTTP/1.1\r\nHost: a\r\na: " + b"x" * 200, 101),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"x" * 200, 101),
    ],
)
async def test_a_line_that_is_too_long_names_the_limit_it_passed(raw: bytes, limit: int) -> None:
    loop = asyncio.get_running_loop()
    parser: Any = http_parser.HttpRequestParser
    parser = parser(BaseProtocol(loop), loop, 2**16, max_line_size=100, max_field_size=101, max_headers=3)
    with pytest.raises(LineTooLong) as caught:
        parser.feed_data(raw)
    assert caught.value.args[1] == limit


async def test_a_body_counts_its_bytes_and_keeps_its_error() -> None:
    asked = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n"
    ((_, payload),) = (await _parser()).feed_data(asked)[0]
    assert (payload.total_bytes, payload.is_eof(), payload.exception()) == (3, False, None)
    payload.set_exception(ValueError("no more"))
    with pytest.raises(ValueError, match="no more"):
        [await payload.readany() for _ in range(2)]


async def test_flow_control_of_the_base_protocol() -> None:
    protocol = BaseProtocol(asyncio.get_running_loop())
    for name in (
        "_paused",
        "_upgraded",
        "_drain_helper",
        "_pause_transport_reading",
        "_resume_transport_reading",
        "_reading_paused",
        "_pause_reading_for_buffer",
        "_resume_reading_for_buffer",
    ):
        assert hasattr(protocol, name)
    protocol.pause_writing()
    assert protocol._paused
    protocol.resume_writing()
    assert not protocol._paused
