"""Weights and running statistics of official networks built from a genotype, by their names, into ours and back.

Where in the river: beside it, as `interop.py`, whose official names of modules it uses.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from jaxnas.interop import Entry, filled, leaves, named, official_name
from jaxnas.spaces.genotype import Genotype
from jaxnas.spaces.network import Variables, chosen, network
from jaxnas.spaces.networks import fixed_block
from jaxnas.spaces.plan import Cells, plan
from jaxnas.spaces.space import Space

# (space, cell, place of the chosen edge in the genotype) -> what stands before the name inside an operation
ChoiceName = Callable[[Space, int, int], str]


def chosen_ops(space: Space, cell: int, choice: int) -> str:
    """As in quark0/darts; as in AutoDL-Projects for NAS-Bench-201.

    Args:
      space: of the network.
      cell, choice: numbers of the layer and of the choice in it, from 0.
    """
    return f"cells.{cell}.{'layers' if space.inputs == 1 else '_ops'}.{choice}."


def cell_ops(space: Space, cell: int, choice: int) -> str:
    """As in chenxin061/pdarts.

    Args:
      space: not used.
      cell, choice: numbers of the layer and of the choice in it, from 0.
    """
    del space
    return f"cells.{cell}.cell_ops.{choice}."


def entries(
    genotype: Genotype, space: Space, *, auxiliary: bool = False, names: ChoiceName = chosen_ops
) -> Iterator[Entry]:
    """Every official parameter and running statistic of a genotype's network with its place in our `Variables`.

    Args:
      genotype, space, auxiliary: as for `network`.
      names: how the code in question names the operations of a cell.
    """
    shapes = jax.eval_shape(network(genotype, space, auxiliary=auxiliary).init, jax.random.key(0))
    stem, head = space.stem(features=space.stem_channels), space.head(classes=space.classes)
    before = sum(layer.cell == "stem1" for layer in space.skeleton)  # a second stem, which is not counted as a cell
    for which, tree in zip(Variables._fields, shapes, strict=True):
        yield from _module(tree["stem"], (_index(which), "stem"), stem, "stem0." if before else "stem.")
        yield from _module(tree["head"], (_index(which), "head"), head, "")
        if auxiliary and space.auxiliary:
            second = space.auxiliary(classes=space.classes)
            yield from _module(tree["auxiliary"], (_index(which), "auxiliary"), second, "auxiliary_head.")
        for i, part in enumerate(plan(space, {cell: len(genotype.concat(cell)) for cell in space.cells})):
            path = (_index(which), "parts", i)
            if isinstance(part, Cells):
                cells = tuple(layer - before for layer in part.layers)
                yield from _inputs(space, part, cells, tree["parts"][i]["inputs"], (*path, "inputs"))
                yield from _edges(space, genotype, part, cells, tree["parts"][i]["edges"], (*path, "edges"), names)
            else:
                block, _ = fixed_block(space, part)
                label = "stem1" if part.block == "stem1" else f"cells.{part.layers[0] - before}"
                yield from _module(tree["parts"][i], path, block, f"{label}.")


def _index(which: str) -> int:
    return Variables._fields.index(which)


def _module(tree, path: tuple, module: nn.Module, prefix: str, position: tuple[int, ...] = ()) -> Iterator[Entry]:
    for leaf in leaves(tree):
        yield Entry(prefix + official_name(module, leaf), (*path, *leaf), position)


def _inputs(space: Space, part: Cells, cells: tuple[int, ...], tree, path: tuple) -> Iterator[Entry]:
    """preprocess0 of the first cell is ours "first", of the others "next"; preprocess1 is ours "current"."""
    if space.inputs == 2:
        first = space.preprocess(features=part.channels, stride=part.reduction)
        yield from _module(tree["first"], (*path, "first"), first, f"cells.{cells[0]}.preprocess0.")
    plain = space.preprocess(features=part.channels, stride=1)
    for which, label, numbers in (("current", "preprocess1", cells), ("next", "preprocess0", cells[1:])):
        for i, cell in enumerate(numbers):
            for entry in _module(tree.get(which, {}), (*path, which), plain, f"cells.{cell}.{label}.", (i,)):
                rows = part.currents[i].channels if entry.path[-1] == "kernel" else None
                yield entry._replace(rows=rows)


def _edges(space, genotype, part: Cells, cells: tuple[int, ...], tree, path: tuple, names) -> Iterator[Entry]:
    for c, choice in enumerate(genotype.edges(part.cell)):
        module, _ = chosen(space, part, choice)
        for i, cell in enumerate(cells):
            yield from _module(tree[c], (*path, c), module, names(space, cell, c), (i,))


def from_torch(
    genotype: Genotype,
    space: Space,
    tensors: Mapping[str, np.ndarray],
    *,
    auxiliary: bool = False,
    names: ChoiceName = chosen_ops,
) -> Variables:
    """Official weights and running statistics, by name, as our variables; the type of the numbers is kept.

    Args:
      genotype, space: of that network, of the same size.
      tensors: {official name: array}, as `interop.read_state_dict` returns them. What PyTorch's wrappers put in
        front of a name ("module.", "_orig_mod.") is passed over; without any running statistics these start at 0 and 1.
      auxiliary: whether it has an auxiliary head.
      names: how the code in question names the operations of a cell: `chosen_ops` or `cell_ops`.

    Raises:
      ValueError: where names are missing or left over, or a shape differs; names some of them.
    """
    shapes = jax.eval_shape(network(genotype, space, auxiliary=auxiliary).init, jax.random.key(0))
    table = tuple(entries(genotype, space, auxiliary=auxiliary, names=names))
    given = {name: t for name, t in tensors.items() if not name.endswith("num_batches_tracked")}
    if not any(name.endswith(("running_mean", "running_var")) for name in given):
        given |= {entry.name: _start(shapes, entry) for entry in table if entry.path[0] == _index("statistics")}
    return filled(shapes, table, given, space)


def _start(shapes: Any, entry: Entry) -> np.ndarray:
    for key in entry.path:
        shapes = shapes[key]
    return np.full(shapes.shape[-1], entry.path[-1] == "variance", np.float32)


def to_torch(
    genotype: Genotype,
    space: Space,
    variables: Variables,
    *,
    auxiliary: bool = False,
    names: ChoiceName = chosen_ops,
) -> dict[str, np.ndarray]:
    """Our weights and running statistics under the official names and in official layout.

    Args:
      genotype, space, auxiliary, names: as for `from_torch`.
      variables: of the `network` of these.
    """
    return named(variables, entries(genotype, space, auxiliary=auxiliary, names=names))
