"""How the weights' pass sees the gates, where it is to see others than alpha's pass: gates -> gates.

Where in the river: beside the first arrow, on passes of the inner loss only (a look-ahead is one, too). Knows gates, a
key and the step; no space, alpha, weights or images.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jaxnas.spaces.space import CellGates, Gates
from jaxnas.spec import Share, specified

Perturb = Callable[[Array, CellGates, Array], CellGates]  # (key, gates, step) -> gates of the inner loss


def unperturbed(key: Array, gates: CellGates, step: Array) -> CellGates:
    """The same gates in both passes: nothing is added to the program.

    Args:
      key, step: not used.
      gates: of the pass.
    """
    del key, step
    return gates


@specified
def uniform_noise(radius: optax.Schedule) -> Perturb:
    """The random perturbation of SmoothDARTS: noise in a box, brought back to the simplex.

        g'_eo = c_eo / sum_o' c_eo',    c = clip(g + u, 0, 1),    u_eo ~ U(-radius(step), radius(step))

    Where nothing of an edge is left (all c are 0), its largest g + u gets 1. Candidates whose gate is exactly 0 are
    dead and stay so.

    Args:
      radius: half the side of the box, by step.

    Reference: Chen and Hsieh 2020, arXiv:2002.05283, equation 4 (SDARTS-RS); xiangning-chen/SmoothDARTS
      `sota/cnn/train_search.py`, `attacker/perturb.py` (`Random_alpha`), `clip` of the networks.
    """

    def noisy(key: Array, gates: Gates, step: Array) -> Gates:
        g = gates.ops
        with jax.numpy_dtype_promotion("standard"):  # schedules of optax divide by integers
            reach = jnp.asarray(radius(step), g.dtype)
        shifted = jnp.where(g > 0, g + reach * jax.random.uniform(key, g.shape, g.dtype, -1, 1), -jnp.inf)
        return gates._replace(ops=_to_simplex(shifted))

    def perturb(key: Array, gates: CellGates, step: Array) -> CellGates:
        keys = jax.random.split(key, len(gates))
        return {cell: noisy(k, g, step) for k, (cell, g) in zip(keys, gates.items(), strict=True)}

    return perturb


@specified
def closed(below: Share = 0.5) -> Perturb:
    """Gates below a limit are exactly 0 for the weights: with the mixing `opened` these candidates are not run.

    Args:
      below: the limit.
    """

    def perturb(key: Array, gates: CellGates, step: Array) -> CellGates:
        del key, step
        return {cell: g._replace(ops=jnp.where(g.ops < below, 0, g.ops)) for cell, g in gates.items()}

    return perturb


def _to_simplex(x: Array) -> Array:
    """Rows clipped to [0, 1] and divided by their sums; the largest entry is 1 where nothing is left."""
    inside = jnp.clip(x, 0, 1)
    total = inside.sum(-1, keepdims=True)
    largest = jax.nn.one_hot(x.argmax(-1), x.shape[-1], dtype=x.dtype)
    return jnp.where(total > 0, inside / jnp.where(total > 0, total, 1), largest)
