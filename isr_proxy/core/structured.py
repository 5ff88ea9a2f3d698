"""Structured Fields (RFC 9651), as far as they are read here; http-sf does the work.

Knows how the library's answers become plain values. Must not know what any field means.
"""

from __future__ import annotations

from collections.abc import Iterable

import http_sf


def parse_dictionary(value: str) -> dict[str, object] | None:
    """Return a Dictionary's members without their parameters; None when it is malformed.

    An inner list becomes a list of its items.
    """
    try:
        members = http_sf.parse(value.encode("latin-1"), tltype="dictionary")
    except ValueError:
        return None
    assert isinstance(members, dict)
    return {name: _bare(member) for name, member in members.items()}


def parse_strings(values: Iterable[str]) -> list[str]:
    """Return the members of a List of Strings; none when it is malformed or has another member."""
    try:
        members = http_sf.parse(", ".join(values).encode("latin-1"), tltype="list")
    except ValueError:
        return []
    assert isinstance(members, list)
    found = [_bare(member) for member in members]
    strings = [item for item in found if isinstance(item, str)]
    return strings if len(strings) == len(found) else []


def _bare(member: object) -> object:
    """Drop parameters: of a member, and of each item of an inner list."""
    value = member[0] if isinstance(member, tuple) else member
    return [_bare(item) for item in value] if isinstance(value, list) else value
