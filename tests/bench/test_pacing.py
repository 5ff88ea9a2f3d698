"""The rate-controlled client: what it counts, and that nobody slows it down."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from bench.heads import plain
from bench.pacing import Client, percentile

BODY = b"0123456789"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + BODY


@pytest.mark.parametrize(
    ("percent", "value"), [(50.0, 50), (99.0, 99), (99.9, 100), (100.0, 100), (0.1, 1), (1.0, 1), (1.1, 2)]
)
def test_percentiles(percent: float, value: int) -> None:
    assert percentile(range(1, 101), percent) == value


def test_the_percentiles_of_one() -> None:
    assert [percentile([7.0], percent) for percent in (50.0, 99.9)] == [7.0, 7.0]


class Slow(asyncio.Protocol):
    """Answers one request after the other, each in two pieces; all connections share its one hand."""

    hand = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(data.count(b"\r\n\r\n")):
            Slow.hand = max(Slow.hand, loop.time()) + SECONDS_EACH
            loop.call_at(Slow.hand, self._answer)

    def _answer(self) -> None:
        self.transport.write(ANSWER[:20])
        asyncio.get_running_loop().call_soon(self.transport.write, ANSWER[20:])


SECONDS_EACH = 0.002


@contextmanager
def slow_server() -> Iterator[int]:
    """Run a server that takes two milliseconds for each request."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(loop.create_server(Slow, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(server.wait_closed())
        loop.close()


def test_a_server_that_falls_behind_is_not_waited_for() -> None:
    """It is asked twice as often as it can answer: the last request waits for as long as half of the run."""
    with slow_server() as port, closing(Client(port, plain("/"), len(BODY))) as client:
        paced = client.run(rate=2 / SECONDS_EACH, seconds=0.2)
    assert paced.p99 >= 0.15  # a client that waits for its turn would have seen some milliseconds
    assert paced.p50 >= 0.05
