"""Sums by channel and the norm made of them: values and every mixture of derivatives, against plain sums."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxnas import compiler
from jaxnas.spaces import sums
from jaxnas.spaces.norm import standardize
from jaxnas.spaces.sums import affine, moments

SHAPES = ((2, 8, 8, 3), (3, 11, 5, 2), (1, 1, 1, 4), (2, 24, 4, 5))  # sides with and without divisors up to eight


def _draw(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def _close(actual, expected, rtol=1e-10):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-10), actual, expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_moments_are_the_sums_of_the_product_and_of_the_second(shape, x64):
    y, g = _draw(*shape), _draw(*shape, seed=1)
    found = jax.jit(moments)(y, g)
    _close(found, jnp.stack([(y * g).sum((0, 1, 2)), g.sum((0, 1, 2))]))
    _close(found, sums._moments_plain(y, g))


@pytest.mark.smoke
def test_each_is_the_transpose_of_the_other(x64):
    """<moments(y, g), a> = <g, affine(y, a)>."""
    y, g, a = _draw(2, 8, 4, 3), _draw(2, 8, 4, 3, seed=1), _draw(2, 3, seed=2)
    _close((moments(y, g) * a).sum(), (g * affine(y, a)).sum())
    _close(jax.linear_transpose(lambda g: moments(y, g), g)(a)[0], affine(y, a))
    _close(jax.linear_transpose(lambda a: affine(y, a), a)(g)[0], moments(y, g))


@pytest.mark.smoke
@pytest.mark.parametrize("function", ("moments", "affine"))
def test_derivatives_of_both_orders_and_modes(function, x64):
    y, other = _draw(2, 4, 3, 2), _draw(*((2, 4, 3, 2) if function == "moments" else (2, 2)), seed=1)
    check_grads(getattr(sums, function), (y, other), order=2, modes=("fwd", "rev"))


@pytest.mark.smoke
@pytest.mark.parametrize("axes", ((0, 0), (None, 0), (0, None)))
def test_under_vmap_each_case_is_one_of_its_own(axes, x64):
    size = lambda axis, *shape: (3, *shape) if axis == 0 else shape
    y, g, a = _draw(*size(axes[0], 2, 8, 4, 3)), _draw(*size(axes[1], 2, 8, 4, 3)), _draw(*size(axes[1], 2, 3))
    at = lambda x, axis, i: x if axis is None else x[i]
    for function, other in ((moments, g), (affine, a)):
        found = jax.jit(jax.vmap(function, axes))(y, other)
        _close(found, jnp.stack([function(at(y, axes[0], i), at(other, axes[1], i)) for i in range(3)]))


@pytest.mark.smoke
@pytest.mark.parametrize("function", ("moments", "affine"))
def test_derivatives_of_what_vmap_made(function, x64):
    y, other = _draw(3, 2, 4, 3, 2), _draw(*((3, 2, 4, 3, 2) if function == "moments" else (3, 2, 2)), seed=1)
    check_grads(jax.vmap(getattr(sums, function)), (y, other), order=2, modes=("fwd", "rev"))
    check_grads(jax.vmap(getattr(sums, function), (None, 0)), (y[0], other), order=2, modes=("fwd", "rev"))


def _plain(x, scale):
    mean, variance = x.mean((0, 1, 2), keepdims=True), x.var((0, 1, 2), keepdims=True)
    return scale.reshape(1, 1, 1, -1) * (x - mean) / jnp.sqrt(variance + 1e-5)


def test_a_norm_has_the_derivatives_of_its_formula(x64):
    """Value, gradient, and the gradient's own tangent, which the exact second order is made of."""
    x, scale, ct = _draw(3, 8, 5, 4), _draw(4, seed=1), _draw(3, 8, 5, 4, seed=2)
    weigh = lambda norm: lambda x, scale: (ct * jnp.sin(norm(x, scale))).sum()
    slopes = [jax.grad(weigh(norm), (0, 1)) for norm in (standardize, _plain)]
    moved = [jax.jit(lambda *a, f=f: jax.jvp(f, a, (ct, scale**2)))(x, scale) for f in slopes]
    _close(standardize(x, scale), _plain(x, scale))
    _close(*moved, rtol=1e-8)
    check_grads(standardize, (x, scale), order=2, modes=("fwd", "rev"))


@pytest.mark.smoke
def test_a_norm_under_a_third_derivative(x64):
    x, scale = _draw(2, 8, 3, 2), _draw(2, seed=1)

    def third(norm):
        loss = lambda t: (norm(x + t * x**2, scale) ** 3).sum()
        slope = lambda t: jax.jvp(loss, (t,), (1.0,))[1]
        return jax.grad(lambda t: jax.jvp(slope, (t,), (1.0,))[1])(0.3)

    _close(third(standardize), third(_plain), rtol=1e-7)


@pytest.mark.smoke
def test_the_compiler_gets_only_what_it_knows(monkeypatch):
    """A name that a later XLA has dropped is left out, and what is meant for other platforms."""
    monkeypatch.setattr(compiler, "CPU", {"xla_cpu_prefer_vector_width": 256, "xla_cpu_no_such_option": 1})
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert compiler.options.__wrapped__() == {"xla_cpu_prefer_vector_width": 256}
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert compiler.options.__wrapped__() == {}


def test_products_on_gpus_are_not_fused_by_triton(monkeypatch):
    """Its fusions abort the compiler."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(compiler, "_known", lambda name, value: True)
    assert compiler.options.__wrapped__() == {"xla_gpu_enable_triton_gemm": False}
