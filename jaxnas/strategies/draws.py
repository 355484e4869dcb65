"""Relaxations that draw: alpha and a key -> gates, other ones at every pass.

Where in the river: the first arrow, as `relaxation.py`. One draw serves all cells of a type.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.scipy.special import digamma, gammaln

from jaxnas.spaces.space import CellGates, Gates, Space
from jaxnas.spec import Count, Temperature, specified
from jaxnas.strategies.relaxation import (
    DEAD,
    Alpha,
    Relaxation,
    best_edges,
    cell_keys,
    masked_softmax,
    open_edges,
    softmax,
)


@specified
def uniform(kept: Count | None = None) -> Relaxation:
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
        return {c: draw(k, alpha[c], space, c) for c, k in cell_keys(key, space).items()}

    def mean(alpha: Alpha, space: Space) -> CellGates:
        return {
            c: Gates(masked_softmax(jnp.zeros_like(alpha[c]), space.mask(c)), open_edges(alpha[c])) for c in space.cells
        }

    return Relaxation(inner.init, sample, mean)


@specified
def concrete(temperature: Temperature, *, deviation: float = 0.01) -> Relaxation:
    """SNAS: one draw Z_e of a concrete distribution for each edge and type of cell, anew at every pass.

        Z_eo = exp((alpha_eo + G_eo) / T) / sum_o' exp((alpha_eo' + G_eo') / T),    G standard Gumbel

    Alpha are the logarithms of unnormalised probabilities; they start normal around 1. Scores are
    the limit of cold draws, softmax(alpha).

    Args:
      temperature: step -> T; see `optimizers.annealed`.
      deviation: of alpha at the start.

    Reference: Xie et al. 2019, arXiv:1812.09926, equation 4; Maddison et al. 2017, arXiv:1611.00712; SNAS-Series
      `SNAS/model_search.py`.
    """
    centred = softmax(deviation)

    def init(key: Array, space: Space) -> Alpha:
        return jax.tree.map(lambda a: 1 + a, centred.init(key, space))

    def sample(key: Array, alpha: Alpha, space: Space, step: Array) -> CellGates:
        noise = {c: jax.random.gumbel(k, alpha[c].shape, alpha[c].dtype) for c, k in cell_keys(key, space).items()}
        return concrete_gates(alpha, noise, temperature(step), space)

    return Relaxation(init, sample, centred.mean)


def concrete_gates(alpha: Alpha, noise: Alpha, temperature: Array | float, space: Space) -> CellGates:
    """The draw of `concrete` that given Gumbel noise makes: {cell: [E, O]}, as alpha.

    Args:
      alpha: {cell: [E, O]}.
      noise: standard Gumbel noise of the same shapes.
      temperature: scalar above 0.
      space: whose masks say what is alive.
    """
    warm = lambda c: (alpha[c] + noise[c]) / jnp.asarray(temperature, alpha[c].dtype)
    return {c: Gates(masked_softmax(warm(c), space.mask(c)), open_edges(alpha[c])) for c in space.cells}


@specified
def gumbel_hard(temperature: Temperature, *, deviation: float = 1e-3) -> Relaxation:
    """Draws one operation of each edge from softmax(alpha), with the slope of a softmax: `hard_gates` of Gumbel noise.

    One draw for each type of cell at each pass. Mean gates are softmax(alpha). What the gates that were not drawn learn
    depends on the mixing: `selected_only`, `broadcast` or `straight_through`.

    Args:
      temperature: step -> tau > 0; low values follow the draw, high ones flatten the slope.
      deviation: alpha starts normal with this standard deviation.

    Reference: Dong and Yang 2019 (GDAS), arXiv:1910.04465, equations 3 to 7; D-X-Y/AutoDL-Projects
      `search_model_gdas_nasnet.py`.
    """
    inner = softmax(deviation)

    def sample(key: Array, alpha: Alpha, space: Space, step: Array) -> CellGates:
        noise = {c: jax.random.gumbel(k, alpha[c].shape, alpha[c].dtype) for c, k in cell_keys(key, space).items()}
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
    return Gates(one - jax.lax.stop_gradient(p) + p, open_edges(alpha))


@specified
def dirichlet(*, deviation: float = 1e-3) -> Relaxation:
    """DrNAS: the gates of each edge are a draw from a Dirichlet distribution, differentiable in its concentrations.

        gates_e ~ Dirichlet(c_e),    c_eo = elu(alpha_eo) + 1,    scores softmax(alpha)

    One draw for each type of cell and pass; over living operations. The scores are the mean c / sum c where alpha <= 0.

    Args:
      deviation: alpha starts normal with this standard deviation.

    Reference: Chen et al. 2021, arXiv:2006.10355, equation 4; xiangning-chen/DrNAS `utils.py`, `model_search.py`.
    """
    inner = softmax(deviation)

    def sample(key: Array, alpha: Alpha, space: Space, step: Array) -> CellGates:
        del step
        logs = {c: jax.random.loggamma(k, concentration(alpha[c])) for c, k in cell_keys(key, space).items()}
        return {c: Gates(masked_softmax(logs[c], space.mask(c)), open_edges(alpha[c])) for c in space.cells}

    return Relaxation(inner.init, sample, inner.mean)


def concentration(alpha: Array) -> Array:
    """elu(alpha) + 1, without its rounding to 0 where alpha is far below.

    Args:
      alpha: any shape.
    """
    return jnp.where(alpha > 0, 1 + alpha, jnp.exp(jnp.where(alpha > 0, 0, alpha)))  # slope 1 at 0 from both sides


def dirichlet_divergence(alpha: Alpha) -> Array:
    """Sum over all edges of KL(Dirichlet(c_e) || Dirichlet(1, ..., 1)) with the concentrations of `dirichlet`, in nats.

    Args:
      alpha: pytree of tables [E, O].

    Reference: Chen et al. 2021, arXiv:2006.10355, equation 6; xiangning-chen/DrNAS `model_search.py`.
    """

    def of_table(table: Array) -> Array:
        c = concentration(table)
        total = c.sum(-1, keepdims=True)
        volume = gammaln(total[..., 0]) - gammaln(c).sum(-1) - gammaln(jnp.asarray(c.shape[-1], c.dtype))
        return (volume + ((c - 1) * (digamma(c) - digamma(total))).sum(-1)).sum()

    return sum(map(of_table, jax.tree.leaves(alpha)), jnp.zeros(()))


def _one_hot(key: Array, alpha: Array, alive: np.ndarray) -> Gates:
    """Gates that open one living operation of each edge; alpha gives shape [E, O] and type."""
    chosen = jax.random.categorical(key, jnp.where(jnp.asarray(alive), 0.0, DEAD))
    return Gates(jax.nn.one_hot(chosen, alpha.shape[1], dtype=alpha.dtype), open_edges(alpha))
