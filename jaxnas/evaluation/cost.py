"""What a network costs: parameters and multiply-adds, of a whole space or of one genotype in it.

Where in the river: beside the way out. Knows spaces, genotypes and modules; no alpha, no strategy.

A multiply-add is one product in a convolution, a matrix product or a linear layer, for one image; norms, biases,
ReLUs, pools and additions are not counted. They are read off the traced program of each module, so that a user's own
operation is counted like any other.
"""

from collections.abc import Callable, Iterator, Mapping
from math import prod
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.spaces.genotype import Genotype
from jaxnas.spaces.network import check
from jaxnas.spaces.networks import fixed_block, init_module
from jaxnas.spaces.plan import Cells, EdgeRun, Part, Size, plan
from jaxnas.spaces.space import Space

Shape = tuple[int, int, int]


class Cost(NamedTuple):
    """What a network, or a part of one, costs."""

    parameters: int
    multiply_adds: int  # for one image


def total(costs: Mapping[str, Cost]) -> Cost:
    """The sum of the parts.

    Args:
      costs: {part: its cost}.
    """
    return Cost(*(sum(column) for column in zip(*costs.values(), strict=True)))


def supernet_cost(space: Space, width: Callable[[int], int] = lambda channels: channels) -> dict[str, Cost]:
    """Cost of every candidate of a space together, by part: {"stem", "cells.0", ..., "head"}.

    Args:
      space: what may be built; dead operations are not counted.
      width: channels of an edge -> channels a candidate sees, as in `Mixing.width`.
    """
    return _parts(space, width, lambda cell, edge, op: int(space.mask(cell)[edge, op]))


def genotype_cost(genotype: Genotype, network: Space) -> dict[str, Cost]:
    """Cost of the network that a genotype describes, by part, without an auxiliary head.

    Args:
      genotype: what was chosen.
      network: the space that it is built in, with affine norms: `darts_network`, `nas_bench_201_network`.

    Raises:
      ValueError: where the genotype has cells, edges or operations that the network does not know.
    """
    check(genotype, network)
    counts = {cell: _counts(genotype, network, cell) for cell in network.cells}
    outputs = {cell: len(dict(genotype.outputs)[cell]) for cell in network.cells}
    return _parts(network, lambda channels: channels, lambda cell, edge, op: counts[cell][edge, op], outputs)


def module_cost(module: nn.Module, *shapes: Shape) -> Cost:
    """Cost of a flax module on one image, or one of each of its inputs, of shape [H, W, C].

    Args:
      module: from images [1, H, W, C] to anything.
      shapes: of its inputs, (H, W, C) each.
    """
    params = jax.eval_shape(lambda key: init_module(module, key, *shapes), jax.random.key(0))
    images = [jax.ShapeDtypeStruct((1, *shape), jnp.result_type(float)) for shape in shapes]
    apply = lambda p, *xs: module.apply({"params": p}, *xs, rngs={"noise": jax.random.key(0)})
    products = multiply_adds(jax.make_jaxpr(apply)(params, *images).jaxpr)
    return Cost(sum(prod(leaf.shape) for leaf in jax.tree.leaves(params)), products)


def multiply_adds(jaxpr) -> int:
    """Products in all convolutions and matrix products of a traced program; the dearest branch of each choice.

    Args:
      jaxpr: `jax.make_jaxpr(function)(*arguments).jaxpr`.
    """
    return sum(_products(equation) for equation in jaxpr.eqns)


def _products(equation) -> int:
    name, out = equation.primitive.name, equation.outvars[0].aval
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return out.size * prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval
        features = kernel.shape[equation.params["dimension_numbers"].rhs_spec[0]]
        return out.size * kernel.size // features
    if name in ("dense_convolve", "pointwise_convolve"):
        return out.size * prod(equation.invars[1].aval.shape[:-1])
    if name == "depthwise_convolve":
        return out.size * equation.params["size"] ** 2
    if name == "cond":
        return max(multiply_adds(branch.jaxpr) for branch in equation.params["branches"])
    times = equation.params["length"] if name == "scan" else 1
    return times * sum(multiply_adds(inner) for inner in _inner(equation.params))


def _inner(params) -> Iterator:
    for value in params.values():
        value = getattr(value, "jaxpr", value)
        if hasattr(value, "eqns"):
            yield value


def _parts(space: Space, width, count, outputs: Mapping[str, int] | None = None) -> dict[str, Cost]:
    """Costs by part, where `count(cell, edge, op)` says how often an operation stands on an edge."""
    stem = space.stem(features=space.stem_channels)
    parts = {"stem": module_cost(stem, space.image)}
    last: Shape = Size(space.stem_channels, space.stem_stride).shape(space.image)
    previous = last
    for layer, part in _layers(space):
        if not isinstance(part, Cells):
            block, reads = fixed_block(space, part)
            parts[f"cells.{layer}"] = module_cost(block, *(last, previous)[:reads])
            previous, last = last, part.result.shape(space.image)
            continue
        nodes = (outputs or {}).get(part.cell, len(space.outputs))
        costs = _inputs(space, part, previous, last) + _edges(space, part, width, count)
        parts[f"cells.{layer}"] = Cost(*(sum(column) for column in zip(*costs, strict=True)))
        height, breadth, _ = part.result.shape(space.image)
        previous, last = last, (height, breadth, part.channels * nodes)
    return {**parts, "head": module_cost(space.head(classes=space.classes), last)}


def _layers(space: Space) -> list[tuple[int, Part]]:
    return [(layer, part) for part in plan(space) for layer in part.layers]


def _inputs(space: Space, part: Cells, previous: Shape, last: Shape) -> list[Cost]:
    older = module_cost(space.preprocess(features=part.channels, stride=previous[0] // last[0]), previous)
    newer = module_cost(space.preprocess(features=part.channels, stride=1), last)
    return [older, newer] if space.inputs == 2 else [newer]


def _edges(space: Space, part: Cells, width, count) -> list[Cost]:
    """Every operation is traced once per run of equal edges, then counted on each of them."""
    costs = []
    for run in part.runs:
        place = part.source if run.from_inputs else part.result
        height, breadth, _ = place.shape(space.image)
        times = {op: _times(run, part.cell, op, count) for op in range(len(space.ops))}
        for op in (op for op, n in times.items() if n):
            one = module_cost(space.ops[op][1](stride=run.stride), (height, breadth, width(part.channels)))
            costs.append(Cost(times[op] * one.parameters, times[op] * one.multiply_adds))
    return costs


def _times(run: EdgeRun, cell: str, op: int, count) -> int:
    return sum(int(count(cell, edge, op)) for edge in run.edges)


def _counts(genotype: Genotype, network: Space, cell: str) -> np.ndarray:
    """[E, O]: how often each operation was chosen on each edge."""
    counts = np.zeros((len(network.edges), len(network.ops)), int)
    for op, *edge in genotype.edges(cell):
        counts[network.edges.index(tuple(edge)), network.op_names.index(op)] += 1
    return counts
