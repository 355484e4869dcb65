"""Batch normalisation, and how a gate comes for free with it.

Where in the river: the last step of most candidates. Knows images and one number; no edges or alpha.

A module that takes `gate` as a second argument returns gate times its output. A candidate hands it to its last norm,
where it costs nothing: the product, and the gradient of its gate, would be two passes over the images.

Running statistics live in the flax collection `statistics`. A pass in which it is mutable normalises by the batch and
moves them; a pass that is given them normalises by them; a supernet, which has none, normalises by the batch.
"""

import inspect

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxnas.spaces.bilinear import shared
from jaxnas.spaces.lockstep import each, marked
from jaxnas.spaces.sums import affine, at_least_float32, moments, over_pixels

Gate = Array | float  # [] weight of a candidate, any float type
EPSILON, MOMENTUM = 1e-5, 0.1  # PyTorch's: of the variance; of each new batch in the running statistics


def takes_gate(module: nn.Module) -> bool:
    """Whether `module(x, gate)` is gate times `module(x)`."""
    return "gate" in inspect.signature(type(module).__call__).parameters


@jax.custom_jvp
def standardize(x: Array, scale: Array) -> Array:
    """Each channel times scale / sqrt(variance + 1e-5) around its mean over batch and pixels; statistics in float32.

    The tangent is written out, with x' the standardised x and r = 1 / sqrt(variance + 1e-5),

        dy = scale r (dx - mean(dx) - x' mean(x' dx)) + x' dscale,

    so that its transpose takes two sums over the cotangent; what autodiff would derive takes twice as many passes.

    Args:
      x: images, [B, H, W, C].
      scale: one for each of n equal shares of the channels, [n]; of any float type.

    Returns:
      Images of the shape and type of `x`.

    Reference: Ioffe and Szegedy 2015, arXiv:1502.03167, algorithm 1; tangent and transpose are ours.
    """
    y, _ = _standardized(at_least_float32(x))
    return (_per_channel(each(scale, x.shape[-1]), y) * y).astype(x.dtype)


@standardize.defjvp
def _standardize_jvp(primals, tangents):
    (x, scale), (dx, dscale) = primals, tangents
    scale, dscale = (each(s, x.shape[-1]) for s in (scale, dscale))
    y, r = _standardized(at_least_float32(x))
    dx = at_least_float32(dx)
    dy = _slope(y, dx, _means(y, dx), scale.astype(y.dtype) * r, dscale.astype(y.dtype))
    return (_per_channel(scale, y) * y).astype(x.dtype), dy.astype(x.dtype)


_standardize = marked(shared(standardize))


@jax.custom_jvp
def _standardized(x: Array) -> tuple[Array, Array]:
    """Standardised images [B, H, W, C] and r [C]; differentiated once more, the same two sums."""
    mean, variance = _moments(x)
    r = lax.rsqrt(variance + EPSILON)
    return (x - _per_channel(mean, x)) * _per_channel(r, x), r


@_standardized.defjvp
def _standardized_jvp(primals, tangents):
    (x,), (dx,) = primals, tangents
    y, r = _standardized(x)
    means = _means(y, dx)
    return (y, r), (_slope(y, dx, means, r, jnp.zeros_like(r)), -r * r * means[0])


def _slope(y: Array, dx: Array, means: Array, factor: Array, along: Array) -> Array:
    """factor (dx - mean(dx) - y mean(y dx)) + y along."""
    return _per_channel(factor, y) * dx + affine(y, jnp.stack([along - factor * means[0], -factor * means[1]]))


def _means(y: Array, x: Array) -> Array:
    """Means of y x and of x over batch and pixels, [2, C]."""
    return moments(y, x) / (x.size // x.shape[-1])


def _moments(wide: Array) -> tuple[Array, Array]:
    """Mean and biased variance of each channel, [C]."""
    square, mean = _means(wide, wide)
    return mean, jnp.maximum(square - jnp.square(mean), 0)


def _per_channel(values: Array, like: Array) -> Array:
    return values.astype(like.dtype).reshape(1, 1, 1, -1)


class BatchNorm(nn.Module):
    """Normalises each channel: gate (x - m) / sqrt(v + 1e-5), m and v the mean and biased variance of this batch.

    Where running statistics are kept (see above), a pass in training moves them by a tenth of the way to the batch's
    mean and unbiased variance n / (n - 1) v of n = B H W numbers, and a pass in evaluation normalises by them.

    Reference: Ioffe and Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2; momentum as in PyTorch's `BatchNorm2d`.
    """

    affine: bool = False  # followed by a learnt scale and shift

    @nn.compact
    def __call__(self, x: Array, gate: Gate = 1.0) -> Array:
        shape, dtype = (x.shape[-1],), jnp.result_type(float)
        gate = jnp.asarray(gate, at_least_float32(x).dtype).reshape(1)
        if not self.affine:
            return self._normalize(x, gate)
        scale = self.param("scale", lambda _: jnp.ones(shape, dtype)).astype(gate.dtype)
        bias = self.param("bias", lambda _: jnp.zeros(shape, dtype)).astype(gate.dtype)
        return self._normalize(x, gate * scale) + over_pixels(gate * bias, x)

    def _normalize(self, x: Array, scale: Array) -> Array:
        moves = self.is_mutable_collection("statistics")
        if not moves and not self.has_variable("statistics", "mean"):
            return _standardize(x, scale)
        shape, dtype = (x.shape[-1],), jnp.result_type(float)
        mean = self.variable("statistics", "mean", lambda: jnp.zeros(shape, dtype))
        variance = self.variable("statistics", "variance", lambda: jnp.ones(shape, dtype))
        if not moves:
            r = each(scale, x.shape[-1]) * lax.rsqrt(variance.value.astype(scale.dtype) + EPSILON)
            return ((at_least_float32(x) - _per_channel(mean.value, scale)) * _per_channel(r, scale)).astype(x.dtype)
        if not self.is_initializing():
            n = x.size // x.shape[-1]
            found = zip(_moments(lax.stop_gradient(at_least_float32(x))), (1.0, n / max(n - 1, 1)), strict=True)
            for kept, (new, factor) in zip((mean, variance), found, strict=True):
                kept.value = kept.value + MOMENTUM * (factor * new.astype(kept.value.dtype) - kept.value)
        return _standardize(x, scale)
