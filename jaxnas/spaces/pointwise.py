"""1x1 convolution as a pair of bilinear primitives, each the other's transpose, as `depthwise` has them.

Where in the river: inside one candidate operation or a fixed part. Knows images and one kernel; no gates, no edges.

    convolve(x, k)[p, o] = sum_c x[p, c] k[c, o]        correlate(x, g)[c, o] = sum_p x[p, c] g[p, o]

for every pixel p. They are primitives for two reasons: the gradient of the kernel is left out where it is not wanted
(see `wanted.py`), and n images side by side in channels, each with a kernel of its own, are one product:

    convolve(x, k)[p, e, o] = sum_c x[p, e, c] k[e, c, o]

On CPU that is a batch of n products. Accelerators get one product with a matrix of n blocks: its zeros cost less than
the transposes of all images around a batch of n thin products. The transpose of a product in x reads the same matrix,
so that it is made once for both.

XLA's CUDA compiler (jaxlib 0.10 and 0.11) aborts the process when it fuses such a product with strided slices in front
of it. On GPUs the operands pass a barrier, so that it does not.
"""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
from jax import Array, lax
from jax.core import ShapedArray
from jax.extend.core import Primitive

from jaxnas.spaces.bilinear import common, merged, parted, register, shared, transposed
from jaxnas.wanted import wanted

# n images side by side in channels, with n kernels; whether this is the transpose in x: k is [O, C] then
_OPTIONS = ("groups", "back")
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
    k = kernel.astype(x.dtype)
    return x @ k if common() else _convolve.bind(x, k, *wanted(), groups=1, back=False)


def _pixels(x: Array, groups: int) -> Array:
    """[..., B, H, W, n C] -> [..., n, B H W, C], or [..., B H W, C] for one."""
    lead = x.shape[:-4]
    if groups == 1:
        return x.reshape(*lead, -1, x.shape[-1])
    return jnp.swapaxes(x.reshape(*lead, -1, groups, x.shape[-1] // groups), -3, -2)


def _images(y: Array, like: Array, groups: int) -> Array:
    """Undoes `_pixels`."""
    y = y if groups == 1 else jnp.swapaxes(y, -3, -2)
    return y.reshape(*like.shape[:-1], groups * y.shape[-1])


def _product(x: Array, k: Array, *, groups: int, back: bool) -> Array:
    return _images(_pixels(x, groups) @ (jnp.swapaxes(k, -1, -2) if back else k), x, groups)


def _gram(x: Array, g: Array, *, groups: int, back: bool) -> Array:
    x, g = (g, x) if back else (x, g)
    return jnp.swapaxes(_pixels(x, groups), -1, -2) @ _pixels(g, groups)


def _product_of_blocks(fence: Callable, x: Array, k: Array, *, groups: int, back: bool) -> Array:
    x, k = fence((x, k if groups == 1 else _blocks(k)))
    return _images(jnp.einsum("...pc,...oc->...po" if back else "...pc,...co->...po", _pixels(x, 1), k), x, 1)


def _gram_of_blocks(fence: Callable, x: Array, g: Array, *, groups: int, back: bool) -> Array:
    x, g = fence((x, g))
    whole = _gram(x, g, groups=1, back=back)
    if groups == 1:
        return whole
    height, width = (side // groups for side in whole.shape[-2:])
    blocks = [whole[..., e * height : (e + 1) * height, e * width : (e + 1) * width] for e in range(groups)]
    return jnp.stack(blocks, -3)


def _blocks(k: Array) -> Array:
    """[..., n, C, O] -> [..., n C, n O] with the kernels along the diagonal."""
    *lead, groups, height, _ = k.shape
    diagonal = jnp.eye(groups, dtype=k.dtype).reshape(*(1 for _ in lead), groups, 1, groups, 1)
    return (k[..., None, :] * diagonal).reshape(*lead, groups * height, -1)


def _beside(bind, args, axes, count: int, **options):
    x, k = args
    k = jnp.broadcast_to(k, (count, *k.shape)) if axes[1] is None else jnp.moveaxis(k, axes[1], 0)
    return parted(bind(merged(x, axes[0], count), k, groups=count), count)


def _beside_gram(bind, args, axes, count: int, **options):
    return bind(*(merged(a, axis, count) for a, axis in zip(args, axes, strict=True)), groups=count), 0


def _scatter(g: Array, k: Array, shape: tuple[int, ...], *, groups: int, back: bool) -> Array:
    return _convolve.bind(g, k, groups=groups, back=not back)


def _convolve_shape(x, k, *, groups: int, back: bool) -> ShapedArray:
    return ShapedArray((*x.shape[:-1], groups * k.shape[-2 if back else -1]), x.dtype)


def _correlate_shape(x, g, *, groups: int, back: bool) -> ShapedArray:
    sides = [a.shape[-1] // groups for a in ((g, x) if back else (x, g))]
    return ShapedArray((*x.shape[:-4], *(() if groups == 1 else (groups,)), *sides), x.dtype)


_free, _barred = (lambda operands: operands), lax.optimization_barrier
register(
    _convolve,
    _convolve_shape,
    _product,
    partial(_product_of_blocks, _free),
    _OPTIONS,
    beside=_beside,
    on_gpu=partial(_product_of_blocks, _barred),
)
register(
    _correlate,
    _correlate_shape,
    _gram,
    partial(_gram_of_blocks, _free),
    _OPTIONS,
    of_weights=True,
    beside=_beside_gram,
    on_gpu=partial(_gram_of_blocks, _barred),
)
transposed(_convolve, _correlate, _scatter)
