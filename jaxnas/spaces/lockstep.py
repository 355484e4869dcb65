"""Norms that do not wait for each other, made together: fewer and larger kernels, the same numbers.

Where in the river: under a group of edges (`layout.side_by_side`). Knows jaxprs, and images with a scale for each
channel; no gate, no edge, no operation.

A norm takes two sums over all pixels, and its derivative two more: on a GPU each is two kernels, whatever its width.
The candidates of an edge hold eight norms. Six of them need nothing but the input of the edge, and two more a norm
before them. So a group of edges needs two norms of many channels, not eight.

`in_lockstep` traces a function in which each norm is marked, evaluates all that needs no norm, makes the norms that are
ready side by side in channels, and goes on.
"""

from collections.abc import Callable, Sequence
from itertools import compress, groupby
from operator import not_

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Primitive, jaxpr_as_fun
from jax.interpreters import ad, batching, mlir

from jaxnas.spaces.bilinear import beside_channels, channels_apart, is_beside, stands_beside

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

    def call(*args):
        with beside_channels():
            jaxpr, shape = jax.make_jaxpr(function, return_shape=True)(*args)
        return jax.tree.unflatten(jax.tree.structure(shape), _evaluated(jaxpr, jax.tree.leaves(args)))

    return call


def _evaluated(closed: ClosedJaxpr, args: Sequence[Array]) -> list[Array]:
    """The values of a jaxpr: turn by turn what needs no norm, then the norms that are ready."""
    jaxpr = closed.jaxpr
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*closed.consts, *args), strict=True))
    read = lambda atom: atom.val if isinstance(atom, Literal) else known[atom]
    waiting = list(jaxpr.eqns)
    while waiting:
        now, waiting = _parted(waiting, set(known))
        known.update(_run(jaxpr, now, [*_inputs(waiting), *jaxpr.outvars], known))
        norms, waiting = _norms_ready(waiting, known)
        for eqns in _alike(norms):
            outs = _together(_NORMS[eqns[0].primitive], [[*map(read, eqn.invars)] for eqn in eqns])
            known.update(zip((eqn.outvars[0] for eqn in eqns), outs, strict=True))
    return [*map(read, jaxpr.outvars)]


def _parted(eqns: Sequence, known: set) -> tuple[list, list]:
    """Those that can be computed without a norm, and the rest, both in order."""
    now, rest = [], []
    for eqn in eqns:
        if eqn.primitive not in _NORMS and _ready(eqn, known):
            now.append(eqn)
            known |= set(eqn.outvars)
        else:
            rest.append(eqn)
    return now, rest


def _ready(eqn, known) -> bool:
    return all(isinstance(atom, Literal) or atom in known for atom in eqn.invars)


def _norms_ready(eqns: Sequence, known) -> tuple[list, list]:
    ready = [_ready(eqn, known) for eqn in eqns]
    return [*compress(eqns, ready)], [*compress(eqns, map(not_, ready))]


def _inputs(eqns: Sequence) -> list:
    """What these read."""
    return [atom for eqn in eqns for atom in eqn.invars]


def _run(jaxpr: Jaxpr, eqns: Sequence, wanted: Sequence, known: dict) -> dict:
    """What is wanted of the values that some equations of a jaxpr give."""
    given = {var for eqn in eqns for var in eqn.outvars}
    outs = [*dict.fromkeys(atom for atom in wanted if not isinstance(atom, Literal) and atom in given)]
    ins = [*dict.fromkeys(a for a in _inputs(eqns) if not isinstance(a, Literal) and a not in given)]
    effects = {effect for eqn in eqns for effect in eqn.effects}
    part = jaxpr.replace(constvars=(), invars=ins, outvars=outs, eqns=eqns, effects=effects)
    return dict(zip(outs, jaxpr_as_fun(ClosedJaxpr(part, ()))(*(known[var] for var in ins)), strict=True))


def _alike(norms: Sequence) -> list[list]:
    """Norms of one kind, of images of one size and type, whose scales are each for as many channels."""

    def key(eqn):
        x, scale = (a.aval for a in eqn.invars)
        kind = kinds.index(eqn.primitive)
        return kind, x.shape[:-1], str(x.dtype), str(scale.dtype), x.shape[-1] // scale.shape[-1]

    kinds = list(_NORMS)
    return [list(group) for _, group in groupby(sorted(norms, key=key), key)]


def _together(norm: Norm, args: Sequence[Sequence[Array]]) -> Sequence[Array]:
    if len(args) == 1:
        return [norm(*args[0])]
    images, scales = (jnp.concatenate(arrays, -1) for arrays in zip(*args, strict=True))
    y = norm(images, scales)
    return lax.split(y, [x.shape[-1] for x, _ in args], axis=y.ndim - 1)
