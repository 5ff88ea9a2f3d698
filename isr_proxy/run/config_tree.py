"""The data of a config: YAML nodes become plain data that still knows where each piece of it stood.

Knows positions, anchors, merge keys and `${VAR}`. Must not know which keys exist. Every scalar stays text
(null becomes None): what it is meant to be, the model says, so that `007`, `no` and a token of digits are
what was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from isr_proxy.errors import Problem
from isr_proxy.run.config_yaml import MAX_DEPTH, START, TOO_DEEP, Mark, compose, failure, mark_after, mark_of

Path = tuple[str | int, ...]
Data = str | None | list["Data"] | dict[str, "Data"]

MAX_VALUES: Final = 50_000  # after aliases are followed, so that a few lines cannot become gigabytes

_STANDARD: Final = "tag:yaml.org,2002:"
_SCALAR_TAGS: Final = {
    _STANDARD + name for name in ("str", "int", "float", "bool", "null", "timestamp", "value", "merge")
}
_SHOWN: Final = 60
_NULL: Final = re.compile(r"~|null|Null|NULL|")
_NULL_TAG: Final = _STANDARD + "null"
_MERGE: Final = _STANDARD + "merge"
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
_VARIABLE: Final = re.compile(
    r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-((?:(?!\$\{)[^}])*))?\}|\$\{", re.DOTALL
)


@dataclass(slots=True)
class Document:
    """A file as data, the place of every key and value in it, and what was wrong so far."""

    file: str
    data: dict[str, Data] = field(default_factory=dict)
    values: dict[Path, Mark] = field(default_factory=dict)
    keys: dict[Path, Mark] = field(default_factory=dict)
    expanded: set[Path] = field(default_factory=set)  # came from the environment: never repeated in a message
    broken: set[Path] = field(default_factory=set)  # already reported: what the model says of them is noise
    problems: list[Problem] = field(default_factory=list)

    def value_mark(self, path: Path) -> Mark:
        """Return where the value of a path stands, or the nearest that holds it."""
        return next(
            (self.values[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.values), START
        )

    def key_mark(self, path: Path) -> Mark:
        """Return where the key of a path stands."""
        return self.keys.get(path) or self.value_mark(path)

    def has(self, path: Path) -> bool:
        """Tell whether the file has this path."""
        return path in self.values

    def is_broken(self, path: Path) -> bool:
        """Tell whether a path, or what holds it, is reported already."""
        return any(path[:length] in self.broken for length in range(len(path) + 1))

    def report(self, path: Path, mark: Mark, message: str) -> None:
        self.problems.append(Problem(self.file, mark.line, mark.column, show_path(path), message))


def show_path(path: Path) -> str:
    """Return a path as users write it: `routes[2].key.query`."""
    shown = "".join(f"[{part}]" if isinstance(part, int) else f".{_one_line(part)}" for part in path)
    return shown.removeprefix(".")


def _one_line(text: str) -> str:
    short = text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
    return short if short.isprintable() else short.encode("unicode_escape").decode("ascii")


def quote(text: str) -> str:
    """Return text as a message shows it: on one line, and not all of it when it is long."""
    return f"`{_one_line(text)}`"


def read(text: str, file: str, environ: Mapping[str, str]) -> Document:
    """Return a config's data with its positions; ConfigError when there is nothing to look at."""
    text = text.removeprefix("\ufeff")
    root = compose(text, file)
    if root is None or (isinstance(root, ScalarNode) and _NULL.fullmatch(root.value)):
        raise failure(file, "the file is empty; the least is `origin: {url: http://localhost:3000}`")
    if not isinstance(root, MappingNode):
        raise failure(
            file, "the file is not a mapping; write keys such as `origin:`", mark_of(root.start_mark)
        )
    document = Document(file)
    data = _Walk(text, environ, document).walk(root, ())
    document.data = data if isinstance(data, dict) else {}
    return document


