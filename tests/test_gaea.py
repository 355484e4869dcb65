"""Exponentiated gradients, alpha on simplices, and the row made of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from draws import random_batches, small_model
from problems import NOTHING, moved

from jaxnas.hypergradient import two_losses
from jaxnas.search import bind
from jaxnas.spaces.darts import s3
from jaxnas.strategies.algorithms import gaea
from jaxnas.strategies.mixing import partial_channels
from jaxnas.strategies.optimizers import exponentiated_gradient
from jaxnas.strategies.relaxation import edge_simplex, simplex

STEP = jnp.int32(0)


def test_exponentiated_gradient_by_hand(draw, x64):
    """Three steps; what is 0 stays 0, what nears 0 stays at the floor and can come back."""
    p = np.abs(draw((4, 3)))
    p[0, 1], p[1, 2] = 0.0, 1e-5
    p /= p.sum(-1, keepdims=True)
    tx, grads = exponentiated_gradient(0.1), 5 * draw((3, 4, 3))
    grads[:, 1, 2] = [90.0, 90.0, -90.0]
    path = jnp.asarray(p)
    for g in grads:
        path, _ = moved(tx, jnp.asarray(g), tx.init(path), path)
        p = np.where(p > 0, np.maximum(p * np.exp(-0.1 * g), 1e-5), 0)
        p = p / p.sum(-1, keepdims=True)
        np.testing.assert_allclose(path, p, rtol=1e-10)
    assert p[0, 1] == 0 and p[1, 2] > 1e-3


def test_alpha_starts_uniform_over_what_is_alive(key):
    mask = np.ones((14, 3), bool)
    mask[1, 2] = False
    space = s3(channels=4, layers=3).with_alive({"normal": mask, "reduce": mask})
    alpha = simplex().init(key, space)
    np.testing.assert_allclose(alpha["normal"][:3], [[1 / 3] * 3, [0.5, 0.5, 0], [1 / 3] * 3], rtol=1e-6)
    np.testing.assert_array_equal(simplex().mean(alpha, space)["reduce"].ops, alpha["reduce"])
    both = edge_simplex(simplex()).init(key, space)
    gates = edge_simplex(simplex()).sample(key, both, space, STEP)["normal"]
    np.testing.assert_array_equal(gates.ops, alpha["normal"])
    np.testing.assert_allclose(gates.edges, np.repeat([1 / 2, 1 / 3, 1 / 4, 1 / 5], [2, 3, 4, 5]), rtol=1e-6)


def test_a_step_multiplies_alpha_by_the_exponential_of_its_gradient(draw, x64):
    loss = lambda w, a, batch: (jnp.sum(a * slope) + w.sum(), {})
    slope, alpha = jnp.asarray(draw((3, 4))), jnp.full((3, 4), 0.25)
    solver = gaea(10).solver
    after, _ = jax.jit(partial(solver.step, two_losses(loss, loss)))(solver.init(jnp.zeros(2), alpha), NOTHING)
    expected = np.exp(-0.1 * np.asarray(slope))
    np.testing.assert_allclose(after.alpha, expected / expected.sum(-1, keepdims=True), rtol=1e-10)


def test_gaea_pc_darts_stays_on_its_simplices(tiny_space):
    """The relaxation of the docstring, two steps; weights of edges move too, and stay 0 where no edge is."""
    row = gaea(4).replace(relaxation=edge_simplex(simplex()), mixing=partial_channels(2))
    search, data = bind(row, tiny_space, model=small_model), random_batches(tiny_space)
    state = jax.jit(search.init)(jax.random.key(0))
    first, step = state.bilevel.alpha, jax.jit(search.step)
    for _ in range(2):
        state, _ = step(state, data)
    alpha = state.bilevel.alpha
    for cell in tiny_space.cells:
        np.testing.assert_allclose(alpha.ops[cell].sum(-1), 1, rtol=1e-5)
        np.testing.assert_allclose(alpha.edges[cell].sum(-1), 1, rtol=1e-5)
        np.testing.assert_array_equal(alpha.edges[cell] == 0, first.edges[cell] == 0)
        assert (alpha.edges[cell] != first.edges[cell]).any() and (alpha.ops[cell] != first.ops[cell]).any()
    assert search.genotype(state).count("none") == 0
