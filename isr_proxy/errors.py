"""Every exception of isr-proxy.

    IsrProxyError
    ├── ConfigError            a config file cannot be used; carries every Problem at once
    ├── StoreError             the store could not do what was asked
    │   ├── StoreUnavailable   the disk said no (ENOSPC, EROFS, EACCES, EMFILE, EIO)
    │   ├── StoreInUse         another process serves from this directory
    │   ├── EntryTooLarge      a body passed `max_entry`
    │   ├── TooManyVariants    a key has `max_variants` already
    │   ├── Superseded         a younger page is stored already
    │   └── BadEntry           a file is not a whole entry
    ├── OriginError            the origin gave no usable answer; carries the core `Reason`'s word
    │   ├── OriginUnreachable  refused, unresolvable, no healthy origin, TLS failure
    │   ├── OriginTimeout      connect, first byte, between chunks, or the whole
    │   ├── OriginReset        closed before or in the middle of an answer
    │   └── OriginProtocol     not HTTP, or a body cut short of its length
    ├── BodyRefused            the visitor's own body is broken, too large or too slow; carries a `Reason`
    └── VisitorGone            the visitor hung up: nobody is left to answer

Knows nothing but the standard library; every room may raise these.
"""

from __future__ import annotations

from dataclasses import dataclass


class IsrProxyError(Exception):
    """Base of everything raised on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong in a config file: where it is, what is wrong, what is allowed."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        return f"{self.file}:{self.line}:{self.column}: {where}{self.message}"


class ConfigError(IsrProxyError):
    """A config file cannot be used; `problems` holds every error of it, in file order."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class StoreError(IsrProxyError):
    """The store could not do what was asked."""


class StoreUnavailable(StoreError):
    """The disk refused; freshness is lost, never an answer (law 5)."""


class StoreInUse(StoreError):
    """Another process serves from this directory."""


class EntryTooLarge(StoreError):
    """A body passed `max_entry`; the visitor still gets all of it (`Writer.abandon`)."""


class TooManyVariants(StoreError):
    """A key has `max_variants` variants already, and this is a new one."""


class Superseded(StoreError):
    """A page whose fetch began after a younger purge is stored already: the late writer loses."""


class BadEntry(StoreError):
    """A stored file is not a whole entry of a version we read."""


class OriginError(IsrProxyError):
    """The origin gave no usable answer.

    `word` is the value of a `core.decision.Reason`; `answered` tells whether any byte of an answer came,
    which decides whether another connection may be tried.
    """

    def __init__(self, word: str, detail: str, *, answered: bool = False) -> None:
        super().__init__(detail)
        self.word = word
        self.answered = answered


class OriginUnreachable(OriginError):
    """Refused, unresolvable, no healthy origin, or TLS failed."""


class OriginTimeout(OriginError):
    """A deadline passed: connect, first byte, between chunks, or the whole regeneration."""


class OriginReset(OriginError):
    """The origin closed before or in the middle of its answer."""


class OriginProtocol(OriginError):
    """Not HTTP, or a body shorter than it promised."""


class BodyRefused(IsrProxyError):
    """The visitor's own body is not taken any further; `word` is the value of a `core.reason.Reason`."""

    def __init__(self, word: str, detail: str) -> None:
        super().__init__(detail)
        self.word = word


class VisitorGone(IsrProxyError):
    """The visitor hung up; nobody is left to answer."""
