"""The text of a config: bytes become a tree of YAML nodes, or one clear error with its place.

Knows YAML's syntax and its limits. Must not know what the nodes mean. Messages never repeat what was
written: a stray `*` or `&` may be the first character of a secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

import yaml
from yaml.nodes import Node

from isr_proxy.errors import ConfigError, Problem

MAX_FILE_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 24
TOO_DEEP: Final = f"nested more than {MAX_DEPTH} levels deep"


@dataclass(frozen=True, slots=True, order=True)
class Mark:
    """A place in the file; both count from 1."""

    line: int
    column: int


START: Final = Mark(1, 1)


def mark_of(mark: Any) -> Mark:
    """Return where one of YAML's own marks stands."""
    return Mark(mark.line + 1, mark.column + 1)


def failure(file: str, message: str, mark: Mark = START) -> ConfigError:
    """Return the error of a file of which nothing can be read."""
    return ConfigError((Problem(file, mark.line, mark.column, "", message),))


def decode(raw: bytes, file: str) -> str:
    """Return the text of a file; ConfigError when it is not UTF-8 or too large."""
    if len(raw) > MAX_FILE_BYTES:
        raise failure(file, f"the file is larger than {MAX_FILE_BYTES} bytes")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = raw[: error.start].decode("utf-8-sig", "replace")
        raise failure(file, "not UTF-8 text; save the file as UTF-8", mark_after(before)) from None


def mark_after(text: str) -> Mark:
    lines = re.split(r"\r\n|[\n\r\x85\u2028\u2029]", text)
    return Mark(len(lines), len(lines[-1]) + 1)


class _Loader(yaml.SafeLoader):
    """Composes nodes to a bounded depth."""

    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.composer.ComposerError(None, None, TOO_DEEP, self.get_mark())
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


def compose(text: str, file: str) -> Node | None:
    """Return the node tree of a file, None when it is empty; ConfigError with the place of a syntax error."""
    if len(text) > MAX_FILE_BYTES:
        raise failure(file, f"the file is larger than {MAX_FILE_BYTES} characters")
    loader: _Loader | None = None
    try:
        loader = _Loader(text)
        return loader.get_single_node()
    except yaml.reader.ReaderError as error:
        raise failure(
            file, "a character that YAML does not allow", mark_after(text[: error.position])
        ) from None
    except yaml.MarkedYAMLError as error:
        raise _syntax_failure(file, text, error) from None
    except (ValueError, OverflowError):  # an escape or a directive with a number out of range
        mark = START if loader is None else mark_of(loader.get_mark())
        raise failure(file, "not YAML: a number that is out of range", mark) from None


def _syntax_failure(file: str, text: str, error: yaml.MarkedYAMLError) -> ConfigError:
    at = error.problem_mark or error.context_mark
    if at is None:
        return failure(file, _plain_words(error, ""))
    return failure(file, _plain_words(error, text[max(0, at.index - 1) : at.index + 1]), mark_of(at))


def _plain_words(error: yaml.MarkedYAMLError, around: str) -> str:
    """Say what is wrong without repeating what was written: it may be a secret."""
    problem = error.problem or "cannot be read"
    if problem == TOO_DEEP:
        return problem
    if around == "${":
        return 'not YAML: between {} or [], a variable needs quotes, as in "${NAME}"'
    if around.endswith("\t"):
        return "a tab where YAML allows only spaces; indent with spaces"
    if "undefined alias" in problem:
        return "not YAML: this alias names no anchor; text that starts with `*` needs quotes"
    if "another document" in problem:
        return "a second document starts here; a config is one"
    if "mapping values are not allowed" in problem:
        return "not YAML: a `:` where no key can be; check the indentation, or put the text in quotes"
    context = f" {error.context}" if error.context and '"' not in error.context else ""
    return f"not YAML:{context and context + ','} {problem.partition(chr(34))[0].strip()}"
