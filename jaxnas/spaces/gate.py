"""A number times images: how a gate opens what no norm ends, as a pair of bilinear primitives.

Where in the river: at the end of a skip connection, and of every edge; under norms, where each channel has a number of
its own. Knows images and numbers; no edges, no alpha.

    scaled(x, a) = a x        inner(x, g) = sum_bijc x g, or sum_bij x g where each channel has its own a

Each is the other's transpose, so that the gradient of a gate is one pass, in vector code on CPU (see `sums.py`).

The cotangent of an edge is a slice of all states' cotangents, which the loop over edges goes on to update in place. XLA
would draw the slice into each of the dozen kernels that read it, and copy all states twice so that they still can. So
there `apart=True` makes the product with it a call that is fused with nothing: one slice is read, and kept.
"""

import jax.numpy as jnp
from jax import Array
from jax.core import ShapedArray
from jax.extend.core import Primitive

from jaxnas.spaces.bilinear import common, merged, parted, register, transposed
from jaxnas.spaces.sums import at_least_float32, by_eights, totals
from jaxnas.spaces.windows import alone

# whether each channel has its own number; whether this product is a call of its own, and whether its transpose is
_OPTIONS = ("each", "apart", "back")
_scaled, _inner = Primitive("gate_scaled"), Primitive("gate_inner")


def scaled(x: Array, gate: Array | float, *, apart: bool = False) -> Array:
    """The images times a number, in their type.

    Args:
      x: images, [B, H, W, C].
      gate: [] or, for each channel its own, [C]; of any float type.
      apart: whether the cotangent of x is a call of its own on CPU: for what ends an edge.

    Returns:
      Images of the shape and type of `x`.
    """
    a = jnp.asarray(gate, x.dtype)
    return a * x if common() else _scaled.bind(x, a, each=a.ndim == 1, apart=False, back=apart)


def _product(x: Array, a: Array, *, each: bool) -> Array:
    return x * (a[..., None, None, None, :] if each else a[..., None, None, None, None])


_product_alone = alone("each")(_product)


def _scaled_on_cpu(x: Array, a: Array, *, each: bool, apart: bool, back: bool) -> Array:
    return (_product_alone if apart else _product)(x, a, each=each)


def _inner_on_cpu(x: Array, g: Array, *, each: bool, **options) -> Array:
    sums = totals(by_eights(_wide_product(x, g)))[..., 0, :]
    return (sums if each else sums.sum(-1)).astype(x.dtype)


def _wide_product(x: Array, g: Array) -> Array:
    """In float32 at least: a sum over all pixels is no place for half precision."""
    return at_least_float32(x) * at_least_float32(g)


def _scaled_plain(x: Array, a: Array, *, each: bool, **options) -> Array:
    return _product(x, a, each=each)


def _inner_plain(x: Array, g: Array, *, each: bool, **options) -> Array:
    return _wide_product(x, g).sum((-4, -3, -2) if each else (-4, -3, -2, -1)).astype(x.dtype)


def _scatter(g: Array, a: Array, shape: tuple[int, ...], *, each: bool, apart: bool, back: bool) -> Array:
    return _scaled.bind(g, a, each=each, apart=back, back=back)


def _scaled_shape(x, a, **options) -> ShapedArray:
    return ShapedArray(x.shape, x.dtype)


def _inner_shape(x, g, *, each: bool, **options) -> ShapedArray:
    return ShapedArray((*x.shape[:-4], *x.shape[-1:] * each), x.dtype)


def _beside(bind, args, axes, count: int, *, each: bool, **options):
    """A number for each case becomes one for each of its channels."""
    (x, a), (axis, axis_a) = args, axes
    if not each:
        a, axis_a = jnp.broadcast_to(a[..., None], (count, x.shape[-1])), 0
    return parted(bind(merged(x, axis, count), merged(a, axis_a, count), each=True), count)


def _beside_inner(bind, args, axes, count: int, *, each: bool, **options):
    """A sum for each channel, and for each case those of its channels together."""
    sums, axis = parted(bind(*(merged(a, axis, count) for a, axis in zip(args, axes, strict=True)), each=True), count)
    return (sums, axis) if each else (sums.sum(-1), axis)


register(_scaled, _scaled_shape, _scaled_on_cpu, _scaled_plain, _OPTIONS, beside=_beside)
register(_inner, _inner_shape, _inner_on_cpu, _inner_plain, _OPTIONS, beside=_beside_inner)
transposed(_scaled, _inner, _scatter)
