"""Letters between the processes of one host: one inbox each, into which all others write directly.

Knows sockets and the shape of a letter. Must not know event loops (post.py) or what letters say. An inbox is
open in every process, so it outlives whoever reads it: his successor reads on. A letter that finds an inbox
full is not taken; whoever sends it has to know what then.
"""

from __future__ import annotations

import errno
import socket
from typing import Final

import msgspec

MAX_BODY_BYTES: Final = 64 * 1024
_MAX_LETTER_BYTES: Final = MAX_BODY_BYTES + 256
_NOT_TAKEN: Final = (errno.EAGAIN, errno.ENOBUFS, errno.EPIPE, errno.ECONNREFUSED)


class Letter(msgspec.Struct, array_like=True, frozen=True):
    """One message. `ticket` joins a question with its answer."""

    sender: int
    kind: str
    body: bytes = b""
    ticket: int = 0


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Letter).decode


class Wires:
    """All inboxes, made before the processes are forked. The last one is the supervisor's."""

    def __init__(self, workers: int) -> None:
        self.supervisor = workers
        self._pairs = [_pair() for _ in range(workers + 1)]

    def inbox(self, number: int) -> socket.socket:
        """Return what a process reads its letters from; one process only."""
        return self._pairs[number][0]

    def send(self, number: int, letter: Letter) -> bool:
        """Put a letter into an inbox; False when it is full."""
        raw = _encode(letter)
        try:
            self._pairs[number][1].send(raw)
        except OSError as error:
            if error.errno in _NOT_TAKEN:
                return False
            raise
        return True

    def receive(self, number: int) -> Letter | None:
        """Take the next letter out; None when there is none."""
        try:
            raw = self._pairs[number][0].recv(_MAX_LETTER_BYTES)
        except BlockingIOError:
            return None
        return _decode(raw) if raw else None

    def close(self) -> None:
        for pair in self._pairs:
            for end in pair:
                end.close()


def _pair() -> tuple[socket.socket, socket.socket]:
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in pair:
        end.setblocking(False)
    return pair
