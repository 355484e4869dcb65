"""The network that a genotype describes, with running statistics: what is trained from scratch.

Where in the river: behind the second waist, on the way to a test accuracy. Knows a genotype and the space that it is
built in; no search, no loss, no optimiser.

Compiled as small as the supernet (`networks.py`): equal cells in a row are one scanned program, their weights,
statistics and drop-path factors stacked; the edges of a cell are written out, since a genotype has few. Edges are
computed again in the backward pass: a step of 20 cells of 36 channels on 96 images takes 2.2 GB instead of 8.1.

Reference: Liu, Simonyan, Yang 2019, DARTS, arXiv:1806.09055, section 3.2 and appendix A; official code quark0/darts,
`cnn/model.py`, `NetworkCIFAR` and `NetworkImageNet`.
"""

from collections.abc import Callable
from functools import partial, reduce
from operator import getitem
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxnas.spaces import ops
from jaxnas.spaces.drawn import drawn_together
from jaxnas.spaces.genotype import Choice, Genotype
from jaxnas.spaces.networks import check_images, fixed_block, init_inputs, pad_channels
from jaxnas.spaces.plan import Cells, Part, Place, Size, plan
from jaxnas.spaces.space import Space


class Variables(NamedTuple):
    """What a network holds: two pytrees of arrays of the same skeleton."""

    weights: Any  # what is trained
    statistics: Any  # running means and variances of its norms


class Network(NamedTuple):
    """A network as pure functions. Images are [B, H, W, C], normalised, of any float type: it computes in that type."""

    init: Callable[[Array], Variables]  # key -> variables
    # (variables, images, drop-path factors [layers, choices, B] or None)
    # -> (logits [B, K], auxiliary logits [B, K] or None, new statistics)
    train: Callable[[Variables, Array, Array | None], tuple[Array, Array | None, Any]]
    apply: Callable[[Variables, Array], Array]  # (variables, images) -> logits [B, K] by the running statistics
    paths: tuple[int, int]  # (layers, choices) of the drop-path factors


Run = Callable[..., tuple[Any, Any]]  # (module, variables, *inputs) -> (output, statistics)


def network(genotype: Genotype, space: Space, *, auxiliary: bool = False) -> Network:
    """The network of a genotype, as pure functions.

    logits = head(cell_L(... cell_1(stem(images)))), where each node of a cell is the sum of its chosen operations and
    each cell gives its own `concat` states. In training each norm uses the batch's statistics and moves its own.

    Args:
      genotype: the chosen edges of every cell type of the space.
      space: where it is built: `darts_network(...)`, `darts_imagenet_network(...)`, `nas_bench_201_network(...)`,
        `nasnet_network(...)` or your own, with affine norms.
      auxiliary: with a second head behind the last reduction, used in training only.

    Returns:
      `Network`; logits are in float32 at least.

    Raises:
      ValueError: where the genotype has other cells, edges or operations than the space, or the space no auxiliary
        head; when traced with images of another size than the space is built for.

    Deviates: fixed blocks (residual and fixed reductions) have no drop path.
    """
    check(genotype, space)
    parts = plan(space, {cell: len(genotype.concat(cell)) for cell in space.cells})
    stem, head = space.stem(features=space.stem_channels), space.head(classes=space.classes)
    second, place = _auxiliary(space, parts) if auxiliary else (None, -1)
    shape = lambda size: size.shape(space.image)

    def init(key: Array) -> Variables:
        key_stem, key_head, key_second, key = jax.random.split(key, 4)
        keys = jax.random.split(key, len(parts))
        tree = {
            "stem": _variables(stem, key_stem, space.image),
            "parts": [_init_part(space, genotype, part, k) for part, k in zip(parts, keys, strict=True)],
            "head": _variables(head, key_head, shape(parts[-1].result)),
        }
        if second is not None:
            tree["auxiliary"] = _variables(second, key_second, shape(parts[place].result))
        return _parted(tree)

    def forward(run: Run, variables: Variables, images: Array, paths: Array | None):
        check_images(space, images)
        found: dict[str, Any] = {"parts": []}
        newer, found["stem"] = run(stem, _at(variables, "stem"), images)
        states, extra = (newer, newer), None
        for i, part in enumerate(parts):
            states, seen = _apply_part(space, genotype, run, part, _at(variables, "parts", i), states, paths)
            found["parts"].append(seen)
            if i == place and run is _training:
                extra, found["auxiliary"] = run(second, _at(variables, "auxiliary"), states[-1])
                if part is parts[-1]:  # the official head rectifies its input in place; cells behind do so anyway
                    states = (states[0], nn.relu(states[-1]))
        logits, found["head"] = run(head, _at(variables, "head"), states[-1])
        return logits, extra, found

    def train(variables: Variables, images: Array, paths: Array | None = None):
        return forward(_training, variables, images, paths)

    def apply(variables: Variables, images: Array) -> Array:
        return forward(_evaluation, variables, images, None)[0]

    choices = max(len(genotype.edges(cell)) for cell in space.cells)
    return Network(drawn_together(init), train, apply, (len(space.skeleton), choices))


