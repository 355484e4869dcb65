"""What may be built: a search space as plain data.

Where in the river: the banks. A `Space` names the cell (inputs, edges, candidate operations), the cell types that own
an alpha table, and the skeleton (which cell stands at which depth, how wide, with what stride). `Gates` is the first
narrow waist: what one cell type's edges let through. This file knows names, indices and masks; no weights, no alpha.

Letters used throughout the package: B batch, H W C image, E edges, O candidate operations, T steps, D devices.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from jax import Array
from jax.typing import ArrayLike

Edge = tuple[int, int]  # (source, target); states 0 .. inputs-1 are the cell's inputs, the nodes follow
Factory = Callable[..., Any]  # returns a flax module, see the field that holds it
Candidates = tuple[tuple[str, Factory], ...]
Alive = tuple[tuple[str, tuple[tuple[bool, ...], ...]], ...]  # ((cell, [E][O] booleans), ...)


class Gates(NamedTuple):
    """What the edges of one cell type let through: the waist between alpha and pixels."""

    ops: Array  # [E, O] weight of each candidate operation on each edge
    edges: Array  # [E] weight of each edge; ones unless the relaxation normalises edges


CellGates = Mapping[str, Gates]  # {"normal": Gates, "reduce": Gates}


class Layer(NamedTuple):
    """One place in the skeleton: a cell type (or a fixed block) with its width and stride."""

    cell: str  # a name in `Space.cells` or in `Space.blocks`
    channels: int  # width of every node of the cell
    stride: int = 1  # 1, or 2 where height and width halve


def dag(inputs: int, nodes: int) -> tuple[Edge, ...]:
    """All edges of a cell in which every node sees every earlier state, ordered by target, then source.

    Args:
      inputs: number of states the cell starts from.
      nodes: number of states it computes.

    >>> dag(inputs=1, nodes=2)
    ((0, 1), (0, 2), (1, 2))
    """
    return tuple((s, t) for t in range(inputs, inputs + nodes) for s in range(t))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Space:
    """A search space: static, hashable, without weights.

    A candidate operation is a pair (name, factory); `factory(stride=s)` returns a flax module that maps
    `[B, H, W, C]` to `[B, H/s, W/s, C]`. `stem(features=...)`, `preprocess(features=, stride=)`,
    `blocks[name](features=, stride=)`, `head(classes=)` and `auxiliary(classes=)` return flax modules too. A block
    whose `__call__` has an argument `older` is given the state before the last by that name, however large.

    Raises:
      ValueError: where the description contradicts itself; says what was given and what is possible.
    """

    name: str  # written into every genotype; runs of different spaces are never compared
    ops: Candidates  # the columns of alpha, in order
    edges: tuple[Edge, ...]  # the rows of alpha, in order
    inputs: int  # states a cell starts from: 1 (the last output) or 2 (the last two)
    outputs: tuple[int, ...]  # states that are concatenated to the cell's output
    cells: tuple[str, ...]  # the cell types that own an alpha table
    skeleton: tuple[Layer, ...]
    stem: Factory
    stem_channels: int
    preprocess: Factory  # brings each input of a cell to the cell's width
    head: Factory
    classes: int
    image: tuple[int, int, int]  # (H, W, C) of the images it is built for
    blocks: Candidates = ()  # fixed, not searched parts of the skeleton
    alive: Alive = ()  # () means that every operation may be chosen on every edge
    auxiliary: Factory | None = None  # second head, behind the last reduction of a network that is being trained
    stem_stride: int = 1  # the stem divides height and width by it

    def __post_init__(self) -> None:
        _check(self)

    def __repr__(self) -> str:
        image = " x ".join(map(str, self.image))
        return (
            f"Space({self.name!r}: {len(self.skeleton)} layers, cells {', '.join(self.cells)}, "
            f"{len(self.edges)} edges x {len(self.ops)} operations; images {image}, {self.classes} classes)"
        )

    def replace(self, **changes) -> "Space":
        """The same space with some fields changed."""
        return dataclasses.replace(self, **changes)

    @property
    def op_names(self) -> tuple[str, ...]:
        """Names of the candidate operations: the columns of alpha."""
        return tuple(name for name, _ in self.ops)

    @property
    def nodes(self) -> tuple[int, ...]:
        """States that a cell computes, in order."""
        return tuple(sorted({target for _, target in self.edges}))

    def mask(self, cell: str) -> np.ndarray:
        """Which operations may be chosen on which edge of a cell type: `[E, O]` booleans."""
        full = np.ones((len(self.edges), len(self.ops)), bool)
        return np.array(dict(self.alive)[cell], bool) if self.alive else full

    def incoming(self, node: int) -> tuple[int, ...]:
        """Rows of alpha that end in `node`."""
        return tuple(e for e, (_, target) in enumerate(self.edges) if target == node)

    def with_alive(self, masks: Mapping[str, ArrayLike]) -> "Space":
        """The same space in which only some operations may be chosen.

        Args:
          masks: for every cell type an `[E, O]` array of booleans.
        """
        alive = tuple((cell, tuple(map(tuple, np.asarray(m, bool).tolist()))) for cell, m in masks.items())
        return self.replace(alive=alive)


def _check(space: Space) -> None:
    """Raises ValueError where the parts of a space contradict each other."""
    known = _names(space)
    for layer in space.skeleton:
        if layer.cell not in known:
            raise ValueError(f"skeleton names the cell {layer.cell!r}; this space has {', '.join(known)}.")
        if layer.channels < 1 or layer.stride not in (1, 2):
            raise ValueError(f"{layer}: channels must be at least 1 and stride 1 or 2.")
    if not space.skeleton or not space.ops or not space.cells:
        raise ValueError("a space needs at least one layer, one operation and one cell type.")
    if len(set(space.op_names)) < len(space.ops):
        raise ValueError(f"operation names must differ, got {', '.join(space.op_names)}.")
    if space.inputs not in (1, 2):
        raise ValueError(f"inputs={space.inputs}: a cell starts from 1 state (the last output) or 2 (the last two).")
    if space.classes < 1 or min(space.image) < 1:
        raise ValueError(f"classes={space.classes}, image={space.image}: both must be positive.")
    _check_edges(space)
    _check_size(space)
    _check_alive(space)


def _names(space: Space) -> tuple[str, ...]:
    return (*space.cells, *(name for name, _ in space.blocks))


def _check_edges(space: Space) -> None:
    ready = set(range(space.inputs))
    for source, target in sorted(space.edges):
        if not 0 <= source < target or target < space.inputs:
            raise ValueError(f"edge {(source, target)}: an edge runs from an earlier state to a later node.")
        if source not in ready | set(space.nodes):
            raise ValueError(f"edge {(source, target)} starts at state {source}, which no edge reaches.")
    if space.nodes != tuple(range(space.inputs, space.inputs + len(space.nodes))):
        raise ValueError(f"edges end in the states {space.nodes}: number nodes without gaps from {space.inputs} on.")
    if not set(space.outputs) <= set(space.nodes) or not space.outputs:
        raise ValueError(f"outputs={space.outputs} must be nodes of the cell: {space.nodes}.")
    for what, listed in {"edges": space.edges, "outputs": space.outputs, "cells and blocks": _names(space)}.items():
        if len(set(listed)) < len(listed):
            raise ValueError(f"{what} must differ from each other, got {listed}.")


def _check_size(space: Space) -> None:
    reduction = space.stem_stride * int(np.prod([layer.stride for layer in space.skeleton]))
    for side, length in zip(("height", "width"), space.image[:2], strict=True):
        if length % reduction:
            raise ValueError(
                f"image {side} {length} cannot be halved {reduction.bit_length() - 1} times: "
                f"give images whose sides are multiples of {reduction}, or a skeleton with fewer reductions."
            )


def _check_alive(space: Space) -> None:
    if not space.alive:
        return
    shape = (len(space.edges), len(space.ops))
    if set(dict(space.alive)) != set(space.cells):
        raise ValueError(f"alive masks are given for {sorted(dict(space.alive))}, cells are {sorted(space.cells)}.")
    for cell in space.cells:
        mask = space.mask(cell)
        if mask.shape != shape:
            raise ValueError(f"alive mask of {cell!r} has shape {mask.shape}, expected [edges, ops] = {shape}.")
        if not mask.any(-1).all():
            raise ValueError(f"edge {int(mask.any(-1).argmin())} of {cell!r} has no operation left alive.")
