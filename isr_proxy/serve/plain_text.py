"""Text of strangers, made safe to show: in a log line, in a table, on a terminal.

Knows which characters could end a line, move a cursor or hide what follows. Must not know who shows it.
"""

from __future__ import annotations

import re
from typing import Final

# C0, DEL, C1, line and paragraph separators, direction marks, and bytes that were not UTF-8.
_UNSAFE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_LOW: Final = 0x100


def printable(text: str) -> str:
    """Write every control character as an escape, so that the text stays one harmless line."""
    if text.isascii() and text.isprintable():
        return text
    return _UNSAFE.sub(_escape, text)


def bounded(text: str, limit: int) -> str:
    """Cut a text to `limit` characters, the last of them an ellipsis."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _escape(found: re.Match[str]) -> str:
    number = ord(found.group())
    return f"\\x{number:02x}" if number < _LOW else f"\\u{number:04x}"
