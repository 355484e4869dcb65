"""Where the edges of a cell are drawn: curves over and under its states, and places for their labels.

Where in the river: on the bank, under `drawing`. Geometry in inches; it draws nothing.
"""

from collections.abc import Sequence
from math import comb
from typing import NamedTuple

import numpy as np
from matplotlib.path import Path
from matplotlib.textpath import TextPath

from jaxnas.spaces.genotype import Choice

FONT = 9  # points; cells are laid out in inches
BOX = (0.62, 0.34)  # width and height of a state
LEVEL = 0.36  # between arcs that lie above each other


class Arc(NamedTuple):
    """Where one edge of a cell is drawn: a curve over (side 1) or under (side -1) the row of states."""

    choice: Choice
    side: int  # 0: a straight line between neighbours
    level: int


def inches(text: str) -> float:
    """Width of a label."""
    return TextPath((0, 0), text, size=FONT).get_extents().width / 72


def bounds(arcs: Sequence[Arc]) -> tuple[float, float]:
    """How far a cell reaches down and up from the middle of its states."""
    highest = {side: max((arc.level for arc in arcs if arc.side == side), default=0) for side in (1, -1)}
    return -(BOX[1] / 2 + LEVEL * highest[-1] + 0.65), BOX[1] / 2 + LEVEL * highest[1] + 0.55


def lay(edges: Sequence[Choice]) -> list[Arc]:
    """A side and a level for every edge: neighbours straight, few crossings, short arcs under long ones."""
    arcs: list[Arc] = []
    for choice in sorted(edges, key=lambda edge: (edge.target - edge.source, edge.source)):
        costs = [(*_cost(choice, [arc for arc in arcs if arc.side == side]), -side) for side in (1, -1)]
        _, level, side = min(costs)
        straight = choice.target - choice.source == 1 and all(arc.choice[1:] != choice[1:] for arc in arcs)
        arcs.append(Arc(choice, 0, 0) if straight else Arc(choice, -side, level))
    return arcs


def _cost(choice: Choice, beside: Sequence[Arc]) -> tuple[int, int]:
    """Crossings with the arcs on this side, and the level above those that it overlaps."""
    _, a, b = choice
    crossings = sum(s < a < t < b or a < s < b < t for (_, s, t), _, _ in beside)
    return crossings, 1 + max((level for (_, s, t), _, level in beside if s < b and a < t), default=0)


def ports(arcs: Sequence[Arc]) -> np.ndarray:
    """Where arcs leave and enter the boxes, from their middles `[arcs, 2]`: long arcs outside short ones."""
    ranked = sorted(range(len(arcs)), key=lambda i: -arcs[i].level)
    found = np.zeros((len(arcs), 2))
    for end, sign in ((0, 1), (1, -1)):
        for at in {(arc.choice[1 + end], arc.side) for arc in arcs}:
            here = [i for i in ranked if (arcs[i].choice[1 + end], arcs[i].side) == at]
            found[here, end] = sign * np.linspace(0.07, 0.24, max(len(here), 2))[: len(here)]
    return found


def curve(arc: Arc, port: np.ndarray, step: float) -> Path:
    """A cubic Bezier curve whose middle is `level` steps over or under the boxes."""
    (_, source, target), (start, stop) = arc.choice, port
    if arc.side == 0:
        return Path([(source * step + BOX[0] / 2, 0), (target * step - BOX[0] / 2, 0)])
    a, b, y = source * step + start, target * step + stop, arc.side * BOX[1] / 2
    bend, reach = y + arc.side * LEVEL * arc.level / 0.75, 0.12 * (b - a)
    return Path([(a, y), (a + reach, bend), (b - reach, bend), (b, y)], [1, 4, 4, 4])


def _points(curve: Path, at: np.ndarray) -> np.ndarray:
    """Points of a Bezier curve or a straight line: `[T]` places between 0 and 1 -> `[T, 2]`."""
    corners, t = np.asarray(curve.vertices), at[:, None]
    n = len(corners) - 1
    return sum(comb(n, k) * t**k * (1 - t) ** (n - k) * corner for k, corner in enumerate(corners))


def spots(labels: Sequence[str], curves: Sequence[Path], rails: Sequence[Path]) -> list[np.ndarray]:
    """Where on its curve each label covers least of the rest; its middle if it can."""
    lines = [_points(curve, np.linspace(0, 1, 200)) for curve in (*curves, *rails)]
    frame = np.stack(np.meshgrid(np.linspace(-1, 1, 15), np.linspace(-1, 1, 5)), -1).reshape(-1, 2)
    chosen: list[np.ndarray] = []
    for i, (label, curve) in enumerate(zip(labels, curves, strict=True)):
        half = np.array([inches(label) / 2 + 0.07, 0.13])
        others = np.concatenate(lines[:i] + lines[i + 1 :])
        shift = np.linspace(0, 0.3, 25) * (curve.codes is not None)  # straight: middle
        places = _points(curve, 0.5 + np.stack([shift, -shift], 1).ravel())
        covered = (np.abs(others - places[:, None]) < half).all(-1).sum(-1)
        chosen.append(places[covered.argmin()])
        lines[i] = np.concatenate([lines[i], chosen[i] + frame * half])
    return chosen
