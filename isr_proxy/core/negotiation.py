"""When two values of a request header are the same (RFC 9111 §4.1), and which language is wanted most.

Knows which headers are lists, and of which the order or the case means nothing. Must not know variants or
entries. In doubt two values differ: that costs a fetch, the other would cost a wrong page.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from isr_proxy.core.http import OWS, weights_of

# Not lists: a comma and the blanks beside it are part of the value.
_NOT_LISTS: Final = frozenset(
    {
        "authorization",
        "cookie",
        "date",
        "from",
        "host",
        "if-modified-since",
        "if-unmodified-since",
        "origin",
        "referer",
        "user-agent",
    }
)
_WEIGHTED: Final = frozenset({"accept-language", "accept-charset"})  # case and order mean nothing
_MEMBER: Final = re.compile(r'(?:"(?:[^"\\]|\\.)*+"|[^,])+', re.DOTALL)


def normal_value(name: str, values: Iterable[str]) -> str | None:
    """Return one spelling for all values of a header that mean the same; None where it is absent.

    `name` is lower case, `values` are its lines in order.
    """
    lines = list(values)
    if not lines:
        return None
    value = ", ".join(lines)  # RFC 9110 §5.3: the same as one line of them all
    if name in _NOT_LISTS:
        return value
    if name in _WEIGHTED:
        return ", ".join(_by_weight(value))
    return ", ".join(item for part in _MEMBER.findall(value) if (item := part.strip(OWS)))


def _by_weight(value: str) -> list[str]:
    """Return the members, most wanted first, equals in the order of the alphabet."""
    ordered = sorted(weights_of(value).items(), key=lambda item: (-item[1], item[0]))
    return [name if weight == 1.0 else f"{name};q={weight:g}" for name, weight in ordered]


def is_wanted_most(language: str | None, accept: str | None) -> bool:
    """Tell whether a request has no language that it likes better than a Content-Language (RFC 9110 §12.5.4).

    What has no Content-Language, or more than one, is nobody's language.
    """
    tag = (language or "").strip(OWS).lower()
    weights = {name: weight for name, weight in weights_of(accept).items() if weight > 0}
    if not tag or "," in tag or not weights:
        return False
    best = max(weights.values())
    return any(weight == best and _matches(name, tag) for name, weight in weights.items())


def _matches(language_range: str, tag: str) -> bool:
    """RFC 4647 §3.3.1: the range is the tag, or its beginning before a hyphen."""
    return tag == language_range or tag.startswith(f"{language_range}-")
