"""The search network of DARTS in plain PyTorch, written to be fast: what ours is measured against.

Parameters bear the official names, so that the official weights load. Batch norms keep no running averages (they play
no part in a search), `none` is not computed, and one ReLU serves all candidates that read the same state.

Reference: Liu, Simonyan, Yang 2019, arXiv:1806.09055; names of quark0/darts `cnn/model_search.py`, `cnn/operations.py`.
"""

from collections import OrderedDict
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
NODES, EDGES, STEM = 4, 14, 3  # nodes of a cell, their incoming edges, width of the stem in widths of the first cell


@torch.library.custom_op("benchmarks::max_pool", mutates_args=())
def opaque_max_pool(x: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """3x3 maximum and its places, as one call that torch.compile does not look into."""
    return torch.ops.aten.max_pool2d_with_indices(x, [3, 3], [stride] * 2, [1, 1])


@torch.library.custom_op("benchmarks::max_pool_backward", mutates_args=())
def opaque_max_pool_backward(grad: Tensor, x: Tensor, places: Tensor, stride: int) -> Tensor:
    """Every gradient to the place of its maximum."""
    return torch.ops.aten.max_pool2d_with_indices_backward(grad, x, [3, 3], [stride] * 2, [1, 1], [1, 1], False, places)


def _keep(ctx, inputs, output) -> None:
    ctx.save_for_backward(inputs[0], output[1])
    ctx.stride = inputs[1]


def _backward(ctx, grad: Tensor, _) -> tuple[Tensor, None]:
    return opaque_max_pool_backward(grad, *ctx.saved_tensors, ctx.stride), None


opaque_max_pool.register_fake(lambda x, stride: torch.ops.aten.max_pool2d_with_indices(x, [3, 3], [stride] * 2, [1, 1]))
opaque_max_pool_backward.register_fake(lambda grad, x, places, stride: torch.empty_like(x))
opaque_max_pool.register_autograd(_backward, setup_context=_keep)


class MaxPool(nn.Module):
    """3x3 maximum.

    Compiled for CPUs it is opaque: torch 2.13 writes its gradient after the kernel that reads it, where another
    operation reads the same input, and training goes on with a wrong gradient.
    """

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        if torch.compiler.is_compiling() and x.device.type == "cpu":
            return opaque_max_pool(x, self.stride)[0]
        return F.max_pool2d(x, 3, self.stride, 1)


def norm(channels: int, affine: bool = False) -> nn.BatchNorm2d:
    """Batch norm by the statistics of the batch."""
    return nn.BatchNorm2d(channels, affine=affine, track_running_stats=False)


def pointwise(source: int, target: int, stride: int = 1) -> nn.Conv2d:
    """1x1 convolution."""
    return nn.Conv2d(source, target, 1, stride, bias=False)


def depthwise(channels: int, kernel: int, stride: int, dilation: int = 1) -> nn.Conv2d:
    """One filter for each channel; sides become ceil(side / stride)."""
    pad = dilation * (kernel // 2)
    return nn.Conv2d(channels, channels, kernel, stride, pad, dilation, groups=channels, bias=False)


class Row(nn.Module):
    """Layers one after another, numbered as in the official code, where number 0 is a ReLU that is done outside."""

    def __init__(self, layers: dict[int, nn.Module]):
        super().__init__()
        self.op = nn.Sequential(OrderedDict((str(number), layer) for number, layer in layers.items()))

    def forward(self, positive: Tensor) -> Tensor:
        return self.op(positive)


class FactorizedReduce(nn.Module):
    """Halves the sides: even pixels through one 1x1 convolution, odd ones through another; behind a ReLU."""

    def __init__(self, source: int, target: int):
        super().__init__()
        self.conv_1, self.conv_2 = pointwise(source, target // 2, 2), pointwise(source, target // 2, 2)
        self.bn = norm(target)

    def forward(self, positive: Tensor) -> Tensor:
        halves = [self.conv_1(positive), self.conv_2(positive[:, :, 1:, 1:])]
        return self.bn(torch.cat(halves, 1))


def separable(c: int, kernel: int, stride: int) -> nn.Module:
    """`sep_conv_KxK`."""
    first = {1: depthwise(c, kernel, stride), 2: pointwise(c, c), 3: norm(c), 4: nn.ReLU()}
    return Row({**first, 5: depthwise(c, kernel, 1), 6: pointwise(c, c), 7: norm(c)})


def dilated(c: int, kernel: int, stride: int) -> nn.Module:
    """`dil_conv_KxK`."""
    return Row({1: depthwise(c, kernel, stride, 2), 2: pointwise(c, c), 3: norm(c)})


def candidate(name: str, channels: int, stride: int) -> nn.Module:
    """The module behind an operation's name."""
    if name == "none":
        return nn.Identity()  # keeps the numbering; never called
    if "pool" in name:
        kind = MaxPool(stride) if "max" in name else nn.AvgPool2d(3, stride, 1, count_include_pad=False)
        return nn.Sequential(kind, norm(channels))
    if name == "skip_connect":
        return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)
    make = separable if name.startswith("sep") else dilated
    return make(channels, int(name[-1]), stride)


class Edge(nn.Module):
    """The candidates of one edge, summed with their gates."""

    def __init__(self, channels: int, stride: int):
        super().__init__()
        self._ops = nn.ModuleList(candidate(name, channels, stride) for name in OPERATIONS)
        self.raw = (1, 2, 3) if stride == 1 else (1, 2)  # read the state as it is

    def forward(self, state: Tensor, positive: Tensor, gates: Tensor) -> Tensor:
        outs = [op(state if i in self.raw else positive) for i, op in enumerate(self._ops) if i]  # none is 0
        gate, *others = gates[1:].unbind()
        total = gate * outs[0]
        for gate, out in zip(others, outs[1:], strict=True):
            total = torch.addcmul(total, gate, out)
        return total


class Cell(nn.Module):
    """Two inputs, four nodes, each the sum of its edges from all before it; the output is the nodes side by side."""

    def __init__(self, older: int, newer: int, channels: int, reduction: bool, after_reduction: bool):
        super().__init__()
        plain = lambda source: Row({1: pointwise(source, channels), 2: norm(channels)})
        self.preprocess0 = FactorizedReduce(older, channels) if after_reduction else plain(older)
        self.preprocess1 = plain(newer)
        strides = [2 if reduction and source < 2 else 1 for node in range(NODES) for source in range(node + 2)]
        self._ops = nn.ModuleList(Edge(channels, stride) for stride in strides)

    def forward(self, older: Tensor, newer: Tensor, gates: Tensor) -> Tensor:
        states = [self.preprocess0(F.relu(older)), self.preprocess1(F.relu(newer))]
        positive, edges = [F.relu(state) for state in states], zip(self._ops, gates.unbind(), strict=True)
        for _ in range(NODES):
            reads = zip(states, positive, strict=True)
            node = reduce(torch.add, (edge(*read, gate) for read, (edge, gate) in zip(reads, edges, strict=False)))
            states.append(node)
            positive.append(F.relu(node))
        return torch.cat(states[2:], 1)


class Supernet(nn.Module):
    """Images [B, 3, H, W] and gates of both cell types to logits.

    Args:
      channels: width of the first cells, C.
      layers: number of cells; those at a third and two thirds reduce.
      classes: number of labels.
    """

    def __init__(self, channels: int, layers: int, classes: int = 10):
        super().__init__()
        older = newer = STEM * channels
        self.stem = nn.Sequential(nn.Conv2d(3, newer, 3, padding=1, bias=False), norm(newer, affine=True))
        self.reductions = (layers // 3, 2 * layers // 3)
        self.cells, width, after = nn.ModuleList(), channels, False
        for layer in range(layers):
            reduction = layer in self.reductions
            width *= 2 if reduction else 1
            self.cells.append(Cell(older, newer, width, reduction, after))
            older, newer, after = newer, NODES * width, reduction
        self.classifier = nn.Linear(newer, classes)

    def forward(self, images: Tensor, normal: Tensor, reducing: Tensor) -> Tensor:
        older = newer = self.stem(images)
        for layer, cell in enumerate(self.cells):
            older, newer = newer, cell(older, newer, reducing if layer in self.reductions else normal)
        return self.classifier(newer.mean((2, 3)))
