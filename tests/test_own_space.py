"""A user's own operation and own space, with nothing changed inside the package."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from draws import normal_like, random_batches, random_state

from jaxnas.evaluation.cost import supernet_cost, total
from jaxnas.hypergradient import first_order
from jaxnas.search import bind
from jaxnas.spaces.genotype import from_json, to_json
from jaxnas.spaces.networks import supernet
from jaxnas.spaces.space import Gates, Layer, Space
from jaxnas.strategies.algorithms import darts as darts_row
from jaxnas.strategies.decoding import argmax_edges


class Mine(nn.Module):
    """A 1x1 convolution with GELU, and a gate for each channel from the mean over the image."""

    stride: int

    @nn.compact
    def __call__(self, x):
        x = nn.gelu(nn.Dense(x.shape[-1], name="mix")(x[:, :: self.stride, :: self.stride]))
        return x * nn.sigmoid(nn.Dense(x.shape[-1], name="gate")(x.mean((1, 2), keepdims=True)))


class Subsample(nn.Module):
    """Every pixel, or every other one."""

    stride: int

    def __call__(self, x):
        return x[:, :: self.stride, :: self.stride]


class Stem(nn.Module):
    """Images to the first state."""

    features: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.features)(x)


class Fit(nn.Module):
    """Brings a cell's input to its width."""

    features: int
    stride: int = 1

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.features)(x[:, :: self.stride, :: self.stride])


class Shrink(nn.Module):
    """A fixed block: 2x2 convolution with stride 2."""

    features: int
    stride: int = 2

    @nn.compact
    def __call__(self, x):
        return nn.relu(nn.Conv(self.features, (2, 2), self.stride)(x))


class Head(nn.Module):
    """States to logits."""

    classes: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.classes)(x.mean((1, 2)))


CHAIN = Space(
    name="chain",
    ops=(("keep", Subsample), ("mine", Mine)),
    edges=((0, 1), (1, 2)),
    inputs=1,
    outputs=(2,),
    cells=("link",),
    skeleton=(Layer("link", 4), Layer("shrink", 6, 2), Layer("link", 6)),
    stem=Stem,
    stem_channels=3,
    preprocess=Fit,
    head=Head,
    classes=5,
    image=(6, 6, 1),
    blocks=(("shrink", Shrink),),
)


@pytest.fixture(params=("chain", "mine inside DARTS"))
def space(request, tiny_space):
    """The own space, and DARTS with an own operation."""
    return CHAIN if request.param == "chain" else tiny_space.replace(ops=tiny_space.ops + (("mine", Mine),))


def test_one_step_and_a_genotype(space):
    """A search step with every weight and alpha moving, and a genotype of the space that survives its file."""
    strategy = darts_row(10, hypergradient=first_order())
    strategy = strategy.replace(decode=argmax_edges(never=("none",)))
    search = bind(strategy, space)
    state = random_state(strategy, search)
    weights, alpha = state.bilevel.weights, state.bilevel.alpha
    ended, metrics = jax.jit(search.step)(state, random_batches(space))
    assert all(np.isfinite(value) for level in metrics.values() for value in level.values())
    for cell in space.cells:
        assert np.abs(ended.bilevel.alpha[cell] - alpha[cell]).min() > 1e-5
    mine = lambda w: w["parts"][0]["edges"][0]["mine"]
    for before, after in zip(jax.tree.leaves(mine(weights)), jax.tree.leaves(mine(ended.bilevel.weights)), strict=True):
        assert np.abs(before - after).max() > 1e-7
    found = search.genotype(ended)
    assert found.space == space.name and found == from_json(to_json(found))
    for cell in space.cells:
        assert [(choice.source, choice.target) for choice in found.edges(cell)] == list(space.edges)
        table = np.array(ended.bilevel.alpha[cell])
        table[:, [name == "none" for name in space.op_names]] = -np.inf
        assert [choice.op for choice in found.edges(cell)] == [space.op_names[o] for o in table.argmax(-1)]
        assert found.count("mine", cell) > 0


def test_own_network_by_its_formula(key):
    """The chain written out: each edge is its gate times the gated sum of both operations."""
    net, rng = supernet(CHAIN), np.random.default_rng(1)
    weights = normal_like(jax.eval_shape(net.init, jax.random.key(0)))
    images = rng.normal(size=(3, *CHAIN.image)).astype(np.float32)
    ops_gates, edges = rng.uniform(size=(2, 2)).astype(np.float32), np.float32([0.5, 2.0])
    gates = {"link": Gates(ops_gates, edges)}
    x = Stem(3).apply({"params": weights["stem"]}, images)
    for layer, params in zip(CHAIN.skeleton, weights["parts"], strict=True):
        if layer.cell == "shrink":
            x = Shrink(6).apply({"params": params}, x)
            continue
        x = Fit(layer.channels).apply({"params": jax.tree.map(lambda a: a[0], params["inputs"]["current"])}, x)
        for e in range(2):
            mine = jax.tree.map(lambda a, e=e: a[0, e], params["edges"][0]["mine"])
            x = edges[e] * (ops_gates[e, 0] * x + ops_gates[e, 1] * Mine(1).apply({"params": mine}, x))
    expected = Head(5).apply({"params": weights["head"]}, x)
    np.testing.assert_allclose(net.apply(weights, images, gates, key, np.int32(0)), expected, rtol=1e-5, atol=1e-5)


def test_own_space_is_counted():
    """Two dense layers for each `mine`, on two edges of two cells, and the fixed parts."""
    dense = lambda rows, columns: rows * columns + columns
    mine = lambda c: 2 * 2 * dense(c, c)
    fixed = dense(1, 3) + dense(3, 4) + dense(2 * 2 * 4, 6) + dense(6, 6) + dense(6, 5)
    assert total(supernet_cost(CHAIN)).parameters == fixed + mine(4) + mine(6)
    products = 36 * 3 + 36 * 3 * 4 + 9 * 16 * 6 + 9 * 6 * 6 + 6 * 5
    products += 2 * (36 * 16 + 16) + 2 * (9 * 36 + 36)
    assert total(supernet_cost(CHAIN)).multiply_adds == products
