"""A client that sends at a fixed rate, whatever the server does: no coordinated omission.

    python -m bench.pacing PORT HEAD_FILE BODY_BYTES RATE SECONDS

Knows one request and its schedule. Must not know the server. The time of an answer counts from the moment
its request was *to be sent*: who waits for a connection, because the server is slow, waits on the server's
account. It spins instead of sleeping, so that neither a timer nor an event loop makes it late; by how much it
was late itself, with a connection free, is told beside.
"""

from __future__ import annotations

import gc
import json
import select
import socket
import sys
import time
from array import array
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

CONNECTIONS: Final = 64
_BUFFER: Final = bytearray(262_144)  # for every answer: making one for each would cost more than to read it
_LAST_SECONDS: Final = 10.0  # for answers that are still to come at the end


@dataclass(frozen=True, slots=True)
class Paced:
    """What one run showed; all times in seconds."""

    rate: float  # asked for
    sent_rate: float  # kept
    p50: float
    p99: float
    p999: float
    late_p99: float  # of the client's own making


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Return the smallest of these, in rising order, that so many percent do not exceed."""
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]


class Connection:
    """One keep-alive connection, with at most one request under way."""

    __slots__ = ("_body_bytes", "_got", "_left", "_recv_into", "due_at", "fileno", "send", "socket")

    def __init__(self, port: int, body_bytes: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setblocking(False)
        self.fileno = self.socket.fileno()
        self.send, self._recv_into = self.socket.send, self.socket.recv_into
        self.due_at = 0.0
        self._body_bytes = body_bytes
        self._got = b""
        self._left = 0

    def is_done(self) -> bool:
        """Read what came; tells whether the answer is whole. RuntimeError if it is not a 200."""
        count = self._recv_into(_BUFFER)
        if not count:
            raise RuntimeError("the server closed the connection")
        if self._left:
            self._left -= count
            return not self._left
        data, size = (self._got + _BUFFER[:count], len(self._got) + count) if self._got else (_BUFFER, count)
        end = data.find(b"\r\n\r\n", 0, size)
        if end < 0:
            self._got = bytes(data[:size])
            return False
        if not data.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"an answer that is no 200: {bytes(data[:60])!r}")
        self._got = b""
        self._left = end + 4 + self._body_bytes - size
        return not self._left


class Client:
    """Sends a request `rate` times a second, for so many seconds."""

    def __init__(self, port: int, head: bytes, body_bytes: int) -> None:
        self._head = head
        self._connections = [Connection(port, body_bytes) for _ in range(CONNECTIONS)]
        self._free = deque(self._connections)
        self._by_number = {each.fileno: each for each in self._connections}
        self._poll = select.epoll()
        for each in self._connections:
            self._poll.register(each.fileno, select.EPOLLIN)
        self._waits = array("d")
        self._lates = array("d")

    def close(self) -> None:
        """Close every connection."""
        self._poll.close()
        for each in self._connections:
            each.socket.close()

    def run(self, rate: float, seconds: float) -> Paced:
        """Keep the schedule to its end, then wait for what is under way."""
        count = max(1, int(rate * seconds))
        begun_at = time.perf_counter()
        ended_at = self._keep(begun_at, count, 1.0 / rate)
        waits, lates = sorted(self._waits), sorted(self._lates)
        return Paced(
            rate,
            count / (ended_at - begun_at),
            percentile(waits, 50.0),
            percentile(waits, 99.0),
            percentile(waits, 99.9),
            percentile(lates, 99.0) if lates else 0.0,
        )

    def _keep(self, begun_at: float, count: int, step: float) -> float:
        """Send every request at its time; returns when the last was sent."""
        sent, ended_at, had_free, head = 0, begun_at, True, self._head
        last_at = begun_at + count * step + _LAST_SECONDS
        while len(self._waits) < count:
            now = time.perf_counter()
            while sent < count and self._free and begun_at + sent * step <= now:
                due_at = begun_at + sent * step
                connection = self._free.popleft()
                connection.due_at = due_at
                if connection.send(head) != len(head):
                    raise RuntimeError("the server does not read requests")
                sent += 1
                if had_free:
                    self._lates.append(now - due_at)
                now = ended_at = time.perf_counter()
            had_free = bool(self._free)
            self._receive()
            if now > last_at:
                raise RuntimeError(f"{count - len(self._waits)} answers did not come")
        return ended_at

    def _receive(self) -> None:
        for number, _ in self._poll.poll(0):
            connection = self._by_number[number]
            if connection.is_done():
                self._waits.append(time.perf_counter() - connection.due_at)
                self._free.append(connection)


def main() -> int:
    port, head_file, body_bytes, rate, seconds = sys.argv[1:]
    client = Client(int(port), Path(head_file).read_bytes(), int(body_bytes))
    gc.disable()
    with closing(client):
        print(json.dumps(asdict(client.run(float(rate), float(seconds)))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
