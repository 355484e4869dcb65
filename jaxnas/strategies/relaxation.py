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
from jaxnas.spec import specified

Alpha = Any  # a pytree; for most relaxations {cell: [E, O]}
Schedule = Callable[[Array], Array | float]  # step -> value, as optax's
DEAD = -1e9  # the logit of an operation that may not be chosen: finite, so that nothing becomes NaN


class Relaxation(NamedTuple):
    """How alpha becomes gates; owns the structure of alpha."""

    init: Callable[[Array, Space], Alpha]  # key -> alpha
    sample: Callable[[Array, Alpha, Space, Array], CellGates]  # (key, alpha, space, step): what training sees
    mean: Callable[[Alpha, Space], CellGates]  # what decoding, penalties and logs see


@specified
def softmax(deviation: float = 1e-3) -> Relaxation:
    """The continuous relaxation of DARTS: gates_eo = exp(alpha_eo) / sum_o' exp(alpha_eo'), over living operations.

    Args:
      deviation: alpha starts normal with this standard deviation (1e-3 in the official code).

    Reference: Liu et al. 2019, arXiv:1806.09055, equation 2.
    """

    def init(key: Array, space: Space) -> Alpha:
        shape = (len(space.edges), len(space.ops))
        return {c: deviation * jax.random.normal(k, shape) for c, k in cell_keys(key, space).items()}

    def mean(alpha: Alpha, space: Space) -> CellGates:
        return {c: Gates(masked_softmax(alpha[c], space.mask(c)), open_edges(alpha[c])) for c in space.cells}

    def sample(key: Array, alpha: Alpha, space: Space, step: Array) -> CellGates:
        del key, step
        return mean(alpha, space)

    return Relaxation(init, sample, mean)


def sigmoid() -> Relaxation:
    """FairDARTS: every operation opens for itself, gates_eo = 1 / (1 + exp(-alpha_eo)); alpha starts at 0.

    Reference: Chu et al. 2020, arXiv:1911.12126, equation 4; xiaomi-automl/FairDARTS `model_search.py`.
    """
    shaped = softmax(0.0)

    def mean(alpha: Alpha, space: Space) -> CellGates:
        gate = lambda c: jnp.where(jnp.asarray(space.mask(c)), jax.nn.sigmoid(alpha[c]), 0)
        return {c: Gates(gate(c), open_edges(alpha[c])) for c in space.cells}

    return Relaxation(shaped.init, lambda key, alpha, space, step: mean(alpha, space), mean)


def simplex() -> Relaxation:
    """GAEA: alpha are the gates themselves, a point of a simplex for each edge; uniform over what is alive at first.

    To be moved by `optimizers.exponentiated_gradient`, which stays on it.

    Reference: Li et al. 2021, arXiv:2004.07802, section 3; liamcli/gaea_release `architect_edarts.py`.
    """

    def init(key: Array, space: Space) -> Alpha:
        del key
        share = lambda mask: mask / mask.sum(-1, keepdims=True)
        return {c: jnp.asarray(share(space.mask(c)), jnp.result_type(float)) for c in space.cells}

    def mean(alpha: Alpha, space: Space) -> CellGates:
        return {c: Gates(alpha[c], open_edges(alpha[c])) for c in space.cells}

    return Relaxation(init, lambda key, alpha, space, step: mean(alpha, space), mean)


def best_edges(score: Array, space: Space, kept: int) -> Array:
    """Which edges are among the `kept` highest of those with the same target, the first at ties; [E] booleans.

    Args:
      score: of each edge, [E].
      space: whose edges they are.
      kept: edges for each target.
    """
    target, order = np.array(space.edges)[:, 1], np.arange(len(space.edges))
    same, before = target[:, None] == target[None, :], order[None, :] < order[:, None]
    mine, other = score[:, None], score[None, :]
    better = (other > mine) | ((other == mine) & jnp.asarray(before))
    return (better & jnp.asarray(same)).sum(-1) < kept


def cell_keys(key: Array, space: Space) -> dict[str, Array]:
    """A key for each type of cell: {cell: key}.

    Args:
      key: what they are split from.
      space: whose cells they are for.
    """
    return dict(zip(space.cells, jax.random.split(key, len(space.cells)), strict=True))


class Normalized(NamedTuple):
    """Alpha of an edge-normalised relaxation."""

    ops: Alpha  # of the inner relaxation
    edges: dict[str, Array]  # beta, {cell: [E]}


@specified
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
        return Normalized(inner.init(key_ops, space), {c: draw(k) for c, k in cell_keys(key_edges, space).items()})

    def weigh(gates: CellGates, alpha: Normalized, space: Space) -> CellGates:
        return {c: Gates(g.ops, g.edges * _node_softmax(alpha.edges[c], space)) for c, g in gates.items()}

    def sample(key: Array, alpha: Normalized, space: Space, step: Array) -> CellGates:
        return weigh(inner.sample(key, alpha.ops, space, step), alpha, space)

    def mean(alpha: Normalized, space: Space) -> CellGates:
        return weigh(inner.mean(alpha.ops, space), alpha, space)

    return Relaxation(init, sample, mean)


@specified
def edge_simplex(inner: Relaxation) -> Relaxation:
    """The same weights of edges for `simplex`: into each node a point of a simplex, beta {cell: [nodes, E]}.

    Zeros stand where an edge does not end in the node; `optimizers.exponentiated_gradient` leaves them there.

    Args:
      inner: how the operations of an edge are weighed.

    Reference: Li et al. 2021, arXiv:2004.07802, section 4.2; liamcli/gaea_release `architect_edarts.py`.
    """

    def init(key: Array, space: Space) -> Normalized:
        into = np.array(space.nodes)[:, None] == np.array(space.edges)[:, 1]
        beta = jnp.asarray(into / into.sum(-1, keepdims=True), jnp.result_type(float))
        return Normalized(inner.init(key, space), dict.fromkeys(space.cells, beta))

    def weigh(gates: CellGates, alpha: Normalized) -> CellGates:
        return {c: Gates(g.ops, g.edges * alpha.edges[c].sum(0)) for c, g in gates.items()}

    def sample(key: Array, alpha: Normalized, space: Space, step: Array) -> CellGates:
        return weigh(inner.sample(key, alpha.ops, space, step), alpha)

    return Relaxation(init, sample, lambda alpha, space: weigh(inner.mean(alpha.ops, space), alpha))


def _node_softmax(beta: Array, space: Space) -> Array:
    """Softmax over the edges with one target; [E]."""
    target = np.array(space.edges)[:, 1]
    same = target[:, None] == target[None, :]
    rows = jax.nn.softmax(jnp.where(same, jnp.broadcast_to(beta, same.shape), -jnp.inf), -1)
    return jnp.diagonal(rows)


def masked_softmax(logits: Array, alive) -> Array:
    """Softmax over the last axis in which dead entries get exactly 0. Shapes [..., O], booleans of the same shape.

    Args:
      logits: [..., O].
      alive: booleans of the same shape.
    """
    alive = jnp.asarray(alive)
    return jnp.where(alive, jax.nn.softmax(jnp.where(alive, logits, DEAD), -1), 0)


def open_edges(alpha: Array) -> Array:
    """Gates of edges that are all open, [E] ones, for alpha [E, O].

    Args:
      alpha: [E, O].
    """
    return jnp.ones(alpha.shape[:1], alpha.dtype)
