"""Primitives of two arguments, linear in each: how convolutions and gates are told to JAX.

Where in the river: under the convolutions and gates. Knows arrays and axes; no image, no kernel. `sums.py` and
`pools.py` register theirs here too, which are linear in one argument only, and tell their derivatives themselves.

A convolution and its two transposes close a circle: all derivatives of all orders, forward and reverse, are made of a
pair of such primitives, and each platform gets the form that is fast there. Plain autodiff of sums of shifted images
would keep one copy of them for each tap; a `custom_vjp` would forbid forward mode.
"""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from functools import partial, reduce, wraps
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxnas.wanted import wanted, weights_wanted

GPUS = ("cuda", "rocm")
Beside = Callable[..., tuple[Array, int]]  # (bind, arrays, their axes, n cases, **options) -> array and its axis
Folds = tuple[tuple[int, int] | None, tuple[int, int] | None]  # for each argument: its axis, and that of the result

_common, _beside, _accelerated = (ContextVar(name, default=False) for name in ("common", "beside", "accelerated"))


@contextlib.contextmanager
def switched_on(variable: ContextVar[bool]) -> Iterator[None]:
    """A variable is true inside.

    Args:
      variable: false elsewhere.
    """
    token = variable.set(True)
    try:
        yield
    finally:
        variable.reset(token)


def in_common_operations() -> contextlib.AbstractContextManager[None]:
    """What is traced inside has convolutions of `lax` instead of these primitives, which converters do not know."""
    return switched_on(_common)


def in_accelerator_forms() -> contextlib.AbstractContextManager[None]:
    """What is lowered inside has on CPU the forms for accelerators: for tests, which have none.

    JAX keeps what it has lowered before: `jax.clear_caches()` first.
    """
    return switched_on(_accelerated)


def accelerated() -> bool:
    """Whether `in_accelerator_forms` is in force."""
    return _accelerated.get()


def beside_channels() -> contextlib.AbstractContextManager[None]:
    """What is traced inside is under a `vmap` whose axis stands beside the channels of images, [B, H, W, n, C]."""
    return switched_on(_beside)


def is_beside() -> bool:
    """Whether `beside_channels` is in force."""
    return _beside.get()


def common() -> bool:
    """Whether `in_common_operations` is in force."""
    return _common.get()


def shared(function: Callable[..., Array]) -> Callable[..., Array]:
    """The function, traced and differentiated once for all arguments of one shape, however many edges call it.

    A third of the lines of a second-order step, and of the seconds to trace it; XLA inlines the calls.

    Args:
      function: of arrays; it may read the flag of `wanted.py`.
    """

    def under(flag: tuple[Array, ...], *args: Array) -> Array:
        with weights_wanted(*flag):
            return function(*args)

    under.__name__ = getattr(function, "__name__", "shared")
    traced = jax.jit(under)

    @wraps(function)
    def call(*args: Array) -> Array:
        return function(*args) if common() else traced(wanted(), *args)

    return call


def register(
    primitive: Primitive,
    shape: Callable[..., Any],
    on_cpu: Callable[..., Array],
    on_accelerator: Callable[..., Array],
    options: tuple[str, ...],
    folds: Folds = (None, None),
    of_weights: bool = False,
    beside: Beside | None = None,
    values: bool = False,
    on_gpu: Callable[..., Array] | None = None,
) -> None:
    """Tells JAX what a primitive gives, computes, and does under `vmap`; `transposed` tells derivatives.

    Args:
      primitive: of two arrays, or of one.
      shape: (avals, options) -> aval of the result.
      on_cpu, on_accelerator: (arrays, options) -> result; arrays may have axes in front, which `vmap` made.
      options: names of the options.
      folds: where only one argument has an axis of `vmap`: which axis of it may hold that too, and in which axis of
        the result it comes out, both from the end; otherwise both arguments get an axis in front.
      of_weights: whether this is the gradient of weights, which on CPU is left out where it is not wanted.
      beside: what it does where the axis of `vmap` stands beside the channels of the images, [B, H, W, n, C]:
        `channels_apart` where channels do not mix; None where it has no such form.
      values: whether its argument is no images, so that only `beside_channels` tells where the axis will stand.
      on_gpu: the form for CUDA and ROCm, if it differs from that for other accelerators.

    A primitive that is bound with a third array, the flag of `wanted.py`, gives it to the gradient of its second one.
    """
    primitive.def_abstract_eval(_without_flag(shape))
    primitive.def_impl(jax.jit(primitive.bind, static_argnames=options))
    batching.primitive_batchers[primitive] = partial(_batched, primitive, folds, beside, values)
    here, elsewhere = (_lowered_if_wanted if of_weights else _lowered)(on_cpu), _lowered(on_gpu or on_accelerator)
    mlir.register_lowering(primitive, lambda *args, **options: (elsewhere if accelerated() else here)(*args, **options))
    for platform, form in {"tpu": on_accelerator, **dict.fromkeys(GPUS, on_gpu or on_accelerator)}.items():
        mlir.register_lowering(primitive, _lowered(form), platform=platform)


