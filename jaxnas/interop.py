"""Weights of the official PyTorch networks, by their parameter names, into ours and back.

Where in the river: beside it, for people who bring checkpoints. Knows a space's plan and the official names; needs
PyTorch only to read a `.pt` file. Official layouts: convolutions [out, in, kh, kw], depthwise [C, 1, k, k], linear
[out, in], batch norm `weight` and `bias`.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from jaxnas.interop_names import EdgeName
from jaxnas.interop_names import all_ops as all_ops
from jaxnas.interop_names import living_ops as living_ops
from jaxnas.interop_names import official_name as official_name
from jaxnas.spaces.networks import Weights, fixed_block, supernet
from jaxnas.spaces.plan import Cells, EdgeRun, plan
from jaxnas.spaces.space import Space
from jaxnas.strategies.mixing import Mixing


class Entry(NamedTuple):
    """Where one official parameter lives in our weights."""

    name: str  # official, e.g. "cells.0._ops.3._ops.4.op.1.weight"
    path: tuple[Any, ...]  # keys into our tree
    position: tuple[int, ...]  # index in the stacked array
    rows: int | None = None  # input channels that exist, where the kernel is padded


_WRAPPED = re.compile(r"^((module|_orig_mod|_fsdp_wrapped_module)\.)+")  # by DataParallel, torch.compile, FSDP
_BATCH_NORM_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")


def entries(space: Space, mixing: Mixing | None = None, names: EdgeName = all_ops) -> Iterator[Entry]:
    """Every official parameter of a space's search network with its place in our weights.

    Args:
      space, mixing: as for `supernet`.
      names: how the code in question names the operations of an edge.
    """
    shapes = jax.eval_shape(supernet(space, mixing).init, jax.random.key(0))
    stem, head = space.stem(features=space.stem_channels), space.head(classes=space.classes)
    yield from _fixed(shapes["stem"], ("stem",), stem, "stem.")
    for i, part in enumerate(plan(space)):
        tree, path = shapes["parts"][i], ("parts", i)
        if isinstance(part, Cells):
            yield from _inputs(space, part, tree["inputs"], path)
            for r, run in enumerate(part.runs):
                yield from _edges(space, part, run, tree["edges"][r], (*path, "edges", r), names)
        else:
            block, _ = fixed_block(space, part)
            yield from _fixed(tree, path, block, f"cells.{part.layers[0]}.")
    yield from _fixed(shapes["head"], ("head",), head, "")


def leaves(tree) -> list[tuple[str, ...]]:
    """The path of every array in the variables of a module.

    Args:
      tree: nested dictionaries of arrays.
    """
    return [tuple(k.key for k in path) for path, _ in jax.tree_util.tree_flatten_with_path(tree)[0]]


def _fixed(tree, path: tuple, module: nn.Module, prefix: str) -> Iterator[Entry]:
    for leaf in leaves(tree):
        yield Entry(prefix + official_name(module, leaf), (*path, *leaf), ())


def _inputs(space: Space, part: Cells, tree, path: tuple) -> Iterator[Entry]:
    """preprocess0 of the first cell is ours "first", of the others "next"; preprocess1 is ours "current"."""
    older, newer = ("preprocess0", "preprocess1") if space.inputs == 2 else ("", "preprocess0")
    plain = space.preprocess(features=part.channels, stride=1)
    for leaf in leaves(tree.get("first", {})):
        module = space.preprocess(features=part.channels, stride=part.reduction)
        name = f"cells.{part.layers[0]}.{older}.{official_name(module, leaf)}"
        yield Entry(name, (*path, "inputs", "first", *leaf), ())
    for which, label, layers in (("current", newer, part.layers), ("next", older, part.layers[1:])):
        for leaf in leaves(tree.get(which, {})):
            for i, layer in enumerate(layers):
                name = f"cells.{layer}.{label}.{official_name(plain, leaf)}"
                rows = part.currents[i].channels if leaf[-1] == "kernel" else None
                yield Entry(name, (*path, "inputs", which, *leaf), (i,), rows)


def _edges(space: Space, part: Cells, run: EdgeRun, tree, path: tuple, names: EdgeName) -> Iterator[Entry]:
    for op, (name, factory) in enumerate(space.ops):
        alive = [edge for edge, on in zip(run.edges, run.alive[:, op], strict=True) if on]
        for leaf in leaves(tree.get(name, {})):
            inside = official_name(factory(stride=run.stride), leaf)
            for i, layer in enumerate(part.layers):
                for j, edge in enumerate(alive):
                    before = names(space, part.cell, layer, edge, op)
                    yield Entry(before + inside, (*path, name, *leaf), (i, j))


def from_torch(
    space: Space, tensors: Mapping[str, np.ndarray], mixing: Mixing | None = None, names: EdgeName = all_ops
) -> Weights:
    """Official parameters, by name, as our weights; the type of the numbers is kept.

    Args:
      space: the space of that network, of the same size.
      tensors: {official name: array}. What PyTorch's wrappers put in front of a name ("module.", "_orig_mod.")
        and running statistics are passed over.
      mixing: the mixing of the strategy, where it changes widths.
      names: how the code in question names the operations of an edge: `all_ops` or `living_ops`.

    Raises:
      ValueError: where names are missing or left over, or a shape differs; names some of them.
    """
    given = {name: t for name, t in tensors.items() if not name.endswith(_BATCH_NORM_BUFFERS)}
    shapes = jax.eval_shape(supernet(space, mixing).init, jax.random.key(0))
    return filled(shapes, tuple(entries(space, mixing, names)), given, space)


def to_torch(
    space: Space, weights: Weights, mixing: Mixing | None = None, names: EdgeName = all_ops
) -> dict[str, np.ndarray]:
    """Our weights (or gradients, or momenta of their shape) under the official names and in official layout.

    Args:
      space, mixing, names: as for `from_torch`.
      weights: of the supernet of `space`, or a tree of their shapes.
    """
    return named(weights, entries(space, mixing, names))


def filled(shapes: Any, table: Sequence[Entry], tensors: Mapping[str, np.ndarray], space: Space) -> Any:
    """A tree of the given shapes, its arrays filled from official ones by a table of where they live.

    Args:
      shapes: the tree, `jax.ShapeDtypeStruct` for arrays.
      table: from `entries`.
      tensors: {official name: array}.
      space: for the error.
    """
    if not tensors:
        raise ValueError("no parameters were given: the state dict is empty.")
    given = {_WRAPPED.sub("", name): np.asarray(t) for name, t in tensors.items()}
    if len(given) < len(tensors):
        raise ValueError("some names differ only in what PyTorch's wrappers put in front: give one state dict.")
    _check_names({entry.name for entry in table}, set(given), space)
    dtype = next(iter(given.values())).dtype
    tree = jax.tree.map(lambda s: np.zeros(s.shape, dtype), shapes)
    for entry in table:
        target = _at(tree, entry.path)[entry.position]
        target = target if entry.rows is None else target[..., : entry.rows, :]
        value = _ours(given[entry.name], target.ndim)
        if value.shape != target.shape:
            found = given[entry.name].shape
            classes = f" Build the space with classes={found[0]}." if "classifier" in entry.name else ""
            raise ValueError(f"{entry.name} has shape {found}; the space needs {target.shape} (ours).{classes}")
        target[...] = value
    return tree


def named(tree: Any, table: Iterable[Entry]) -> dict[str, np.ndarray]:
    """The arrays of a tree under their official names and in official layout, by a table of where they live.

    Args:
      tree: weights, or a tree of their shapes.
      table: from `entries`.
    """
    tree = jax.tree.map(np.asarray, tree)
    return {entry.name: _theirs(entry, _at(tree, entry.path)[entry.position]) for entry in table}


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Arrays of a `.pt` state dict by name; needs PyTorch, and unpickles nothing but tensors.

    Args:
      path: the file.

    Raises:
      ImportError: without PyTorch; says what to do.
    """
    try:
        import torch
    except ImportError as error:
        raise ImportError("reading a .pt file needs PyTorch: pip install torch, or give arrays by name.") from error
    state = torch.load(path, map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in state.get("state_dict", state).items()}


