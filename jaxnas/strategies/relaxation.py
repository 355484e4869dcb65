"""How alpha becomes gates: alpha -> {cell: Gates}.

Where in the river: the first arrow. Knows a space's edges and masks, a key and the step; no images, weights or losses.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxnas.spaces.space import CellGates, Gates, Space

Alpha = Any  # a pytree; for most relaxations {cell: [E, O]}
DEAD = -1e9  # the logit of an operation that may not be chosen: finite, so that nothing becomes NaN


class Relaxation(NamedTuple):
    """How alpha becomes gates; owns the structure of alpha."""

    init: Callable[[Array, Space], Alpha]  # key -> alpha
    sample: Callable[[Array, Alpha, Space, Array], CellGates]  # (key, alpha, space, step): what training sees
    mean: Callable[[Alpha, Space], CellGates]  # what decoding, penalties and logs see


def softmax(deviation: float = 1e-3) -> Relaxation:
    """The continuous relaxation of DARTS: gates_eo = exp(alpha_eo) / sum_o' exp(alpha_eo'), over living operations.

    Args:
      deviation: alpha starts normal with this standard deviation (1e-3 in the official code).

    Reference: Liu et al. 2019, arXiv:1806.09055, equation 2.
    """

    def init(key: Array, space: Space) -> Alpha:
        shape = (len(space.edges), len(space.ops))
        return {c: deviation * jax.random.normal(k, shape) for c, k in _keys(key, space).items()}

    def mean(alpha: Alpha, space: Space) -> CellGates:
        return {c: Gates(masked_softmax(alpha[c], space.mask(c)), _ones(alpha[c])) for c in space.cells}

    def sample(key: Array, alpha: Alpha, space: Space, step: Array) -> CellGates:
        del key, step
        return mean(alpha, space)

    return Relaxation(init, sample, mean)


def uniform(kept: int | None = None) -> Relaxation:
    """One living operation for each edge, drawn uniformly anew at every pass: alpha plays no part in training.

        gates_e = one_hot(o_e),    o_e ~ U(living operations of e);    mean gates_eo = 1 / (number of those)

    One draw for each type of cell. With the mixing `sampled` this trains a supernet path by path, as random search with
    shared weights does.

    Args:
      kept: edges into each node that are open, drawn uniformly too; all unless given. The other ones have gates 0.

    Reference: Li and Talwalkar 2019, arXiv:1902.07638; liamcli/randomNAS_release
      `benchmarks/cnn/darts/darts_wrapper_discrete.py` (two edges into each node).
    """
    inner = softmax()

    def draw(key: Array, alpha: Array, space: Space, cell: str) -> Gates:
        key_ops, key_edges = jax.random.split(key)
        gates = _one_hot(key_ops, alpha, space.mask(cell))
        if kept is None:
            return gates
        edges = best_edges(jax.random.uniform(key_edges, alpha.shape[:1]), space, kept).astype(alpha.dtype)
        return Gates(gates.ops * edges[:, None], edges)

    def sample(key: Array, alpha: Alpha, space: Space, step: Array) -> CellGates:
        del step
        return {c: draw(k, alpha[c], space, c) for c, k in _keys(key, space).items()}

    def mean(alpha: Alpha, space: Space) -> CellGates:
        return {c: Gates(masked_softmax(jnp.zeros_like(alpha[c]), space.mask(c)), _ones(alpha[c])) for c in space.cells}

    return Relaxation(inner.init, sample, mean)


def best_edges(score: Array, space: Space, kept: int) -> Array:
    """Which edges are among the `kept` highest of those with the same target, the first at ties; [E] booleans."""
    target, order = np.array(space.edges)[:, 1], np.arange(len(space.edges))
    same, before = target[:, None] == target[None, :], order[None, :] < order[:, None]
    mine, other = score[:, None], score[None, :]
    better = (other > mine) | ((other == mine) & jnp.asarray(before))
    return (better & jnp.asarray(same)).sum(-1) < kept


def _keys(key: Array, space: Space) -> dict[str, Array]:
    """A key for each type of cell."""
    return dict(zip(space.cells, jax.random.split(key, len(space.cells)), strict=True))


def _one_hot(key: Array, alpha: Array, alive: np.ndarray) -> Gates:
    """Gates that open one living operation of each edge; alpha gives shape [E, O] and type."""
    chosen = jax.random.categorical(key, jnp.where(jnp.asarray(alive), 0.0, DEAD))
    return Gates(jax.nn.one_hot(chosen, alpha.shape[1], dtype=alpha.dtype), _ones(alpha))


class Normalized(NamedTuple):
    """Alpha of an edge-normalised relaxation."""

    ops: Alpha  # of the inner relaxation
    edges: dict[str, Array]  # beta, {cell: [E]}


def edge_normalized(inner: Relaxation, deviation: float = 1e-3) -> Relaxation:
    """Weighs the edges into each node: edge gate_e = exp(beta_e) / sum over e' with the same target of exp(beta_e').

    Args:
      inner: what makes the gates of the operations.
      deviation: beta starts normal with this standard deviation.

    Reference: Xu et al. 2020 (PC-DARTS), arXiv:1907.05737, equation 3.
    """

    def init(key: Array, space: Space) -> Normalized:
        key_ops, key_edges = jax.random.split(key)
        draw = lambda k: deviation * jax.random.normal(k, (len(space.edges),))
        return Normalized(inner.init(key_ops, space), {c: draw(k) for c, k in _keys(key_edges, space).items()})

    def weigh(gates: CellGates, alpha: Normalized, space: Space) -> CellGates:
        return {c: Gates(g.ops, g.edges * _node_softmax(alpha.edges[c], space)) for c, g in gates.items()}

    def sample(key: Array, alpha: Normalized, space: Space, step: Array) -> CellGates:
        return weigh(inner.sample(key, alpha.ops, space, step), alpha, space)

    def mean(alpha: Normalized, space: Space) -> CellGates:
        return weigh(inner.mean(alpha.ops, space), alpha, space)

    return Relaxation(init, sample, mean)


def _node_softmax(beta: Array, space: Space) -> Array:
    """Softmax over the edges with one target; [E]."""
    target = np.array(space.edges)[:, 1]
    same = target[:, None] == target[None, :]
    rows = jax.nn.softmax(jnp.where(same, jnp.broadcast_to(beta, same.shape), -jnp.inf), -1)
    return jnp.diagonal(rows)


def masked_softmax(logits: Array, alive) -> Array:
    """Softmax over the last axis in which dead entries get exactly 0. Shapes [..., O], booleans of the same shape."""
    alive = jnp.asarray(alive)
    return jnp.where(alive, jax.nn.softmax(jnp.where(alive, logits, DEAD), -1), 0)


def _ones(alpha: Array) -> Array:
    return jnp.ones(alpha.shape[:1], alpha.dtype)
