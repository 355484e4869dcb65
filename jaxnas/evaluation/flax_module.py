"""A network as one readable file of plain flax, and its arrays by the names in that file.

Where in the river: the mouth, beside `export.py`. Knows a genotype, the space that it is built in, and the variables of
their network; no files, no recipe. A cell type becomes a class, each of its nodes a line, and so does each layer.
"""

import inspect
import re
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict

from jaxnas.augmentation import Statistics
from jaxnas.evaluation import plain_layers
from jaxnas.evaluation.flax_calls import WRAPPED, call
from jaxnas.evaluation.flax_cells import (
    INPUTS,
    CellClass,
    cell_classes,
    cell_text,
    incoming,
    live_states,
    older_strides,
    two_sizes,
)
from jaxnas.spaces import ops
from jaxnas.spaces.genotype import Genotype
from jaxnas.spaces.nas_bench_201 import NormRelu
from jaxnas.spaces.network import Variables, check, chosen
from jaxnas.spaces.networks import fixed_block
from jaxnas.spaces.plan import Cells, Part, Place, plan
from jaxnas.spaces.space import Space

Placed = Iterator[tuple[tuple[str, ...], Any]]  # (names in the file, tree of arrays)
_LAYERS = {
    name: one for name, one in vars(plain_layers).items() if getattr(one, "__module__", "") == plain_layers.__name__
}


def source(genotype: Genotype, space: Space, statistics: Statistics) -> str:
    """The text of a Python file that imports jax, flax and numpy: the class `Network`, and `load` for its arrays.

    What does not reach a cell's output is left out.

    Args:
      genotype: the chosen edges of every cell type of the space.
      space: where it is built, as for `network`.
      statistics: what images are normalised by, inside.

    Raises:
      ValueError: as `network`, and where an operation, a stem or a head is none of this package's networks.
    """
    check(genotype, space)
    parts = _parts(genotype, space)
    classes = cell_classes(parts)
    body = [*(cell_text(genotype, space, one) for one in classes.values()), _network_text(space, parts, classes)]
    height, width, channels = space.image
    head = _HEAD.format(space=space.name, height=height, width=width, channels=channels, classes=space.classes)
    shortest = lambda values: ", ".join(str(value) for value in np.asarray(values, np.float32))
    mean, deviation = (f"np.float32([{shortest(values)}])  # of each channel, in pixel steps" for values in statistics)
    constants = f"\n\n{_ARRAYS}\nMEAN = {mean}\nDEVIATION = {deviation}"
    return "\n\n\n".join([head + constants, *_layers("\n".join(body)), *body, _LOAD])


def arrays(genotype: Genotype, space: Space, variables: Variables) -> dict[str, np.ndarray]:
    """The arrays that `load` of a network's file reads: {"params/layer0/s2a/norm1/scale": [C], ...}.

    Args:
      genotype, space: as for `source`.
      variables: weights and running statistics of the `network` of these.
    """
    found = {}
    for collection, tree in zip(("params", "batch_stats"), jax.device_get(variables), strict=True):
        for place, part in _placed(genotype, space, tree):
            for path, leaf in flatten_dict(part).items():
                name, array = _plain(path[-1], leaf, place)
                found["/".join((collection, *place, *path[:-1], name))] = array
    return found


# --------------------------------------------------------------------------------------------------------- text

_HEAD = '''"""A network of the space {space}, written out cell by cell in plain flax.

    variables = load()  # from network.npz beside this file
    logits = Network().apply(variables, images)

Images are [B, {height}, {width}, {channels}] with pixels from 0 to 255, logits [B, {classes}]. To train it further:

    logits, moved = Network().apply(variables, images, train=True, mutable=["batch_stats"])
"""

from pathlib import Path

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict
from jax import Array'''

_LOAD = '''def load(path: str | Path = ARRAYS) -> dict:
    """The variables of `Network`: its weights and running statistics."""
    with np.load(path, allow_pickle=False) as arrays:
        return unflatten_dict({name: jnp.asarray(arrays[name]) for name in arrays}, sep="/")
'''

_ARRAYS = 'ARRAYS = Path(__file__).with_name("network.npz")'
_NETWORK = '''class Network(nn.Module):
    """Images to logits."""

    @nn.compact
    def __call__(self, images: Array, train: bool = False) -> Array:
        {lines}'''


def _layers(body: str) -> Iterator[str]:
    """The text of each plain layer that the body calls, or that such a layer calls, in order."""
    texts = {name: inspect.getsource(one).rstrip() for name, one in _LAYERS.items()}
    called = lambda text: {name for name in texts if re.search(rf"\b{name}\(", text)}
    wanted = called(body)
    while more := set().union(*(called(texts[name]) for name in wanted)) - wanted:
        wanted |= more
    return (text for name, text in texts.items() if name in wanted)


