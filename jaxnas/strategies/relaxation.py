"""How alpha becomes gates: alpha -> {cell: Gates}.

Where in the river: the first arrow. Knows a space's edges and masks, a key and the step; no images, weights or losses.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import digamma, gammaln

from jaxnas.spaces.space import CellGates, Gates, Space

Alpha = Any  # a pytree; for most relaxations {cell: [E, O]}
Schedule = Callable[[Array], Array | float]  # step -> value, as optax's
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


def concrete(temperature: Schedule) -> Relaxation:
    """SNAS: one draw Z_e of a concrete distribution for each edge and type of cell, anew at every pass.

        Z_eo = exp((alpha_eo + G_eo) / T) / sum_o' exp((alpha_eo' + G_eo') / T),    G standard Gumbel

    Alpha are the logarithms of unnormalised probabilities; they start normal around 1 with deviation 0.01. Scores are
    the limit of cold draws, softmax(alpha).

    Args:
      temperature: step -> T; see `optimizers.annealed`.

    Reference: Xie et al. 2019, arXiv:1812.09926, equation 4; Maddison et al. 2017, arXiv:1611.00712; SNAS-Series
      `SNAS/model_search.py`.
    """
    centred = softmax(0.01)

    def init(key: Array, space: Space) -> Alpha:
        return jax.tree.map(lambda a: 1 + a, centred.init(key, space))

    def sample(key: Array, alpha: Alpha, space: Space, step: Array) -> CellGates:
        noise = {c: jax.random.gumbel(k, alpha[c].shape, alpha[c].dtype) for c, k in _keys(key, space).items()}
        return concrete_gates(alpha, noise, temperature(step), space)

    return Relaxation(init, sample, centred.mean)


def concrete_gates(alpha: Alpha, noise: Alpha, temperature: Array | float, space: Space) -> CellGates:
    """The draw of `concrete` that given Gumbel noise makes: {cell: [E, O]}, as alpha."""
    warm = lambda c: (alpha[c] + noise[c]) / jnp.asarray(temperature, alpha[c].dtype)
    return {c: Gates(masked_softmax(warm(c), space.mask(c)), _ones(alpha[c])) for c in space.cells}


def dirichlet() -> Relaxation:
    """DrNAS: the gates of each edge are a draw from a Dirichlet distribution, differentiable in its concentrations.

        gates_e ~ Dirichlet(c_e),    c_eo = elu(alpha_eo) + 1,    scores softmax(alpha)

    One draw for each type of cell and pass; over living operations. The scores are the mean c / sum c where alpha <= 0.

    Reference: Chen et al. 2021, arXiv:2006.10355, equation 4; xiangning-chen/DrNAS `utils.py`, `model_search.py`.
    """
    inner = softmax()

    def sample(key: Array, alpha: Alpha, space: Space, step: Array) -> CellGates:
        del step
        logs = {c: jax.random.loggamma(k, concentration(alpha[c])) for c, k in _keys(key, space).items()}
        return {c: Gates(masked_softmax(logs[c], space.mask(c)), _ones(alpha[c])) for c in space.cells}

    return Relaxation(inner.init, sample, inner.mean)


def concentration(alpha: Array) -> Array:
    """elu(alpha) + 1, without its rounding to 0 where alpha is far below."""
    return jnp.where(alpha > 0, 1 + alpha, jnp.exp(jnp.where(alpha > 0, 0, alpha)))  # slope 1 at 0 from both sides


def dirichlet_divergence(alpha: Alpha) -> Array:
    """Sum over all edges of KL(Dirichlet(c_e) || Dirichlet(1, ..., 1)) with the concentrations of `dirichlet`, in nats.

    Reference: Chen et al. 2021, arXiv:2006.10355, equation 6; xiangning-chen/DrNAS `model_search.py`.
    """

    def of_table(table: Array) -> Array:
        c = concentration(table)
        total = c.sum(-1, keepdims=True)
        volume = gammaln(total[..., 0]) - gammaln(c).sum(-1) - gammaln(jnp.asarray(c.shape[-1], c.dtype))
        return (volume + ((c - 1) * (digamma(c) - digamma(total))).sum(-1)).sum()

    return sum(map(of_table, jax.tree.leaves(alpha)), jnp.zeros(()))


def sigmoid() -> Relaxation:
    """FairDARTS: every operation opens for itself, gates_eo = 1 / (1 + exp(-alpha_eo)); alpha starts at 0.

    Reference: Chu et al. 2020, arXiv:1911.12126, equation 4; xiaomi-automl/FairDARTS `model_search.py`.
    """
    shaped = softmax(0.0)

    def mean(alpha: Alpha, space: Space) -> CellGates:
        gate = lambda c: jnp.where(jnp.asarray(space.mask(c)), jax.nn.sigmoid(alpha[c]), 0)
        return {c: Gates(gate(c), _ones(alpha[c])) for c in space.cells}

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
        return {c: Gates(alpha[c], _ones(alpha[c])) for c in space.cells}

    return Relaxation(init, lambda key, alpha, space, step: mean(alpha, space), mean)


def uniform() -> Relaxation:
    """One living operation for each edge, drawn uniformly anew at every pass: alpha plays no part in training.

        gates_e = one_hot(o_e),    o_e ~ U(living operations of e);    mean gates_eo = 1 / (number of those)

    One draw for each type of cell. With the mixing `sampled` this trains a supernet path by path, as random search with
    shared weights does.

    Reference: Li and Talwalkar 2019, arXiv:1902.07638.
    """
    inner = softmax()

    def sample(key: Array, alpha: Alpha, space: Space, step: Array) -> CellGates:
        del step
        return {c: _one_hot(k, alpha[c], space.mask(c)) for c, k in _keys(key, space).items()}

    def mean(alpha: Alpha, space: Space) -> CellGates:
        return {c: Gates(masked_softmax(jnp.zeros_like(alpha[c]), space.mask(c)), _ones(alpha[c])) for c in space.cells}

    return Relaxation(inner.init, sample, mean)


def gumbel_hard(temperature: Callable[[Array], Array]) -> Relaxation:
    """Draws one operation of each edge from softmax(alpha), with the slope of a softmax: `hard_gates` of Gumbel noise.

    One draw for each type of cell at each pass. Mean gates are softmax(alpha). What the gates that were not drawn learn
    depends on the mixing: `selected_only`, `broadcast` or `straight_through`.

    Args:
      temperature: step -> tau > 0; low values follow the draw, high ones flatten the slope.

    Reference: Dong and Yang 2019 (GDAS), arXiv:1910.04465, equations 3 to 7; D-X-Y/AutoDL-Projects
      `search_model_gdas_nasnet.py`.
    """
    inner = softmax()

    def sample(key: Array, alpha: Alpha, space: Space, step: Array) -> CellGates:
        noise = {c: jax.random.gumbel(k, alpha[c].shape, alpha[c].dtype) for c, k in _keys(key, space).items()}
        tau = jnp.asarray(temperature(step))
        return {c: hard_gates(noise[c], alpha[c], space.mask(c), tau.astype(alpha[c].dtype)) for c in space.cells}

    return Relaxation(inner.init, sample, inner.mean)


def hard_gates(noise: Array, alpha: Array, alive, temperature: Array) -> Gates:
    """One open gate for each edge: onehot(argmax p) - stopgradient(p) + p, with p = softmax((alpha + noise) / tau).

    Args:
      noise: Gumbel numbers, [E, O].
      alpha: [E, O].
      alive: which operations may be drawn, [E, O] booleans.
      temperature: tau, [].
    """
    p = masked_softmax((alpha + noise) / temperature, alive)
    one = jax.nn.one_hot(p.argmax(-1), p.shape[-1], dtype=p.dtype)
    return Gates(one - jax.lax.stop_gradient(p) + p, _ones(alpha))


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


def edge_simplex(inner: Relaxation) -> Relaxation:
    """The same weights of edges for `simplex`: into each node a point of a simplex, beta {cell: [nodes, E]}.

    Zeros stand where an edge does not end in the node; `optimizers.exponentiated_gradient` leaves them there.

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
    """Softmax over the last axis in which dead entries get exactly 0. Shapes [..., O], booleans of the same shape."""
    alive = jnp.asarray(alive)
    return jnp.where(alive, jax.nn.softmax(jnp.where(alive, logits, DEAD), -1), 0)


def _ones(alpha: Array) -> Array:
    return jnp.ones(alpha.shape[:1], alpha.dtype)
