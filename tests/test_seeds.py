"""Many searches in one program are the searches that each key gives alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import FULL
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxnas import parallel, seeds
from jaxnas.data import Batch
from jaxnas.hypergradient import Batches, first_order
from jaxnas.search import bind
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.spaces.space import Layer
from jaxnas.strategies.algorithms import darts
from jaxnas.strategies.decoding import argmax_edges

SEEDS, STEPS = 4, 2
# the code that tests generate quickly rounds the body of a loop otherwise
AS_USERS = {k: v for k, v in FULL.items() if "emitters" in k}


@pytest.fixture(scope="module")
def search():
    space = nas_bench_201(4, 1, classes=3, image=(8, 8, 3)).replace(skeleton=(Layer("cell", 4),))
    return bind(darts(10, hypergradient=first_order(), alpha_rate=0.1).replace(decode=argmax_edges()), space)


@pytest.fixture(scope="module")
def batches():
    def one(key):
        key_image, key_label = jax.random.split(key)
        images = jax.random.normal(key_image, (SEEDS, 4, 8, 8, 3))
        return Batch(images, jax.random.randint(key_label, (SEEDS, 4), 0, 3))

    return Batches(one(jax.random.key(1)), one(jax.random.key(2)))


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(3), SEEDS)


@pytest.fixture(scope="module")
def alone(search, batches, keys):
    """Each search by itself, stacked afterwards."""
    init, step = jax.jit(search.init), jax.jit(search.step, compiler_options=AS_USERS)

    def one(i):
        state = init(keys[i])
        for _ in range(STEPS):
            state, metrics = step(state, seeds.seed(batches, i))
        return state, metrics

    runs = [one(i) for i in range(SEEDS)]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *runs), [search.genotype(state) for state, _ in runs]


def _together(search, axis, batches, keys):
    many = seeds.over_seeds(search, axis)
    states, step = jax.jit(many.init)(keys), jax.jit(many.step, compiler_options=AS_USERS)
    for _ in range(STEPS):
        states, metrics = step(states, batches)
    return (states, metrics), many.genotypes(states)


def _close(found, expected, tolerance):
    key = lambda leaf: jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(key(a), key(b), rtol=tolerance, atol=tolerance)


def test_mapped_searches_are_separate_searches_to_the_last_bit(search, batches, keys, alone):
    found, genotypes = _together(search, seeds.mapped, batches, keys)
    _close(found, alone[0], 0)
    assert genotypes == alone[1]
    assert len(set(map(str, genotypes))) > 1  # the keys do differ


def test_vmapped_searches_are_separate_searches(search, batches, keys, alone):
    found, genotypes = _together(search, seeds.vmapped, batches, keys)
    _close(found, alone[0], 1e-4)
    assert genotypes == alone[1]


@pytest.mark.parametrize("inner", [seeds.vmapped, seeds.mapped])
def test_searches_spread_over_devices(search, batches, keys, alone, inner):
    mesh = Mesh(np.array(jax.devices()[:2]), ("seed",))
    found, genotypes = _together(search, seeds.sharded(mesh, "seed", inner), batches, keys)
    _close(found, alone[0], 1e-4)
    assert genotypes == alone[1]


@pytest.mark.parametrize("inner", [seeds.mapped, pytest.param(seeds.vmapped, marks=pytest.mark.slow)])
def test_groups_of_devices_share_the_batches_of_their_searches(search, batches, keys, alone, inner):
    """Two groups of four devices, two searches in each, one image of a batch on each device."""
    grid = parallel.grid(2, jax.devices()[:8])
    assert grid.shape == {"seed": 2, "data": 4}
    dealt = jax.device_put(batches, NamedSharding(grid, P("seed", "data")))
    found, genotypes = _together(search, seeds.sharded(grid, "seed", inner), dealt, keys)
    _close(found, alone[0], 1e-4)
    assert genotypes == alone[1]
    step = jax.jit(seeds.over_seeds(search, seeds.sharded(grid, "seed", inner)).step)
    compiled = step.lower(found[0], dealt).compile().as_text()
    assert "replica_groups={{0,1,2,3},{4,5,6,7}}" in compiled or "replica_groups=[2,4]<=[8]" in compiled


def test_groups_are_equal():
    with pytest.raises(ValueError, match=r"8 devices do not make seeds=3 equal groups: take one of \[1, 2, 4, 8\]"):
        parallel.grid(3, jax.devices()[:8])


def test_one_compilation_serves_all_seeds(search, batches, keys):
    traces = []
    counted = search._replace(step=lambda state, batches: (traces.append(1), search.step(state, batches))[1])
    many = seeds.over_seeds(counted)
    states, step = jax.jit(many.init)(keys), jax.jit(many.step, compiler_options=AS_USERS)
    for _ in range(STEPS):
        states, _ = step(states, batches)
    assert len(traces) == 1
