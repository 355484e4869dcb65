"""What the official PyTorch codes call the parameters of our operations.

Where in the river: beside it, under `interop`. Knows modules and names; no weights.
"""

from collections.abc import Callable

import flax.linen as nn

from jaxnas.spaces import imagenet, ops
from jaxnas.spaces.auxiliary import AuxiliaryHead
from jaxnas.spaces.nas_bench_201 import ResidualReduction
from jaxnas.spaces.nasnet import FixedReduction
from jaxnas.spaces.space import Space

# (space, cell type, layer, edge, column of alpha) -> what stands before the name inside an operation
EdgeName = Callable[[Space, str, int, int, int], str]

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
    """Official name of a parameter inside its operation: ("depthwise1", "kernel") of a SepConv -> "op.1.weight".

    Args:
      module: the operation.
      path: of the parameter inside it.
    """
    inside, owner = _INSIDE.get(type(module), {}), "/".join(path[:-1])
    if getattr(module, "bias", False):  # convolutions of a search have biases in AutoDL-Projects only
        inside = _INSIDE_AUTODL.get(type(module), inside)
    if owner not in inside or path[-1] not in _LEAVES:
        raise ValueError(f"{type(module).__name__} has no official name for its parameter {'/'.join(path)}.")
    return f"{inside[owner]}.{_LEAVES[path[-1]]}"


def all_ops(space: Space, cell: str, layer: int, edge: int, op: int) -> str:
    """As in AutoDL-Projects for NAS-Bench-201 and where convolutions have biases, else as in quark0/darts.

    Args:
      space: whose edges they are.
      cell: type of the cell; not used.
      layer, edge, op: numbers, from 0.
    """
    del cell
    source, target = space.edges[edge]
    if space.inputs == 1:
        return f"cells.{layer}.edges.{target}<-{source}.{op}."
    if getattr(space.preprocess(features=1, stride=1), "bias", False):
        return f"cells.{layer}.edges.{target - 2}<-{source}._ops.{op}."
    return f"cells.{layer}._ops.{edge}._ops.{op}."


def living_ops(space: Space, cell: str, layer: int, edge: int, op: int) -> str:
    """As in the stages of chenxin061/pdarts, which count only the operations that are alive on an edge.

    Args:
      space: whose masks say what is alive.
      cell: type of the cell.
      layer, edge, op: numbers, from 0.
    """
    return f"cells.{layer}.cell_ops.{edge}.m_ops.{space.mask(cell)[edge, :op].sum()}."
