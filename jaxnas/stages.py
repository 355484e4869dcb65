"""A search in stages: the only place where shapes change.

Where in the river: between two searches. Knows spaces, scores and strategies; nothing inside a step. Within a stage
everything is static, so each stage is compiled once. DARTS is the case of one stage.
"""

from collections.abc import Callable
from typing import NamedTuple

from jaxnas.spaces.space import CellGates, Space
from jaxnas.strategies.strategy import Strategy

Reshape = Callable[[Space, CellGates | None], Space]  # (space, last scores or None) -> the space of this stage


def keep(space: Space, scores: CellGates | None) -> Space:
    """The space as it is."""
    del scores
    return space


class Stage(NamedTuple):
    """One stretch of a search with fixed shapes."""

    strategy: Strategy
    epochs: int
    reshape: Reshape = keep  # what the scores of the stage before do to the space
