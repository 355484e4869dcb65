"""The depthwise convolution: values and every mixture of derivatives, against XLA's grouped convolution."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.test_util import check_grads

from jaxnas.spaces import depthwise
from jaxnas.spaces.depthwise import depthwise_convolution

_draw = np.random.default_rng(2).standard_normal
OPTIONS = [(size, stride, dilation) for size in (3, 5) for stride in (1, 2) for dilation in (1, 2)]


@pytest.fixture(autouse=True)
def _same_numbers_whatever_ran_before():
    global _draw
    _draw = np.random.default_rng(2).standard_normal


def _case(size, shape=(2, 6, 7, 3), lead=()):
    """Images with one even and one odd side, and a kernel."""
    return jnp.asarray(_draw((*lead, *shape))), jnp.asarray(_draw((*lead, size, size, shape[-1])))


def _reference(x, kernel, stride=1, dilation=1):
    size, pad = kernel.shape[0], kernel.shape[0] // 2 * dilation
    return lax.conv_general_dilated(
        x,
        kernel.reshape(size, size, 1, -1),
        (stride, stride),
        [(pad, pad)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.shape[-1],
    )


def _close(actual, expected, rtol=1e-10):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-10), actual, expected)


@pytest.mark.parametrize(("size", "stride", "dilation"), OPTIONS)
def test_value_is_that_of_a_grouped_convolution(size, stride, dilation, x64):
    x, kernel = _case(size)
    found = jax.jit(partial(depthwise_convolution, stride=stride, dilation=dilation))(x, kernel)
    assert found.shape == (2, -(-6 // stride), -(-7 // stride), 3)
    _close(found, _reference(x, kernel, stride, dilation))


def test_value_is_the_sum_in_the_docstring(x64):
    """Written out pixel by pixel; the kernel reaches beyond the image on both sides."""
    size, stride, dilation, pad = 5, 2, 2, 4
    x, kernel = map(np.asarray, _case(size, (1, 3, 4, 2)))
    expected = np.zeros((1, 2, 2, 2))
    for i, j, u, v in np.ndindex(2, 2, size, size):
        row, column = stride * i + dilation * u - pad, stride * j + dilation * v - pad
        if 0 <= row < 3 and 0 <= column < 4:
            expected[:, i, j] += x[:, row, column] * kernel[u, v]
    _close(depthwise_convolution(jnp.asarray(x), jnp.asarray(kernel), stride=stride, dilation=dilation), expected)


@pytest.mark.parametrize("lead", ((), (2,), (2, 3)), ids=("plain", "one", "two"))
@pytest.mark.parametrize(("size", "stride", "dilation"), ((3, 2, 1), (5, 1, 2), (3, 2, 2)))
def test_both_lowerings_agree(size, stride, dilation, lead, x64):
    """Shifts, by steps and at once, and groups, which accelerators get; leading axes are kernels of their own."""
    options = {"size": size, "stride": stride, "dilation": dilation}
    x, kernel = _case(size, lead=lead)
    form = lambda f: jax.jit(partial(f, **options))
    padded = lambda f: form(depthwise._padding(f))
    y = form(depthwise._convolve_grouped)(x, kernel)
    _close(padded(depthwise._convolve_shifts)(x, kernel), y)
    g = jnp.asarray(_draw(y.shape))
    slope = form(depthwise._correlate_grouped)(x, g)
    assert slope.shape == kernel.shape
    for sums in (depthwise._correlate_shifts, depthwise._correlate_sums):
        _close(padded(sums)(x, g), slope)


@pytest.mark.smoke
@pytest.mark.parametrize("platform", ("cuda", "tpu", "cpu"))
def test_accelerators_get_a_convolution_and_the_cpu_does_not(platform):
    x, kernel = jnp.ones((1, 4, 4, 2)), jnp.ones((3, 3, 2))
    slope = jax.grad(lambda x, k: jnp.square(depthwise_convolution(x, k)).sum(), (0, 1))
    text = jax.jit(slope).trace(x, kernel).lower(lowering_platforms=(platform,)).as_text()
    assert text.count("stablehlo.convolution") == (0 if platform == "cpu" else 3)


# -------------------------------------------------------------------------------------------- derivatives


@pytest.mark.parametrize(
    ("size", "stride", "dilation"), ((3, 1, 1), pytest.param(3, 2, 2, marks=pytest.mark.smoke), (5, 2, 1))
)
def test_derivatives_of_both_orders_in_every_mixture(size, stride, dilation, x64):
    """jvp, vjp, and jvp of vjp, vjp of jvp, vjp of vjp of a function with curvature: the same as those of XLA."""
    x, kernel = _case(size, (1, 4, 5, 2))
    way = (jnp.asarray(_draw(x.shape)), jnp.asarray(_draw(kernel.shape)))

    def derivatives(convolve):
        f = lambda x, k: jnp.sum(jnp.square(jnp.tanh(convolve(x, k, stride=stride, dilation=dilation))))
        slope = jax.grad(f, (0, 1))
        along = lambda x, k: jax.jvp(f, (x, k), way)[1]
        inner = lambda x, k: sum(jnp.vdot(a, b) for a, b in zip(slope(x, k), way, strict=True))
        return {
            "jvp": along(x, kernel),
            "vjp": slope(x, kernel),
            "jvp of vjp": jax.jvp(slope, (x, kernel), way)[1],
            "vjp of jvp": jax.grad(along, (0, 1))(x, kernel),
            "vjp of vjp": jax.grad(inner, (0, 1))(x, kernel),
        }

    found = jax.jit(partial(derivatives, depthwise_convolution))()
    _close(found, jax.jit(partial(derivatives, _reference))())
    _close(found["jvp of vjp"], found["vjp of jvp"])


def test_derivatives_are_slopes(x64):
    x, kernel = _case(3, (1, 3, 4, 2))
    convolve = jax.jit(partial(depthwise_convolution, stride=2, dilation=1))
    check_grads(lambda x, k: jnp.tanh(convolve(x, k)), (x, kernel), order=2, modes=("fwd", "rev"))


# ---------------------------------------------------------------------------------------- transformations


@pytest.mark.smoke
@pytest.mark.parametrize("axes", ((0, None), (None, 0), (0, 0), (1, 3)), ids=("x", "kernel", "both", "other axes"))
def test_batched_is_the_loop(axes, x64):
    """Value and gradients under vmap, one axis after another."""
    x, kernel = _case(3, (1, 4, 5, 2), lead=(3,))
    f = lambda x, k: jnp.sum(jnp.tanh(depthwise_convolution(x, k, stride=2, dilation=2)))
    both = jax.value_and_grad(f, (0, 1))
    one = jax.jit(both)
    pick = lambda a, axis, i: a[i] if axis is not None else a[0]
    expected = [one(pick(x, axes[0], i), pick(kernel, axes[1], i)) for i in range(3)]
    place = lambda a, axis: a[0] if axis is None else jnp.moveaxis(a, 0, axis)
    found = jax.jit(jax.vmap(both, axes))(place(x, axes[0]), place(kernel, axes[1]))
    _close(found, jax.tree.map(lambda *rows: jnp.stack(rows), *expected))


@pytest.mark.smoke
def test_batched_twice_is_the_loop(x64):
    x, kernel = _case(3, (1, 4, 4, 2), lead=(2,))
    twice = jax.vmap(jax.vmap(depthwise_convolution, (None, 0)), (0, None))
    found = jax.jit(twice)(x, kernel)
    for i, j in np.ndindex(2, 2):
        _close(found[i, j], _reference(x[i], kernel[j]))


@pytest.mark.smoke
def test_inside_checkpoint_and_scan(x64):
    x, kernel = _case(3, (1, 4, 4, 2))
    kernels = jnp.stack([kernel, kernel / 2])
    layer = lambda x, k: jnp.tanh(depthwise_convolution(x, k, dilation=2))

    def scanned(x, kernels):
        return jnp.sum(lax.scan(lambda x, k: (jax.checkpoint(layer)(x, k), None), x, kernels)[0])

    def written_out(x, kernels):
        return jnp.sum(jnp.tanh(_reference(jnp.tanh(_reference(x, kernels[0], 1, 2)), kernels[1], 1, 2)))

    _close(*(jax.jit(jax.value_and_grad(f, (0, 1)))(x, kernels) for f in (scanned, written_out)))


# ----------------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize(("dtype", "tolerance"), ((jnp.bfloat16, 2e-2), (jnp.float32, 1e-5)))
def test_computes_in_the_type_of_the_images(dtype, tolerance):
    """The kernel stays in float32, and so does its gradient."""
    x, kernel = (a.astype(jnp.float32) for a in _case(3))
    f = lambda x, k: jnp.sum(depthwise_convolution(x, k).astype(jnp.float32)) / 100
    y = depthwise_convolution(x.astype(dtype), kernel)
    gx, gk = jax.jit(jax.grad(f, (0, 1)))(x.astype(dtype), kernel)
    assert (y.dtype, gx.dtype, gk.dtype) == (dtype, dtype, jnp.float32)
    scale = np.abs(_reference(x, kernel)).max()
    np.testing.assert_allclose(y.astype(jnp.float32), _reference(x, kernel), rtol=0, atol=tolerance * scale)
    gx_full, gk_full = jax.grad(lambda x, k: jnp.sum(_reference(x, k)) / 100, (0, 1))(x, kernel)
    np.testing.assert_allclose(gx.astype(jnp.float32), gx_full, rtol=0, atol=tolerance * np.abs(gx_full).max())
    np.testing.assert_allclose(gk, gk_full, rtol=0, atol=4 * tolerance * np.abs(gk_full).max())


@pytest.mark.parametrize(
    ("shape", "message"),
    (
        ((4, 4, 3), "K odd"),
        ((3, 5, 3), "K odd"),
        ((3, 3, 1, 3), "K odd"),
        ((3, 3, 2), "2 channels, the images have 3"),
    ),
)
def test_bad_kernels(shape, message):
    with pytest.raises(ValueError, match=message):
        depthwise_convolution(jnp.ones((1, 4, 4, 3)), jnp.ones(shape))
