"""Parameters and multiply-adds: counted by hand, against published networks, and against the arrays themselves."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from jax import lax
from published import DARTS_V2

from jaxnas.evaluation.cost import Cost, genotype_cost, module_cost, supernet_cost, total
from jaxnas.spaces import ops
from jaxnas.spaces.darts import darts, darts_network, s1
from jaxnas.spaces.genotype import from_darts, from_nas_bench_201, genotype
from jaxnas.spaces.nas_bench_201 import nas_bench_201, nas_bench_201_network
from jaxnas.spaces.networks import supernet


class Own(nn.Module):
    """A user's operation: an ordinary flax convolution, then a gate for each channel."""

    stride: int

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(x.shape[-1], (3, 3), self.stride, use_bias=False)(x)
        return y * nn.sigmoid(nn.Dense(x.shape[-1])(y.mean((1, 2), keepdims=True)))


class Rows(nn.Module):
    """A matrix product inside a loop and inside a choice."""

    stride: int

    @nn.compact
    def __call__(self, x):
        weight = self.param("w", lambda key: jax.random.normal(key, (x.shape[-1],) * 2))
        y, _ = lax.scan(lambda y, _: (y @ weight, None), x, None, length=5)
        return lax.cond(y.sum() > 0, lambda y: y @ weight, lambda y: y, y)


# on 8 x 8 x 4 images, so 64 pixels, 16 behind a stride; norms, pools and biases are no multiply-adds
@pytest.mark.smoke
@pytest.mark.parametrize(
    "module, parameters, multiply_adds",
    [
        (ops.Zero(1), 0, 0),
        (ops.MaxPool(2), 0, 0),
        (ops.AveragePool(1), 0, 0),
        (ops.BatchNorm(affine=True), 4 + 4, 0),
        (ops.Skip(1), 0, 0),
        (ops.Skip(2), 2 * 4 * 2, 16 * 2 * 4 * 2),
        (ops.FactorizedReduce(6), 4 * 3 + 4 * 3, 16 * (4 * 3 + 4 * 3)),
        (ops.SepConv(1, 3), 2 * (9 * 4 + 4 * 4), 64 * 2 * (9 * 4 + 4 * 4)),
        (ops.SepConv(2, 5), 2 * (25 * 4 + 4 * 4), 16 * 2 * (25 * 4 + 4 * 4)),
        (ops.DilConv(1, 5), 25 * 4 + 4 * 4, 64 * (25 * 4 + 4 * 4)),
        (ops.DilConv(2, 3), 9 * 4 + 4 * 4, 16 * (9 * 4 + 4 * 4)),
        (ops.FactorizedConv(2, 7), 2 * 7 * 4 * 4, 32 * 7 * 4 * 4 + 16 * 7 * 4 * 4),
        (ops.ReluConvNorm(kernel=3, features=6, bias=True), 9 * 4 * 6 + 6, 64 * 9 * 4 * 6),
        (ops.Stem(12), 9 * 4 * 12 + 2 * 12, 64 * 9 * 4 * 12),
        (ops.Classifier(10), 4 * 10 + 10, 4 * 10),
        (Own(1), 9 * 4 * 4 + 4 * 4 + 4, 64 * 9 * 4 * 4 + 4 * 4),
        (Own(2), 9 * 4 * 4 + 4 * 4 + 4, 16 * 9 * 4 * 4 + 4 * 4),
        (Rows(1), 16, 64 * 6 * 16),
    ],
)
def test_modules_counted_by_hand(module, parameters, multiply_adds):
    assert module_cost(module, (8, 8, 4)) == Cost(parameters, multiply_adds)


# official code: quark0/darts `Network(16, 10, 8)` and AutoDL-Projects `TinyNetworkDarts(16, 5, 4, 10)` on CIFAR images
@pytest.mark.smoke
@pytest.mark.parametrize(
    "space, parameters, multiply_adds",
    [(darts(16, 8), 1930618, 300255744), (nas_bench_201(16, 5), 1692826, 243712640)],
)
def test_official_search_networks(space, parameters, multiply_adds):
    costs = supernet_cost(space)
    assert total(costs) == Cost(parameters, multiply_adds)
    assert list(costs) == ["stem", *(f"cells.{i}" for i in range(len(space.skeleton))), "head"]


def test_official_network_of_darts_v2():
    """quark0/darts `NetworkCIFAR(36, 10, 20, False, DARTS_V2)`: the 3.3M parameters of the paper."""
    costs = genotype_cost(from_darts(DARTS_V2), darts_network(36, 20))
    assert total(costs) == Cost(3349342, 528359040)
    assert costs["head"] == Cost(576 * 10 + 10, 576 * 10) and costs["stem"].parameters == 27 * 108 + 2 * 108


