"""What gates cost beyond the loss: gates -> scalar, and how it joins the outer loss: added, unless said otherwise.

Where in the river: beside the loss. Knows gates, the space that they open and the step; no weights, images or keys.
"""

from collections.abc import Callable, Mapping

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.typing import ArrayLike

from jaxnas.evaluation.resources import Resources, resources
from jaxnas.spaces.space import CellGates, Gates, Space
from jaxnas.spec import specified

Penalty = Callable[[CellGates, CellGates, Space, Array], Array]  # (sampled gates, mean gates, space, step) -> scalar
Join = Callable[[Array, Array], Array]  # (validation loss, penalty) -> outer loss
Weight = Callable[[Array], Array]  # step -> factor, an optax schedule


def no_penalty() -> Penalty:
    """The validation loss alone."""
    return lambda sampled, mean, space, step: jnp.zeros(())


@specified
def entropy(weight: Weight) -> Penalty:
    """Pushes gates towards one operation per edge: weight(step) times the mean entropy of an edge, in nats.

    Args:
      weight: positive values sharpen, negative ones flatten.
    """

    def penalty(sampled: CellGates, mean: CellGates, space: Space, step: Array) -> Array:
        return weight(step) * sum(mean_entropy(g) for g in mean.values()) / len(mean)

    return penalty


def mean_entropy(gates: Gates) -> Array:
    """Entropy of the operations of an edge, -sum_o g log g in nats, averaged over the edges of a cell.

    Args:
      gates: of one cell; `ops` [E, O], each row a distribution.
    """
    g = gates.ops
    return -(g * jnp.log(jnp.where(g > 0, g, 1))).sum(-1).mean()  # 0 log 0 = 0, with a finite slope


@specified
def zero_one(weight: Weight) -> Penalty:
    """Pushes independent gates to 0 or 1: -weight(step) times the mean of (g - 1/2)^2 over all living operations.

    Args:
      weight: step -> scalar.

    Reference: Chu et al. 2020 (FairDARTS), arXiv:1911.12126, equation 6; xiaomi-automl/FairDARTS `separate_loss.py`.
    """

    def penalty(sampled: CellGates, mean: CellGates, space: Space, step: Array) -> Array:
        alive = {cell: space.mask(cell) for cell in mean}
        squares = sum(jnp.square(g.ops - 0.5).sum(where=jnp.asarray(alive[cell])) for cell, g in mean.items())
        return -weight(step) * squares / int(sum(mask.sum() for mask in alive.values()))

    return penalty


@specified
def expected_cost(costs: Mapping[str, ArrayLike], weight: Weight) -> Penalty:
    """What the sampled operations cost on average, by any table:  weight(step) sum over all cells of sum_eo Z_eo c_eo.

    Args:
      costs: {cell type: [cells, E, O]}, as `latencies(space)` measures them; the penalty is in their unit.
      weight: factor by step.

    Raises:
      ValueError: where it is used with a space of another number of edges or operations.

    Reference: Cai, Zhu, Han 2019 (ProxylessNAS), arXiv:1812.00332, the expected latency.
    """
    return lambda sampled, mean, space, step: weight(step) * _network_cost(costs, 0.0, sampled, space)


@specified
def log_ratio(costs: Mapping[str, ArrayLike], target: float, weight: Weight, *, fixed: float = 0.0) -> Penalty:
    """Cost beside a target:  weight(step) ln(C / target),    C = fixed + sum over all cells of sum_eo Z_eo c_eo.

    Added to a cross-entropy CE, with weight -w, it is -ln(e^-CE (C / target)^w): the reward of MnasNet with likelihood
    in the place of accuracy. Its gradient does not depend on the target: that only says where the penalty is 0.

    Args:
      costs: {cell type: [cells, E, O]}, as in `expected_cost`.
      target: in their unit, above 0.
      weight: factor by step; the paper's exponent w = -0.07 is a weight of 0.07.
      fixed: what the rest of the network costs (stem, reductions, head); above 0 where all gates may close.

    Raises:
      ValueError: for a target that is not above 0; where it is used with a space of other edges or operations.

    Reference: Tan et al. 2019 (MnasNet), arXiv:1807.11626, equation 2, which is a reward there; see `tabular.weighed`.
    """
    if target <= 0:
        raise ValueError(f"log_ratio(target={target}): give a cost above 0, in the unit of the costs.")
    return lambda sampled, mean, space, step: (
        weight(step) * jnp.log(_network_cost(costs, fixed, sampled, space) / target)
    )


