"""How decided alpha is at the end of a search: near the level of gates that are all alike, a cell is a toss of a coin.

Where in the river: the way out, beside decoding. Knows scores and masks as arrays; no alpha, no files.

    entropy = -sum_o p_o log p_o,    level = log(number of living operations),    margin = p_first - p_second

each a mean over the edges of a cell, and over cell types; p are the scores of an edge divided by their sum.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

UNDECIDED = 0.9  # of the level: entropies above it are told as a doubt
CLOSE = 0.05  # margins below it too


class Decision(NamedTuple):
    """Means over edges and cell types."""

    entropy: float  # nats
    level: float  # entropy of gates that are all alike, nats
    margin: float  # between the largest gate of an edge and the second, of 1


def decision(scores: Mapping[str, Any], alive: Mapping[str, np.ndarray]) -> Decision:
    """How decided scores are.

    Args:
      scores: {cell: mean gates [E, O]}; they need not sum to 1.
      alive: {cell: bool [E, O]}, which operations are left.

    >>> decision({"cell": [[0.7, 0.2, 0.1]]}, {"cell": np.ones((1, 3), bool)}).margin
    0.5
    """
    found = [_of_cell(np.asarray(table, float) * alive[cell], alive[cell]) for cell, table in scores.items()]
    return Decision(*(round(float(mean), 6) for mean in np.mean(found, 0)))


def level(alive: Mapping[str, np.ndarray]) -> float:
    """The entropy of gates that are all alike, nats.

    Args:
      alive: {cell: [E, O]}.
    """
    return decision({cell: mask.astype(float) for cell, mask in alive.items()}, alive).level


def _of_cell(table: np.ndarray, alive: np.ndarray) -> tuple[float, float, float]:
    p = table / np.maximum(table.sum(1, keepdims=True), 1e-12)
    entropy = -(p * np.log(np.where(p > 0, p, 1))).sum(1)
    two = np.sort(np.concatenate([p, np.zeros((len(p), 1))], 1), 1)[:, -2:]  # an edge may have one operation
    return entropy.mean(), np.log(np.maximum(alive.sum(1), 1)).mean(), (two[:, 1] - two[:, 0]).mean()


def told(found: Decision) -> str:
    """One sentence, with its numbers.

    Args:
      found: of `decision`.
    """
    if not found.level:
        return "every edge has one operation left: nothing was to be decided."
    share = found.entropy / found.level
    return (
        f"alpha's entropy is {found.entropy:.3f} of {found.level:.3f} nats, {share:.0%} of undecided; an edge's first "
        f"operation is {found.margin:.3f} before its second, on average."
    )


def doubt(found: Decision) -> str:
    """A warning in words where alpha is undecided; nothing elsewhere.

    Args:
      found: of `decision`.
    """
    if not found.level or (found.entropy < UNDECIDED * found.level and found.margin >= CLOSE):
        return ""
    return (
        "alpha is undecided: the gates of an edge are nearly alike, and this cell is close to a toss of a coin. Search "
        "longer (--epochs), or let alpha move faster (--alpha-rate), before you believe in it."
    )
