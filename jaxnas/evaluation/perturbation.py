"""Selection by perturbation: an operation is worth what the supernet loses without it.

Where in the river: the way out, instead of decoding alpha; it trains on between two choices. Knows a bound search, its
relaxation and images; the loop is the host's.

Reference: Wang et al. 2021 (DARTS-PT), arXiv:2108.04392; ruocwang/darts-pt `sota/cnn/projection.py`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array, lax

from jaxnas.bilevel import Solver, alternating
from jaxnas.data import epoch_rows, take
from jaxnas.epoch import steps_per_epoch
from jaxnas.evaluation.shared_weights import Tell, scorer, silent
from jaxnas.hoisting import tree_of
from jaxnas.hypergradient import Batches
from jaxnas.search import Search, SearchState
from jaxnas.spaces.genotype import Genotype
from jaxnas.spaces.space import CellGates, Gates, Space
from jaxnas.strategies.optimizers import clipped_sgd, l2_adam
from jaxnas.strategies.relaxation import Alpha, Relaxation

Worth = Callable[[CellGates], float]  # gates -> validation accuracy of the supernet
Choose = Callable[
    [CellGates, "Decided", Worth], "Decided"
]  # (gates, what is fixed so far, worth) -> what is fixed then


class Decided(NamedTuple):
    """What is fixed in one cell type: data, so that nothing is compiled anew when it changes."""

    ops: Any  # [E, O] one-hot rows of the edges that are decided, zeros elsewhere
    free: Any  # [E] 1 where the edge is not decided yet, else 0
    kept: Any  # [E] 1 where the edge is open, else 0

    def project(self, gates: Gates) -> Gates:
        """The gates with what is fixed put in their place."""
        ops, free, kept = (a.astype(gates.ops.dtype) for a in self)
        return Gates((gates.ops * free[:, None] + ops) * kept[:, None], gates.edges * kept)


def projected(inner: Relaxation, decided: Mapping[str, Decided]) -> Relaxation:
    """The gates of another relaxation, with what is decided put in their place; alpha stays as it is."""

    def project(gates: CellGates) -> CellGates:
        return {cell: decided[cell].project(g) for cell, g in gates.items()}

    def sample(key: Array, alpha: Alpha, space: Space, step: Array) -> CellGates:
        return project(inner.sample(key, alpha, space, step))

    return Relaxation(inner.init, sample, lambda alpha, space: project(inner.mean(alpha, space)))


def fine_tuning(steps: int, *, every: int = 1, alpha_rate: float = 3e-4) -> Solver:
    """How the supernet is trained between choices: first-order DARTS at a tenth of the rate, from 0.0025 to 0.001."""
    return alternating(clipped_sgd(0.0025, 0.001, steps, every), l2_adam(alpha_rate, decay=1e-3))


def select_by_perturbation(
    search: Search,
    state: SearchState,
    data: Batches,
    key: Array,
    batch: int = 64,
    tell: Tell = silent,
    *,
    kept: int | None = 2,
    epochs: int = 5,
    batches: int | None = None,
    never: tuple[str, ...] = ("none",),
    tuning: Callable[..., Solver] = fine_tuning,
) -> Genotype:
    """A genotype from a trained supernet, one edge at a time.

    Edges come in random order. Each keeps the operation without which the validation accuracy is lowest, and the
    supernet is trained on. When all are decided, nodes come in random order, and each keeps the edges without which
    the accuracy is lowest. The first in order wins at ties. All cell types take their turn before the next training.

    Args:
      search: any; its relaxation, mixing and decoding are used, and its solver is not.
      state: what it was trained to.
      data: all images, for training and for validation.
      key: draws orders and images.
      batch: images in a batch.
      tell: called with (turns done, of how many); in one, each cell type decides once.
      kept: edges into each node; all for None, which goes with a decoding that keeps all.
      epochs: training between two choices. None follows the last.
      batches: validation batches to look at; all unless given.
      never: operations that are never chosen.
      tuning: (steps, every=) -> the solver of this training, from fresh optimizer states.

    Returns:
      The genotype that the search's decoding reads off the gates, which are zeros and ones by then.

    Raises:
      ValueError: for an edge whose living operations are all among `never`.

    Deviates: alpha's optimizer starts afresh, too. The authors make one more epoch after the last choice, which changes
      nothing; their space has no `none`.
    """
    turns = _turns(search.space, kept, never, jax.random.fold_in(key, 0))
    per_epoch = steps_per_epoch(data.train.label.shape[0], batch)
    solver = tuning(max(1, epochs * per_epoch * (len(turns) - 1)), every=per_epoch)
    train, score = _trainer(search, solver, batch), scorer(search, batch, batches)
    fresh = solver.init(state.bilevel.weights, state.bilevel.alpha)
    state = state._replace(bilevel=fresh._replace(step=state.bilevel.step))
    decided = {cell: _nothing(search.space) for cell in search.space.cells}
    for number, turn in enumerate(turns, start=1):
        key_turn = jax.random.fold_in(key, number)
        worth = lambda gates, s=state, k=key_turn: float(score(s, gates, data.valid, k)["accuracy"])
        for cell, choose in turn.items():
            decided = {**decided, cell: choose(_gates(search, state, decided), decided[cell], worth)}
        for k in jax.random.split(key_turn, epochs) if number < len(turns) else ():
            state = train(state, data, k, decided)
        tell(number, len(turns))
    return search.strategy.decode(_gates(search, state, decided), search.space)


def _turns(space: Space, kept: int | None, never: tuple[str, ...], key: Array) -> list[dict[str, Choose]]:
    """What is decided between two trainings: an edge of each cell type, at the end a node of each."""
    draw = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    limit = len(space.edges) if kept is None else kept
    crowded = [space.incoming(node) for node in space.nodes if len(space.incoming(node)) > limit]
    edges = {cell: draw.permutation(len(space.edges)) for cell in space.cells}
    nodes = {cell: draw.permutation(len(crowded)) for cell in space.cells}
    operation = lambda cell, i: partial(_choose_op, space, cell, never, int(edges[cell][i]))
    topology = lambda cell, i: partial(_choose_edges, cell, crowded[nodes[cell][i]], limit)
    count = ((operation, len(space.edges)), (topology, len(crowded)))
    return [{cell: made(cell, i) for cell in space.cells} for made, n in count for i in range(n)]


def _choose_op(space: Space, cell: str, never, edge: int, gates, decided: Decided, worth) -> Decided:
    """Fixes the operation of an edge without which the gates are worth least."""
    allowed = np.flatnonzero(space.mask(cell)[edge] & ~np.isin(space.op_names, never))
    if not len(allowed):
        raise ValueError(
            f"edge {space.edges[edge]} of {cell!r} has no operation besides {never}: give another `never`."
        )
    without = [worth({**gates, cell: gates[cell]._replace(ops=_zeroed(gates[cell].ops, (edge, op)))}) for op in allowed]
    fixed = decided.ops.copy()
    fixed[edge, allowed[np.argmin(without)]] = 1
    return decided._replace(ops=fixed, free=_zeroed(decided.free, edge))


def _choose_edges(cell: str, edges: tuple[int, ...], kept: int, gates, decided: Decided, worth) -> Decided:
    """Keeps the edges into a node without which the gates are worth least."""
    without = [worth({**gates, cell: gates[cell]._replace(ops=_zeroed(gates[cell].ops, e))}) for e in edges]
    closed = np.array(edges)[np.argsort(without, kind="stable")[kept:]]
    return decided._replace(kept=_zeroed(decided.kept, closed))


def _trainer(search: Search, solver: Solver, batch: int) -> Callable[..., SearchState]:
    """(state, all images, key, decided) -> the state an epoch later; compiled once."""

    @jax.jit
    def train(rebind, state: SearchState, data: Batches, key: Array, decided: Mapping[str, Decided]) -> SearchState:
        relaxation = projected(search.strategy.relaxation, decided)
        step = rebind(search.strategy.replace(relaxation=relaxation, solver=solver)).step
        rows = [epoch_rows(k, half.label.shape[0], batch) for k, half in zip(jax.random.split(key), data, strict=True)]
        batches = lambda i: Batches(*(take(half, r[i % len(r)]) for half, r in zip(data, rows, strict=True)))
        return lax.fori_loop(0, len(rows[0]), lambda i, state: step(state, batches(i))[0], state)

    return partial(train, tree_of(search.rebind))


def _gates(search: Search, state: SearchState, decided: Mapping[str, Decided]) -> dict[str, Gates]:
    """The mean gates of a state with what is decided put in their place; on the host."""
    return {cell: decided[cell].project(gates) for cell, gates in jax.device_get(search.scores(state)).items()}


def _nothing(space: Space) -> Decided:
    ones = np.ones(len(space.edges))
    return Decided(np.zeros((len(space.edges), len(space.ops))), ones, ones)


def _zeroed(table: np.ndarray, where) -> np.ndarray:
    changed = np.array(table)
    changed[where] = 0
    return changed
