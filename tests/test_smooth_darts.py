"""Gates that only the weights see: the slot, the noise of SmoothDARTS, and its row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import random_batches, random_state

from jaxnas.search import bind
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.spaces.space import Gates, Layer
from jaxnas.strategies.algorithms import smooth_darts
from jaxnas.strategies.perturbation import uniform_noise

SPACE = nas_bench_201(channels=2, image=(8, 8, 3)).replace(skeleton=(Layer("cell", 2),))


def mirrored(key, gates, step):
    """A perturbation that is easily seen: the operations in reverse order."""
    return {cell: g._replace(ops=g.ops[:, ::-1]) for cell, g in gates.items()}


def test_only_the_weights_see_other_gates():
    strategy = smooth_darts(10).replace(perturb=mirrored)
    search, batch = bind(strategy, SPACE), random_batches(SPACE).train
    state = random_state(strategy, search)
    gates = search.scores(state)

    @jax.jit
    def losses(state, level):
        return search.problem(state).loss(level, state.bilevel.weights, state.bilevel.alpha, batch)[0]

    measured = jax.jit(lambda state, gates: search.measure(state, gates, batch, jax.random.key(0))["loss"])
    own, other = measured(state, gates), measured(state, mirrored(None, gates, None))
    assert abs(own - other) > 1e-3
    np.testing.assert_allclose([losses(state, 1), losses(state, 0)], [own, other], rtol=1e-5)


@pytest.mark.parametrize("radius", [0.0, 0.03, 0.3, 5.0])
def test_noise_is_clipped_and_brought_back_to_the_simplex(radius, key):
    """As the official code does it: clip to [0, 1], the largest alone where nothing is left, divide by the sum."""
    ops = jax.nn.softmax(3 * jax.random.normal(key, (200, 4))).at[:50, 2].set(0)  # dead in the first rows
    found = uniform_noise(lambda step: radius)(key, {"cell": Gates(ops, jnp.ones(200))}, jnp.int32(3))["cell"]
    noise = jax.random.uniform(jax.random.split(key, 1)[0], ops.shape, ops.dtype, -1, 1)
    shifted = np.where(ops > 0, ops + radius * noise, -np.inf)
    inside = shifted.clip(0, 1)
    empty = inside.sum(-1) == 0
    assert empty.any() or radius < 1
    inside[empty] = np.eye(4)[shifted[empty].argmax(-1)]
    np.testing.assert_allclose(found.ops, inside / inside.sum(-1, keepdims=True), rtol=1e-5, atol=1e-7)
    assert not np.any(found.ops[:50, 2])
    np.testing.assert_array_equal(found.edges, 1)


def test_the_noise_grows_from_epoch_to_epoch(key):
    """0.03 + 0.27 e / E in epoch e of E = 5, ten steps each."""
    gates = {"cell": Gates(jnp.full((1, 2), 0.5), jnp.ones(1))}
    u = np.asarray(jax.random.uniform(jax.random.split(key, 1)[0], (1, 2), jnp.float32, -1, 1))
    for step in (0, 9, 10, 49):
        found = smooth_darts(50, every=10).perturb(key, gates, jnp.int32(step))["cell"].ops
        expected = 0.5 + (0.03 + 0.27 * (step // 10) / 5) * u
        np.testing.assert_allclose(found, expected / expected.sum(), rtol=1e-5)