def _check_names(needed: set[str], given: set[str], space: Space) -> None:
    missing, extra = sorted(needed - given), sorted(given - needed)
    if missing or extra:
        show = lambda names: f"{len(names)} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        raise ValueError(
            f"these are not the parameters of the space {space.name!r} at this size: "
            f"missing {show(missing)}, left over {show(extra)}. {_advice(missing, extra)}"
        )


def _advice(missing: Sequence[str], extra: Sequence[str]) -> str:
    """What to do where names are missing or left over."""
    second = lambda names: bool(names) and all(name.startswith("auxiliary_head.") for name in names)
    if second(extra) and not missing:
        return "The network has a second head: say auxiliary=True."
    if second(missing) and not extra:
        return "These weights have no second head: say auxiliary=False."
    return (
        "Give the space the network's channels and layers." if missing else "Leave out what is none of the network's."
    )


def _at(tree, path: tuple):
    for key in path:
        tree = tree[key]
    return tree


def _ours(tensor: np.ndarray, ndim: int) -> np.ndarray:
    """Official layout -> ours, told apart by the number of axes."""
    if tensor.ndim == 4 and ndim == 4:  # dense convolution
        return tensor.transpose(2, 3, 1, 0)
    if tensor.ndim == 4 and ndim == 3:  # depthwise
        return tensor[:, 0].transpose(1, 2, 0)
    if tensor.ndim == 4:  # pointwise
        return tensor[:, :, 0, 0].T
    return tensor.T if tensor.ndim == 2 else tensor


def _theirs(entry: Entry, value: np.ndarray) -> np.ndarray:
    value = value if entry.rows is None else value[..., : entry.rows, :]
    if value.ndim == 4:
        return value.transpose(3, 2, 0, 1)
    if value.ndim == 3:
        return value.transpose(2, 0, 1)[:, None]
    if value.ndim == 2:
        return value.T if "classifier" in entry.name else value.T[:, :, None, None]
    return value
