"""Primitives of two arguments, linear in each: how `depthwise`, `dense` and `gate` are told to JAX.

Where in the river: under the convolutions and gates. Knows arrays and axes; no image, no kernel. `sums.py` and
`pools.py` register theirs here too, which are linear in one argument only, and tell their derivatives themselves.

A convolution and its two transposes close a circle: all derivatives of all orders, forward and reverse, are made of a
pair of such primitives, and each platform gets the form that is fast there. Plain autodiff of sums of shifted images
would keep one copy of them for each tap; a `custom_vjp` would forbid forward mode.
"""

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Folds = tuple[tuple[int, int] | None, tuple[int, int] | None]  # for each argument: its axis, and that of the result

_common = ContextVar("common", default=False)


@contextlib.contextmanager
def in_common_operations() -> Iterator[None]:
    """What is traced inside has convolutions of `lax` instead of these primitives, which converters do not know."""
    token = _common.set(True)
    try:
        yield
    finally:
        _common.reset(token)


def common() -> bool:
    """Whether `in_common_operations` is in force."""
    return _common.get()


def register(
    primitive: Primitive,
    shape: Callable[..., Any],
    on_cpu: Callable[..., Array],
    on_accelerator: Callable[..., Array],
    options: tuple[str, ...],
    folds: Folds = (None, None),
) -> None:
    """Tells JAX what a primitive gives, computes, and does under `vmap`; `transposed` tells derivatives.

    Args:
      primitive: of two arrays, or of one.
      shape: (avals, options) -> aval of the result.
      on_cpu, on_accelerator: (arrays, options) -> result; arrays may have axes in front, which `vmap` made.
      options: names of the options.
      folds: where only one argument has an axis of `vmap`: which axis of it may hold that too, and in which axis of
        the result it comes out, both from the end; otherwise both arguments get an axis in front.
    """
    primitive.def_abstract_eval(shape)
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=options))
    batching.primitive_batchers[primitive] = partial(_batched, primitive, folds)
    mlir.register_lowering(primitive, mlir.lower_fun(on_cpu, multiple_results=False))
    for platform in ("cuda", "rocm", "tpu"):
        mlir.register_lowering(primitive, mlir.lower_fun(on_accelerator, multiple_results=False), platform=platform)


def transposed(convolve: Primitive, correlate: Primitive, scatter: Callable[..., Array]) -> None:
    """Tells JAX the derivatives of a pair: y = convolve(x, k), and correlate(x, g) as large as k.

        convolve: dx = scatter(g, k), dk = correlate(x, g);    correlate: dx = scatter(g, ct), dg = convolve(x, ct)

    Args:
      convolve, correlate: the pair.
      scatter: (g, k, shape of x, options) -> array of that shape.
    """
    ad.defbilinear(
        convolve,
        lambda ct, x, k, **options: scatter(ct, k, x.aval.shape, **options),
        lambda ct, x, k, **options: correlate.bind(x, ct, **options),
    )
    ad.defbilinear(
        correlate,
        lambda ct, x, g, **options: scatter(g, ct, x.aval.shape, **options),
        lambda ct, x, g, **options: convolve.bind(x, ct, **options),
    )


def _batched(primitive: Primitive, folds: Folds, args, axes, **options):
    alone = [i for i, axis in enumerate(axes) if axis is not None]
    fold = folds[alone[0]]
    if len(alone) == 1 and fold:
        return _folded(primitive, alone[0], *fold, args, axes, **options)
    count = args[alone[0]].shape[axes[alone[0]]]
    lead = lambda a, axis: jnp.broadcast_to(a, (count, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
    return primitive.bind(*map(lead, args, axes), **options), 0


def _folded(primitive: Primitive, which: int, into: int, out: int, args, axes, **options):
    """The axis of one argument becomes part of its axis `into`, and is taken out of axis `out` of the result."""
    args, a = list(args), jnp.moveaxis(args[which], axes[which], into - 1)
    count, place = a.shape[into - 1], a.ndim + into
    args[which] = a.reshape(*a.shape[: place - 1], -1, *a.shape[place + 1 :])
    y = primitive.bind(*args, **options)
    place = y.ndim + out
    return y.reshape(*y.shape[:place], count, -1, *y.shape[place + 1 :]), place
