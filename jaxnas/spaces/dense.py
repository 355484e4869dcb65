"""Dense convolution as a pair of bilinear primitives, each the other's transpose, as `depthwise` has them.

Where in the river: inside one candidate operation or a fixed part. Knows images and one kernel; no gates, no edges.

    convolve(x, k)[b, i, j, o]     = sum_uvc x'[b, s i + u - p, s j + v - p, c] k[u, v, c, o]
    correlate(x, g)[u, v, c, o]    = sum_bij x'[b, s i + u - p, s j + v - p, c] g[b, i, j, o]

with stride s, padding p in front, and x' the images with f - 1 zeros between pixels; f is 1 but in derivatives. Both
are linear in each argument, and the transposes of the one are the other.

XLA's CPU compiler brings convolutions into the form that its fast kernel takes, but not inside loops: there the two
gradients of `lax.conv_general_dilated` become plain loops, 10 to 40 times slower, and every step here is in a loop. So
on CPU all three are written in that form: images [B, H, W, C], kernel [K, K, C, O], nothing spread or mirrored by the
convolution itself. Accelerators get what autodiff of `lax.conv_general_dilated` gives. Axes before [B, H, W, C], which
`vmap` makes, are a loop on CPU. Images side by side in channels, each with a kernel of its own, are groups of channels.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import ShapedArray
from jax.extend.core import Primitive

from jaxnas.spaces.bilinear import common, merged, parted, register, transposed
from jaxnas.wanted import wanted

Two = tuple[int, int]  # of the height and of the width
Pad = tuple[Two, Two]  # in front and behind
AXES = ("NHWC", "HWIO", "NHWC")
_OPTIONS = ("size", "stride", "spread", "pad", "groups")
_convolve, _correlate = Primitive("dense_convolve"), Primitive("dense_correlate")


def dense_convolution(x: Array, kernel: Array, *, stride: Two = (1, 1), pad: Pad = ((0, 0), (0, 0))) -> Array:
    """Images filtered by kernels that see all channels.

    Args:
      x: images, [B, H, W, C].
      kernel: [K, L, C, O]; cast to the type of `x`.
      stride: pixels between outputs, down and across.
      pad: zeros in front and behind, down and across; fewer than the kernel is long.

    Raises:
      ValueError: for another number of axes or channels.
    """
    if kernel.ndim != 4 or kernel.shape[2] != x.shape[-1]:
        raise ValueError(f"kernel has shape {kernel.shape}; for images {x.shape} it is [K, L, {x.shape[-1]}, O].")
    options: dict[str, Any] = {"size": kernel.shape[:2], "stride": tuple(stride), "spread": (1, 1), "pad": tuple(pad)}
    options["groups"] = 1
    k = kernel.astype(x.dtype)
    return _convolve_native(x, k, **options) if common() else _convolve.bind(x, k, *wanted(), **options)


def _spaced(x: Array, spread: Two) -> Array:
    """Zeros between the pixels of [B, H, W, C]."""
    config = [(0, 0, 0), *((0, 0, f - 1) for f in spread), (0, 0, 0)]
    return x if spread == (1, 1) else lax.pad(x, jnp.zeros((), x.dtype), config)


def _convolve_plain(x: Array, k: Array, *, spread: Two, **options: Any) -> Array:
    return _convolve_native(_spaced(x, spread), k, spread=(1, 1), **options)


def _correlate_plain(x: Array, g: Array, *, size: Two, stride: Two, spread: Two, pad: Pad, groups: int) -> Array:
    """Channels take the place of the batch, and the images that of the channels."""
    x, g = _spaced(x, spread), _spaced(g, stride)
    behind = [k + n - x - lo - 1 for k, n, x, (lo, _) in zip(size, g.shape[1:3], x.shape[1:3], pad, strict=True)]
    around = [(lo, hi) for (lo, _), hi in zip(pad, behind, strict=True)]
    y = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3), (1, 1), around, dimension_numbers=AXES
    )
    return y.transpose(1, 2, 0, 3)


def _convolve_native(x: Array, k: Array, *, size: Two, stride: Two, spread: Two, pad: Pad, groups: int) -> Array:
    return lax.conv_general_dilated(
        x, k, stride, pad, lhs_dilation=spread, dimension_numbers=AXES, feature_group_count=groups
    )


def _correlate_native(x: Array, g: Array, *, size: Two, groups: int, **options: Any) -> Array:
    kernel = jax.ShapeDtypeStruct((*size, x.shape[-1] // groups, g.shape[-1]), x.dtype)
    convolve = lambda k: _convolve_native(x, k, size=size, groups=groups, **options)
    return jax.linear_transpose(convolve, kernel)(g)[0]


def _scatter(
    g: Array, k: Array, shape: tuple[int, ...], *, size: Two, stride: Two, spread: Two, pad: Pad, groups: int
) -> Array:
    """Transpose of `_convolve` in x: stride and spread change places, and the kernel is mirrored."""
    ahead = [n - 1 - lo for n, (lo, _) in zip(size, pad, strict=True)]
    long = [(n - 1) * s + 1 for n, s in zip(g.shape[-3:-1], stride, strict=True)]
    behind = [(h - 1) * f + n - lo - m for h, f, n, lo, m in zip(shape[-3:-1], spread, size, ahead, long, strict=True)]
    around = tuple(zip(ahead, behind, strict=True))
    mirrored = _exchanged(k[..., ::-1, ::-1, :, :], groups)
    return _convolve.bind(g, mirrored, size=size, stride=spread, spread=stride, pad=around, groups=groups)


def _exchanged(k: Array, groups: int) -> Array:
    """Kernels [..., C, n O] of n groups with their channels exchanged, [..., O, n C]."""
    if groups == 1:
        return jnp.swapaxes(k, -1, -2)
    apart = k.reshape(*k.shape[:-1], groups, -1)
    return jnp.moveaxis(apart, -1, -3).swapaxes(-1, -2).reshape(*k.shape[:-2], k.shape[-1] // groups, -1)


def _convolve_shape(x, k, *, size: Two, stride: Two, spread: Two, pad: Pad, groups: int) -> ShapedArray:
    long = [(n - 1) * f + 1 + lo + hi for n, f, (lo, hi) in zip(x.shape[-3:-1], spread, pad, strict=True)]
    sides = ((n - m) // s + 1 for n, m, s in zip(long, size, stride, strict=True))
    return ShapedArray((*x.shape[:-3], *sides, k.shape[-1]), x.dtype)


def _correlate_shape(x, g, *, size: Two, groups: int, **options) -> ShapedArray:
    return ShapedArray((*x.shape[:-4], *size, x.shape[-1] // groups, g.shape[-1]), x.dtype)


def _beside(bind, args, axes, count: int, **options):
    """Images and kernels of n cases as n groups of channels."""
    return parted(bind(*(merged(a, axis, count) for a, axis in zip(args, axes, strict=True)), groups=count), count)


def _looped(function: Callable, grouped: Callable) -> Callable:
    """Over the axes before the last four, one after another: a batched convolution is slow on CPU."""

    def call(a, b, **options):
        if a.ndim == 4 and options["groups"] > 1:
            return grouped(a, b, **options)
        if a.ndim == 4:
            return function(a, b, **options)
        return lax.map(lambda pair: call(*pair, **options), (a, b))

    return call


def _vmapped(function: Callable) -> Callable:
    def call(a, b, **options):
        if a.ndim == 4:
            return function(a, b, **options)
        return jax.vmap(lambda a, b: call(a, b, **options))(a, b)

    return call


register(
    _convolve,
    _convolve_shape,
    _looped(_convolve_plain, _convolve_native),
    _vmapped(_convolve_native),
    _OPTIONS,
    folds=((-4, -4), (-1, -1)),  # more images, more kernels
    beside=_beside,
)
register(
    _correlate,
    _correlate_shape,
    _looped(_correlate_plain, _correlate_native),
    _vmapped(_correlate_native),
    _OPTIONS,
    folds=((-1, -2), (-1, -1)),  # more channels
    of_weights=True,
    beside=_beside,
)
transposed(_convolve, _correlate, _scatter)
