"""How long each candidate takes on this device, for penalties: measured, not counted.

Where in the river: beside the loss. Knows spaces and modules, and a clock; no alpha, no strategy.
"""

import statistics
import time
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.evaluation.cost import Shape
from jaxnas.evaluation.resources import tabulated
from jaxnas.spaces import ops
from jaxnas.spaces.networks import init_module
from jaxnas.spaces.space import Space


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


def _seconds(batch: int, repeats: int, module: nn.Module, shape: Shape) -> float:
    if isinstance(module, ops.Zero):
        return 0.0
    params, images = init_module(module, jax.random.key(0), shape), jnp.zeros((batch, *shape))
    rngs = {"noise": jax.random.key(0)}
    compiled = jax.jit(lambda p, x: module.apply({"params": p}, x, rngs=rngs)).lower(params, images).compile()
    taken = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        jax.block_until_ready(compiled(params, images))
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[1:])  # the first one warms up