class _Walk:
    """One walk over a node tree, with a budget: aliases make a tree larger than its text."""

    def __init__(self, text: str, environ: Mapping[str, str], document: Document) -> None:
        self._text = text
        self._environ = environ
        self._document = document
        self._left = MAX_VALUES
        self._open: list[int] = []  # the nodes we are inside of

    def walk(self, node: Node, path: Path) -> Data:
        self._enter(node)
        self._document.values[path] = mark_of(node.start_mark)
        try:
            match node:
                case MappingNode() if node.tag == _STANDARD + "map":
                    return self._mapping(node, path)
                case SequenceNode() if node.tag == _STANDARD + "seq":
                    return [self.walk(item, (*path, index)) for index, item in enumerate(node.value)]
                case ScalarNode() if node.tag in _SCALAR_TAGS:
                    return self._scalar(node, path)
                case _:
                    message = "has a YAML tag (`!...`), which means nothing here; put text in quotes"
                    self._break(path, mark_of(node.start_mark), message)
                    return None
        finally:
            self._open.pop()

    def _enter(self, node: Node) -> None:
        self._left -= 1
        mark = mark_of(node.start_mark)
        if self._left < 0:
            raise failure(self._document.file, f"aliases make more than {MAX_VALUES} values", mark)
        if id(node) in self._open:
            raise failure(self._document.file, "an alias that stands inside of what it names", mark)
        if len(self._open) >= MAX_DEPTH:
            raise failure(self._document.file, TOO_DEEP, mark)
        self._open.append(id(node))

    def _report(self, path: Path, node: Node, message: str) -> None:
        self._document.report(path, mark_of(node.start_mark), message)

    def _break(self, path: Path, mark: Mark, message: str) -> None:
        self._document.broken.add(path)
        self._document.report(path, mark, message)

    def _mapping(self, node: MappingNode, path: Path) -> Data:
        data: dict[str, Data] = {}
        for key, value in self._entries(node, path):
            below = (*path, key.value)
            if key.value not in data:
                self._document.keys[below] = mark_of(key.start_mark)
                data[key.value] = self.walk(value, below)
        return data

    def _entries(self, node: MappingNode, path: Path) -> Iterator[tuple[ScalarNode, Node]]:
        """Yield a mapping's own entries, then those that `<<` brings."""
        seen: dict[str, Node] = {}
        merged: list[Node] = []
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._report(path, key, "a key is one word, not a list or a mapping")
            elif key.value in seen:
                first = mark_of(seen[key.value].start_mark)
                place = f"line {first.line}, column {first.column}"
                self._report((*path, key.value), key, f"duplicate key; the first one is at {place}")
            else:
                seen[key.value] = key
                if key.tag == _MERGE:
                    merged.append(value)
                else:
                    yield key, value
        for value in merged:
            yield from self._merged(value, path)

    def _merged(self, node: Node, path: Path) -> Iterator[tuple[ScalarNode, Node]]:
        self._enter(node)
        if isinstance(node, MappingNode):
            yield from self._entries(node, path)
        elif isinstance(node, SequenceNode):
            for item in node.value:
                yield from self._merged(item, path)
        else:
            self._report((*path, "<<"), node, "`<<` takes a mapping or a list of mappings, as in `<<: *name`")
        self._open.pop()

    def _scalar(self, node: ScalarNode, path: Path) -> Data:
        text = self._expand(node, path) if "${" in node.value else str(node.value)
        if _CONTROL.search(text):
            self._break(path, mark_of(node.start_mark), "has a control character; allowed: printable text")
            return None
        if path in self._document.expanded:  # typed again, as if the file had said it
            return None if node.style is None and _NULL.fullmatch(text) else text
        return None if node.tag == _NULL_TAG else text

    # --- ${VAR} ---

    def _expand(self, node: ScalarNode, path: Path) -> str:
        def fill(found: re.Match[str]) -> str:
            if found[0] == "$${":
                return "${"
            self._document.expanded.add(path)
            return self._variable(found, node, path)

        return _VARIABLE.sub(fill, node.value)

    def _variable(self, found: re.Match[str], node: ScalarNode, path: Path) -> str:
        name, default = found[1], found[2]
        if name is None:
            message = "`${` without a variable; allowed: ${NAME}, ${NAME:-default}, or $${ for the text ${"
            self._break(path, self._place(node, "${"), message)
            return ""
        value = self._environ.get(name)
        if default is not None:
            return value or str(default)
        if value is None:
            message = f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}"
            self._break(path, self._place(node, "${" + name), message)
        return value or ""

    def _place(self, node: ScalarNode, sought: str) -> Mark:
        """Return where a variable stands inside its scalar."""
        start, stop = node.start_mark.index, node.end_mark.index
        found = self._text.find(sought, start, stop)
        return mark_of(node.start_mark) if found < 0 else mark_after(self._text[:found])
