"""The page to read first: one search step, from alpha to alpha'.

Where in the river: all of it. `bind` puts a strategy and a space together; what comes back is pure and yours to `jit`,
`vmap` over seeds, or `lax.scan` over an epoch. Knows no files, clocks or data sets, and not how many devices there are.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax
from jax import Array, lax
from jax.tree_util import Partial

from jaxnas.hoisting import hoisted, tree_of
from jaxnas.hypergradient import INNER, OUTER, Batch, Batches, BilevelState, Metrics, Problem
from jaxnas.spaces import layout
from jaxnas.spaces.genotype import Genotype
from jaxnas.spaces.networks import Model, supernet
from jaxnas.spaces.space import CellGates, Space
from jaxnas.strategies.mixing import Mixing
from jaxnas.strategies.perturbation import unperturbed
from jaxnas.strategies.settings import scaling, with_numbers
from jaxnas.strategies.strategy import Strategy

Augment = Callable[[Array, Array], Array]  # (key, images) -> images
HOISTED = ("problem", "step", "measure", "rebind")  # fields of a search that tell its numbers


class SearchState(NamedTuple):
    """Everything a search carries: the whole checkpoint."""

    key: Array
    bilevel: BilevelState


class Search(NamedTuple):
    """A strategy bound to a space; those of HOISTED tell the numbers that only scale (`hoisting.tree_of`)."""

    init: Callable[[Array], SearchState]  # key -> state
    step: Callable[[SearchState, Batches], tuple[SearchState, Metrics]]  # pure; you jit it
    problem: Callable[[SearchState], Problem]  # the two losses at one state, for diagnostics
    scores: Callable[[SearchState], CellGates]  # mean gates
    genotype: Callable[[SearchState], Genotype]  # on the host
    measure: Callable[[SearchState, CellGates, Batch, Array], Metrics]  # (..., key): the supernet under any gates; pure
    rebind: Callable[[Strategy], "Search"]  # another strategy, all else as it is
    strategy: Strategy
    space: Space

    def __repr__(self) -> str:
        return f"Search in {self.space!r} by {self.strategy!r}"


class Numbers(NamedTuple):
    """What only scales in a search."""

    augment: Partial  # mean and deviation of the pixels
    strategy: Mapping[str, Any]  # rates, momenta, decays, ... by the names of `strategies.settings`


def bind(
    strategy: Strategy,
    space: Space,
    *,
    model: Callable[[Space, Mixing], Model] = supernet,
    augment: Augment = lambda key, images: images,
    axis_name: str | None = None,
) -> Search:
    """A search as pure functions.

    Args:
      strategy: how to search, a row of the table.
      space: what may be built.
      model: (space, mixing) -> Model; the supernet unless given.
      augment: (key, images [B, H, W, C] as they are stored) -> float images [B, H, W, C]; runs inside the step. The
        leaves of a `jax.tree_util.Partial`, as `augmentation.normalize` returns it, are numbers of the search.
      axis_name: mapped axis over which gradients are averaged (pmap, shard_map); none on one device.

    Returns:
      `Search`. Batches are `Batches(train=Batch(image, label), valid=...)`; metrics are {"train", "valid"} of
      {"loss", "accuracy", "grad_norm", "moves"}, scalars, as in `alternating`.
    """
    if isinstance(strategy, Space):
        raise TypeError("bind(strategy, space): the space was given first; swap the two.")
    made = lambda augment, strategy: _bound(strategy, space, model, augment, axis_name)
    by = lambda numbers: made(numbers.augment, with_numbers(strategy, numbers.strategy))
    return hoisted(made(augment, strategy), by, Numbers(tree_of(augment), scaling(strategy)), HOISTED)


def _bound(strategy: Strategy, space: Space, model, augment: Augment, axis_name: str | None) -> Search:
    relaxation, net = strategy.relaxation, model(space, strategy.mixing)

    def error(weights, gates: CellGates, batch: Batch, key: Array, step: Array) -> Metrics:
        key_augment, key_net = jax.random.split(key)
        chex.assert_shape([g.ops for g in gates.values()], (len(space.edges), len(space.ops)))
        logits = net.apply(weights, augment(key_augment, batch.image), gates, key_net, step)  # gates -> logits
        chex.assert_shape(logits, (*batch.label.shape, space.classes))
        error = optax.softmax_cross_entropy_with_integer_labels(logits, batch.label).mean()  # logits -> loss
        return {"loss": error, "accuracy": (logits.argmax(-1) == batch.label).mean(dtype=error.dtype)}

    def loss(level, weights, alpha, batch, *, key: Array, step: Array):
        key_gates, key_pixels = jax.random.split(jax.random.fold_in(key, level))
        gates = relaxation.sample(key_gates, alpha, space, step)  # alpha -> gates
        gates = _seen(strategy, level, key, gates, step)
        metrics = error(weights, gates, batch, _local(key_pixels, axis_name), step)
        cost = strategy.penalty(gates, relaxation.mean(alpha, space), space, step)
        charged = strategy.join(metrics["loss"], cost.astype(metrics["loss"].dtype))
        return jnp.where(level == OUTER, charged, metrics["loss"]), metrics

    def problem(state: SearchState) -> Problem:
        step = state.bilevel.step
        key_step = jax.random.fold_in(state.key, step)
        one_program = (net.layout or layout.default()).one_pass
        return Problem(partial(loss, key=key_step, step=step), _mean_over(axis_name), one_program)

    def step(state: SearchState, batches: Batches) -> tuple[SearchState, Metrics]:
        bilevel, metrics = strategy.solver.step(problem(state), state.bilevel, batches)  # loss -> alpha', weights'
        return state._replace(bilevel=bilevel), metrics

    def init(key: Array) -> SearchState:
        key_weights, key_alpha, key_search = jax.random.split(key, 3)
        weights, alpha = net.init(key_weights), relaxation.init(key_alpha, space)
        return SearchState(key_search, strategy.solver.init(weights, alpha))

    def scores(state: SearchState) -> CellGates:
        return relaxation.mean(state.bilevel.alpha, space)

    def genotype(state: SearchState) -> Genotype:
        return strategy.decode(jax.device_get(scores(state)), space)

    def measure(state: SearchState, gates: CellGates, batch: Batch, key: Array) -> Metrics:
        return error(state.bilevel.weights, gates, batch, key, state.bilevel.step)

    def rebind(other: Strategy) -> Search:
        return bind(other, space, model=model, augment=augment, axis_name=axis_name)

    return Search(init, step, problem, scores, genotype, measure, rebind, strategy, space)


def _seen(strategy: Strategy, level, key: Array, gates: CellGates, step: Array) -> CellGates:
    """The gates as this level's pass sees them: on the inner level, perturbed."""
    if strategy.perturb is unperturbed:
        return gates
    other = strategy.perturb(jax.random.fold_in(key, max(INNER, OUTER) + 1), gates, step)  # behind those of the levels
    return jax.tree.map(lambda own, others: jnp.where(level == INNER, others, own), gates, other)


def _mean_over(axis_name: str | None) -> Callable:
    return (lambda tree: tree) if axis_name is None else partial(lax.pmean, axis_name=axis_name)


def _local(key: Array, axis_name: str | None) -> Array:
    """Pixel noise differs between devices, gates do not."""
    return key if axis_name is None else jax.random.fold_in(key, lax.axis_index(axis_name))