@specified
def log_power(costs: Mapping[str, ArrayLike], *, scale: float = 0.2, power: float = 0.6, fixed: float = 0.0) -> Penalty:
    """A factor for the loss:  scale (ln C)^power,    C = fixed + sum over all cells of sum_eo Z_eo c_eo.

    It belongs with `join=times`: then alpha descends  CE * scale (ln C)^power. Costs must come in a unit in which the
    network costs far more than 1; below e they count as e.

    Args:
      costs: {cell type: [cells, E, O]}, as in `expected_cost`.
      scale, power: the paper's alpha and beta.
      fixed: what the rest of the network costs.

    Raises:
      ValueError: where it is used with a space of another number of edges or operations.

    Reference: Wu et al. 2019 (FBNet), arXiv:1812.03443, equation 2.
    Deviates: costs below e, for which the paper's formula is small or not a number.
    """

    def penalty(sampled: CellGates, mean: CellGates, space: Space, step: Array) -> Array:
        cost = _network_cost(costs, fixed, sampled, space)
        return scale * jnp.log(jnp.maximum(cost, np.e)) ** power

    return penalty


def plus(loss: Array, cost: Array) -> Array:
    """loss + cost: the penalty is added.

    Args:
      loss: validation loss, scalar.
      cost: penalty, scalar.
    """
    return loss + cost


def times(loss: Array, cost: Array) -> Array:
    """loss * cost: the penalty is a factor, as in FBNet; not for penalties that can be 0 or below.

    Args:
      loss: validation loss, scalar.
      cost: penalty, scalar above 0.
    """
    return loss * cost


def _network_cost(costs: Mapping[str, ArrayLike], fixed: float, sampled: CellGates, space: Space) -> Array:
    """fixed + sum over all cells of sum_eo Z_eo c_eo."""
    _check_costs(costs, space)
    terms = (jnp.sum(g.ops[None] * jnp.asarray(costs[cell], g.ops.dtype)) for cell, g in sampled.items())
    return fixed + sum(terms, jnp.zeros(()))


def _check_costs(costs: Mapping[str, ArrayLike], space: Space) -> None:
    shape = (len(space.edges), len(space.ops))
    found = {cell: np.shape(costs[cell])[1:] if cell in costs else None for cell in space.cells}
    if set(found.values()) != {shape}:
        raise ValueError(
            f"costs of {found} edges and operations: {space.name!r} needs [cells, *{shape}] for each type."
        )


@specified
def resource_linear(weight: Weight) -> Penalty:
    """What the sampled operations cost:  weight(step) sum over cell types of the mean over their cells of

        sum_e sum_o Z_eo c_eo,    c = 0.43 (2 size + flops / 4000 + memory / 100)

    Args:
      weight: lambda; the official code's default is 1e-5 for 16 channels and 8 cells.

    Reference: Xie et al. 2019 (SNAS), arXiv:1812.09926, section 2.3; SNAS-Series `model_search.py`, `train_search.py`.
    Deviates: the official code divides by 6 and 2, the numbers of normal and reduction cells of a network of 8.
    """

    of_edges = lambda cost: 0.43 * (2 * cost.size + cost.flops / 4000 + cost.memory / 100)
    return lambda sampled, mean, space, step: weight(step) * _resource(of_edges, sampled, space)


@specified
def resource_log(weight: Weight) -> Penalty:
    """The same on a logarithmic scale, edge by edge:  weight(step) sum over cell types of the mean over their cells of

        sum_e (ln S_e + ln F_e + ln M_e) / 3,    S_e = sum_o Z_eo size_eo, F and M likewise; values below 1 count as 1

    Args:
      weight: lambda; the official commands have 1e-2 for 16 channels and 8 cells, 1.5e-3 for 36 and 20.

    Reference, Deviates: as in `resource_linear`.
    """

    log = lambda cost: jnp.log(jnp.where(cost < 1, 1, cost))
    of_edges = lambda cost: (log(cost.size) + log(cost.flops) + log(cost.memory)) / 3
    return lambda sampled, mean, space, step: weight(step) * _resource(of_edges, sampled, space)


def _resource(of_edges: Callable[[Resources], Array], sampled: CellGates, space: Space) -> Array:
    """`of_edges` of the expected costs of edges [cells, E], summed over edges and averaged over cells."""
    expected = {cell: _expected(g.ops, resources(space)[cell]) for cell, g in sampled.items()}
    return sum((of_edges(cost).sum(-1).mean() for cost in expected.values()), jnp.zeros(()))


def _expected(gates: Array, cost: Resources) -> Resources:
    """Costs of edges [cells, E] under gates [E, O]."""
    return Resources(*(jnp.sum(gates[None] * jnp.asarray(table, gates.dtype), -1) for table in cost))
