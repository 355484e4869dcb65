"""Depthwise convolution as a pair of bilinear primitives, each the other's transpose.

Where in the river: inside one candidate operation. Knows images and one kernel; no gates, no edges.

    convolve(x, k)[b, i, j, c]    = sum_uv x[b, s i + d u - p, s j + d v - p, c] k[u, v, c]
    correlate(x, g)[u, v, c]      = sum_bij x[b, s i + d u - p, s j + d v - p, c] g[b, i, j, c]

with stride s, dilation d and padding p = d (K - 1) / 2. Both are linear in each argument, and the transposes of the
one are the other, so that JVPs, VJPs and every mixture of both work and never keep anything but x, k and g alive.

XLA's grouped convolution is slow on CPU (50 to 150 times at these sizes), so there it is a sum of shifted products, as
a computation of its own: fused with their neighbours, the taps of several convolutions become one loop that is many
times slower than its parts. Leading axes before [B, H, W, C], which `vmap` makes, are carried along by both.

Accelerators have two forms, and `in_shifts` is the switch. Unless it is in force they get `lax.conv_general_dilated`
with one group for each channel. The other form is shifted products that fuse with what surrounds them. A first-order
step of DARTS with 3 cells launched 2,864 kernels of an H200 with the one and 3,956 with the other; for one convolution
a TPU v5e's compiler estimates 152,230 cycles and 254,421. Neither was measured on a device yet.
"""

import contextlib
from collections.abc import Callable
from contextvars import ContextVar
from functools import reduce

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import ShapedArray
from jax.extend.core import Primitive

from jaxnas.spaces.bilinear import channels_apart, common, register, switched_on, transposed
from jaxnas.spaces.sums import added, by_eights, totals
from jaxnas.spaces.windows import alone, padded, taps
from jaxnas.wanted import wanted


def depthwise_convolution(x: Array, kernel: Array, *, stride: int = 1, dilation: int = 1) -> Array:
    """Each channel of `x` filtered by its own kernel, output side ceil(H / stride), zero padding.

    Args:
      x: images, [B, H, W, C].
      kernel: [K, K, C], K odd; cast to the type of `x`.
      stride: step between outputs, pixels.
      dilation: step between the taps of the kernel, pixels.
    """
    if kernel.ndim != 3 or kernel.shape[0] != kernel.shape[1] or kernel.shape[0] % 2 == 0:
        raise ValueError(f"kernel has shape {kernel.shape}; a depthwise kernel is [K, K, C] with K odd.")
    if kernel.shape[-1] != x.shape[-1]:
        raise ValueError(f"kernel has {kernel.shape[-1]} channels, the images have {x.shape[-1]}.")
    k = kernel.astype(x.dtype)
    options = {"size": k.shape[0], "stride": stride, "dilation": dilation}
    return _convolve_grouped(x, k, **options) if common() else _convolve.bind(x, k, *wanted(), **options)


def in_shifts() -> contextlib.AbstractContextManager[None]:
    """What is lowered inside for an accelerator has shifted products instead of grouped convolutions."""
    return switched_on(_shifts)


_shifts = ContextVar("shifts", default=False)
_OPTIONS = ("size", "stride", "dilation")
_convolve, _correlate = Primitive("depthwise_convolve"), Primitive("depthwise_correlate")


def _convolve_shifts(images: Array, k: Array, *, size: int, stride: int, dilation: int) -> Array:
    factors = k.reshape(*k.shape[:-3], size * size, 1, 1, 1, k.shape[-1])
    views = enumerate(taps(images, size, stride, dilation))
    return reduce(jnp.add, (view * jnp.broadcast_to(factors[..., t, :, :, :, :], view.shape) for t, view in views))


def _correlate_shifts(images: Array, g: Array, *, size: int, stride: int, dilation: int) -> Array:
    """K of the K*K sums at a time, each time in one pass over the images."""
    products = [view * g for view in taps(images, size, stride, dilation)]
    rows = [by_eights(*products[t : t + size]) for t in range(0, size * size, size)]
    return totals([term for row in rows for term in row]).reshape(*g.shape[:-4], size, size, g.shape[-1])


def _convolve_grouped(x: Array, k: Array, *, size: int, stride: int, dilation: int) -> Array:
    """Leading axes are folded into the channels, one group each."""
    lead, (batch, height, width, channels) = x.shape[:-4], x.shape[-4:]
    n, pad = len(lead), size // 2 * dilation
    order = (*range(n, n + 3), *range(n), n + 3)
    y = lax.conv_general_dilated(
        x.transpose(order).reshape(batch, height, width, -1),
        jnp.moveaxis(k, (-3, -2), (0, 1)).reshape(size, size, 1, -1),
        (stride, stride),
        [(pad, pad)] * 2,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=x.size // (batch * height * width),
    )
    return y.reshape(*y.shape[:3], *lead, channels).transpose(*range(3, 3 + n), 0, 1, 2, 3 + n)


def _correlate_grouped(x: Array, g: Array, *, size: int, **options) -> Array:
    kernel = jax.ShapeDtypeStruct((*x.shape[:-4], size, size, x.shape[-1]), x.dtype)
    return jax.linear_transpose(lambda k: _convolve_grouped(x, k, size=size, **options), kernel)(g)[0]


def _scatter(g: Array, k: Array, shape: tuple[int, ...], *, size: int, stride: int, dilation: int) -> Array:
    """Transpose of `_convolve` in x: spread g by the stride, then convolve with the mirrored kernel."""
    if stride > 1:
        g = padded(g, 0, spread=stride, sides=shape[-3:-1])
    return _convolve.bind(g, k[..., ::-1, ::-1, :], size=size, stride=1, dilation=dilation)


def _convolve_shape(x, k, *, size: int, stride: int, dilation: int) -> ShapedArray:
    height, width = (-(-side // stride) for side in x.shape[-3:-1])
    return ShapedArray((*x.shape[:-3], height, width, x.shape[-1]), x.dtype)


def _correlate_shape(x, g, *, size: int, stride: int, dilation: int) -> ShapedArray:
    return ShapedArray((*x.shape[:-4], size, size, x.shape[-1]), x.dtype)


def _padding(function: Callable) -> Callable:
    """A function of padded images as one of images, alone but for the padding.

    That is fused with what makes the images, and made once for a convolution and a correlation that share them.
    """

    def call(x: Array, other: Array, **options) -> Array:
        return function(padded(x, options["size"] // 2 * options["dilation"]), other, **options)

    return call


def _correlate_sums(images: Array, g: Array, *, size: int, stride: int, dilation: int) -> Array:
    """All sums in one reduction."""
    sums = added([view * g for view in taps(images, size, stride, dilation)], tuple(range(g.ndim - 4, g.ndim - 1)))
    return jnp.stack(sums, -2).reshape(*g.shape[:-4], size, size, g.shape[-1])


def _either(shifts: Callable, grouped: Callable) -> Callable:
    """The form that is switched on where it is lowered."""
    return lambda *args, **options: (shifts if _shifts.get() else grouped)(*args, **options)


register(
    _convolve,
    _convolve_shape,
    _padding(alone(*_OPTIONS)(_convolve_shifts)),
    _either(_padding(_convolve_shifts), _convolve_grouped),
    _OPTIONS,
    beside=channels_apart,
)
register(
    _correlate,
    _correlate_shape,
    _padding(alone(*_OPTIONS)(_correlate_shifts)),
    _either(_padding(_correlate_sums), _correlate_grouped),
    _OPTIONS,
    of_weights=True,
    beside=channels_apart,
)
transposed(_convolve, _correlate, _scatter)
