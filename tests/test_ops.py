"""Candidate operations: shapes, types, initial values, and numbers worked out pixel by pixel."""

from functools import partial

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxnas.spaces import ops

_draw = np.random.default_rng(3).standard_normal
CANDIDATES = {
    "zero": ops.Zero,
    "skip": ops.Skip,
    "max_pool": ops.MaxPool,
    "avg_pool": ops.AveragePool,
    "max_pool, norm": ops.normalized(ops.MaxPool),
    "conv_1": ops.ReluConvNorm,
    "conv_3": partial(ops.ReluConvNorm, kernel=3, bias=True),
    "sep_conv_3": ops.SepConv,
    "sep_conv_5": partial(ops.SepConv, kernel=5, norm=partial(ops.BatchNorm, affine=True)),
    "dil_conv_3": ops.DilConv,
    "dil_conv_5": partial(ops.DilConv, kernel=5),
    "conv_7x1_1x7": ops.FactorizedConv,
    "noise": ops.Noise,
}
RNGS = {"params": jax.random.key(0), "noise": jax.random.key(1)}


@pytest.fixture(autouse=True)
def _same_numbers_whatever_ran_before():
    global _draw
    _draw = np.random.default_rng(3).standard_normal


def _images(height=5, width=6, channels=4, dtype=jnp.float32):
    return jnp.asarray(_draw((2, height, width, channels)), dtype)


def _run(module, x):
    """(output, parameters) of a freshly drawn module."""
    y, variables = jax.jit(lambda x: module.init_with_output(RNGS, x))(x)
    return y, variables.get("params", {})