def _network_text(space: Space, parts: tuple[Part, ...], classes: dict[tuple[str, int], CellClass]) -> str:
    """The text of `Network`: a line for each layer."""
    pairs = any(fixed_block(space, part)[1] == 2 for part in parts if isinstance(part, Place))
    states = INPUTS[2 if pairs else space.inputs]
    stem = call(space.stem(features=space.stem_channels), "stem", space.stem_channels, "x")
    lines = ["x = (images.astype(jnp.float32) - MEAN) / DEVIATION", f"{' = '.join(states)} = {stem}"]
    moves = f"{', '.join(states)} = {', '.join((*states[1:], ''))}"
    for part in parts:
        lines += [moves + line for line in _layer_calls(space, part, classes, states)]
    x = states[-1]
    lines += [f'{x} = nn.relu(norm(train, "norm")({x}))'] * (_before_the_classifier(space) is not ops.Identity)
    lines.append(f'return nn.Dense({space.classes}, name="classifier")({x}.mean((1, 2)))')
    return _NETWORK.format(lines="\n        ".join(lines))


def _layer_calls(space: Space, part: Part, classes, states: tuple[str, ...]) -> list[str]:
    """The expression of each layer of a part."""
    if isinstance(part, Place):
        block, reads = fixed_block(space, part)
        return [call(block, f"layer{part.layers[0]}", part.result.channels, *states[::-1][:reads])]
    one = classes[part.cell, part.stride]
    told = lambda stride: f", older_stride={stride}" * (stride > 1 and two_sizes(space, one))
    read = ", ".join(states[-space.inputs :])
    return [
        f'{one.name}({part.channels}{told(stride)}, name="layer{layer}")({read}, train)'
        for layer, stride in zip(part.layers, older_strides(part), strict=True)
    ]


def _before_the_classifier(space: Space) -> Any:
    head = space.head(classes=space.classes)
    if type(head) is not ops.Classifier or head.before not in (ops.Identity, NormRelu):
        raise ValueError(
            f"the head {type(head).__name__} has no plain flax layers: leave out --flax; StableHLO takes any network."
        )
    return head.before


# ------------------------------------------------------------------------------------------------------- arrays


def _placed(genotype: Genotype, space: Space, tree: Any) -> Placed:
    """The trees of one collection, each layer's by itself."""
    yield ("stem",), tree["stem"]
    head = dict(tree["head"])
    yield ("norm",), head.pop("NormRelu_0", {}).get("norm", {})
    yield ("classifier",), head
    for part, found in zip(_parts(genotype, space), tree["parts"], strict=True):
        if isinstance(part, Place):
            yield (f"layer{part.layers[0]}",), found
        else:
            yield from _placed_cells(genotype, space, part, found)


def _placed_cells(genotype: Genotype, space: Space, part: Cells, tree: Any) -> Placed:
    live = live_states(genotype, space, part)
    for i, layer in enumerate(part.layers):
        at = lambda stacked, i=i: jax.tree.map(lambda a: a[i], stacked)
        inputs = tree["inputs"]
        if space.inputs - 1 in live:
            yield (f"layer{layer}", INPUTS[space.inputs][-1]), _rows(at(inputs["current"]), part.currents[i].channels)
        if space.inputs == 2 and 0 in live:
            older = _rows(at(inputs["next"], i - 1), part.currents[i - 1].channels) if i else inputs["first"]
            yield (f"layer{layer}", "older"), older
        for node in live - set(range(space.inputs)):
            for term in incoming(genotype, part.cell, node):
                wrapped = WRAPPED.get(type(chosen(space, part, term.choice)[0]), "")
                found = at(tree["edges"][term.place])
                yield (f"layer{layer}", term.name), found.get(wrapped, found)


def _rows(tree: Any, rows: int) -> Any:
    """What prepares an input of so many channels: without the zero rows of its kernel."""
    return jax.tree_util.tree_map_with_path(
        lambda path, a: a[:rows] if getattr(path[-1], "key", "") == "kernel" else a, tree
    )


def _plain(name: str, array: np.ndarray, place: tuple[str, ...]) -> tuple[str, np.ndarray]:
    """The name and the shape of an array in flax: kernels of convolutions are [height, width, inputs / groups, C]."""
    if name == "kernel" and place != ("classifier",):
        array = {2: array[None, None], 3: array[:, :, None]}.get(array.ndim, array)
    return {"variance": "var"}.get(name, name), array


def _parts(genotype: Genotype, space: Space) -> tuple[Part, ...]:
    return plan(space, {cell: len(genotype.concat(cell)) for cell in space.cells})