def drop_paths(key: Array, network: Network, batch: int, rate: Array | float) -> Array:
    """Drop-path factors: 0 with probability `rate`, else 1 / (1 - rate), for every layer, chosen edge and image.

    The edge's output is multiplied by its factor, except where it is the identity.

    Args:
      key: for the draw.
      network: whose edges.
      batch: number of images.
      rate: [] probability of dropping, below 1; the official schedule is 0.2 epoch / epochs.

    Returns:
      [layers, choices, batch], float.

    Reference: Larsson et al. 2017, FractalNet, arXiv:1605.07648; quark0/darts, `cnn/utils.py`, `drop_path`.
    """
    keep = 1 - jnp.asarray(rate, jnp.result_type(float))
    return jax.random.bernoulli(key, keep, (*network.paths, batch)).astype(keep.dtype) / keep.reshape(1, 1, 1)


def check(genotype: Genotype, space: Space) -> None:
    """Raises ValueError where a genotype has other cells, edges or operations than the space it is built in."""
    if set(genotype.names) != set(space.cells):
        raise ValueError(
            f"the genotype has the cells {', '.join(genotype.names)}, the space {space.name!r} has "
            f"{', '.join(space.cells)}: build it in the space it was found in, at the size you want."
        )
    for cell in space.cells:
        for choice in genotype.edges(cell):
            if choice.op not in space.op_names or (choice.source, choice.target) not in space.edges:
                raise ValueError(
                    f"{cell} cell: {choice.op!r} on edge {choice[1:]} is not in the space {space.name!r}; "
                    f"operations are {', '.join(space.op_names)}, edges {', '.join(map(str, space.edges))}."
                )
        reached = {*range(space.inputs), *(choice.target for choice in genotype.edges(cell))}
        missing = {*(choice.source for choice in genotype.edges(cell)), *genotype.concat(cell)} - reached
        if missing:
            raise ValueError(f"{cell} cell: state {min(missing)} is read, but no edge ends there; add one.")


def _auxiliary(space: Space, parts: tuple[Part, ...]) -> tuple[nn.Module, int]:
    """The second head, and the part that it stands behind."""
    places = [i for i, part in enumerate(parts) if part.stride > 1]
    if space.auxiliary is None or not places:
        raise ValueError(f"the space {space.name!r} has no auxiliary head or no reduction: leave out auxiliary=True.")
    return space.auxiliary(classes=space.classes), places[-1]


# ------------------------------------------------------------------------------------------------ variables


def _variables(module: nn.Module, key: Array, *shapes: tuple[int, ...]) -> Variables:
    found = module.init({"params": key, "noise": key}, *(jnp.zeros((1, *shape)) for shape in shapes))
    return Variables(found.get("params", {}), found.get("statistics", {}))


def _parted(tree) -> Variables:
    """A tree of variables -> variables that are trees."""
    pick = lambda i: jax.tree.map(lambda v: v[i], tree, is_leaf=lambda node: isinstance(node, Variables))
    return Variables(pick(0), pick(1))


def _at(variables: Variables, *path) -> Variables:
    return Variables(*(reduce(getitem, path, tree) for tree in variables))


def _init_part(space: Space, genotype: Genotype, part: Part, key: Array):
    """Variables of a fixed block, or of a row of cells, stacked over the cells."""
    if isinstance(part, Place):
        block, reads = fixed_block(space, part)
        return _variables(block, key, *(size.shape(space.image) for size in (part.source, part.previous)[:reads]))
    key_edges, key_inputs = jax.random.split(key)

    def edge(i: int, choice: Choice):
        module, place = chosen(space, part, choice)
        keys = jax.random.split(jax.random.fold_in(key_edges, i), len(part.layers))
        return jax.vmap(lambda k: _variables(module, k, place.shape(space.image)))(keys)

    edges = [edge(i, choice) for i, choice in enumerate(genotype.edges(part.cell))]
    return {"edges": edges, "inputs": init_inputs(space, part, key_inputs, _variables)}