def leaves(tree):
    """Number of numbers in a tree."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("make, channels", [(darts, 4), (s1, 4), (nas_bench_201, 3)])
def test_cost_is_the_size_of_the_weights(make, channels):
    """Less the zero rows of the cells behind the stem, whose 3 C channels are padded to the 4 C of a cell."""
    space = make(channels, 8 if make is not nas_bench_201 else 2)
    weights = jax.eval_shape(supernet(space).init, jax.random.key(0))
    padding = 0 if make is nas_bench_201 else 2 * (4 * channels - 3 * channels) * channels
    costs = supernet_cost(space)
    assert leaves(weights) - padding == total(costs).parameters
    assert leaves(weights["stem"]) == costs["stem"].parameters
    assert leaves(weights["head"]) == costs["head"].parameters


def test_dead_operations_cost_nothing():
    space, mask = nas_bench_201(4, 1), np.ones((6, 5), bool)
    mask[2:, 3] = False  # nor_conv_3x3 lives on two edges
    full, part = supernet_cost(space), supernet_cost(space.with_alive({"cell": mask}))
    for cell, width, side in (("cells.0", 4, 32), ("cells.2", 8, 16), ("cells.4", 16, 8)):
        kernel = 9 * width * width
        assert full[cell].parameters - part[cell].parameters == 4 * (kernel + width)
        assert full[cell].multiply_adds - part[cell].multiply_adds == 4 * side * side * kernel
    assert all(full[name] == part[name] for name in ("stem", "cells.1", "cells.3", "head"))


def test_narrow_candidates():
    """A mixing that shows a quarter of the channels to the candidates: pointwise kernels of width C / 4."""
    space = darts(8, 3)
    space = space.replace(ops=space.ops[4:5])
    costs, narrow = supernet_cost(space), supernet_cost(space, lambda channels: channels // 4)
    inputs = 2 * 24 * 8
    assert costs["cells.0"].parameters == inputs + 14 * 2 * (9 * 8 + 64)
    assert narrow["cells.0"].parameters == inputs + 14 * 2 * (9 * 2 + 4)
    assert narrow["stem"] == costs["stem"] and narrow["head"] == costs["head"]


@pytest.mark.smoke
def test_own_operation_is_counted():
    space = nas_bench_201(4, 1)
    own = space.replace(ops=space.ops + (("own", Own),))
    for cell, width, side in (("cells.0", 4, 32), ("cells.2", 8, 16), ("cells.4", 16, 8)):
        more = np.subtract(supernet_cost(own)[cell], supernet_cost(space)[cell])
        kernel, gate = 9 * width * width, width * width
        assert tuple(more) == (6 * (kernel + gate + width), 6 * (side * side * kernel + gate))


def test_a_genotype_costs_what_it_keeps():
    """Two 1x1 convolutions and one 3x3, with affine norms instead of biases."""
    name = "|nor_conv_1x1~0|+|none~0|skip_connect~1|+|nor_conv_3x3~0|avg_pool_3x3~1|nor_conv_1x1~2|"
    costs = genotype_cost(from_nas_bench_201(name), nas_bench_201_network(4, 1))
    for cell, width, side in (("cells.0", 4, 32), ("cells.2", 8, 16), ("cells.4", 16, 8)):
        kernels = (1 + 9 + 1) * width * width
        assert costs[cell] == Cost(kernels + 3 * 2 * width, side * side * kernels)
    assert costs["cells.1"].parameters == 9 * 4 * 8 + 9 * 8 * 8 + 4 * 8 + 2 * 2 * 8
    assert costs["cells.1"].multiply_adds == 256 * (9 * 4 * 8 + 9 * 8 * 8 + 4 * 8)


def test_an_edge_chosen_twice_counts_twice():
    rows = {"cell": [("nor_conv_1x1", 0, 1), ("nor_conv_1x1", 0, 1), ("skip_connect", 1, 3)]}
    cost = genotype_cost(genotype("nas_bench_201", rows, {"cell": [3]}), nas_bench_201_network(4, 1))["cells.0"]
    assert cost == Cost(2 * (16 + 8), 2 * 1024 * 16)


def test_fewer_outputs_make_the_next_cell_cheaper():
    """A cell of C channels that gives three of its nodes is read by a kernel of 3 C rows."""
    three = from_darts(DARTS_V2.replace("normal_concat=range(2, 6)", "normal_concat=[2, 3, 5]"))
    network = darts_network(4, 8)
    four, three = genotype_cost(from_darts(DARTS_V2), network), genotype_cost(three, network)
    assert three["cells.0"] == four["cells.0"]  # reads the stem
    assert four["cells.1"].parameters - three["cells.1"].parameters == 4 * 4  # one input comes from the stem
    assert four["cells.2"].parameters - three["cells.2"].parameters == 2 * 4 * 8
    assert four["head"].parameters - three["head"].parameters == 16 * 10


@pytest.mark.parametrize(
    "found, network, text",
    [
        (from_darts(DARTS_V2), nas_bench_201_network(4, 1), "normal, reduce"),
        (from_darts(DARTS_V2.replace("sep_conv_3x3', 0", "wide_conv', 0", 1)), darts_network(4, 3), "'wide_conv' on"),
        (from_nas_bench_201("|none~0|+|none~0|none~1|"), darts_network(4, 3), "cell"),
        (
            genotype("nas_bench_201", {"cell": [("nor_conv_3x3", 0, 4)]}, {"cell": [4]}),
            nas_bench_201_network(4, 1),
            r"'nor_conv_3x3' on edge \(0, 4\) is not in the space 'nas_bench_201'",
        ),
    ],
)
def test_genotypes_of_another_space(found, network, text):
    with pytest.raises(ValueError, match=text):
        genotype_cost(found, network)
