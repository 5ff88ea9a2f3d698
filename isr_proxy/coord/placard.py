"""A placard: the last thing that one process has said, for all others to read; it outlives who wrote it.

Knows one piece of memory for each. Must not know what is written. There is one writer at a time; a kill -9
in the middle of writing leaves what was said before.
"""

from __future__ import annotations

import os
import struct
from hashlib import blake2b
from typing import Final

_HEAD: Final = struct.Struct("=qq16s")  # where the text lies, its length, its checksum
_HALF: Final = 1 << 26  # the file is sparse: only what is written takes memory
_TRIES: Final = 5


class Placard:
    """One placard. Make it before the processes are forked."""

    def __init__(self, name: str) -> None:
        self.descriptor = os.memfd_create(f"isr-proxy-{name}", os.MFD_CLOEXEC)

    def write(self, text: bytes) -> None:
        """Say something new: beside what is said now, so that a reader finds either, whole."""
        if len(text) > _HALF - _HEAD.size:
            raise ValueError("too much for a placard")
        start, _, _ = self._head()
        start = _HALF if start < _HALF else _HEAD.size
        os.pwrite(self.descriptor, text, start)
        os.pwrite(self.descriptor, _HEAD.pack(start, len(text), _checksum(text)), 0)

    def read(self) -> bytes:
        """Return what was said last; b"" where nothing was."""
        for _ in range(_TRIES):  # the writer may have come round twice meanwhile
            start, size, checksum = self._head()
            text = os.pread(self.descriptor, size, start)
            if _checksum(text) == checksum:
                return text
        return b""

    def _head(self) -> tuple[int, int, bytes]:
        raw = os.pread(self.descriptor, _HEAD.size, 0)
        if len(raw) < _HEAD.size:
            return 0, 0, b""
        start, size, checksum = _HEAD.unpack(raw)
        return start, size, checksum

    def close(self) -> None:
        os.close(self.descriptor)


def _checksum(text: bytes) -> bytes:
    return blake2b(text, digest_size=16).digest()
