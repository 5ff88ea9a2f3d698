"""The admin API's JSON, and the route report, as tables for people.

Knows terminals, and that names tell units: `_at` an instant, `_bytes` a size, `ttl` and `age` seconds. Must
not know how the data was come by. Whatever a server sent is escaped: a path cannot move the cursor.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final, TextIO

from rich import box
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from isr_proxy.serve.plain_text import printable

_WIDE: Final = 10_000  # columns, where nobody looks: a program gets every line whole
_MAX_COLUMNS: Final = 8  # objects with more are shown one below the other
_SHORT: Final = 16  # what is no longer than this is not broken into two lines
_TITLES: Final = {"number": "#", "stale_while_revalidate": "stale for", "stale_if_error": "on error for"}
_DURATIONS: Final = ("ttl", "age", "uptime", "interval")
_STYLES: Final = {
    "fresh": "green",
    "ok": "green",
    "up": "green",
    "done": "green",
    "look-up": "green",
    "stale": "yellow",
    "probing": "yellow",
    "pass": "magenta",
    "running": "cyan",
    "dead": "red",
    "down": "red",
    "failed": "red",
    "refuse": "red",
}


class Screen:
    """Where a command's answer is shown: a terminal, or a pipe that gets plain lines."""

    def __init__(self, stream: TextIO) -> None:
        is_terminal = stream.isatty()
        self.console = Console(
            file=stream,
            width=None if is_terminal else _WIDE,
            no_color=None if is_terminal else True,
            markup=False,
            highlight=False,
            emoji=False,
        )

    def line(self, text: str, style: str = "") -> None:
        """Show one line; a terminal wraps it, nothing cuts it."""
        self.console.print(Text(printable(text), style), soft_wrap=True)

    def rows(self, rows: Sequence[Any], columns: Sequence[str] = ()) -> None:
        """Show mappings or dataclasses as a table; of `columns` only those that any row has."""
        if not rows:
            self.line("nothing", "dim")
            return
        maps = [_as_mapping(row) for row in rows]
        names = _columns(maps, columns)
        table = Table(
            box=box.SIMPLE_HEAD if self.console.is_terminal else None, pad_edge=False, padding=(0, 1)
        )
        for name in names:
            is_short = all(len(value_words(name, row.get(name))) <= _SHORT for row in maps)
            justify: JustifyMethod = "right" if _is_numeric(name, maps) else "left"
            table.add_column(_title(name), justify=justify, overflow="fold", no_wrap=is_short)
        for row in maps:
            table.add_row(*(_styled(name, row.get(name)) for name in names))
        self.console.print(table)

    def blocks(self, rows: Sequence[Any]) -> None:
        """Show objects that are too wide for a table, one below the other."""
        for number, row in enumerate(rows):
            if number:
                self.console.print()
            self.facts(_as_mapping(row))

    def facts(self, data: Mapping[str, Any]) -> None:
        """Show one object: its simple values first, then each list and object under its name."""
        simple = {name: value for name, value in data.items() if not _is_nested(value)}
        table = Table(box=None, show_header=False, pad_edge=False)
        for name, value in simple.items():
            table.add_row(Text(_title(name), "bold"), _styled(name, value))
        if simple:
            self.console.print(table)
        for name, value in data.items():
            if _is_nested(value):
                self.console.print(Text(f"\n{_title(name)}", "bold underline"))
                self._nested(value)

    def _nested(self, value: Any) -> None:
        if isinstance(value, Mapping):
            self.facts(value)
        elif any(len(_as_mapping(one)) > _MAX_COLUMNS for one in value):
            self.blocks(value)
        else:
            self.rows(value)


def _as_mapping(row: Any) -> Mapping[str, Any]:
    if dataclasses.is_dataclass(row) and not isinstance(row, type):
        return dataclasses.asdict(row)
    return row if isinstance(row, Mapping) else {"value": row}


def _columns(rows: Sequence[Mapping[str, Any]], wanted: Sequence[str]) -> list[str]:
    present = dict.fromkeys(name for row in rows for name in row)
    return [name for name in wanted if name in present] if wanted else list(present)


def _title(name: str) -> str:
    if name in _TITLES:
        return _TITLES[name]
    words = name.removesuffix("_at").removesuffix("_bytes").replace("_", " ")
    return printable(words)


def _is_numeric(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    values = [row.get(name) for row in rows]
    return all(isinstance(value, int | float | None) and not isinstance(value, bool) for value in values)


def _is_nested(value: Any) -> bool:
    if isinstance(value, Mapping):
        return bool(value)
    return isinstance(value, list | tuple) and any(isinstance(one, Mapping | list) for one in value)


def _styled(name: str, value: Any) -> Text:
    words = value_words(name, value)
    return Text(words, _STYLES.get(words.lower(), ""))


def value_words(name: str, value: Any) -> str:
    """Write one JSON value as its name says it is meant."""
    match value:
        case None | "" | []:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ", ".join(value_words("", one) for one in value)
        case Mapping() if not value:
            return "-"
        case Mapping():
            return ", ".join(f"{printable(str(key))}: {value_words(key, one)}" for key, one in value.items())
        case int() | float():
            return _number_words(name, value)
        case _:
            return printable(str(value))


def _number_words(name: str, value: float) -> str:
    if name.endswith("_at"):
        return instant_words(value)
    if name.endswith("_bytes"):
        return size_words(value)
    if name.endswith("_ratio"):
        return f"{value:.1%}"
    if name in _DURATIONS or name.endswith("_seconds"):
        return f"{value:,.1f} s"
    return f"{value:.3f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def instant_words(instant: float) -> str:
    """Write a Unix time in local time; 0 is never."""
    if instant <= 0:
        return "never"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(instant))


def size_words(size: float) -> str:
    """Write a size as the config would."""
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
