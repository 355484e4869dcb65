"""A search in stages: the only place where shapes change.

Where in the river: between two searches. Knows spaces, scores and strategies; nothing inside a step. Within a stage
everything is static, so each stage is compiled once, and starts from new weights and a new alpha. DARTS is the case of
one stage.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from jaxnas.spaces.space import CellGates, Space
from jaxnas.strategies.algorithms import dr_nas, p_darts
from jaxnas.strategies.strategy import Strategy
from jaxnas.strategies.telling import told

# (space, last scores or None) -> the space of this stage. Scores are those on disk: gates of edges are ones
Reshape = Callable[[Space, CellGates | None], Space]


def keep(space: Space, scores: CellGates | None) -> Space:
    """The space as it is.

    Args:
      space: of the stage before.
      scores: {cell: gates} at its end; not looked at.
    """
    del scores
    return space


class Stage(NamedTuple):
    """One stretch of a search with fixed shapes."""

    strategy: Strategy
    epochs: int
    reshape: Reshape = keep  # what the scores of the stage before do to the space
    settings: Mapping[str, Any] = MappingProxyType({})  # plain data: what makes it another run, compared on resume

    def __repr__(self) -> str:
        more = "" if self.reshape is keep else f", reshape={told(self.reshape)}"
        return f"Stage({self.epochs} epochs{more}, {self.strategy!r})"


def keep_best(most: int) -> Reshape:
    """Leaves at most so many operations alive on each edge: those with the largest gates, `none` like any other.

    Dead operations stay dead. Of equal gates the last in order stay, as where the official code drops the first.

    Args:
      most: operations left on an edge, at least 1.

    Raises:
      ValueError: when something is to be cut and there are no scores yet.
    """
    if most < 1:
        raise ValueError(f"keep_best({most}): keep at least one operation on each edge.")

    def reshape(space: Space, scores: CellGates | None) -> Space:
        masks = {cell: space.mask(cell) for cell in space.cells}
        largest = max(int(mask.sum(-1).max()) for mask in masks.values())
        if largest <= most:
            return space
        if scores is None:
            raise ValueError(f"a first stage has no scores to choose by: keep all {largest} operations, not {most}.")
        return space.with_alive({cell: _best(mask, np.asarray(scores[cell].ops), most) for cell, mask in masks.items()})

    return reshape


def _best(alive: np.ndarray, gates: np.ndarray, most: int) -> np.ndarray:
    order = np.argsort(np.where(alive, gates, -1.0), -1, kind="stable")
    kept = np.zeros_like(alive)
    np.put_along_axis(kept, order[:, -most:], True, -1)
    return kept & alive


def progressive(
    strategies: Sequence[Strategy], spaces: Sequence[Space], epochs: int, *, keep: Sequence[int]
) -> tuple[Stage, ...]:
    """A search in stages: each goes on with the best operations of each edge, in a space of another size.

    Any row can be made progressive; give it the length of one stage. Run it in the first of the spaces.

    Args:
      strategies: one for each stage.
      spaces: one for each stage, with the same cells and operations; deeper ones, say. What is alive goes from stage to
        stage, beginning with the space that is run.
      epochs: length of each stage.
      keep: operations that stay alive on each edge in each stage; all of them in the first.

    Raises:
      ValueError: another number of each, or spaces that differ in more than their skeleton.

    Reference: Chen et al. 2019 (P-DARTS), arXiv:1904.12760, section 3.2.
    """
    if not len(strategies) == len(spaces) == len(keep) > 0:
        counts = f"{len(strategies)} strategies, {len(spaces)} spaces, {len(keep)} numbers of operations"
        raise ValueError(f"progressive: {counts}: give one of each for every stage.")
    for space in spaces:
        _check_same_cell(spaces[0], space)
    told = lambda space, most: {"skeleton": [list(layer) for layer in space.skeleton], "keep": most}
    return tuple(
        Stage(strategy, epochs, _into(space, most), told(space, most))
        for strategy, space, most in zip(strategies, spaces, keep, strict=True)
    )


def _into(space: Space, most: int) -> Reshape:
    best = keep_best(most)

    def reshape(before: Space, scores: CellGates | None) -> Space:
        _check_same_cell(before, space)
        return best(space.replace(alive=before.alive), scores)

    return reshape


def _check_same_cell(before: Space, space: Space) -> None:
    for field in ("name", "ops", "edges", "cells", "outputs", "classes", "image"):
        one, other = (getattr(s, "op_names" if field == "ops" else field) for s in (before, space))
        if one != other:
            raise ValueError(f"stages search the same cell: {field} {one} and {other} differ.")


def p_darts_stages(
    spaces: Sequence[Space],
    steps: int,
    epochs: int = 25,
    *,
    keep: Sequence[int] = (8, 5, 3),
    skip_dropout: Sequence[float] = (0.1, 0.4, 0.7),
    alpha_rate: float = 6e-4,
) -> tuple[Stage, ...]:
    """P-DARTS: three stages, ever deeper, with ever fewer operations and ever more dropout behind skips.

        stage    cells    operations of each edge    rate of dropout
        1          5      8                          0.1
        2         11      5                          0.4
        3         17      3                          0.7

    What the last stage leaves is decoded: one operation of an edge, never `none`; at most two skips in the normal cell.

    Args:
      spaces: one for each stage: `[darts(16, cells) for cells in (5, 11, 17)]`.
      steps: steps in an epoch.
      epochs: length of each stage.
      keep, skip_dropout: one for each stage. The paper's rates for CIFAR-10 are 0, 0.4, 0.7; these are the code's.
      alpha_rate: learning rate of alpha.

    Reference: Chen et al. 2019, arXiv:1904.12760; chenxin061/pdarts `train_search.py`.
    """
    if len(skip_dropout) != len(spaces):
        raise ValueError(f"skip_dropout={tuple(skip_dropout)}: give one rate for each of the {len(spaces)} stages.")
    row = partial(p_darts, epochs * steps, every=steps, alpha_rate=alpha_rate)
    return _varied(row, "skip_dropout", skip_dropout, spaces, epochs, keep)


def dr_nas_stages(
    spaces: Sequence[Space],
    steps: int,
    epochs: int = 25,
    *,
    keep: Sequence[int] = (8, 4),
    divisors: Sequence[int] = (6, 4),
    alpha_rate: float = 6e-4,
) -> tuple[Stage, ...]:
    """DrNAS: two stages; the second mixes more channels of each edge and half of its operations.

        stage    operations of each edge    channels mixed    alpha moves from
        1        all                        C/6               epoch 10
        2        4                          C/4               epoch 10

    Args:
      spaces: one for each stage, in the paper the same: `[darts(36, 20)] * 2`. Channels must be a multiple of all K.
      steps: steps in an epoch.
      epochs: length of each stage; alpha rests for 10 of 25 parts of it.
      keep, divisors: operations of each edge, and K of the partial channels, one for each stage. On NAS-Bench-201 the
        official ones are (5, 3) and (4, 2), with 50 epochs.
      alpha_rate: learning rate of alpha.

    Raises:
      ValueError: another number of each, as in `progressive`.

    Reference: Chen et al. 2021, arXiv:2006.10355, section 3.3; xiangning-chen/DrNAS `DARTS-space/train_search.py`,
      `201-space/train_search_progressive.py`.
    Deviates: the official second stage goes on with alpha, and with the weights, widened by copies of channels; the one
      cosine of the learning rate spans both stages. Here each stage starts anew. The official space has no `none`.
    """
    if len(divisors) != len(spaces):
        raise ValueError(f"divisors={tuple(divisors)}: give one K for each of the {len(spaces)} stages.")
    row = partial(dr_nas, epochs * steps, every=steps, alpha_rate=alpha_rate)
    return _varied(row, "divisor", divisors, spaces, epochs, keep)


def _varied(row: Callable[..., Strategy], argument: str, values: Sequence, spaces, epochs: int, keep):
    """Stages of one row that differ in one of its arguments, which is put on record."""
    stages = progressive([row(**{argument: value}) for value in values], spaces, epochs, keep=keep)
    told = lambda stage, value: stage._replace(settings={**stage.settings, argument: value})
    return tuple(told(stage, value) for stage, value in zip(stages, values, strict=True))
