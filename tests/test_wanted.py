"""Gradients of weights that nobody wants are left out, and nothing else changes."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from draws import random_state

from jaxnas.data import Batch
from jaxnas.hypergradient import (
    OUTER,
    Batches,
    conjugate_gradient,
    finite_difference,
    first_order,
    neumann,
    one_pass,
    through,
    unrolled,
)
from jaxnas.search import bind
from jaxnas.spaces.dense import dense_convolution
from jaxnas.spaces.depthwise import depthwise_convolution
from jaxnas.spaces.layout import Layout, fanned
from jaxnas.spaces.networks import supernet
from jaxnas.spaces.ops import SepConv
from jaxnas.spaces.pointwise import pointwise_convolution
from jaxnas.spaces.space import dag
from jaxnas.strategies.algorithms import darts
from jaxnas.wanted import wanted, weights_wanted

X = (2, 6, 6, 3)
LOOK = through(optax.sgd(0.1))
PRODUCTS = {
    "pointwise": (pointwise_convolution, (3, 4)),
    "depthwise": (partial(depthwise_convolution, stride=2), (3, 3, 3)),
    "dense": (partial(dense_convolution, pad=((1, 1), (1, 1))), (3, 3, 3, 4)),
}
ANY = pytest.mark.parametrize("name", PRODUCTS)


def _draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def _close(actual, expected, rtol=1e-10):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-10), actual, expected)


def _curved(product):
    return lambda x, k: jnp.sum(jnp.square(jnp.tanh(product(x, k))))


def _under(flag, function):
    """The function, traced under a flag."""

    def call(*args):
        with weights_wanted(flag):
            return function(*args)

    return call


def test_the_flag_is_set_and_put_back():
    assert wanted() == ()
    with weights_wanted(True):
        assert wanted() == (True,)
        with weights_wanted():
            assert wanted() == ()
        assert wanted() == (True,)
    assert wanted() == ()


@ANY
def test_only_the_gradient_of_the_kernel_depends_on_the_flag(name, x64):
    product, shape = PRODUCTS[name]
    x, k = _draw(*X), _draw(*shape, seed=1)
    both = jax.value_and_grad(_curved(product), (0, 1))
    run = jax.jit(lambda flag, x, k: _under(flag, both)(x, k))
    value, (dx, dk) = jax.jit(both)(x, k)
    _close(run(True, x, k), (value, (dx, dk)))
    _close(run(False, x, k), (value, (dx, jnp.zeros_like(dk))))


@ANY
def test_second_derivatives_under_a_flag_that_is_true(name, x64):
    product, shape = PRODUCTS[name]
    at = (_draw(*X), _draw(*shape, seed=1))
    way = (_draw(*X, seed=2), _draw(*shape, seed=3))
    f = _curved(product)

    def products(f):
        along = lambda *at: jax.jvp(f, at, way)[1]
        inner = lambda *at: sum(jnp.vdot(a, b) for a, b in zip(jax.grad(f, (0, 1))(*at), way, strict=True))
        slope, twice = jax.grad(f, (0, 1)), [jax.grad(g, (0, 1))(*at) for g in (along, inner)]
        return along(*at), jax.jvp(slope, at, way)[1], twice

    _close(jax.jit(lambda flag: _under(flag, partial(products, f))())(True), jax.jit(partial(products, f))())


@pytest.mark.parametrize("axes", ((None, 0, None), (None, None, 0), (0, 0, 0), (0, None, None)))
@ANY
def test_under_vmap_a_kernel_that_any_case_wants_is_right(name, axes, x64):
    product, shape = PRODUCTS[name]
    size = lambda axis, *shape: (3, *shape) if axis == 0 else shape
    flag = jnp.array([False, True, False])[(...,) if axes[0] == 0 else (1,)]
    x, k = _draw(*size(axes[1], *X)), _draw(*size(axes[2], *shape), seed=1)
    both = jax.grad(_curved(product), (0, 1))
    found = jax.jit(jax.vmap(lambda flag, x, k: _under(flag, both)(x, k), axes))(flag, x, k)
    at, one = lambda v, axis, i: v if axis is None else v[i], jax.jit(both)
    expected = [one(at(x, axes[1], i), at(k, axes[2], i)) for i in range(3)]
    _close(found, jax.tree.map(lambda *rows: jnp.stack(rows), *expected))


@pytest.mark.parametrize(("platform", "conditions"), (("cpu", 1), ("cuda", 0), ("tpu", 0)))
@ANY
def test_only_the_cpu_gets_a_condition(name, platform, conditions):
    """Elsewhere a condition costs more than the product; without a flag there is none anywhere."""
    product, shape = PRODUCTS[name]
    both = jax.grad(_curved(product), (0, 1))
    text = lambda f, *args: jax.jit(f).trace(*args).lower(lowering_platforms=(platform,)).as_text()
    x, k = jnp.ones(X), jnp.ones(shape)
    assert text(lambda flag, x, k: _under(flag, both)(x, k), True, x, k).count("stablehlo.case") == conditions
    assert text(both, x, k).count("stablehlo.case") == 0


@ANY
def test_a_program_for_several_devices_has_no_condition(name):
    """A sum over devices inside one could be sent by each process in another order."""
    product, shape = PRODUCTS[name]
    devices = jax.sharding.AbstractMesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    split = lambda *axes: jax.sharding.NamedSharding(devices, jax.sharding.PartitionSpec(*axes))
    both = jax.grad(_curved(product), (0, 1))
    placed = jax.jit(lambda flag, x, k: _under(flag, both)(x, k), in_shardings=(split(), split("data"), split()))
    arrays = [jax.ShapeDtypeStruct(s, d) for s, d in (((), jnp.bool), (X, jnp.float32), (shape, jnp.float32))]
    lowered = placed.trace(*arrays).lower(lowering_platforms=("cpu",))
    assert "num_partitions = 2" in lowered.as_text() and "stablehlo.case" not in lowered.as_text()


# ------------------------------------------------------------------------------------------ whole networks


class Nested(nn.Module):
    """A user's candidate whose parts flax compiles and computes again by itself."""

    stride: int

    @nn.compact
    def __call__(self, x):
        x = nn.remat(SepConv)(self.stride, name="again")(x)
        return nn.jit(SepConv)(1, name="compiled")(x)


