"""Weights of the official PyTorch networks, by their parameter names, into ours and back.

Where in the river: beside it, for people who bring checkpoints. Knows a space's plan and the official names; needs
PyTorch only to read a `.pt` file. Official layouts: convolutions [out, in, kh, kw], depthwise [C, 1, k, k], linear
[out, in], batch norm `weight` and `bias`.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from jaxnas.spaces import imagenet, ops
from jaxnas.spaces.auxiliary import AuxiliaryHead
from jaxnas.spaces.nas_bench_201 import ResidualReduction
from jaxnas.spaces.nasnet import FixedReduction
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


# (space, cell type, layer, edge, column of alpha) -> what stands before the name inside an operation
EdgeName = Callable[[Space, str, int, int, int], str]

_BATCH_NORM_BUFFERS = ("running_mean", "running_var", "num_batches_tracked")
_LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "variance": "running_var",
}
_INSIDE: dict[type[nn.Module], dict[str, str]] = {  # our submodule -> its place inside the official module
    ops.SepConv: {
        "depthwise1": "op.1",
        "pointwise1": "op.2",
        "norm1": "op.3",
        "depthwise2": "op.5",
        "pointwise2": "op.6",
        "norm2": "op.7",
    },
    ops.DilConv: {"depthwise": "op.1", "pointwise": "op.2", "norm": "op.3"},
    ops.FactorizedReduce: {"even": "conv_1", "odd": "conv_2", "norm": "bn"},
    ops.Skip: {"reduce/even": "conv_1", "reduce/odd": "conv_2", "reduce/norm": "bn"},
    ops.ReluConvNorm: {"conv": "op.1", "norm": "op.2"},
    ops.FactorizedConv: {"row": "1", "column": "2", "norm": "3"},
    ops.Stem: {"conv": "0", "norm": "1"},
    ResidualReduction: {
        "conv_a/conv": "conv_a.op.1",
        "conv_a/norm": "conv_a.op.2",
        "conv_b/conv": "conv_b.op.1",
        "conv_b/norm": "conv_b.op.2",
        "downsample": "downsample.1",
    },
    ops.Sequence: {"modules_1": "1"},  # a pool and its norm
    ops.Classifier: {"": "classifier", "NormRelu_0/norm": "lastact.0"},
    AuxiliaryHead: {
        "conv1": "features.2",
        "norm1": "features.3",
        "conv2": "features.5",
        "norm2": "features.6",
        "classifier": "classifier",
    },
    imagenet.SecondStem: {"conv": "1", "norm": "2"},
    imagenet.Stem: {"conv1": "0", "norm1": "1", "conv2": "3", "norm2": "4"},
    FixedReduction: {
        "prepare_older_1/conv": "preprocess0.op.1",
        "prepare_older_2/even": "preprocess0.convs.0",
        "prepare_older_2/odd": "preprocess0.convs.1",
        "prepare_x/conv": "preprocess1.op.1",
        **{
            f"conv_{which}/{part}": f"ops1.{i}.{place}"
            for i, which in enumerate(("older", "x"))
            for part, place in {"row": 1, "column": 2, "norm1": 3, "pointwise": 5, "norm2": 6}.items()
        },
        **{f"pool_{which}": f"ops2.{i}.1" for i, which in enumerate(("older", "x"))},
        "prepare_older_1/norm": "preprocess0.op.2",
        "prepare_older_2/norm": "preprocess0.bn",
        "prepare_x/norm": "preprocess1.op.2",
    },
}
_INSIDE_AUTODL: dict[type[nn.Module], dict[str, str]] = {  # where it calls things otherwise than quark0/darts
    ops.SepConv: {
        f"{part}{i}": f"op_{half}.op.{place}"
        for i, half in ((1, "a"), (2, "b"))
        for part, place in {"depthwise": 1, "pointwise": 2, "norm": 3}.items()
    },
    ops.FactorizedReduce: {"even": "convs.0", "odd": "convs.1", "norm": "bn"},
    ops.Skip: {"reduce/even": "convs.0", "reduce/odd": "convs.1", "reduce/norm": "bn"},
}


def official_name(module: nn.Module, path: tuple[str, ...]) -> str:
    """Official name of a parameter inside its operation: ("depthwise1", "kernel") of a SepConv -> "op.1.weight"."""
    inside, owner = _INSIDE.get(type(module), {}), "/".join(path[:-1])
    if getattr(module, "bias", False):  # convolutions of a search have biases in AutoDL-Projects only
        inside = _INSIDE_AUTODL.get(type(module), inside)
    if owner not in inside or path[-1] not in _LEAVES:
        raise ValueError(f"{type(module).__name__} has no official name for its parameter {'/'.join(path)}.")
    return f"{inside[owner]}.{_LEAVES[path[-1]]}"


def all_ops(space: Space, cell: str, layer: int, edge: int, op: int) -> str:
    """As in AutoDL-Projects for NAS-Bench-201 and where convolutions have biases, else as in quark0/darts."""
    del cell
    source, target = space.edges[edge]
    if space.inputs == 1:
        return f"cells.{layer}.edges.{target}<-{source}.{op}."
    if getattr(space.preprocess(features=1, stride=1), "bias", False):
        return f"cells.{layer}.edges.{target - 2}<-{source}._ops.{op}."
    return f"cells.{layer}._ops.{edge}._ops.{op}."


def living_ops(space: Space, cell: str, layer: int, edge: int, op: int) -> str:
    """As in the stages of chenxin061/pdarts, which count only the operations that are alive on an edge."""
    return f"cells.{layer}.cell_ops.{edge}.m_ops.{space.mask(cell)[edge, :op].sum()}."


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
    """The path of every array in the variables of a module."""
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
      tensors: {official name: array}. A leading "module." and running statistics are passed over.
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
    """Our weights (or gradients, or momenta of their shape) under the official names and in official layout."""
    return named(weights, entries(space, mixing, names))


def filled(shapes: Any, table: Sequence[Entry], tensors: Mapping[str, np.ndarray], space: Space) -> Any:
    """A tree of the given shapes, its arrays filled from official ones by a table of where they live."""
    given = {name.removeprefix("module."): np.asarray(t) for name, t in tensors.items()}
    _check_names({entry.name for entry in table}, set(given), space)
    dtype = next(iter(given.values())).dtype
    tree = jax.tree.map(lambda s: np.zeros(s.shape, dtype), shapes)
    for entry in table:
        target = _at(tree, entry.path)[entry.position]
        target = target if entry.rows is None else target[..., : entry.rows, :]
        value = _ours(given[entry.name], target.ndim)
        if value.shape != target.shape:
            raise ValueError(
                f"{entry.name} has shape {given[entry.name].shape}; the space needs {target.shape} (ours)."
            )
        target[...] = value
    return tree


def named(tree: Any, table: Iterable[Entry]) -> dict[str, np.ndarray]:
    """The arrays of a tree under their official names and in official layout, by a table of where they live."""
    tree = jax.tree.map(np.asarray, tree)
    return {entry.name: _theirs(entry, _at(tree, entry.path)[entry.position]) for entry in table}


def read_state_dict(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Arrays of a `.pt` state dict by name; needs PyTorch, and unpickles nothing but tensors.

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
            f"missing {show(missing)}, left over {show(extra)}. Give the space the network's channels and layers."
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
