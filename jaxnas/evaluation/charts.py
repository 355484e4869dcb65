"""Pictures of a comparison as SVG text, drawn in the ink of the page, so that they follow it into dark and print.

Where in the river: on the bank. Knows numbers and names; no files, no runs. Marks differ in shape, never in colour.
"""

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

WIDTH, ROW, LEFT, RIGHT, FOOT = 760, 34, 240, 24, 52


class Row(NamedTuple):
    """A line of dots: one for each run, and their mean with its interval."""

    name: str
    values: tuple[float, ...]
    mean: float
    interval: tuple[float, float] | None


class Point(NamedTuple):
    """A named place in a plane."""

    name: str
    x: float
    y: float


class Axis(NamedTuple):
    """Numbers -> pixels."""

    low: float
    high: float
    start: float
    stop: float

    def at(self, value: float) -> float:
        """The pixel of a number."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.stop - self.start)


def dots(rows: Sequence[Row], label: str) -> str:
    """One line for each method: runs as rings, the mean as a diamond, its interval as a bar."""
    ends = [x for row in rows for x in (*row.values, *(row.interval or ()))]
    axis, height = _axis(ends, LEFT, WIDTH - RIGHT), ROW * len(rows) + FOOT
    lines = [_row(row, axis, ROW * i + ROW / 2) for i, row in enumerate(rows)]
    return _svg(height, label, [_under(axis, 0, height - FOOT, label), *lines])


def plane(points: Sequence[Point], x: str, y: str) -> str:
    """Named points over two axes."""
    height, left = 340, 76
    across, up = (
        _axis([p.x for p in points], left, WIDTH - RIGHT),
        _axis([p.y for p in points], height - FOOT, 14),
    )
    frame = [_under(across, 14, height - FOOT, x), _beside(up, left, across.stop, y)]
    return _svg(height, f"{y} over {x}", [*frame, *(_point(p, across.at(p.x), up.at(p.y)) for p in points)])


def _axis(values: Sequence[float], start: float, stop: float) -> Axis:
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or max(abs(high) * 0.01, 0.5)
    return Axis(low - room, high + room, start, stop)


def _ticks(axis: Axis) -> list[tuple[float, str]]:
    found = [float(t) for t in MaxNLocator(6).tick_values(axis.low, axis.high) if axis.low <= t <= axis.high]
    digits = next((n for n in range(6) if np.allclose(found, np.round(found, n), rtol=0, atol=1e-9)), 6)
    return [(tick, f"{tick:,.{digits}f}") for tick in found]


def _row(row: Row, axis: Axis, y: float) -> str:
    parts = [_text(LEFT - 14, y + 4, _fitting(row.name, 30), "end")]
    if row.interval:
        a, b = (axis.at(end) for end in row.interval)
        parts.append(_path(f"M{a:.1f} {y}H{b:.1f}M{a:.1f} {y - 6}v12M{b:.1f} {y - 6}v12", "bar"))
    parts += [f'<circle cx="{axis.at(v):.1f}" cy="{y}" r="4.5" class="ring"/>' for v in row.values]
    return "".join([*parts, _path(f"M{axis.at(row.mean):.1f} {y - 7}l6 7l-6 7l-6-7z", "mean")])


def _point(point: Point, x: float, y: float) -> str:
    side, anchor = (10, "start") if x < WIDTH / 2 else (-10, "end")  # away from the nearer border
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" class="mean"/>' + _text(
        x + side, y + 4, _fitting(point.name, 30), anchor
    )


def _under(axis: Axis, top: float, bottom: float, label: str) -> str:
    lines = [
        _path(f"M{axis.at(t):.1f} {top}V{bottom}", "grid") + _text(axis.at(t), bottom + 18, told, "middle")
        for t, told in _ticks(axis)
    ]
    return "".join([*lines, _text((axis.start + axis.stop) / 2, bottom + 40, label, "middle")])


def _beside(axis: Axis, left: float, right: float, label: str) -> str:
    lines = [
        _path(f"M{left} {axis.at(t):.1f}H{right}", "grid") + _text(left - 8, axis.at(t) + 4, told, "end")
        for t, told in _ticks(axis)
    ]
    middle = (axis.start + axis.stop) / 2
    turned = f'<text transform="translate(16 {middle}) rotate(-90)" text-anchor="middle">{escape(label)}</text>'
    return "".join([*lines, turned])


def _fitting(name: str, most: int) -> str:
    return name if len(name) <= most else name[: most - 1] + "…"


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _path(points: str, kind: str) -> str:
    return f'<path d="{points}" class="{kind}"/>'


def _svg(height: float, label: str, parts: Sequence[str]) -> str:
    box = f'viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(label)}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{"".join(parts)}</svg>'