def chosen(space: Space, part: Cells, choice: Choice) -> tuple[nn.Module, Size]:
    """The module of a chosen edge in a row of cells, and the size of the state that it reads."""
    outer = choice.source < space.inputs
    module = dict(space.ops)[choice.op](stride=part.stride if outer else 1)
    return module, Size(part.channels, (part.source if outer else part.result).shrink)


# -------------------------------------------------------------------------------------------------- forward


def _training(module: nn.Module, variables: Variables, *xs: Array):
    out, found = module.apply(_collections(variables), *xs, mutable=["statistics"])
    return out, found.get("statistics", {})


def _evaluation(module: nn.Module, variables: Variables, *xs: Array):
    return module.apply(_collections(variables), *xs), variables.statistics


def _collections(variables: Variables) -> dict[str, Any]:
    return {"params": variables.weights, "statistics": variables.statistics}


def _apply_part(space, genotype, run: Run, part: Part, variables: Variables, states, paths):
    """(older, newer) -> (older, newer) and new statistics, through one fixed block or one row of equal cells."""
    if isinstance(part, Place):
        block, reads = fixed_block(space, part)
        out, moved = run(block, variables, *states[::-1][:reads])
        return (states[1], out), moved
    older, newer = states
    layers = np.array(part.layers)
    xs = (_at(variables, "edges"), _at(variables, "inputs", "current"), None if paths is None else paths[layers])
    prepare = lambda v, stride, x: run(space.preprocess(features=part.channels, stride=stride), v, x)
    ready: tuple[Array, ...] = ()
    seen: dict[str, Any] = {}
    if space.inputs == 2:
        first, seen["first"] = prepare(_at(variables, "inputs", "first"), part.reduction, older)
        ready = (first,)
    cell: Callable[..., Any] = partial(_cell, space, genotype, run, part, prepare)
    if len(layers) == 1:
        out, found = cell(*jax.tree.map(lambda a: a[0], xs), ready, newer)
        edges, seen["current"] = jax.tree.map(lambda a: a[None], found)
        return (newer, out), {"edges": edges, "inputs": seen}

    def body(carry, xs):
        ready, _, newer = carry
        *xs, then = xs
        out, found = cell(*xs, ready, newer)
        following, more = prepare(then, 1, newer) if ready else ((), {})
        return ((following,) if ready else (), newer, pad_channels(out, part.common.channels)), (*found, more)

    newer = pad_channels(newer, part.common.channels)
    (_, older, newer), found = lax.scan(body, (ready, newer, newer), (*xs, _then(variables)))
    edges, seen["current"], following = found
    if ready:
        seen["next"] = jax.tree.map(lambda a: a[:-1], following)
    width = part.result.channels
    return (older[..., :width], newer[..., :width]), {"edges": edges, "inputs": seen}


def _then(variables: Variables) -> Variables:
    """What prepares each newer input for the cell after the next; the last cell's is not used: zeros stand there."""
    following = Variables(*(tree["inputs"].get("next", {}) for tree in variables))
    return jax.tree.map(lambda a: jnp.concatenate([a, jnp.zeros_like(a[:1])]), following)


def _cell(space, genotype, run: Run, part: Cells, prepare, edges: Variables, current: Variables, paths, ready, newer):
    """The output of one cell, and the new statistics of its edges and of its newer input."""
    prepared, seen = prepare(current, 1, newer)
    states, choices = dict(enumerate((*ready, prepared))), genotype.edges(part.cell)
    found: list[Any] = [None] * len(choices)
    for node in sorted({choice.target for choice in choices}):
        outs = []
        for i, choice in enumerate(choices):
            if choice.target == node:
                module, _ = chosen(space, part, choice)
                out, found[i] = jax.checkpoint(partial(run, module))(_at(edges, i), states[choice.source])
                outs.append(out if paths is None or _identity(module) else _scaled(out, paths[i]))
        states[node] = reduce(jnp.add, outs)
    return jnp.concatenate([states[i] for i in genotype.concat(part.cell)], -1), (found, seen)


def _identity(module: nn.Module) -> bool:
    return isinstance(module, ops.Skip | ops.Identity) and module.stride == 1


def _scaled(x: Array, factors: Array) -> Array:
    """Images times one factor each."""
    return x * factors.astype(x.dtype).reshape(-1, 1, 1, 1)
