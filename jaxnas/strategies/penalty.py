"""What gates cost beyond the loss: gates -> scalar, added to the outer loss.

Where in the river: beside the loss. Knows gates and the step; no weights, images or keys.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array

from jaxnas.spaces.space import CellGates, Gates

Penalty = Callable[[CellGates, Array], Array]  # (mean gates, step) -> scalar


def no_penalty() -> Penalty:
    """The validation loss alone."""
    return lambda gates, step: jnp.zeros(())


def entropy(weight: Callable[[Array], Array]) -> Penalty:
    """Pushes gates towards one operation per edge: weight(step) times the mean entropy of an edge, in nats.

    Args:
      weight: an optax schedule; positive values sharpen, negative ones flatten.
    """

    def penalty(gates: CellGates, step: Array) -> Array:
        return weight(step) * sum(mean_entropy(g) for g in gates.values()) / len(gates)

    return penalty


def mean_entropy(gates: Gates) -> Array:
    """Entropy of the operations of an edge, -sum_o g log g in nats, averaged over the edges of a cell."""
    g = gates.ops
    return -(g * jnp.log(jnp.where(g > 0, g, 1))).sum(-1).mean()  # 0 log 0 = 0, with a finite slope