def _search(space, row, **model):
    return bind(row, space, model=lambda space, mixing: supernet(space, mixing, **model))


def _batches(space, images=4):
    draw = np.random.default_rng(0)
    image = lambda: jnp.asarray(draw.normal(size=(images, *space.image)))
    batch = lambda: Batch(image(), jnp.asarray(draw.integers(0, 3, images)))
    return Batches(batch(), batch())


@pytest.mark.parametrize("layout", (Layout(), Layout(fanned())), ids=("recomputed", "fanned"))
def test_a_first_order_step_is_that_of_whole_gradients(layout, tiny_space, x64):
    """The scanned moves leave gradients out; two passes one by one, which read them all, end at the same state.

    With a user's nested candidate beside those of the space, in cells of two nodes.
    """
    space = tiny_space.replace(ops=(*tiny_space.ops, ("nested", Nested)), edges=dag(2, 2), outputs=(2, 3))
    row = darts(10, hypergradient=first_order())
    search = _search(space, row, layout=layout)
    whole = _search(space, darts(10, hypergradient=first_order()._replace(reads_v=True)), layout=layout)
    state, batches = random_state(row, search), _batches(space)
    for _ in range(2):
        found, metrics = jax.jit(search.step)(state, batches)
        expected, same = jax.jit(whole.step)(state, batches)
        _close((found.bilevel, metrics), (expected.bilevel, same))
        state = found
    assert metrics["valid"]["grad_norm"] > 0


def test_the_norm_reported_under_valid_is_that_of_the_hypergradient(tiny_space, x64):
    row = darts(10, hypergradient=first_order())
    search = _search(tiny_space, row)
    state, batches = random_state(row, search), _batches(tiny_space)
    _, metrics = jax.jit(search.step)(state, batches)
    alone = lambda s: one_pass(search.problem(s), OUTER, s.bilevel.weights, s.bilevel.alpha, batches.valid)
    _, (_, direct) = jax.jit(alone)(state)
    norm = jnp.sqrt(sum(jnp.vdot(g, g) for g in jax.tree.leaves(direct)))
    _close(metrics["valid"]["grad_norm"], norm, 1e-8)


@pytest.mark.parametrize("rule", (neumann(1, 0.1), conjugate_gradient(1), unrolled(LOOK), finite_difference(LOOK)))
def test_a_rule_that_pulls_v_back_is_given_it(rule):
    """Rules that look where they are read v too; only first order does not."""
    assert rule.reads_v and not first_order().reads_v
