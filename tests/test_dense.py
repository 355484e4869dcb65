"""The dense convolution: values and every mixture of derivatives, against XLA's; fast where XLA's is not."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnas.spaces import dense
from jaxnas.spaces.bilinear import in_common_operations
from jaxnas.spaces.dense import AXES, dense_convolution

CASES = {
    "same": ((3, 3), (1, 1), ((1, 1), (1, 1))),
    "strided": ((3, 3), (2, 2), ((1, 1), (1, 1))),
    "a row": ((1, 7), (1, 2), ((0, 0), (3, 3))),
    "inside only": ((5, 3), (3, 2), ((0, 0), (0, 0))),  # the last rows are never seen
    "one sided": ((2, 2), (2, 1), ((0, 1), (1, 0))),
}
SMOKE = ("strided",)
ROWS = [pytest.param(*case, id=name, marks=[pytest.mark.smoke] * (name in SMOKE)) for name, case in CASES.items()]
cases = pytest.mark.parametrize(("size", "stride", "pad"), ROWS)


@pytest.fixture
def draw():
    normal = np.random.default_rng(2).standard_normal
    return lambda *shape: jnp.asarray(normal(shape))


def reference(x, kernel, *, stride, pad):
    return lax.conv_general_dilated(x, kernel, stride, pad, dimension_numbers=AXES)


def close(found, expected):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9), found, expected)


@cases
def test_derivatives_of_both_orders_in_every_mixture(size, stride, pad, draw, x64):
    """Value, jvp, vjp, and jvp of vjp, vjp of jvp, vjp of vjp of a function with curvature: those of XLA."""
    x, kernel = draw(2, 7, 8, 3), draw(*size, 3, 4)
    way = draw(*x.shape), draw(*kernel.shape)

    def derivatives(convolve):
        f = lambda x, k: jnp.sum(jnp.square(jnp.tanh(convolve(x, k, stride=stride, pad=pad))))
        slope = jax.grad(f, (0, 1))
        along = lambda x, k: jax.jvp(f, (x, k), way)[1]
        inner = lambda x, k: sum(jnp.vdot(a, b) for a, b in zip(slope(x, k), way, strict=True))
        twice = (
            jax.jvp(slope, (x, kernel), way)[1],
            jax.grad(along, (0, 1))(x, kernel),
            jax.grad(inner, (0, 1))(x, kernel),
        )
        return convolve(x, kernel, stride=stride, pad=pad), along(x, kernel), slope(x, kernel), *twice

    close(jax.jit(partial(derivatives, dense_convolution))(), jax.jit(partial(derivatives, reference))())


@cases
def test_both_lowerings_agree(size, stride, pad, draw, x64):
    """What the CPU gets and what accelerators get, of both primitives, with zeros between pixels too."""
    x, kernel = draw(2, 7, 8, 3), draw(*size, 3, 4)
    for spread in ((1, 1), (2, 3)):
        options = {"size": size, "stride": stride, "spread": spread, "pad": pad, "groups": 1}
        y = dense._convolve_native(x, kernel, **options)
        close(dense._convolve_plain(x, kernel, **options), y)
        g = draw(*y.shape)
        close(dense._correlate_plain(x, g, **options), dense._correlate_native(x, g, **options))


@pytest.mark.smoke
@pytest.mark.parametrize("axes", ((0, None), (None, 0), (0, 0), (1, 3)), ids=("x", "kernel", "both", "other axes"))
def test_batched_is_the_loop(axes, draw, x64):
    """Value and gradients under vmap; twice, so that what is batched once is batched again."""
    stride, pad = (2, 1), ((1, 1), (1, 1))
    x, kernel = draw(3, 2, 1, 4, 5, 2), draw(3, 2, 3, 3, 2, 3)
    f = lambda x, k: jnp.sum(jnp.tanh(dense_convolution(x, k, stride=stride, pad=pad)))
    both = jax.value_and_grad(f, (0, 1))
    pick = lambda a, axis, i: a[0] if axis is None else a[i]
    inner = lambda x, k: jax.vmap(both, (None if axes[0] is None else 0, 0))(x[0] if axes[0] is None else x, k)
    one = jax.jit(inner)
    expected = [one(pick(x, axes[0], i), pick(kernel, axes[1], i)) for i in range(3)]
    place = lambda a, axis: a[0] if axis is None else jnp.moveaxis(a, 0, axis)
    found = jax.jit(jax.vmap(inner, axes))(place(x, axes[0]), place(kernel, axes[1]))
    close(found, jax.tree.map(lambda *rows: jnp.stack(rows), *expected))
    for i, j in np.ndindex(3, 2):
        own = both(
            x[i if axes[0] is not None else 0, j if axes[0] is not None else 0],
            kernel[i if axes[1] is not None else 0, j],
        )
        close(expected[i][0][j], own[0])


def compiled(platform=None):
    """Both gradients inside a loop, as every step has them."""

    def step(x, k):
        f = lambda pair: jnp.square(dense_convolution(*pair, stride=(2, 2), pad=((1, 1), (1, 1)))).sum()
        return lax.scan(lambda pair, _: (jax.grad(f)(pair), None), (x, k), None, length=3)[0]

    traced = jax.jit(step).trace(jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 4)))
    return traced.lower(lowering_platforms=(platform,)).as_text() if platform else traced.lower().compile().as_text()


@pytest.mark.smoke
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="is about XLA's CPU compiler")
def test_in_loops_on_cpu_the_fast_kernel_is_asked_for():
    """XLA has it for one form only, and brings none into that form inside a loop."""
    lines = [line for line in compiled().splitlines() if " convolution(" in line]
    assert len(lines) == 3
    assert all("dim_labels=b01f_01io->b01f" in line and "_dilate=" not in line for line in lines)


@pytest.mark.smoke
@pytest.mark.parametrize(("platform", "spread"), (("cuda", 2), ("tpu", 2), ("cpu", 0)))
def test_accelerators_get_what_autodiff_gives(platform, spread):
    """Strided gradients spread their images inside the convolution there."""
    lines = [line for line in compiled(platform).splitlines() if "stablehlo.convolution" in line]
    dilated = [line for line in lines if "dilate = [2, 2]" in line or "dilation = [2, 2]" in line]
    assert len(lines) == 3 and len(dilated) == spread


@pytest.mark.smoke
def test_converters_get_a_plain_convolution():
    options = {"stride": (1, 1), "pad": ((1, 1), (1, 1))}
    with in_common_operations():
        text = str(
            jax.make_jaxpr(partial(dense_convolution, **options))(jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2, 3)))
        )
    assert "conv_general_dilated" in text and "dense_convolve" not in text


def test_computes_in_the_type_of_the_images():
    y = dense_convolution(jnp.ones((1, 4, 4, 2), jnp.bfloat16), jnp.ones((3, 3, 2, 3)))
    assert y.dtype == jnp.bfloat16 and y.shape == (1, 2, 2, 3)


@pytest.mark.parametrize("shape", ((3, 3, 2), (3, 3, 1, 4)))
def test_bad_kernels(shape):
    with pytest.raises(ValueError, match=r"it is \[K, L, 2, O\]"):
        dense_convolution(jnp.ones((1, 4, 4, 2)), jnp.ones(shape))
