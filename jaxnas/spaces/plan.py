"""How a skeleton is compiled: rows of equal cells, and within a cell runs of equal edges.

Where in the river: inside `networks.py` and whatever must find one cell's weights in the stacked arrays. Integers
only; no arrays of weights.
"""

from collections.abc import Mapping
from itertools import groupby
from typing import NamedTuple

import numpy as np

from jaxnas.spaces.space import Layer, Space


class Size(NamedTuple):
    """Width and relative size of a state."""

    channels: int
    shrink: int  # image sides are divided by this

    def shape(self, image: tuple[int, int, int]) -> tuple[int, int, int]:
        """[H, W, C] of the state for images of the given size."""
        return image[0] // self.shrink, image[1] // self.shrink, self.channels


class EdgeRun(NamedTuple):
    """Edges of a cell that are one program: same stride, visited in an order in which sources are complete."""

    edges: tuple[int, ...]  # rows of alpha
    stride: int
    from_inputs: bool  # reads only the cell's inputs, which are larger than its nodes
    ops: tuple[int, ...]  # columns of alpha that are alive on any of these edges
    alive: np.ndarray  # [n, O] booleans, rows as in `edges`


class Cells(NamedTuple):
    """Equal cells in a row: same type, width and stride; their parameters are stacked."""

    cell: str
    channels: int
    stride: int
    layers: tuple[int, ...]  # places in the skeleton, m of them
    runs: tuple[EdgeRun, ...]
    previous: Size  # what the first cell reads as its older input
    currents: tuple[Size, ...]  # what each cell reads as its newer input
    result: Size

    @property
    def source(self) -> Size:
        """Size of the prepared inputs."""
        return Size(self.channels, self.currents[0].shrink)

    @property
    def reduction(self) -> int:
        """Stride with which the older input of the first cell is prepared."""
        return self.currents[0].shrink // self.previous.shrink

    @property
    def common(self) -> Size:
        """The width that the newer inputs of all these cells are padded to."""
        widths = [size.channels for size in self.currents]
        if len(self.layers) > 1:
            widths.append(self.result.channels)
        return self.currents[0]._replace(channels=max(widths))


class Place(NamedTuple):
    """One fixed block of the skeleton."""

    block: str
    layers: tuple[int, ...]
    stride: int
    previous: Size  # what a block that takes two states reads as its older one
    source: Size
    result: Size


Part = Cells | Place


def plan(space: Space, outputs: Mapping[str, int] | None = None) -> tuple[Part, ...]:
    """The parts of a space's network in order: fixed blocks, and rows of equal cells.

    Args:
      space: what may be built.
      outputs: for every cell type how many states make its output, where a genotype has others than the space.
    """
    parts: list[Part] = []
    previous = current = Size(space.stem_channels, space.stem_stride)
    for layer, places in _rows(space):
        if layer.cell not in space.cells:
            result = Size(layer.channels, current.shrink * layer.stride)
            parts.append(Place(layer.cell, places, layer.stride, previous, current, result))
            previous, current = current, result
            continue
        width = layer.channels * (outputs[layer.cell] if outputs else len(space.outputs))
        result = Size(width, current.shrink * layer.stride)
        currents = (current,) + (result,) * (len(places) - 1)
        runs = _runs(space, layer)
        parts.append(Cells(layer.cell, layer.channels, layer.stride, places, runs, previous, currents, result))
        previous, current = currents[-1], result
    return tuple(parts)


def _rows(space: Space) -> list[tuple[Layer, tuple[int, ...]]]:
    """Runs of layers that can be one program; a layer that shrinks its input stands alone, as does a block."""
    alone = lambda i, layer: i if layer.stride > 1 or layer.cell not in space.cells else -1
    key = lambda pair: (pair[1], alone(*pair))
    return [(layer, tuple(i for i, _ in group)) for (layer, _), group in groupby(enumerate(space.skeleton), key)]


def _runs(space: Space, layer: Layer) -> tuple[EdgeRun, ...]:
    order = sorted(range(len(space.edges)), key=lambda e: space.edges[e])
    if layer.stride == 1:
        return (_run(space, layer.cell, order, 1, False),)
    outer = [e for e in order if space.edges[e][0] < space.inputs]
    inner = [e for e in order if space.edges[e][0] >= space.inputs]
    runs = [_run(space, layer.cell, outer, layer.stride, True)]
    return tuple(runs + ([_run(space, layer.cell, inner, 1, False)] if inner else []))


def _run(space: Space, cell: str, edges: list[int], stride: int, from_inputs: bool) -> EdgeRun:
    alive = space.mask(cell)[edges]
    ops = tuple(int(o) for o in np.flatnonzero(alive.any(0)))
    return EdgeRun(tuple(edges), stride, from_inputs, ops, alive)
