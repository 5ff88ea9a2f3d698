"""Purge records: does this record hide that entry?

Knows selectors, sequences and the index that answers for one entry in a handful of dict look-ups, however
many pages a purge hits. Must not know where records or entries are stored.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from isr_proxy.core.value import Value


class Scope(Enum):
    """What a selector names."""

    ALL = "all"
    HOST = "host"
    PATH = "path"  # exact raw path, every query and variant
    TARGET = "target"  # exact raw path and query, every variant
    PREFIX = "prefix"  # raw path prefix
    TAG = "tag"


class Strength(Enum):
    """Hard: unusable at once. Soft: stale at once."""

    HARD = "hard"
    SOFT = "soft"


@dataclass(frozen=True, slots=True)
class Selector:
    """One thing to purge. `host` narrows PATH, TARGET and PREFIX; None: every host."""

    scope: Scope
    value: str = ""
    host: str | None = None
    strength: Strength = Strength.HARD


@dataclass(frozen=True, slots=True)
class Purge:
    """One record of the log."""

    sequence: int
    at: float
    selector: Selector


class Subject(Value, frozen=True):
    """What of an entry a purge can name."""

    host: str
    path: str
    query: str | None
    tags: tuple[str, ...]
    asked: str | None = None  # the query that the origin was asked with, where it is another


class Verdict(Value, frozen=True):
    """What the records younger than an entry's fetch make of it."""

    hidden: bool = False
    stale_at: float | None = None


CLEAN: Final = Verdict()


@dataclass(slots=True)
class _Mark:
    """The youngest records for one name."""

    hard: int = 0
    soft: int = 0
    soft_at: float = 0.0


_Name = tuple[Scope, str | None, str]


class PurgeIndex:
    """The records in force. `sequence` is the youngest ever applied; it never goes back."""

    def __init__(self) -> None:
        self.sequence = 0
        self._marks: dict[_Name, _Mark] = {}
        self._prefix_lengths: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._marks)

    def apply(self, purge: Purge) -> None:
        """Put a record in force."""
        self.sequence = max(self.sequence, purge.sequence)
        selector = purge.selector
        mark = self._mark_for(selector)
        if selector.strength is Strength.HARD:
            mark.hard = max(mark.hard, purge.sequence)
        elif purge.sequence > mark.soft:
            mark.soft, mark.soft_at = purge.sequence, purge.at

    def _mark_for(self, selector: Selector) -> _Mark:
        name = (selector.scope, selector.host, selector.value)
        mark = self._marks.get(name)
        if mark is None:
            mark = self._marks[name] = _Mark()
            if selector.scope is Scope.PREFIX:
                length = len(selector.value)
                self._prefix_lengths[length] = self._prefix_lengths.get(length, 0) + 1
        return mark

    def forget(self, sequence: int) -> None:
        """Drop records up to `sequence`, once every entry fetched before them has been swept."""
        for name, mark in list(self._marks.items()):
            if max(mark.hard, mark.soft) <= sequence:
                del self._marks[name]
                if name[0] is Scope.PREFIX:
                    self._forget_length(len(name[2]))

    def _forget_length(self, length: int) -> None:
        self._prefix_lengths[length] -= 1
        if not self._prefix_lengths[length]:
            del self._prefix_lengths[length]

    def verdict(self, subject: Subject, sequence: int) -> Verdict:
        """Judge an entry whose fetch began at `sequence` of the log."""
        if sequence >= self.sequence or not self._marks:
            return CLEAN
        hidden, stale_at = False, None
        for name in self._names(subject):
            mark = self._marks.get(name)
            if mark is None:
                continue
            hidden = hidden or mark.hard > sequence
            if mark.soft > sequence:
                stale_at = mark.soft_at if stale_at is None else min(stale_at, mark.soft_at)
        return Verdict(hidden, stale_at) if hidden or stale_at is not None else CLEAN

    def names_a_query(self, host: str, path: str, sequence: int) -> bool:
        """Tell whether a record since `sequence` names this path with any query, or with none."""
        return sequence < self.sequence and any(
            max(mark.hard, mark.soft) > sequence
            for (scope, of, value), mark in self._marks.items()
            if scope is Scope.TARGET and of in (None, host) and value.partition("?")[0] == path
        )

    def _names(self, subject: Subject) -> Iterable[_Name]:
        yield Scope.ALL, None, ""
        yield Scope.HOST, None, subject.host
        for host in (None, subject.host):
            yield Scope.PATH, host, subject.path
            yield Scope.TARGET, host, _target(subject.path, subject.query)
            if subject.asked is not None:
                yield Scope.TARGET, host, _target(subject.path, subject.asked)
            for length in self._prefix_lengths:
                if length <= len(subject.path):
                    yield Scope.PREFIX, host, subject.path[:length]
        for tag in subject.tags:
            yield Scope.TAG, None, tag


def _target(path: str, query: str | None) -> str:
    return path if query is None else f"{path}?{query}"


_GROUP: Final = "\x1f"  # no header can hold it, so no tag looks like a group


def group_tag(scheme: str, host: str, name: str) -> str:
    """Return the tag that a cache group is kept as: of one origin, case and all (RFC 9875 §2)."""
    return f"{_GROUP}{scheme}://{host}{_GROUP}{name}"


RULE_TAG: Final = f"{_GROUP}rule"  # of what is stored beside pages, and is none


def is_page(tags: Iterable[str]) -> bool:
    """Tell whether an entry is a page that people may be shown, by its tags."""
    return RULE_TAG not in tags


def visible_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return the tags that people see: groups have theirs beside."""
    return tuple(tag for tag in tags if not tag.startswith(_GROUP))


def normal_tag(tag: str) -> str:
    """Return the form tags are compared in: Cloudflare's are case-insensitive, so all are."""
    return tag.strip().lower()
