"""The 3x3 pools: values and every mixture of derivatives, against windows written out and XLA's own."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from jaxnas.spaces.bilinear import in_common_operations
from jaxnas.spaces.pools import _larger, _pick, _put, average_pool, max_pool  # the pair under test

SHAPES = ((2, 5, 6, 3), (1, 4, 7, 2), (2, 1, 2, 1), (1, 3, 3, 4))
STRIDES = (1, 2)
AROUND = [(0, 0), (1, 1), (1, 1), (0, 0)]


def _draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def _close(actual, expected, rtol=1e-10):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-10), actual, expected)


def _largest(x, stride):
    return lax.reduce_window(
        x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, stride, stride, 1), [(0, 0), (1, 1), (1, 1), (0, 0)]
    )


def _mean(x, stride):
    add = partial(lax.reduce_window, init_value=0.0, computation=lax.add, window_dimensions=(1, 3, 3, 1))
    add = partial(add, window_strides=(1, stride, stride, 1), padding=AROUND)
    return add(x) / add(jnp.ones_like(x))


PAIRS = {"max": (max_pool, _largest), "average": (average_pool, _mean)}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("name", PAIRS)
def test_value_and_gradient_are_those_of_reduce_window(name, stride, shape, x64):
    ours, theirs = PAIRS[name]
    x = _draw(*shape)
    g = _draw(*theirs(x, stride).shape, seed=1)
    both = lambda pool: (lambda y, pull: (y, pull(g)))(*jax.vjp(lambda x: pool(x, stride), x))
    _close(jax.jit(partial(both, ours))(), both(theirs))


@pytest.mark.smoke
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("name", PAIRS)
def test_derivatives_of_both_orders_and_modes(name, stride, x64):
    pool = PAIRS[name][0]
    f = jax.jit(lambda x: jnp.square(jnp.tanh(pool(x, stride))).sum())
    check_grads(f, (_draw(1, 4, 5, 2),), order=2, modes=("fwd", "rev"), eps=1e-5)


@pytest.mark.smoke
@pytest.mark.parametrize("name", PAIRS)
def test_mixtures_of_both_modes_agree(name, x64):
    """jvp of vjp, vjp of jvp and vjp of vjp of a function with curvature."""
    x, way = _draw(1, 5, 4, 2), _draw(1, 5, 4, 2, seed=1)

    def products(pool):
        f = lambda x: jnp.sum(jnp.tanh(pool(jnp.sin(x), 2)) ** 2)
        along = lambda x: jax.jvp(f, (x,), (way,))[1]
        inner = lambda x: jnp.vdot(jax.grad(f)(x), way)
        return jax.jvp(jax.grad(f), (x,), (way,))[1], jax.grad(along)(x), jax.grad(inner)(x)

    for product in jax.jit(partial(products, PAIRS[name][0]))():
        _close(product, products(PAIRS[name][1])[0])


@pytest.mark.smoke
@pytest.mark.parametrize("stride", STRIDES)
def test_pick_and_put_are_transposes(stride, x64):
    """<pick(x, place), g> = <x, put(g, place)>, both ways, whatever the places are."""
    x, sides = _draw(2, 5, 6, 3), (5, 6)
    small = (2, -(-5 // stride), -(-6 // stride), 3)
    place, g = jnp.full(small, 4, jnp.int8), _draw(*small, seed=1)  # the middle of each window, never the padding
    options = {"stride": stride, "sides": sides}
    pick, put = (partial(p.bind, **options) for p in (_pick, _put))
    _close(pick(x, place), x[:, ::stride, ::stride])
    _close(jnp.vdot(pick(x, place), g), jnp.vdot(x, put(g, place)))
    _close(jax.linear_transpose(lambda x: pick(x, place), x)(g)[0], put(g, place))
    _close(jax.linear_transpose(lambda g: put(g, place), g)(x)[0], pick(x, place))
    assert _larger(g, place, **options).shape == x.shape


@pytest.mark.smoke
@pytest.mark.parametrize("axis", (0, 2))
@pytest.mark.parametrize("name", PAIRS)
def test_under_vmap_each_case_is_one_of_its_own(name, axis, x64):
    pool, x = PAIRS[name][0], _draw(3, 2, 5, 4, 2)
    both = jax.value_and_grad(lambda x: jnp.sum(jnp.tanh(pool(x, 2))))
    expected = [jax.jit(both)(case) for case in x]
    found = jax.jit(jax.vmap(both, axis))(jnp.moveaxis(x, 0, axis))
    _close(found[0], jnp.stack([value for value, _ in expected]))
    _close(found[1], jnp.stack([slope for _, slope in expected]))


@pytest.mark.smoke
@pytest.mark.parametrize("platform", ("cpu", "cuda", "tpu"))
def test_on_cpu_each_is_a_call_of_its_own_and_elsewhere_none(platform):
    slope = jax.grad(lambda x: jnp.square(max_pool(x, 2)).sum())
    text = jax.jit(slope).trace(jnp.ones((1, 4, 4, 2))).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("call @") == (3 if platform == "cpu" else 0)  # largest, its place, put
    assert "reduce_window" not in text


@pytest.mark.smoke
def test_in_common_operations_there_are_no_primitives_of_ours():
    with in_common_operations():
        jaxpr = jax.make_jaxpr(lambda x: max_pool(x) + average_pool(x))(jnp.ones((1, 4, 4, 2)))
    assert "pool_" not in str(jaxpr)


def test_half_precision_stays_half_precision(key):
    x = jax.random.normal(key, (1, 4, 4, 2), jnp.bfloat16)
    for pool in (max_pool, average_pool):
        y, pull = jax.vjp(pool, x)
        assert y.dtype == pull(y)[0].dtype == jnp.bfloat16