def _conv(x, weight, **options):
    pad = [(k // 2, k // 2) for k in weight.shape[:2]]
    options = {"window_strides": (1, 1), "padding": pad, "dimension_numbers": ("NHWC", "HWIO", "NHWC"), **options}
    return lax.conv_general_dilated(x, weight, **options)


def _depthwise(x, weight, stride=1, dilation=1):
    """The same as C separate convolutions, without a group."""
    pad = [(weight.shape[0] // 2 * dilation,) * 2] * 2
    options = {"window_strides": (stride,) * 2, "padding": pad, "rhs_dilation": (dilation,) * 2}
    each = [_conv(x[..., [c]], weight[:, :, None, [c]], **options) for c in range(x.shape[-1])]
    return jnp.concatenate(each, -1)


def _norm(x):
    x = np.asarray(x, np.float64)
    return (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)


_relu = lambda x: jnp.maximum(x, 0)


def _close(actual, expected, tolerance=2e-5):
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)


# ------------------------------------------------------------------------------------ shapes and types


@pytest.mark.parametrize("dtype", (jnp.float32, jnp.bfloat16))
@pytest.mark.parametrize("stride", (1, 2))
@pytest.mark.parametrize("name", CANDIDATES)
def test_candidates_keep_width_and_type_and_divide_the_sides(name, stride, dtype):
    """On sides even and odd, by shapes alone: nothing is computed. Parameters stay in float32."""
    for height, width in ((6, 6), (5, 6), (7, 5)):
        x = jax.ShapeDtypeStruct((2, height, width, 4), dtype)
        y, variables = jax.eval_shape(CANDIDATES[name](stride=stride).init_with_output, RNGS, x)
        assert (y.shape, y.dtype) == ((2, -(-height // stride), -(-width // stride), 4), dtype)
        assert {p.dtype for p in jax.tree.leaves(variables)} <= {jnp.dtype(jnp.float32)}


def test_fixed_parts():
    x = jax.ShapeDtypeStruct((2, 6, 6, 3), jnp.bfloat16)
    shape = lambda module, x=x: jax.eval_shape(lambda x: module.init_with_output(RNGS, x)[0], x)
    assert (shape(ops.Stem(8)).shape, shape(ops.Stem(8)).dtype) == ((2, 6, 6, 8), jnp.bfloat16)
    assert (shape(ops.Classifier(5)).shape, shape(ops.Classifier(5)).dtype) == ((2, 5), jnp.float32)
    assert shape(ops.ReluConvNorm(features=7)).shape == (2, 6, 6, 7)
    assert shape(ops.FactorizedReduce(7)).shape == (2, 3, 3, 7)
    assert shape(ops.Identity(features=9, stride=2)).shape == x.shape


def test_at_least_float32():
    half = jnp.ones(2, jnp.bfloat16)
    assert ops.at_least_float32(half).dtype == jnp.float32
    assert ops.at_least_float32(half.astype(jnp.float16)).dtype == jnp.float32
    assert ops.at_least_float32(jnp.ones(2)).dtype == jnp.float32


def test_at_least_float32_leaves_float64(x64):
    assert ops.at_least_float32(jnp.ones(2)).dtype == jnp.float64


# ------------------------------------------------------------------------------------------------ pools


def _windows(height, width, stride):
    """Output position -> pixels of its 3x3 window inside the image, in reading order."""
    for i, j in np.ndindex(-(-height // stride), -(-width // stride)):
        rows = [r for r in range(stride * i - 1, stride * i + 2) if 0 <= r < height]
        columns = [c for c in range(stride * j - 1, stride * j + 2) if 0 <= c < width]
        yield (i, j), [(r, c) for r in rows for c in columns]


@pytest.mark.parametrize(("height", "width", "stride"), ((5, 6, 1), (5, 6, 2), (4, 7, 2)))
def test_max_pool_gives_ties_to_the_first_pixel(height, width, stride):
    """Images of -1, 0 and 1 are full of ties; negative ones show that padding never wins."""
    x = np.random.default_rng(4).integers(-1, 2, (2, height, width, 3)).astype(np.float32)
    x[1] -= 5
    y, pull = jax.vjp(ops.MaxPool(stride).bind({}), jnp.asarray(x))
    g = _draw(y.shape).astype(np.float32)
    value, slope = np.zeros(y.shape), np.zeros(x.shape)
    for (i, j), pixels in _windows(height, width, stride):
        for b, c in np.ndindex(2, 3):
            first = max(pixels, key=lambda p, b=b, c=c: x[b, p[0], p[1], c])  # max keeps the first of equals
            value[b, i, j, c] = x[b, first[0], first[1], c]
            slope[b, first[0], first[1], c] += g[b, i, j, c]
    np.testing.assert_array_equal(y, value)
    _close(pull(jnp.asarray(g))[0], slope, 1e-6)


@pytest.mark.parametrize(("height", "width", "stride"), ((5, 6, 1), (5, 6, 2), (4, 7, 2), (1, 2, 1)))
def test_average_pool_counts_the_pixels_inside(height, width, stride):
    x = _images(height, width, 3)
    expected = np.zeros((2, -(-height // stride), -(-width // stride), 3))
    for (i, j), pixels in _windows(height, width, stride):
        expected[:, i, j] = np.mean([np.asarray(x)[:, r, c] for r, c in pixels], 0)
    _close(ops.AveragePool(stride).apply({}, x), expected, 1e-6)


# ------------------------------------------------------------------------------------------------- norm


def test_batch_norm_uses_the_batch():
    x = 3 * _images() + 2
    y, params = _run(ops.BatchNorm(), x)
    assert not params
    _close(y, _norm(x))
    _close(np.mean(y, (0, 1, 2)), 0)
    _close(np.var(y, (0, 1, 2)), 1)


def test_batch_norm_scale_and_shift():
    x = _images()
    module = ops.BatchNorm(affine=True)
    y, params = _run(module, x)
    _close(y, _norm(x))
    assert {name: p.shape for name, p in params.items()} == {"scale": (4,), "bias": (4,)}
    scale, bias = jnp.arange(4.0), jnp.array([1.0, -1.0, 2.0, 0.0])
    _close(module.apply({"params": {"scale": scale, "bias": bias}}, x), np.array(scale) * _norm(x) + np.array(bias))


def test_batch_norm_of_a_flat_channel_is_zero_with_a_finite_slope():
    x = _images(4, 8).at[..., 0].set(7.0)  # 64 pixels: their mean is exact
    y, slope = jax.value_and_grad(lambda x: jnp.sum(ops.BatchNorm().apply({}, x)[..., 0] ** 2))(x)
    assert y == 0 and np.isfinite(slope).all()


def test_batch_norm_takes_statistics_of_half_precision_in_float32():
    """4096 pixels around 3: a sum in bfloat16 would stall at 1024."""
    x = (jnp.asarray(_draw((4, 32, 32, 2))) + 3).astype(jnp.bfloat16)
    y = ops.BatchNorm().apply({}, x)
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), _norm(x.astype(jnp.float32)), rtol=1e-2, atol=1e-3)


# --------------------------------------------------------------------------------------- initial values


@pytest.mark.parametrize(
    ("module", "channels", "fan_in"),
    (
        (ops.Conv(64, (3, 3), bias=True), 16, 9 * 16),
        (ops.Conv(64, bias=True), 32, 32),
        (ops.Conv(64, (1, 7)), 16, 7 * 16),
        (ops.Depthwise(5), 400, 25),
        (ops.Classifier(40), 100, 100),
    ),
    ids=("3x3", "1x1", "1x7", "depthwise", "classifier"),
)
def test_initial_values_are_uniform_in_the_fan_in(module, channels, fan_in):
    """Variance of U(-b, b) is b^2 / 3; 2000 and more draws know it to a few percent."""
    params = module.init(jax.random.key(5), jnp.zeros((1, 3, 3, channels)))["params"]
    bound = fan_in**-0.5
    for values in jax.tree.leaves(params):
        assert values.dtype == jnp.float32 and np.abs(values).max() <= bound
    kernel = np.asarray(params["kernel"])
    assert kernel.size >= 2000
    np.testing.assert_allclose(kernel.var(), bound**2 / 3, rtol=0.08)
    np.testing.assert_allclose(kernel.mean(), 0, atol=5 * bound / np.sqrt(3 * kernel.size))
    assert np.abs(kernel).max() > 0.99 * bound
    if "bias" in params:
        assert np.abs(params["bias"]).max() > 0.8 * bound


# ---------------------------------------------------------------------------------------------- modules


@pytest.mark.parametrize(("height", "width"), ((5, 6), (3, 5), (4, 4)))
def test_factorized_reduce(height, width):
    """Even pixels through one convolution, odd pixels through the other; odd sides continue with zeros."""
    x = _images(height, width)
    y, params = _run(ops.FactorizedReduce(5), x)
    even, odd = (np.asarray(params[name]["kernel"]) for name in ("even", "odd"))
    assert even.shape == (4, 2) and odd.shape == (4, 3)
    rows, columns = -(-height // 2), -(-width // 2)
    padded = np.zeros((2, 2 * rows, 2 * columns, 4))
    padded[:, :height, :width] = _relu(x)
    _close(y, _norm(np.concatenate([padded[:, ::2, ::2] @ even, padded[:, 1::2, 1::2] @ odd], -1)), 1e-4)
    skip, _ = _run(ops.Skip(2), x)
    assert skip.shape == (2, rows, columns, 4)


def test_zero_and_skip():
    x = _images()
    assert not np.any(ops.Zero(2).apply({}, x))
    assert _run(ops.Skip(1), x)[0].tolist() == x.tolist()
    assert ops.Identity().apply({}, x) is x


@pytest.mark.parametrize("stride", (1, 2))
def test_sep_conv(stride):
    x = _images()
    y, params = _run(ops.SepConv(stride), x)
    for s, part in ((stride, "1"), (1, "2")):
        x = _depthwise(_relu(x), params["depthwise" + part]["kernel"], s)
        x = jnp.asarray(_norm(x @ params["pointwise" + part]["kernel"]), jnp.float32)
    _close(y, x, 1e-4)


@pytest.mark.parametrize("stride", (1, 2))
def test_dil_conv(stride):
    x = _images()
    y, params = _run(ops.DilConv(stride, kernel=5), x)
    _close(
        y, _norm(_depthwise(_relu(x), params["depthwise"]["kernel"], stride, 2) @ params["pointwise"]["kernel"]), 1e-4
    )


@pytest.mark.parametrize("stride", (1, 2))
def test_dense_convolutions(stride):
    x = _images()
    y, params = _run(ops.ReluConvNorm(stride, 3, 6), x)
    _close(y, _norm(_conv(_relu(x), params["conv"]["kernel"], window_strides=(stride,) * 2)), 1e-4)
    y, params = _run(ops.ReluConvNorm(stride), x)
    _close(y, _norm(_relu(x)[:, ::stride, ::stride] @ params["conv"]["kernel"]), 1e-4)
    y, params = _run(ops.FactorizedConv(stride), x)
    row = _conv(_relu(x), params["row"]["kernel"], window_strides=(1, stride))
    assert params["row"]["kernel"].shape == (1, 7, 4, 4) and params["column"]["kernel"].shape == (7, 1, 4, 4)
    _close(y, _norm(_conv(row, params["column"]["kernel"], window_strides=(stride, 1))), 1e-4)


def test_convolution_bias():
    x = _images(3, 3)
    y, params = _run(ops.Conv(5, bias=True), x)
    _close(y, np.asarray(x) @ np.asarray(params["kernel"]) + np.asarray(params["bias"]), 1e-5)


def test_normalized_pool_is_pool_then_norm():
    x = _images()
    y, params = _run(ops.normalized(ops.MaxPool)(stride=2), x)
    assert not params
    _close(y, _norm(ops.MaxPool(2).apply({}, x)))


def test_stem_and_classifier():
    x = _images()
    y, params = _run(ops.Stem(6), x)
    _close(y, _norm(_conv(x, params["conv"]["kernel"])), 1e-4)
    assert params["norm"]["scale"].shape == (6,)
    logits, params = _run(ops.Classifier(3, before=lambda: jnp.tanh), x)
    pooled = np.tanh(x).mean((1, 2))
    _close(logits, pooled @ np.asarray(params["kernel"]) + np.asarray(params["bias"]), 1e-5)


# ------------------------------------------------------------------------------------------------ noise


def test_noise_ignores_its_input():
    x = _images(32, 32)
    draw = lambda x, seed: ops.Noise(2).apply({}, x, rngs={"noise": jax.random.key(seed)})
    np.testing.assert_array_equal(draw(x, 0), draw(jnp.full_like(x, jnp.nan), 0))
    assert np.abs(draw(x, 0) - draw(x, 1)).max() > 0.1
    assert not np.any(jax.grad(lambda x: draw(x, 0).sum())(x))
    found = np.asarray(draw(x, 0))
    np.testing.assert_allclose([found.mean(), found.var()], [0, 1], atol=0.1)


def test_noise_needs_a_key():
    with pytest.raises(flax.errors.InvalidRngError, match="noise"):
        ops.Noise(1).apply({}, _images())
