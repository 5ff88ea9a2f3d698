"""Every private thing of aiohttp that the origin side relies on: an upgrade that moves one fails here.

What the front relies on is named in its own part below, when it is written.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Any

import pytest
from aiohttp import http_exceptions, http_parser

from isr_proxy.origin.connection import require_c_parser


class _Unflowing:
    def pause_reading(self) -> None: ...

    def resume_reading(self, resume_parser: bool = True) -> None: ...


def _parser(**options: Any) -> Any:
    loop = asyncio.new_event_loop()
    loop.close()
    parser: Any = http_parser.HttpResponseParserC
    return parser(
        _Unflowing(), loop, 2**30, max_line_size=100, max_field_size=100, auto_decompress=False, **options
    )


def test_the_c_parser_is_there() -> None:
    require_c_parser()
    assert http_parser.HttpResponseParserC.__module__ == "aiohttp._http_parser"


def test_its_absence_is_said_at_start() -> None:
    code = "from isr_proxy.origin.connection import require_c_parser as r; r()"
    env = {**os.environ, "AIOHTTP_NO_EXTENSIONS": "1"}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert "RuntimeError: aiohttp's C response parser is missing" in run.stderr


def test_feed_data_returns_messages_with_raw_lines() -> None:
    messages, is_upgraded, tail = _parser(response_with_body=False, max_headers=9).feed_data(
        b"HTTP/1.1 200 Fine\r\nX-b: 1 \r\nx-B: \xe9\r\nContent-Length: 5\r\n\r\n"
    )
    message, _ = messages[0]
    assert (is_upgraded, tail, tuple(message.version), message.code, message.reason) == (
        False,
        b"",
        (1, 1),
        200,
        "Fine",
    )
    assert message.raw_headers == ((b"X-b", b"1"), (b"x-B", b"\xe9"), (b"Content-Length", b"5"))
    assert (message.should_close, message.chunked, message.headers["content-length"]) == (False, 0, "5")


def test_a_parser_without_bodies_goes_from_head_to_head() -> None:
    parser = _parser(response_with_body=False)
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    assert [len(parser.feed_data(head)[0]) for _ in range(3)] == [1, 1, 1]


def test_interim_heads_and_blank_lines_are_told_apart() -> None:
    parser = _parser(response_with_body=False)
    assert parser.feed_data(b"\r\n")[0] == ()
    assert parser.feed_data(b"HTTP/1.1 103 Early\r\n\r\n")[0][0][0].code == 103
    assert parser.feed_data(b"HTTP/1.1 200 OK\r\n\r\n")[0][0][0].should_close


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 101 + b"\r\n\r\n",
    ],
)
def test_it_refuses_what_we_do_not_check_again(head: bytes) -> None:
    with pytest.raises(http_exceptions.HttpProcessingError) as caught:
        _parser(response_with_body=False).feed_data(head)
    assert isinstance(caught.value.message, str)
