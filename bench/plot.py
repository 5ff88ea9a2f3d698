"""The result as a picture: horizontal bars, as SVG.

Knows bars, groups and a scale. Must not know what they mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

_WIDTH: Final = 860
_LEFT: Final = 250  # of the bars
_RIGHT: Final = 150  # room for the values
_BAR: Final = 15
_GAP: Final = 14  # between groups
_TOP: Final = 92
_BOTTOM: Final = 44
_STYLE: Final = (
    "text{font-family:system-ui,'DejaVu Sans',Arial,sans-serif;font-size:12px;fill:#24292f}"
    ".value{paint-order:stroke;stroke:#ffffff;stroke-width:3px}"
    ".title{font-size:16px;font-weight:600}.small{font-size:11px;fill:#57606a}.group{font-weight:600}"
)


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its place on the scale, and what is written beside it."""

    series: str
    value: float
    text: str


@dataclass(frozen=True, slots=True)
class Group:
    """Bars that are compared with each other."""

    title: str
    bars: tuple[Bar, ...]


def svg(title: str, note: str, groups: Sequence[Group], colours: Mapping[str, str], end: float) -> str:
    """Draw groups on a scale from 0 to `end`, with a line at 1; a longer bar is cut and says so."""
    height = _TOP + _BOTTOM + sum(len(group.bars) * _BAR + _GAP for group in groups)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"'
        f' viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        _text(20, 30, title, "title"),
        _text(20, 50, note, "small"),
        *_legend(groups, colours),
        *_scale(end, height),
    ]
    top = _TOP
    for group in groups:
        parts += _drawn(group, top, colours, end)
        top += len(group.bars) * _BAR + _GAP
    return "\n".join([*parts, "</svg>\n"])


def _legend(groups: Sequence[Group], colours: Mapping[str, str]) -> list[str]:
    shown = {bar.series for group in groups for bar in group.bars}
    parts, left = [], 20.0
    for series, colour in colours.items():
        if series in shown:
            parts.append(f'<rect x="{left:g}" y="62" width="11" height="11" fill="{colour}"/>')
            parts.append(_text(left + 16, 72, series, ""))
            left += 36 + 7 * len(series)
    return parts


def _scale(end: float, height: int) -> list[str]:
    parts, step = [], 0.5 if end <= 5 else 1.0
    for number in range(int(end / step) + 1):
        at = _x(number * step, end)
        parts.append(f'<line x1="{at}" x2="{at}" y1="{_TOP - 6}" y2="{height - _BOTTOM}" stroke="#eaeef2"/>')
        parts.append(_text(at, height - _BOTTOM + 16, f"{number * step:g}", "small", "middle"))
    at = _x(1, end)
    parts.append(f'<line x1="{at}" x2="{at}" y1="{_TOP - 6}" y2="{height - _BOTTOM}" stroke="#24292f"/>')
    return parts


def _drawn(group: Group, top: float, colours: Mapping[str, str], end: float) -> list[str]:
    middle = top + len(group.bars) * _BAR / 2 + 4
    parts = [_text(_LEFT - 10, middle, group.title, "group", "end")]
    for number, bar in enumerate(group.bars):
        at, width = top + number * _BAR, round(_x(min(bar.value, end), end) - _LEFT, 1)
        fill = colours.get(bar.series, "#8c959f")
        parts.append(f'<rect x="{_LEFT}" y="{at:g}" width="{width:g}" height="{_BAR - 2}" fill="{fill}"/>')
        is_cut = bar.value > end
        if is_cut:
            parts.append(_cut(_LEFT + width - 14, at))
        parts.append(_text(_LEFT + width + 6, at + 11, bar.text, "small value"))
    return parts


def _cut(left: float, top: float) -> str:
    """Return the mark of a bar that goes on beyond the scale."""
    bottom = top + _BAR - 2
    points = f"{left:g},{bottom:g} {left + 5:g},{top:g} {left + 9:g},{top:g} {left + 4:g},{bottom:g}"
    return f'<polygon points="{points}" fill="#ffffff"/>'


def _x(value: float, end: float) -> float:
    return round(_LEFT + value / end * (_WIDTH - _LEFT - _RIGHT), 1)


def _text(left: float, top: float, words: str, kind: str, anchor: str = "start") -> str:
    return f'<text x="{left:g}" y="{top:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'
