"""What pydantic found wrong becomes problems with a place; what is left of the data is checked again.

Knows pydantic's error types and the model's keys. Must not know the meaning of any key but one: what stands
under `admin.token` is never repeated, nor is anything that came from the environment.
"""

from __future__ import annotations

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Final, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from isr_proxy.run.config_model import Block, Config
from isr_proxy.run.config_tree import Data, Document, Path, quote

_KEY_OF_MAPPING: Final = "[key]"  # pydantic's last step to a mapping's key, where we say the key itself
_SECRET: Final[tuple[Path, ...]] = (("admin",), ("admin", "token"))


def validate(document: Document) -> Config:
    """Return the model of what is valid in a document; the document gets a problem for all that is not."""
    while True:
        try:
            return Config.model_validate(document.data)
        except ValidationError as error:
            # What is missing breaks all that holds it, so what is wrong in there is said first.
            for detail in sorted(error.errors(include_url=False), key=lambda one: one["type"] == "missing"):
                _report(document, detail)


def _report(document: Document, detail: ErrorDetails) -> None:
    path = _path(document, detail["loc"])
    if not document.is_broken(path):
        on_key = detail["type"] == "extra_forbidden" or detail["loc"][-1:] == (_KEY_OF_MAPPING,)
        mark = document.key_mark(path) if on_key else document.value_mark(path)
        document.report(path, mark, _message(document, path, detail))
    _prune(document, path)


def _path(document: Document, loc: tuple[str | int, ...]) -> Path:
    """Return the longest part of a place that the file has: pydantic sees a list where a file has one item,
    and a mapping where it has one address."""
    path: Path = ()
    for step in loc:
        if document.has((*path, step)):
            path = (*path, step)
        elif not isinstance(step, int):
            break
    return path


def _message(document: Document, path: Path, detail: ErrorDetails) -> str:
    match detail["type"]:
        case "extra_forbidden":
            return _unknown_key(path)
        case "value_error":
            return f"{_shown(document, path, detail['input'])} {detail['ctx']['error']}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return (
                f"{_shown(document, path, detail['input'])} is not a mapping; allowed: {_keys_allowed(path)}"
            )
        case "missing":
            return f"`{detail['loc'][-1]}` is missing here; allowed: {_keys_allowed(path)}"
        case "tuple_type" | "list_type":
            return f"{_shown(document, path, detail['input'])} is not a list; allowed: [one, two] or - items"
        case _:
            return f"{_shown(document, path, detail['input'])} is not allowed: {detail['msg']}"


def _shown(document: Document, path: Path, value: object) -> str:
    match value:
        case None:
            return "nothing"
        case list():
            return "a list"
        case dict():
            return "a mapping"
        case _ if path in document.expanded or path in _SECRET or "@" in str(value):
            return "the value"
        case _:
            return quote(str(value))


def _unknown_key(path: Path) -> str:
    allowed = _keys_at(path[:-1])
    near = get_close_matches(str(path[-1]).lower(), allowed, n=1)
    if near:
        return f"unknown key, did you mean `{near[0]}`?"
    return f"unknown key; allowed: {', '.join(allowed)}"


def _keys_allowed(path: Path) -> str:
    keys = _keys_at(path)
    return f"the keys {', '.join(keys)}" if keys else "key: value"


def _keys_at(path: Path) -> list[str]:
    block: type[Block] | None = Config
    for step in path:
        if isinstance(step, str) and block is not None:
            info = block.model_fields.get(step)
            block = next(_blocks(info.annotation), None) if info is not None else None
    return [] if block is None else list(block.model_fields)


def _blocks(annotation: Any) -> Iterator[type[Block]]:
    if isinstance(annotation, type) and issubclass(annotation, Block):
        yield annotation
    for inner in get_args(annotation):
        yield from _blocks(inner)


def _prune(document: Document, path: Path) -> None:
    """Take out what is wrong, so that the rest can be checked; a route stays in its place, empty."""
    document.broken.add(path)
    while path:
        parent = _at(document.data, path[:-1])
        if isinstance(parent, dict):
            parent.pop(str(path[-1]), None)
            return
        if isinstance(parent, list) and path[:-1] == ("routes",):
            parent[int(path[-1])] = {}
            return
        path = path[:-1]
    document.data = {}


def _at(data: Data, path: Path) -> Data:
    for step in path:
        match data, step:
            case dict(), str():
                data = data.get(step)
            case list(), int() if step < len(data):
                data = data[step]
            case _:
                return None
    return data
