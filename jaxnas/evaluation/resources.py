"""What each candidate costs on each edge: weights, multiply-adds, memory traffic, as SNAS counts them.

Where in the river: beside the loss, for the penalties. Knows spaces and modules; no alpha, no strategy.
"""

from collections.abc import Callable
from functools import cache, lru_cache
from math import prod
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from jaxnas.evaluation.cost import Shape, module_cost
from jaxnas.spaces import ops
from jaxnas.spaces.networks import init_module
from jaxnas.spaces.plan import Cells, plan
from jaxnas.spaces.space import Space

_POOLS = (ops.MaxPool, ops.AveragePool)
_LAYERS = (ops.Conv, ops.Depthwise, nn.Conv, *_POOLS)


class Resources(NamedTuple):
    """Costs for one image; of one module numbers, of all cells of a type arrays [cells, E, O]."""

    size: Any  # weights
    flops: Any  # multiply-adds of convolutions; a 3x3 pool counts 9 for each of its outputs
    memory: Any  # numbers that are read and written: inputs and outputs of convolutions and pools, and all weights


@lru_cache(maxsize=32)
def resources(space: Space) -> dict[str, Resources]:
    """Costs of every candidate on every edge of every cell: {cell type: Resources of arrays [cells, E, O]}.

    At full width of the edge, whatever the mixing; operations that a mask kills cost nothing. A convolution or a pool
    reads its input and writes its output; an operation with neither (the identity) reads and writes its input; `none`
    costs nothing.

    Reference: SNAS-Series/SNAS-Series `SNAS/operations.py`.
    """
    return {
        cell: Resources(*np.moveaxis(table, -1, 0)) for cell, table in tabulated(space, module_resources, 3).items()
    }


def tabulated(space: Space, cost: Callable[[nn.Module, Shape], Any], numbers: int) -> dict[str, np.ndarray]:
    """Any cost of a module on an image [H, W, C], as so many numbers: {cell type: [cells, E, O, numbers]}.

    Each module is asked once for each shape; operations that a mask kills cost nothing.
    """
    of = cache(lambda op, stride, shape: cost(space.ops[op][1](stride=stride), shape))
    found: dict[str, list[np.ndarray]] = {cell: [] for cell in space.cells}
    for part in plan(space):
        if isinstance(part, Cells):
            found[part.cell] += [_of_cell(space, part, of, numbers)] * len(part.layers)
    return {cell: np.stack(tables) for cell, tables in found.items() if tables}


def _of_cell(space: Space, part: Cells, of: Callable[[int, int, Shape], Any], numbers: int) -> np.ndarray:
    """[E, O, numbers] of one cell."""
    table = np.zeros((len(space.edges), len(space.ops), numbers))
    for run in part.runs:
        place = part.source if run.from_inputs else part.result
        shape = (*place.shape(space.image)[:2], part.channels)
        for edge, alive in zip(run.edges, run.alive, strict=True):
            for op in np.flatnonzero(alive):
                table[edge, op] = of(int(op), run.stride, shape)
    return table


def module_resources(module: nn.Module, shape: Shape) -> Resources:
    """Costs of a candidate on one image of shape [H, W, C]."""
    if isinstance(module, ops.Zero):
        return Resources(0, 0, 0)
    layers: list[tuple[nn.Module, int, int]] = []  # (layer, numbers read, numbers written)

    def watch(call, args, kwargs, context):
        out = call(*args, **kwargs)
        if context.method_name == "__call__" and isinstance(context.module, _LAYERS):
            layers.append((context.module, _again(context.module) * args[0].size, out.size))
        return out

    with nn.intercept_methods(watch):
        jax.eval_shape(lambda key: init_module(module, key, shape), jax.random.key(0))
    cost = module_cost(module, shape)
    pooled = sum(9 * written for layer, _, written in layers if isinstance(layer, _POOLS))
    moved = sum(read + written for _, read, written in layers) or 2 * prod(shape)
    return Resources(cost.parameters, cost.multiply_adds + pooled, moved + cost.parameters)


def _again(layer: nn.Module) -> int:
    """4 for the convolutions of a factorised reduction: charged for the whole image, of which each sees a quarter."""
    return layer.parent.stride**2 if isinstance(layer.parent, ops.FactorizedReduce) else 1
