"""A number times images: values and every mixture of derivatives, against the plain product."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxnas.spaces.bilinear import in_common_operations
from jaxnas.spaces.gate import scaled

SHAPES = ((2, 8, 8, 3), (3, 11, 5, 2), (1, 1, 1, 4))
BOTH = pytest.mark.parametrize("apart", (False, True), ids=("fused", "apart"))


def _draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def _close(actual, expected, rtol=1e-10):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-10), actual, expected)


@BOTH
@pytest.mark.parametrize("shape", SHAPES)
def test_value_and_gradients_are_those_of_a_product(shape, apart, x64):
    x, a, g = _draw(*shape), jnp.float64(0.7), _draw(*shape, seed=1)
    y, pull = jax.vjp(partial(scaled, apart=apart), x, a)
    _close(y, 0.7 * x)
    _close(jax.jit(pull)(g), (0.7 * g, jnp.vdot(x, g)))


@pytest.mark.smoke
@BOTH
def test_derivatives_of_both_orders_and_modes(apart, x64):
    check_grads(partial(scaled, apart=apart), (_draw(2, 4, 3, 2), jnp.float64(1.3)), order=2, modes=("fwd", "rev"))


@pytest.mark.smoke
@BOTH
@pytest.mark.parametrize("axes", ((0, 0), (None, 0), (0, None)))
def test_under_vmap_each_case_is_one_of_its_own(axes, apart, x64):
    x, a = _draw(*((3,) if axes[0] == 0 else ()), 2, 8, 4, 3), _draw(*((3,) if axes[1] == 0 else ()), seed=1)
    both = jax.value_and_grad(lambda x, a: jnp.sum(jnp.tanh(scaled(x, a, apart=apart))), (0, 1))
    at = lambda v, axis, i: v if axis is None else v[i]
    expected = [both(at(x, axes[0], i), at(a, axes[1], i)) for i in range(3)]
    _close(jax.jit(jax.vmap(both, axes))(x, a), jax.tree.map(lambda *rows: jnp.stack(rows), *expected))


@pytest.mark.smoke
@pytest.mark.parametrize(("apart", "platform", "calls"), ((False, "cpu", 0), (True, "cpu", 1), (True, "cuda", 0)))
def test_only_the_cotangent_is_apart_and_only_on_cpu(apart, platform, calls):
    slope = jax.grad(lambda x, a: jnp.square(scaled(x, a, apart=apart)).sum(), (0, 1))
    lowered = jax.jit(slope).trace(jnp.ones((1, 4, 4, 2)), 0.5).lower(lowering_platforms=(platform,))
    assert lowered.as_text().count("call @") == calls


@pytest.mark.smoke
def test_in_common_operations_it_is_a_product():
    with in_common_operations():
        assert "gate_" not in str(jax.make_jaxpr(scaled)(jnp.ones((1, 4, 4, 2)), 0.5))


def test_half_precision_is_summed_in_single():
    """4,096 products of 1 and 1 / 256: in bfloat16 the sum would stop at 1 or 2, where the steps are 1 / 128."""
    x, g = jnp.ones((1, 64, 64, 1), jnp.bfloat16), jnp.full((1, 64, 64, 1), 1 / 256, jnp.bfloat16)
    y, pull = jax.vjp(scaled, x, jnp.float32(1.0))
    dx, da = pull(g)
    assert y.dtype == dx.dtype == jnp.bfloat16
    np.testing.assert_allclose(float(da), 16.0, rtol=1e-2)
