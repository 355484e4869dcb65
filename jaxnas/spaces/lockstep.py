"""Norms that do not wait for each other, made together: fewer and larger kernels, the same numbers.

Where in the river: under a group of edges (`layout.side_by_side`). Knows jaxprs, and images with a scale for each
channel; no gate, no edge, no operation.

A norm takes two sums over all pixels, and its derivative two more: on a GPU each is two kernels, whatever its width.
The candidates of an edge hold eight norms. Six of them need nothing but the input of the edge, and two more a norm
before them. So a group of edges needs two norms of many channels, not eight.

`in_lockstep` traces a function in which each norm is marked, evaluates all that needs no norm, makes the norms that are
ready side by side in channels, and goes on.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import cast

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.core import ShapedArray
from jax.extend.core import JaxprEqn, Primitive
from jax.interpreters import ad, batching, mlir

from jaxnas.spaces.bilinear import beside_channels, channels_apart, is_beside, stands_beside
from jaxnas.spaces.turns import in_turns

Norm = Callable[[Array, Array], Array]  # (images [B, H, W, C], scale [n]) -> images


def each(scale: Array, channels: int) -> Array:
    """A scale for each channel from one for each of n equal shares of them: [n] -> [C].

    Args:
      scale: [n] or, with axes of `vmap` in front, [..., n].
      channels: C, a multiple of n.
    """
    lead, n = scale.shape[:-1], scale.shape[-1]
    if n in (1, channels):
        return jnp.broadcast_to(scale, (*lead, channels))
    return jnp.broadcast_to(scale[..., None], (*lead, n, channels // n)).reshape(*lead, channels)


def marked(norm: Norm) -> Norm:
    """A norm that `in_lockstep` finds in a jaxpr; elsewhere it is itself.

    Args:
      norm: of images [B, H, W, C] and a scale for each of n equal shares of the channels, [n]; channels do not mix.
    """
    mark = Primitive("norm_of_channels")
    mark.def_abstract_eval(lambda x, scale: x.update(weak_type=False))
    mark.def_impl(jax.jit(norm))
    mlir.register_lowering(mark, mlir.lower_fun(norm, multiple_results=False))
    ad.primitive_jvps[mark] = lambda at, way: jax.jvp(norm, tuple(at), tuple(map(ad.instantiate_zeros, way)))
    batching.primitive_batchers[mark] = lambda args, axes: _batched(mark, norm, args, axes)
    _NORMS[mark] = norm
    return lambda x, scale: mark.bind(x, scale) if is_beside() else norm(x, scale)


_NORMS: dict[Primitive, Norm] = {}


def _batched(mark: Primitive, norm: Norm, args, axes):
    """Side by side in channels where the images stand so, else case by case."""
    if any(map(stands_beside, args, axes)):
        count = next(a.shape[axis] for a, axis in zip(args, axes, strict=True) if axis is not None)
        return channels_apart(mark.bind, args, axes, count)
    return jax.vmap(norm, axes)(*args), 0


def in_lockstep(function: Callable) -> Callable:
    """The function with independent norms of equal images made together.

    Args:
      function: of pytrees of arrays.
    """

    def beside(*args):
        with beside_channels():
            return function(*args)

    return in_turns(beside, _kind, _together)


def _kind(eqn: JaxprEqn) -> Hashable:
    """Norms of one kind, of images of one size and type, whose scales are each for as many channels."""
    if eqn.primitive not in _NORMS:
        return None
    x, scale = (cast(ShapedArray, a.aval) for a in eqn.invars)
    return eqn.primitive, x.shape[:-1], x.dtype, scale.dtype, x.shape[-1] // scale.shape[-1]


def _together(eqns: Sequence[JaxprEqn], reads: Sequence[Sequence[Array]]) -> Sequence[Array]:
    norm = _NORMS[eqns[0].primitive]
    if len(eqns) == 1:
        return [norm(*reads[0])]
    images, scales = (jnp.concatenate(arrays, -1) for arrays in zip(*reads, strict=True))
    y = norm(images, scales)
    return lax.split(y, [x.shape[-1] for x, _ in reads], axis=y.ndim - 1)
