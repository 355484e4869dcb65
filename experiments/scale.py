"""How large a reproduction is run: as in the paper, or as small as can be (`--smoke`)."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from jaxnas import data
from jaxnas.data import Batch, Dataset
from jaxnas.epoch import steps_per_epoch
from jaxnas.evaluation.recipes import Cosine, Recipe
from jaxnas.spaces.space import Layer, Space

# (name, folder of data sets, the space they are for, share of the images that moves the weights) -> images
Load = Callable[[str, Path | None, Space, float], Dataset]


class Scale(NamedTuple):
    """What --smoke shrinks; all else in a recipe is the paper's."""

    smoke: bool
    epochs: int  # of the search, or of each of its stages
    steps: int  # in an epoch
    batch: int
    space: Callable[[Space], Space]
    network: Callable[[Space], Space]
    training: Callable[[Recipe], Recipe]
    load: Load


def full(*, images: int, epochs: int, batch: int) -> Scale:
    """The paper's: so many images move the weights, in so many epochs."""
    same = lambda it: it
    return Scale(False, epochs, steps_per_epoch(images, batch), batch, same, same, same, _loaded)


def _loaded(name: str, folder: Path | None, space: Space, share: float) -> Dataset:
    return data.load(name, folder)


# ------------------------------------------------------------------------------------------------------- smoke


def tiny(space: Space) -> Space:
    """One layer of each kind, 4 channels, images of 4 pixels behind all reductions, no second head."""
    first = {layer.cell: layer for layer in reversed(space.skeleton)}
    kinds = sorted(first.values(), key=space.skeleton.index)
    divisor = kinds[0].channels // 4
    layers = tuple(Layer(cell, channels // divisor, stride) for cell, channels, stride in kinds)
    side = 4 * space.stem_stride * int(np.prod([layer.stride for layer in layers]))
    small = {"skeleton": layers, "image": (side, side, space.image[2]), "auxiliary": None}
    return space.replace(**small, stem_channels=space.stem_channels // divisor)


def tiny_search(space: Space) -> Space:
    """The same, and cells with two inputs have one node and at most five operations, all where some are dead."""
    space = tiny(space)
    if space.inputs == 1:
        return space
    edges = space.incoming(space.inputs)
    ops = space.ops if space.alive else space.ops[:5]
    alive = tuple((cell, tuple(mask[e] for e in edges)) for cell, mask in space.alive)
    return space.replace(ops=ops, edges=tuple(space.edges[e] for e in edges), outputs=(space.inputs,), alive=alive)


def brief(training: Recipe) -> Recipe:
    """One epoch of the recipe in batches of 8, without warm-up and second head."""
    return replace(training, epochs=1, batch=8, auxiliary=0.0, warmup=0, decay=Cosine())


def noise(name: str, folder: Path | None, space: Space, share: float) -> Dataset:
    """Random images of the space's size and classes: eight of them move the weights."""
    del folder
    draw, size = np.random.default_rng(0), round(8 / share)
    part = lambda n: Batch(
        draw.integers(0, 256, (n, *space.image)).astype(np.uint8), np.arange(n, dtype=np.int32) % space.classes
    )
    return Dataset(name=name, train=part(size), test=part(8), classes=space.classes)


SMOKE = Scale(True, 1, 2, 4, tiny_search, tiny, brief, noise)
