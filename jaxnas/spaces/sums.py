"""Sums over images and pixels, channel by channel, and the pair of primitives that a norm is made of.

Where in the river: under norms, gates and depthwise convolutions. Knows images; no gate, no kernel.

    moments(y, g)  = [sum_bij y g, sum_bij g]          affine(y, a) = y a_0 + a_1

Each is the other's transpose in its second argument, so that a norm and all its derivatives take both sums in one pass.

XLA's CPU compiler makes scalar code of a long sum. In steps of at most eight terms, which it writes out, it runs over
the channels as vectors; what is left is a product with a row of ones. Accelerators get the plain sums.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad

from jaxnas.spaces.bilinear import channels_apart, common, merged, parted, register

_moments, _affine, _spread = Primitive("moments"), Primitive("affine"), Primitive("over_pixels")


def at_least_float32(x: Array) -> Array:
    """The same numbers in float32 if they come in half precision."""
    return x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x


def moments(y: Array, g: Array) -> Array:
    """The sums over images and pixels of y g and of g: [2, C].

    Args:
      y, g: images, [B, H, W, C].
    """
    return _moments_plain(y, g) if common() else _moments.bind(y, g)


def affine(y: Array, a: Array) -> Array:
    """Each channel of y times a number, plus a number.

    Args:
      y: images, [B, H, W, C].
      a: factors and terms, [2, C].
    """
    return _affine_plain(y, a) if common() else _affine.bind(y, a)


def over_pixels(values: Array, like: Array) -> Array:
    """A number for each channel as images, in their type.

    Args:
      values: [C], of any float type.
      like: images, [B, H, W, C].
    """
    values = values.astype(like.dtype)
    return _spread_plain(values, shape=like.shape) if common() else _spread.bind(values, shape=like.shape)


def by_eights(*terms: Array) -> tuple[Array, ...]:
    """The first step, in one pass: images [B, H, W, C] cut into slabs of rows, eight at most, and these added up.

    Args:
      terms: images of one shape.

    Returns:
      An array [B, H / slabs, W, C] for each.
    """
    place, side = terms[0].ndim - 3, terms[0].shape[-3]
    slabs = max(n for n in range(1, 9) if side % n == 0)
    return added([t.reshape(*t.shape[:place], slabs, side // slabs, *t.shape[place + 1 :]) for t in terms], (place,))


def totals(terms: Sequence[Array]) -> Array:
    """The last step: the sum of each of K images [B, H, W, C] over images and pixels, [K, C].

    Args:
      terms: images of one shape, small ones.
    """
    flat = jnp.concatenate([t.reshape(*t.shape[:-4], -1, t.shape[-1]) for t in terms], -1)
    ones = jnp.ones((*flat.shape[:-2], 1, flat.shape[-2]), flat.dtype)
    return (ones @ flat).reshape(*flat.shape[:-2], len(terms), -1)


def added(terms: Sequence[Array], axes: tuple[int, ...]) -> tuple[Array, ...]:
    """The sums of several arrays in one pass.

    Args:
      terms: arrays of one shape.
      axes: those that are summed over.
    """
    zeros = (jnp.zeros((), terms[0].dtype),) * len(terms)
    return lax.reduce(tuple(terms), zeros, lambda a, b: tuple(u + v for u, v in zip(a, b, strict=True)), axes)


def _moments_by_eights(y: Array, g: Array) -> Array:
    return totals(by_eights(y * g, g))


def _moments_plain(y: Array, g: Array) -> Array:
    lead = y.ndim - 4
    return jnp.stack(added([y * g, g], (lead, lead + 1, lead + 2)), -2)


def _affine_plain(y: Array, a: Array) -> Array:
    return y * _wide(a, 0) + _wide(a, 1)


def _spread_plain(values: Array, *, shape: tuple[int, ...]) -> Array:
    return jnp.broadcast_to(values[..., None, None, None, :], (*values.shape[:-1], *shape))


def _spread_beside(bind, args, axes, count: int, *, shape: tuple[int, ...]):
    return parted(bind(merged(args[0], axes[0], count), shape=(*shape[:-1], count * shape[-1])), count)


def _wide(a: Array, row: int) -> Array:
    """A row of [2, C] as [1, 1, 1, C]."""
    return a[..., row, None, None, None, :]


def _moments_shape(y, g) -> ShapedArray:
    return ShapedArray((*y.shape[:-4], 2, y.shape[-1]), y.dtype)


def _affine_shape(y, a) -> ShapedArray:
    return ShapedArray(y.shape, y.dtype)


def _spread_shape(values, *, shape: tuple[int, ...]) -> ShapedArray:
    return ShapedArray((*values.shape[:-1], *shape), values.dtype)


def _linear(primitive: Primitive, slope: Callable[..., Array], transpose: Callable[[Array, Array], Array]) -> None:
    """Tells JAX the derivatives of a function of y and another argument, in which it is linear.

    Args:
      primitive: (y, other) -> array.
      slope: (dy, y, other) -> its tangent along dy.
      transpose: (y, cotangent of the result) -> cotangent of the other argument.
    """

    def transposed(ct, y, other):
        return None, ad.Zero(other.aval) if type(ct) is ad.Zero else transpose(y, ct)

    ad.defjvp(primitive, slope, lambda d, y, _: primitive.bind(y, d))
    ad.primitive_transposes[primitive] = transposed


def _moments_slope(dy: Array, y: Array, g: Array) -> Array:
    """As linear in dy as `moments` is in its second argument; only the first sum moves."""
    first = moments(g, dy)[..., :1, :]
    return jnp.concatenate([first, jnp.zeros_like(first)], -2)


register(_moments, _moments_shape, jax.jit(_moments_by_eights), _moments_plain, (), beside=channels_apart)
register(_affine, _affine_shape, _affine_plain, _affine_plain, (), beside=channels_apart)
register(_spread, _spread_shape, _spread_plain, _spread_plain, ("shape",), beside=_spread_beside, values=True)
ad.deflinear(_spread, lambda ct, *, shape: [ct.sum((-4, -3, -2))])
_linear(_moments, _moments_slope, affine)
_linear(_affine, lambda dy, y, a: dy * _wide(a, 0), moments)
