"""Partial channels, weights of edges, and the row made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import random_state, two_cells

from jaxnas.data import Batch
from jaxnas.hypergradient import Batches
from jaxnas.search import bind
from jaxnas.spaces.darts import s2
from jaxnas.strategies.algorithms import pc_darts, pc_darts_imagenet
from jaxnas.strategies.mixing import partial_channels, random_part, rotating_part, sampled, weighted_sum
from jaxnas.strategies.relaxation import edge_normalized, softmax

STEP = jnp.int32(0)
OPS = {"same": lambda x, gate: gate * x, "negative": lambda x, gate: -gate * x}
STRIDED = {name: lambda x, gate, op=op: op(x[:, ::2, ::2], gate) for name, op in OPS.items()}


def mix(mixing, ops, gates, x):
    return mixing.mix(ops, jnp.asarray(gates), x, jax.random.key(0), STEP)


def test_a_part_is_mixed_and_all_are_shuffled():
    x = jnp.arange(1.0, 9.0).reshape(1, 1, 1, 8)
    y = mix(partial_channels(4), OPS, [3.0, 1.0], x)  # channels 1 and 2 are doubled
    np.testing.assert_array_equal(y[0, 0, 0], [2, 3, 5, 7, 4, 4, 6, 8])


def test_one_part_is_the_whole(key):
    x, gates = jax.random.normal(key, (2, 3, 3, 4)), [0.2, 0.9]
    whole = mix(weighted_sum(), OPS, gates, x)
    np.testing.assert_array_equal(mix(partial_channels(1), OPS, gates, x), whole)


@pytest.mark.parametrize("side", [4, 5])
def test_channels_that_pass_by_are_halved_on_strided_edges(key, side):
    x = jax.random.normal(key, (2, side, side, 4))
    y = mix(partial_channels(2), STRIDED, [1.0, 0.0], x)
    half = -(-side // 2)
    assert y.shape == (2, half, half, 4)
    np.testing.assert_array_equal(y[..., 0::2], x[:, ::2, ::2, :2])
    window = [[x[:, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2, 2:].max((1, 2)) for j in range(half)] for i in range(half)]
    np.testing.assert_array_equal(y[..., 1::2], jnp.stack([jnp.stack(row, 1) for row in window], 1))


def test_the_first_of_equal_pixels_takes_the_gradient():
    slope = jax.grad(lambda x: mix(partial_channels(2), STRIDED, [1.0, 0.0], x)[..., 1].sum())(jnp.ones((1, 2, 2, 2)))
    np.testing.assert_array_equal(slope[0, :, :, 1], [[1, 0], [0, 0]])


def test_wrappers_compose(key):
    x = jax.random.normal(key, (2, 3, 3, 4))
    one = mix(partial_channels(2, sampled()), OPS, [0.0, 1.0], x)
    np.testing.assert_array_equal(one, mix(partial_channels(2), OPS, [0.0, 1.0], x))
    assert partial_channels(2, partial_channels(2)).width(8) == 2


@pytest.mark.parametrize("step", [0, 1, 5])
def test_parts_in_turn_are_mixed_where_they_are(step):
    x = jnp.arange(1.0, 9.0).reshape(1, 1, 1, 8)
    rotating = partial_channels(4, part=rotating_part)
    y = rotating.mix(OPS, jnp.asarray([3.0, 1.0]), x, jax.random.key(0), jnp.int32(step))  # doubles what it mixes
    expected = np.arange(1.0, 9.0).reshape(4, 2)
    expected[step % 4] *= 2
    np.testing.assert_array_equal(y[0, 0, 0], expected.T.ravel())


def test_random_parts_are_all_drawn(key):
    x = jnp.ones((1, 1, 1, 8))
    random = jax.vmap(lambda k: partial_channels(4, part=random_part).mix(OPS, jnp.asarray([3.0, 1.0]), x, k, STEP))
    drawn = np.asarray(random(jax.random.split(key, 64)))[:, 0, 0, 0].reshape(64, 2, 4).sum(1) / 2
    np.testing.assert_array_equal(drawn.sum(1), 5)  # one part of four is doubled
    assert set(drawn.argmax(1)) == {0, 1, 2, 3}


@pytest.mark.parametrize("divisor", [3, 0, 5])
def test_channels_that_do_not_divide_are_refused(divisor):
    with pytest.raises(ValueError, match=f"partial_channels.{divisor}. on an edge with 16 channels: choose a divisor"):
        partial_channels(divisor).width(16)


def test_edges_into_a_node_weigh_one_together(key):
    space = s2(channels=4, layers=3)
    relaxation = edge_normalized(softmax(), deviation=1.0)
    alpha = relaxation.init(key, space)
    sampled_gates, target = relaxation.sample(key, alpha, space, STEP), np.array(space.edges)[:, 1]
    for cell, gates in relaxation.mean(alpha, space).items():
        beta = np.exp(np.asarray(alpha.edges[cell], np.float64))
        expected = [beta[e] / beta[target == target[e]].sum() for e in range(14)]
        np.testing.assert_allclose(gates.edges, expected, rtol=1e-5)
        np.testing.assert_array_equal(gates.ops, softmax().mean(alpha.ops, space)[cell].ops)
        np.testing.assert_array_equal(gates.edges, sampled_gates[cell].edges)


@pytest.mark.parametrize("row", [pc_darts, pc_darts_imagenet])
def test_alpha_and_beta_rest_and_then_move(key, row):
    space = two_cells(s2(channels=4, layers=3, image=(8, 8, 3)))
    search = bind(row(10, rest=2), space)
    state, step = random_state(row(10, rest=2), search), jax.jit(search.step)
    batch = Batch(jax.random.normal(key, (8, 8, 8, 3)), jnp.arange(8) % 10)
    first = state.bilevel.alpha
    for i in range(3):
        state, metrics = step(state, Batches(batch, batch))
        moved = jax.tree.map(lambda a, b: bool((a != b).all()), first, state.bilevel.alpha)
        assert set(jax.tree.leaves(moved)) == {i == 2}
        assert bool(metrics["valid"]["moves"]) == (i == 2)
    assert search.genotype(state).count("none") == 0
