"""How long candidates and networks take on this device, and what the compiler counts in them: measured, for penalties.

Where in the river: beside the loss, and on the way out. Knows spaces and modules, and a clock; no alpha, no strategy.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.evaluation.cost import Shape
from jaxnas.evaluation.resources import tabulated
from jaxnas.spaces import ops
from jaxnas.spaces.networks import init_module
from jaxnas.spaces.space import Space


class Latency(NamedTuple):
    """Seconds of one call of a compiled function, over some calls."""

    median: float
    low: float  # a quarter of the calls took less
    high: float  # a quarter took more
    repeats: int
    compile: float  # seconds to trace and compile it, once


class Counted(NamedTuple):
    """What the compiler counts in a compiled operation; of one module numbers, of a cell type arrays [cells, E, O]."""

    flops: Any  # additions and multiplications, so about two for each multiply-add
    bytes: Any  # read and written, as far as fusions do not keep them


def latency(function: Callable[..., Any], *args: Any, repeats: int = 20, warmup: int = 3) -> Latency:
    """Seconds of one call of a function, such as a whole network, on the device that holds its arguments.

    Args:
      function: images [B, H, W, C] -> logits, or (variables, images) -> logits; compiled here. Weights that are
        no argument become constants of the program, which the compiler may fold.
      args: what it is given at each call.
      repeats: calls that are timed, one after another.
      warmup: calls before these.

    Raises:
      ValueError: for no repeats, or less than no warmup.

    >>> latency(lambda images: images.mean((1, 2)), jnp.zeros((1, 4, 4, 3)), repeats=3).repeats
    3
    """
    if repeats < 1 or warmup < 0:
        raise ValueError(f"latency(repeats={repeats}, warmup={warmup}): time 1 call at least, after 0 or more.")
    began = time.perf_counter()
    compiled = jax.jit(function).lower(*args).compile()
    compiling = time.perf_counter() - began
    return _timed(partial(compiled, *args), repeats, warmup)._replace(compile=compiling)


def latencies(space: Space, *, batch: int = 1, repeats: int = 20) -> dict[str, np.ndarray]:
    """Seconds of one forward pass of every candidate on every edge of every cell: {cell type: [cells, E, O]}.

    The median of some passes of the compiled operation alone, at full width of the edge; `none` takes none. What a
    compiler gains by fusing an operation with its neighbours is not seen.

    Args:
      space: whose operations; each is timed once for each shape and stride that it occurs with.
      batch: images in a pass.
      repeats: passes that are timed.

    Raises:
      ValueError: for a batch or repeats below 1.

    Reference: Cai, Zhu, Han 2019 (ProxylessNAS), arXiv:1812.00332, of whose latency model this is the table.
    """
    if batch < 1 or repeats < 1:
        raise ValueError(f"latencies(batch={batch}, repeats={repeats}): both must be at least 1.")
    timed = partial(_seconds, batch, repeats)
    return {cell: table[..., 0] for cell, table in tabulated(space, timed, 1).items()}


def counted(space: Space, *, batch: int = 1) -> dict[str, Counted]:
    """Operations and bytes that the compiler counts in every candidate: {cell type: Counted of arrays [cells, E, O]}.

    They are counted in the optimised program for this device, each candidate alone; `none` has none. What depends on
    the compiler is meant to: `resources` counts the same for every device.

    Args:
      space: whose operations; each is compiled once for each shape and stride that it occurs with.
      batch: images in a pass.

    Raises:
      ValueError: for a batch below 1, or where this device's compiler does not count.
    """
    if batch < 1:
        raise ValueError(f"counted(batch={batch}): at least 1.")
    tables = tabulated(space, partial(_counted, batch), 2)
    return {cell: Counted(*np.moveaxis(table, -1, 0)) for cell, table in tables.items()}


def _seconds(batch: int, repeats: int, module: nn.Module, shape: Shape) -> float:
    if isinstance(module, ops.Zero):
        return 0.0
    compiled, args = _compiled(batch, module, shape)
    return _timed(partial(compiled, *args), repeats, 1).median


def _counted(batch: int, module: nn.Module, shape: Shape) -> tuple[float, float]:
    if isinstance(module, ops.Zero):
        return 0.0, 0.0
    found = _compiled(batch, module, shape)[0].cost_analysis()
    if not found or "bytes accessed" not in found:
        raise ValueError(f"the compiler for {jax.devices()[0].device_kind} counts nothing: use resources or latencies.")
    return found.get("flops", 0.0), found["bytes accessed"]


def _compiled(batch: int, module: nn.Module, shape: Shape):
    """A candidate's compiled forward pass, and its arguments."""
    args = init_module(module, jax.random.key(0), shape), jnp.zeros((batch, *shape))
    rngs = {"noise": jax.random.key(0)}
    return jax.jit(lambda p, x: module.apply({"params": p}, x, rngs=rngs)).lower(*args).compile(), args


def _timed(call: Callable[[], Any], repeats: int, warmup: int) -> Latency:
    taken = []
    for _ in range(warmup + repeats):
        began = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - began)
    low, median, high = np.percentile(taken[warmup:], (25, 50, 75)).tolist()
    return Latency(median, low, high, repeats, 0.0)
