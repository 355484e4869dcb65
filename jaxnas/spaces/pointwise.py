"""1x1 convolution as a pair of bilinear primitives, each the other's transpose, as `depthwise` has them.

Where in the river: inside one candidate operation or a fixed part. Knows pixels and one kernel; no gates, no edges.

    convolve(x, k)[p, o] = sum_c x[p, c] k[c, o]        correlate(x, g)[c, o] = sum_p x[p, c] g[p, o]

with one row for each pixel. Both are plain matrix products on every platform. They are primitives only because the
gradient of the kernel is left out where it is not wanted (see `wanted.py`).
"""

import jax.numpy as jnp
from jax import Array
from jax.core import ShapedArray
from jax.extend.core import Primitive

from jaxnas.spaces.bilinear import common, register, shared, transposed
from jaxnas.wanted import wanted

_convolve, _correlate = Primitive("pointwise_convolve"), Primitive("pointwise_correlate")


@shared
def pointwise_convolution(x: Array, kernel: Array) -> Array:
    """Each pixel times a matrix.

    Args:
      x: images, [B, H, W, C].
      kernel: [C, O]; cast to the type of `x`.

    Returns:
      Images [B, H, W, O] of the type of `x`.
    """
    pixels, k = x.reshape(-1, x.shape[-1]), kernel.astype(x.dtype)
    y = pixels @ k if common() else _convolve.bind(pixels, k, *wanted())
    return y.reshape(*x.shape[:-1], k.shape[-1])


def _product(x: Array, k: Array) -> Array:
    return x @ k


def _gram(x: Array, g: Array) -> Array:
    return jnp.swapaxes(x, -1, -2) @ g


def _scatter(g: Array, k: Array, shape: tuple[int, ...]) -> Array:
    return _convolve.bind(g, jnp.swapaxes(k, -1, -2))


def _convolve_shape(x, k) -> ShapedArray:
    return ShapedArray((*x.shape[:-1], k.shape[-1]), x.dtype)


def _correlate_shape(x, g) -> ShapedArray:
    return ShapedArray((*x.shape[:-2], x.shape[-1], g.shape[-1]), x.dtype)


register(_convolve, _convolve_shape, _product, _product, ())
register(_correlate, _correlate_shape, _gram, _gram, (), of_weights=True)
transposed(_convolve, _correlate, _scatter)
