"""What fuzzing found once, and the attacks it begins with: each input again, as an ordinary test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.memory import Finding, requests
from tests.fuzz.seeds import bytes_of, corpus, seeds, text_of
from tests.fuzz.targets import TARGETS
from tests.fuzz.world import SECRET, world


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
async def test_seeds(name: str, tmp_path: Path) -> None:
    async with world(tmp_path) as made:
        for data in seeds(name):
            try:
                await TARGETS[name](made, data)
            except Exception as error:
                raise AssertionError(f"{name}: {text_of(data)}") from error


@pytest.mark.parametrize("name", TARGETS)
def test_a_line_is_its_bytes(name: str) -> None:
    every_byte = bytes(range(256))
    assert bytes_of(text_of(every_byte)) == every_byte
    assert all(bytes_of(text_of(data)) == data for data in corpus(name))


SMUGGLING = [
    b"GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: a\r\nX: b\nY: c\r\n\r\n",
    b"GET /a HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
    b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n",
]


@pytest.mark.parametrize("raw", SMUGGLING)
def test_the_origin_notices_what_is_doubtful(raw: bytes) -> None:
    parsing = requests()
    next(parsing)
    with pytest.raises(Finding):
        parsing.send(raw)


async def test_the_world_notices_a_leak_and_a_failure(tmp_path: Path) -> None:
    async def raises(_: object) -> None:
        raise ZeroDivisionError

    async with world(tmp_path) as made:
        made.renew()
        with pytest.raises(Finding, match="another visitor's"):
            made.check(b"HTTP/1.1 200 OK\r\n\r\n" + SECRET)
        with pytest.raises(Finding, match="doubtful line"):
            made.check(b"HTTP/1.1 200 OK\r\nX: a\rb\r\n\r\n")
        made.origin.pages["/pass/other"] = b"not the page that belongs there"
        with pytest.raises(Finding, match="an honest visitor"):
            await made.honest("/pass/other")
        made.worker.front.handle = raises
        with pytest.raises(Finding, match="request failed"):
            await made.hostile([b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"])
