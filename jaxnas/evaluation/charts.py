"""Pictures of comparisons and runs as SVG text, in the ink of the page, which they follow into dark and print.

Where in the river: on the bank. Knows numbers and names; no files, no runs. Marks differ in shape, never in colour.
"""

from collections.abc import Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from matplotlib.ticker import MaxNLocator

WIDTH, ROW, LEFT, RIGHT, FOOT = 760, 34, 240, 24, 52
HALF, HEIGHT = 440, 240  # of a curve's picture
PANELS, PANEL, SIDE, LINE = 4, 148, 120, 12  # of a heat map: in a row, width, names to its left, height of a line
MOST, INKS = 60, 20  # columns of a panel; steps from paper to ink


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


def lines(series: Mapping[str, Sequence[tuple[float, float]]], x: str, y: str, mark: float | None = None) -> str:
    """Curves over whole numbers, told apart by their dashes; a vertical line at `mark`."""
    points = [point for curve in series.values() for point in curve]
    across = _axis([p[0] for p in points], 80, HALF - 12)
    up = _axis([p[1] for p in points], HEIGHT - FOOT, 30)
    whole = all(float(point[1]).is_integer() for point in points)
    parts = [_under(across, 30, HEIGHT - FOOT, x, whole=True), _beside(up, 80, across.stop, y, whole)]
    if mark is not None:
        parts.append(_path(f"M{across.at(mark):.1f} 30V{HEIGHT - FOOT}", "mark"))
    for i, (name, curve) in enumerate(series.items()):
        at = [f"{across.at(a):.1f} {up.at(b):.1f}" for a, b in curve]
        parts.append(_path("M" + "L".join(at), f"bar dash{i}"))
        parts += [
            f'<circle cx="{at[0].split()[0]}" cy="{at[0].split()[1]}" r="3.5" class="{"ring" if i else "mean"}"/>'
        ] * (len(at) == 1)
        if len(series) > 1:
            parts.append(_path(f"M{86 + 110 * i} 14h28", f"bar dash{i}") + _text(120 + 110 * i, 18, name))
    return _svg(HEIGHT, f"{y} over {x}", parts, HALF)


def heat(table: np.ndarray, titles: Sequence[str], names: Sequence[str], x: str) -> str:
    """Scores over time: a panel for each edge, a line for each operation, ink for the score.

    Args:
      table: [T, E, O], at least 0; of a long history a part is drawn, its last row with it.
      titles: of the E panels.
      names: of the O operations.
      x: what the T rows are, counted from 1.
    """
    rows = np.unique(np.linspace(0, len(table) - 1, min(len(table), MOST)).round().astype(int))
    top = float(table.max()) or 1.0
    down, inks = 40 + LINE * len(names), np.ceil(INKS * table[rows] / top).astype(int)
    parts = []
    for e, title in enumerate(titles):
        column, row = e % PANELS, e // PANELS
        left, upper = SIDE + column * (PANEL + 14), 12 + row * down
        parts += [_text(left, upper, title), _panel(inks[:, e], left, upper + 6)]
        if column == 0:
            parts += [_text(SIDE - 8, upper + 15 + LINE * o, _fitting(n, 20), "end") for o, n in enumerate(names)]
        parts.append(_text(left, upper + 18 + LINE * len(names), f"{x} 1"))
        parts.append(_text(left + PANEL, upper + 18 + LINE * len(names), f"{len(table)}", "end"))
    height = 24 + down * -(-len(titles) // PANELS)
    return _svg(height, f"score of each operation over {x}", [*parts, _scale(height - 16, top)])


def _panel(inks: np.ndarray, left: float, upper: float) -> str:
    """One edge: squares of equal ink are one path; [rows, O] -> SVG."""
    width, found = (
        PANEL / len(inks),
        [f'<path d="M{left} {upper}h{PANEL}v{LINE * inks.shape[1]}h-{PANEL}z" class="grid"/>'],
    )
    for ink in range(1, INKS + 1):
        d = "".join(
            f"M{left + t * width:.1f} {upper + LINE * o}h{width:.1f}v{LINE}h-{width:.1f}z"
            for t, o in zip(*np.nonzero(inks == ink), strict=True)
        )
        if d:
            found.append(f'<path d="{d}" class="mean" fill-opacity="{ink / INKS:.2f}"/>')
    return "".join(found)


def _scale(y: float, top: float) -> str:
    """What ink stands for what score."""
    squares = (
        f'<rect x="{SIDE + 36 + 8 * i}" y="{y}" width="8" height="11" class="mean" fill-opacity="{i / INKS:.2f}"/>'
        for i in range(INKS + 1)
    )
    words = _text(SIDE, y + 10, "score 0") + _text(SIDE + 50 + 8 * (INKS + 1), y + 10, f"{top:.2f}")
    return "".join([*squares, words])


def _axis(values: Sequence[float], start: float, stop: float) -> Axis:
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or max(abs(high) * 0.01, 0.5)
    return Axis(low - room, high + room, start, stop)


def _ticks(axis: Axis, whole: bool = False) -> list[tuple[float, str]]:
    found = [
        float(t) for t in MaxNLocator(6, integer=whole).tick_values(axis.low, axis.high) if axis.low <= t <= axis.high
    ]
    found = [tick for tick in found if not whole or abs(tick - round(tick)) < 1e-9]
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


def _under(axis: Axis, top: float, bottom: float, label: str, whole: bool = False) -> str:
    lines = [
        _path(f"M{axis.at(t):.1f} {top}V{bottom}", "grid") + _text(axis.at(t), bottom + 18, told, "middle")
        for t, told in _ticks(axis, whole)
    ]
    return "".join([*lines, _text((axis.start + axis.stop) / 2, bottom + 40, label, "middle")])


def _beside(axis: Axis, left: float, right: float, label: str, whole: bool = False) -> str:
    lines = [
        _path(f"M{left} {axis.at(t):.1f}H{right}", "grid") + _text(left - 8, axis.at(t) + 4, told, "end")
        for t, told in _ticks(axis, whole)
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


def _svg(height: float, label: str, parts: Sequence[str], width: float = WIDTH) -> str:
    box = f'viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{"".join(parts)}</svg>'
