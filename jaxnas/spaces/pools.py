"""3x3 pooling, each with its derivatives in one pass.

Where in the river: inside two candidate operations. Knows images; no gate, no edge.

    max:      y[b, i, j, c] = x[b, s i + u - 1, s j + v - 1, c],    (u, v) = place[b, i, j, c], the first largest
    average:  y[b, i, j, c] = mean of x over the pixels of the window inside the image

The maximum is `pick(x, place)`, linear in x once the place is known, and its transpose is `put(g, place)`; that of
`mean(x)` is `share(g)`. Derivatives of all orders are made of these, and those of the maximum keep one byte for each
output.

Shifts of padded images instead of `reduce_window`, whose gradient (select and scatter) is ten times slower on CPU; as
calls that are not fused there: what is left of autodiff's own derivative ends in the update of the states in place,
which runs on one core.
"""

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad

from jaxnas.spaces.bilinear import channels_apart, common, register
from jaxnas.spaces.windows import alone, padded, taps

_Options = dict[str, Any]
_OPTIONS = ("stride", "sides")  # of the windows; height and width of x
_largest, _place = Primitive("pool_largest"), Primitive("pool_place")
_pick, _put = Primitive("pool_pick"), Primitive("pool_put")
_mean, _share = Primitive("pool_mean"), Primitive("pool_share")


def max_pool(x: Array, stride: int = 1) -> Array:
    """3x3 maximum. At exact ties the first pixel in reading order takes the whole gradient, as in PyTorch.

    Args:
      x: images, [B, H, W, C].
      stride: pixels between outputs.

    Returns:
      Images with sides ceil(H / stride), ceil(W / stride).
    """
    if common():
        return _largest_of(padded(x, 1, -jnp.inf), stride=stride)
    return _largest.bind(x, stride=stride, sides=x.shape[1:3])


def average_pool(x: Array, stride: int = 1) -> Array:
    """3x3 mean over the pixels inside the image (count_include_pad=False in PyTorch).

    Args:
      x: images, [B, H, W, C].
      stride: pixels between outputs.

    Returns:
      Images with sides ceil(H / stride), ceil(W / stride).
    """
    options: _Options = {"stride": stride, "sides": x.shape[1:3]}
    return _shares(_total_of(padded(x, 1), stride=stride), **options) if common() else _mean.bind(x, **options)


def _shares(x: Array, *, stride: int, sides: tuple[int, int]) -> Array:
    """Each output's image or cotangent [..., h, w, C], divided by the pixels of its window inside the image."""
    counts = np.outer(*(_neighbours(side, stride) for side in sides))
    return lax.mul(x, lax.broadcast_in_dim(jnp.asarray(1.0 / counts, x.dtype), x.shape, (x.ndim - 3, x.ndim - 2)))


def _neighbours(side: int, stride: int) -> np.ndarray:
    """How many of three neighbouring pixels lie inside an image, at every output position."""
    position = np.arange(0, side, stride)
    return 1 + (position > 0) + (position < side - 1)


# ------------------------------------------------------------------------------------- of padded images


def _largest_of(images: Array, *, stride: int) -> Array:
    return reduce(lambda best, new: lax.select(new > best, new, best), taps(images, 3, stride))


def _place_of(images: Array, *, stride: int) -> Array:
    """Number of the tap that is the first largest, int8."""
    best, *rest = taps(images, 3, stride)
    place = lax.full_like(best, 0, jnp.int8)
    for number, new in enumerate(rest, 1):
        wins = new > best
        best, place = lax.select(wins, new, best), lax.select(wins, lax.full_like(place, number), place)
    return place


def _pick_of(images: Array, place: Array, *, stride: int) -> Array:
    y, *rest = taps(images, 3, stride)
    for number, new in enumerate(rest, 1):
        y = lax.select(place == number, new, y)
    return y


def _total_of(images: Array, *, stride: int) -> Array:
    return reduce(jnp.add, taps(images, 3, stride))


def _put_of(images: Array, place: Array, *, stride: int) -> Array:
    """Each pixel gets the cotangents of the windows in which it was picked: first to last, the last tap first."""
    views = zip(range(8, -1, -1), taps(images, 3, stride), taps(place, 3, stride), strict=True)
    return reduce(jnp.add, (lax.select(at == number, g, lax.full_like(g, 0)) for number, g, at in views))


# --------------------------------------------------------------------------------------------- primitives


def _of_images(function: Callable, value: float) -> Callable:
    """A function of padded images as one of images."""

    def call(x: Array, *place: Array, stride: int, sides: tuple[int, int]) -> Array:
        return function(padded(x, 1, value), *place, stride=stride)

    return call


def _of_spread(function: Callable) -> Callable:
    """A function of padded images as one of images [B, h, w, C] whose pixels it spreads over the larger ones."""

    def call(g: Array, *place: Array, stride: int, sides: tuple[int, int]) -> Array:
        full = partial(padded, pad=1, spread=stride, sides=sides)
        return function(full(g), *(full(p, value=-1) for p in place), stride=1)

    return call


def _then(first: Callable, last: Callable) -> Callable:
    return lambda x, **options: last(first(x, **options), **options)


def _smaller(x, *place, stride: int, sides: tuple[int, int]) -> ShapedArray:
    return ShapedArray((*x.shape[:-3], *(-(-side // stride) for side in sides), x.shape[-1]), x.dtype)


def _places(x, **options) -> ShapedArray:
    return ShapedArray(_smaller(x, **options).shape, jnp.int8)


def _larger(g, *place, stride: int, sides: tuple[int, int]) -> ShapedArray:
    return ShapedArray((*g.shape[:-3], *sides, g.shape[-1]), g.dtype)


def _register(primitive: Primitive, shape: Callable, function: Callable, around: Callable) -> None:
    """On CPU as a call that is fused with nothing but the padding."""
    register(primitive, shape, around(alone("stride")(function)), around(function), _OPTIONS, beside=channels_apart)


_register(_largest, _smaller, _largest_of, partial(_of_images, value=-jnp.inf))
_register(_place, _places, _place_of, partial(_of_images, value=-jnp.inf))
_register(_pick, _smaller, _pick_of, partial(_of_images, value=0))
_register(_put, _larger, _put_of, _of_spread)
_register(_mean, _smaller, _total_of, lambda total: _then(partial(_of_images, value=0)(total), _shares))
_register(_share, _larger, _total_of, lambda total: _then(_shares, _of_spread(total)))


def _largest_slope(primals, tangents, **options):
    (x,), (dx,) = primals, tangents
    return _largest.bind(x, **options), _pick.bind(dx, _place.bind(x, **options), **options)


def _place_slope(primals, tangents, **options):
    place = _place.bind(*primals, **options)
    return place, ad.Zero(jax.typeof(place).to_tangent_aval())


def _linear(primitive: Primitive, transpose: Primitive, places: tuple[None, ...]) -> None:
    """Linear in its first argument, and has no slope along the places that may follow it."""

    def slope(dx, x, *place, **options):
        return primitive.bind(dx, *place, **options)

    def transposed(ct, x, *place, **options):
        dx = ad.Zero(x.aval) if type(ct) is ad.Zero else transpose.bind(ct, *place, **options)
        return dx, *(None for _ in place)

    ad.defjvp(primitive, slope, *places)
    ad.primitive_transposes[primitive] = transposed


ad.primitive_jvps[_largest], ad.primitive_jvps[_place] = _largest_slope, _place_slope
_linear(_pick, _put, (None,))
_linear(_put, _pick, (None,))
_linear(_mean, _share, ())
_linear(_share, _mean, ())