def transposed(convolve: Primitive, correlate: Primitive, scatter: Callable[..., Array]) -> None:
    """Tells JAX the derivatives of a pair: y = convolve(x, k), and correlate(x, g) as large as k.

        convolve: dx = scatter(g, k), dk = correlate(x, g);    correlate: dx = scatter(g, ct), dg = convolve(x, ct)

    Args:
      convolve, correlate: the pair.
      scatter: (g, k, shape of x, options) -> array of that shape.
    """
    _derivatives(
        convolve,
        lambda ct, x, k, *flag, **options: scatter(ct, k, x.aval.shape, **options),
        lambda ct, x, k, *flag, **options: correlate.bind(x, ct, *flag, **options),
    )
    _derivatives(
        correlate,
        lambda ct, x, g, *flag, **options: scatter(g, ct, x.aval.shape, **options),
        lambda ct, x, g, *flag, **options: convolve.bind(x, ct, **options),
    )


def _derivatives(primitive: Primitive, *of_arguments: Callable) -> None:
    """`ad.defbilinear` for a primitive that may have a flag, which has no derivative."""
    ad.primitive_jvps[primitive] = partial(_slope, primitive)
    ad.primitive_transposes[primitive] = partial(_transposed, of_arguments)


def _without_flag(function: Callable) -> Callable:
    """The function without a flag."""
    return lambda *args, **options: function(*args[:2], **options)


def _lowered(function: Callable) -> Callable:
    return mlir.lower_fun(_without_flag(function), multiple_results=False)


def _lowered_if_wanted(function: Callable) -> Callable:
    """Under a condition, but on one device only.

    On several the sum over devices could move into it, and two of these, which XLA may run at the same time, could be
    sent in another order by each process.
    """
    always, perhaps = _lowered(function), mlir.lower_fun(_if_wanted(function), multiple_results=False)

    def rule(ctx, *args, **options):
        one_device = getattr(ctx.module_context.axis_context, "num_devices", None) == 1
        return (perhaps if one_device else always)(ctx, *args, **options)

    return rule


def _if_wanted(function: Callable) -> Callable:
    """The function where its flag is true, or where it has none; else zeros without running it."""

    def call(x: Array, g: Array, *flag: Array, **options) -> Array:
        run = partial(function, **options)
        if not flag:
            return run(x, g)
        out = jax.eval_shape(run, x, g)
        return lax.cond(flag[0], run, lambda x, g: jnp.zeros(out.shape, out.dtype), x, g)

    return call


def _slope(primitive: Primitive, primals, tangents, **options):
    (x, k, *flag), (dx, dk, *_) = primals, tangents
    y = primitive.bind(x, k, *flag, **options)
    moved = [(dx, k)] * (type(dx) is not ad.Zero) + [(x, dk)] * (type(dk) is not ad.Zero)
    return y, reduce(jnp.add, (primitive.bind(*pair, *flag, **options) for pair in moved))


