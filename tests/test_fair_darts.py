"""Independent gates, the loss that sharpens them, the threshold, and the row made of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from draws import random_batches, random_state, small_model

from jaxnas.search import bind
from jaxnas.spaces.darts import s3
from jaxnas.spaces.space import Gates
from jaxnas.strategies.algorithms import fair_darts
from jaxnas.strategies.decoding import threshold_edges
from jaxnas.strategies.penalty import zero_one
from jaxnas.strategies.relaxation import sigmoid

STEP = jnp.int32(0)
SPACE = s3(channels=4, layers=3)  # none, skip, sep


def test_gates_open_independently_and_start_half_open(key, draw):
    mask = np.ones((14, 3), bool)
    mask[1, 2] = False
    space = SPACE.with_alive({"normal": mask, "reduce": mask})
    start = sigmoid().init(key, space)
    np.testing.assert_array_equal(start["reduce"], np.zeros((14, 3)))
    alpha = {cell: jnp.asarray(3 * draw((14, 3)), jnp.float32) for cell in space.cells}
    for gates in (sigmoid().mean(alpha, space), sigmoid().sample(key, alpha, space, STEP)):
        expected = mask / (1 + np.exp(-np.asarray(alpha["normal"], np.float64)))
        np.testing.assert_allclose(gates["normal"].ops, expected, rtol=1e-5)


def test_the_zero_one_loss_is_a_mean_over_living_operations(draw, x64):
    """The official `-mse_loss(gates, 0.5)`, times its weight; two cells of different masks together."""
    masks = {"normal": np.ones((14, 3), bool), "reduce": np.arange(42).reshape(14, 3) % 3 > 0}
    space = SPACE.with_alive(masks)
    gates = {cell: Gates(jnp.asarray(np.where(m, draw((14, 3)), 0)), jnp.ones(14)) for cell, m in masks.items()}
    living = np.concatenate([gates[cell].ops[m] for cell, m in masks.items()])
    found = zero_one(lambda step: 2.0 * step)({}, gates, space, jnp.float64(5))
    np.testing.assert_allclose(found, -10 * np.mean((living - 0.5) ** 2), rtol=1e-12)


def decoded(table: dict[tuple[int, int], float], decode=None):
    """Decodes sep_conv scores of some edges of both cells, 0.5 elsewhere."""
    ops = np.full((14, 3), 0.5)
    for edge, score in table.items():
        ops[SPACE.edges.index(edge), 2] = score
    ops[:, 0] = 0.99  # none never counts
    found = (decode or threshold_edges())({cell: Gates(ops, np.ones(14)) for cell in SPACE.cells}, SPACE)
    return [edge[1:] for edge in found.edges("normal")], found.concat("reduce")


def test_what_scores_enough_is_kept_two_edges_into_a_node():
    table = {(0, 2): 0.86, (1, 2): 0.9, (0, 3): 0.84, (1, 4): 0.95, (2, 4): 0.9, (0, 4): 0.89, (4, 5): 0.85}
    assert decoded(table) == ([(1, 2), (0, 2), (1, 4), (2, 4), (4, 5)], (2, 4, 5))
    assert decoded(table, threshold_edges(0.92)) == ([(1, 4)], (4,))


def test_edges_from_nodes_that_nothing_reaches_are_left_out():
    assert decoded({(0, 2): 0.9, (3, 4): 0.99, (4, 5): 0.99}) == ([(0, 2)], (2,))


def test_where_nothing_scores_enough_the_strongest_edge_into_the_first_node_stays():
    assert decoded({(1, 2): 0.6, (1, 3): 0.7, (3, 4): 0.8}) == ([(1, 2)], (2,))


def test_alpha_moves_along_loss_and_zero_one_loss(tiny_space):
    """Adam's first moment (b1 = 0.9) with and without the penalty differ by a tenth of its gradient."""
    rows = [fair_darts(8), fair_darts(8, sharpness=0.0)]
    data, state = random_batches(tiny_space), random_state(rows[0], bind(rows[0], tiny_space, model=small_model))
    step = jax.jit(lambda: [bind(row, tiny_space, model=small_model).step(state, data)[0].bilevel for row in rows])
    with_it, without = (optax.tree.get(after.alpha_opt, "mu") for after in step())
    cost = lambda a: zero_one(optax.constant_schedule(10.0))({}, sigmoid().mean(a, tiny_space), tiny_space, STEP)
    slope = jax.grad(cost)(state.bilevel.alpha)
    close = partial(np.testing.assert_allclose, rtol=1e-3, atol=2e-6)
    jax.tree.map(lambda a, b, s: close(a - b, s / 10), with_it, without, slope)
    assert optax.tree.norm(slope) > 1e-2
