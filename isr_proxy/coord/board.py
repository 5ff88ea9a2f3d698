"""The board: one small piece of memory that all workers of a host share.

Knows words of eight bytes and who may write which. Must not know what the numbers are used for. A word is
read and written in one step (aligned, by the processor), and each has one writer at a time, so nothing here
is ever locked. The memory outlives every worker; it ends with the supervisor.

    epoch                 of the purge log: the youngest sequence in force; written under its lock
    stamps                65,536 words: what lies under a key was changed, by digest
    tally                 what all workers together count of the store, written under the catalog's lock
    one row a worker      written by him alone, and by the supervisor while he is not there
"""

from __future__ import annotations

import mmap
import os
from typing import Final

WORD: Final = 8
MAX_WORKERS: Final = 256
STAMPS: Final = 1 << 16

EPOCH: Final = 0
_WATCHED: Final = 1
_RESTARTS: Final = 2
_TALLY: Final = 512
TALLY_WORDS: Final = 512
_ROWS: Final = _TALLY + TALLY_WORDS
_ROW_WORDS: Final = 8  # a cache line each
_STAMPS_AT: Final = _ROWS + MAX_WORKERS * _ROW_WORDS
_WORDS: Final = _STAMPS_AT + STAMPS

_TAKEN: Final = 0  # a process sits there, or is just starting to
_APPLIED: Final = 1  # the purge sequence that it has put in force
_WAITING: Final = 2  # how many of its flights wait for leases
_PROMISED: Final = 3  # bytes of disk that it has promised and not written down
_READY: Final = 4  # it serves


def place_of(digest: bytes) -> int:
    """Return which stamp a key's digest has."""
    return digest[0] << 8 | digest[1]


class Board:
    """The shared memory, mapped before the workers are forked."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _WORDS * WORD)
        self.words = memoryview(self._memory).cast("q")
        self.watched = self.words[_WATCHED : _WATCHED + 1]  # not 0: somebody watches what happens
        self.stamps = self.words[_STAMPS_AT:]
        self.tally = self.words[_TALLY : _TALLY + TALLY_WORDS]

    @classmethod
    def make(cls) -> Board:
        """Make an empty board; its descriptor is also the file that locks are taken on."""
        descriptor = os.memfd_create("isr-proxy", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, _WORDS * WORD)
        return cls(descriptor)

    @property
    def epoch(self) -> int:
        return self.words[EPOCH]

    @epoch.setter
    def epoch(self, sequence: int) -> None:
        self.words[EPOCH] = sequence

    @property
    def restarts(self) -> int:
        """How many workers had to be replaced since the start."""
        return self.words[_RESTARTS]

    @restarts.setter
    def restarts(self, count: int) -> None:
        self.words[_RESTARTS] = count

    def row(self, slot: int) -> Row:
        """Return one worker's row."""
        start = _ROWS + slot * _ROW_WORDS
        return Row(self.words[start : start + _ROW_WORDS])


class Row:
    """What one worker says of itself."""

    __slots__ = ("_words",)

    def __init__(self, words: memoryview[int]) -> None:
        self._words = words

    def take(self) -> None:
        """Seat a new process, before it is there: it has put no purge in force, and promised nothing."""
        self.leave()
        self._words[_TAKEN] = 1

    def leave(self) -> None:
        """Say that nobody sits here."""
        for number in (_TAKEN, _APPLIED, _WAITING, _PROMISED, _READY):
            self._words[number] = 0

    @property
    def is_taken(self) -> bool:
        return self._words[_TAKEN] != 0

    @property
    def applied(self) -> int:
        return self._words[_APPLIED]

    @applied.setter
    def applied(self, sequence: int) -> None:
        self._words[_APPLIED] = sequence

    @property
    def waiting(self) -> int:
        return self._words[_WAITING]

    @waiting.setter
    def waiting(self, count: int) -> None:
        self._words[_WAITING] = count

    @property
    def promised(self) -> int:
        return self._words[_PROMISED]

    @promised.setter
    def promised(self, size_bytes: int) -> None:
        self._words[_PROMISED] = size_bytes

    @property
    def is_ready(self) -> bool:
        return self._words[_READY] != 0

    @is_ready.setter
    def is_ready(self, ready: bool) -> None:
        self._words[_READY] = int(ready)