def _transposed(of_arguments: tuple[Callable, ...], ct, x, k, *flag, **options):
    which = ad.is_undefined_primal(k)
    argument = k if which else x
    out = ad.Zero(argument.aval) if type(ct) is ad.Zero else of_arguments[which](ct, x, k, *flag, **options)
    return (None, out, *(None for _ in flag)) if which else (out, None, *(None for _ in flag))


def _batched(primitive: Primitive, folds: Folds, beside: Beside | None, values: bool, args, axes, **options):
    """Under a flag that differs between cases, all get the gradients if any of them wants it."""
    flags = tuple(flag if axis is None else flag.any() for flag, axis in zip(args[2:], axes[2:], strict=True))
    args, axes = args[:2], axes[:2]
    bind = lambda *args, **more: primitive.bind(*args, *flags, **{**options, **more})
    grouped = options.get("groups", 1) > 1
    if beside and not grouped and (is_beside() if values else any(map(stands_beside, args, axes))):
        count = next(a.shape[axis] for a, axis in zip(args, axes, strict=True) if axis is not None)
        return (beside if count > 1 else _alone)(bind, args, axes, count, **options)
    alone = [i for i, axis in enumerate(axes) if axis is not None]
    if not alone:
        return bind(*args), None
    fold = None if grouped else folds[alone[0]]
    if len(alone) == 1 and fold:
        return _folded(bind, alone[0], *fold, args, axes)
    count = args[alone[0]].shape[axes[alone[0]]]
    lead = lambda a, axis: jnp.broadcast_to(a, (count, *a.shape)) if axis is None else jnp.moveaxis(a, axis, 0)
    return bind(*map(lead, args, axes)), 0


def stands_beside(a: Array, axis: int | None) -> bool:
    """Whether these are images whose axis of `vmap` stands beside their channels.

    Args:
      a, axis: an array and its axis.
    """
    return a.ndim == 5 and axis == 3


def merged(a: Array, axis: int | None, count: int) -> Array:
    """An array [..., C] for each of n cases as one, [..., n C]; the same for all where it has no axis."""
    shape = a.shape if axis is None else a.shape[:axis] + a.shape[axis + 1 :]
    if axis is None:
        a = jnp.broadcast_to(a[..., None, :], (*shape[:-1], count, shape[-1]))
    elif axis != a.ndim - 2:
        a = jnp.moveaxis(a, axis, -2)
    return a.reshape(*shape[:-1], -1)


def parted(y: Array, count: int) -> tuple[Array, int]:
    """Undoes `merged`: [..., n, C], and the place of n."""
    return y.reshape(*y.shape[:-1], count, -1), y.ndim - 1


def channels_apart(
    bind: Callable, args: Sequence[Array], axes: Sequence[int | None], count: int, **options
) -> tuple[Array, int]:
    """The cases side by side as channels of one image, for a primitive that mixes no channels.

    Args:
      bind: of arrays whose last axis is the channels.
      args, axes: the arrays, and the axis of `vmap` of each.
      count: n, the cases.
      options: of the primitive; not used.
    """
    return parted(bind(*(merged(a, axis, count) for a, axis in zip(args, axes, strict=True))), count)


def _alone(bind: Callable, args: Sequence[Array], axes: Sequence[int | None], count: int, **options):
    """A single case, without its axis."""
    y = bind(*(a if axis is None else a.squeeze(axis) for a, axis in zip(args, axes, strict=True)))
    return (y[None], 0) if y.ndim < 2 else (jnp.expand_dims(y, y.ndim - 1), y.ndim - 1)


def _folded(bind: Callable, which: int, into: int, out: int, args, axes):
    """The axis of one argument becomes part of its axis `into`, and is taken out of axis `out` of the result."""
    args, a = list(args), jnp.moveaxis(args[which], axes[which], into - 1)
    count, place = a.shape[into - 1], a.ndim + into
    args[which] = a.reshape(*a.shape[: place - 1], -1, *a.shape[place + 1 :])
    y = bind(*args)
    place = y.ndim + out
    return y.reshape(*y.shape[:place], count, -1, *y.shape[place + 1 :]), place
