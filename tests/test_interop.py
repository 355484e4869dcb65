"""Official parameter names: complete, unique, there and back."""

import importlib.util
import os
import sys

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxnas.interop import entries, from_torch, official_name, read_state_dict, to_torch
from jaxnas.spaces import ops
from jaxnas.spaces.darts import darts
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.spaces.nasnet import nasnet, nasnet_frc
from jaxnas.spaces.networks import supernet

# submodules with weights inside the official operations, by their place in the official lists of operations
DARTS_OPS = {4: "1256", 5: "1256", 6: "12", 7: "12"}
NORM = ("weight", "bias")
no_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="reads .pt files: PyTorch is missing")


def random_weights(space, seed=0):
    """Numbers in the structure of a space's weights; every one different."""
    shapes, rng = jax.eval_shape(supernet(space).init, jax.random.key(0)), np.random.default_rng(seed)
    return jax.tree.map(lambda s: rng.normal(size=s.shape), shapes)


def darts_names(reductions):
    """Names of quark0/darts `model_search.Network`, cell by cell, from the structure of its code."""
    names = {"stem.0.weight", "stem.1.weight", "stem.1.bias", "classifier.weight", "classifier.bias"}
    for cell, reduces in enumerate(reductions):
        after = cell > 0 and reductions[cell - 1]
        names |= {f"cells.{cell}.preprocess0.{part}.weight" for part in (("conv_1", "conv_2") if after else ("op.1",))}
        names.add(f"cells.{cell}.preprocess1.op.1.weight")
        ends = [(source, target) for target in range(2, 6) for source in range(target)]
        for edge, (source, _) in enumerate(ends):
            prefix = f"cells.{cell}._ops.{edge}._ops"
            names |= {f"{prefix}.{op}.op.{part}.weight" for op, parts in DARTS_OPS.items() for part in parts}
            if reduces and source < 2:
                names |= {f"{prefix}.3.conv_1.weight", f"{prefix}.3.conv_2.weight"}
    return names


def nas_bench_201_names(blocks):
    """Names of AutoDL-Projects `TinyNetworkDarts`, cell by cell, from the structure of its code."""
    names = {"stem.0.weight", "classifier.weight", "classifier.bias"}
    names |= {f"{norm}.{leaf}" for norm in ("stem.1", "lastact.0") for leaf in NORM}
    for cell, block in enumerate(blocks):
        if block:
            names |= {f"cells.{cell}.{conv}.op.1.weight" for conv in ("conv_a", "conv_b")}
            names |= {f"cells.{cell}.{conv}.op.2.{leaf}" for conv in ("conv_a", "conv_b") for leaf in NORM}
            names.add(f"cells.{cell}.downsample.1.weight")
            continue
        for target in range(1, 4):
            for source in range(target):
                prefix = f"cells.{cell}.edges.{target}<-{source}"
                names |= {f"{prefix}.{op}.op.1.{leaf}" for op in (2, 3) for leaf in NORM}
    return names


TABLES = [
    (darts(4, 3), darts_names([False, True, True]), 548),
    (darts(2, 8), darts_names([i in (2, 5) for i in range(8)]), 5 + 8 * 168 + 2 * 16 + 6 * 2 + 2 * 3),
    (nas_bench_201(4, 1), nas_bench_201_names([False, True, False, True, False]), 93),
    (nas_bench_201(2, 2), nas_bench_201_names([i in (2, 5) for i in range(8)]), 3 + 4 + 6 * 24 + 2 * 7),
]


@pytest.mark.parametrize("space, names, count", TABLES)
def test_names_are_complete_and_unique(space, names, count):
    found = [entry.name for entry in entries(space)]
    assert len(found) == len(set(found)) == count
    assert set(found) == names


def test_names_written_by_hand():
    found = {entry.name for entry in entries(darts(4, 3))} | {entry.name for entry in entries(nas_bench_201(4, 1))}
    assert found >= {
        "stem.0.weight",
        "cells.0.preprocess0.op.1.weight",
        "cells.0._ops.13._ops.5.op.6.weight",
        "cells.1._ops.0._ops.3.conv_2.weight",
        "cells.2.preprocess0.conv_1.weight",
        "cells.2._ops.4._ops.7.op.2.weight",
        "classifier.bias",
        "cells.0.edges.3<-1.2.op.1.bias",
        "cells.3.conv_b.op.2.weight",
        "cells.1.downsample.1.weight",
        "lastact.0.bias",
    }
    assert not any("_ops.3.conv_1" in name for name in found if name.startswith("cells.0"))


def test_names_of_gdas():
    """Nodes count from 0 in names of edges; the reduction behind a reduction halves its older input."""
    found, fixed = ({entry.name for entry in entries(space)} for space in (nasnet(4, 1), nasnet_frc(4, 1)))
    assert len(found) == 841  # of NASNetworkGDAS with C = 4, N = 1
    assert found >= {
        "cells.0.preprocess1.op.1.bias",
        "cells.0.edges.3<-4._ops.3.op_b.op.2.bias",
        "cells.1.edges.0<-1._ops.1.convs.1.bias",
        "cells.2.preprocess0.convs.0.weight",
        "cells.2.edges.1<-2._ops.5.op.1.weight",
    }
    cells = [{name for name in fixed if name.startswith(f"cells.{i}.")} for i in (1, 2)]
    branches = {f"ops1.{i}.{place}.{leaf}" for i in (0, 1) for place in (1, 2, 5) for leaf in NORM}
    both = {f"preprocess1.op.1.{leaf}" for leaf in NORM} | branches
    assert cells[0] == {f"cells.1.{name}" for name in both | {f"preprocess0.op.1.{leaf}" for leaf in NORM}}
    older = {f"preprocess0.convs.{i}.{leaf}" for i in (0, 1) for leaf in NORM}
    assert cells[1] == {f"cells.2.{name}" for name in both | older}


def test_official_layouts():
    """Convolutions [out, in, kh, kw], depthwise [C, 1, k, k], linear [out, in]; the numbers at their places."""
    space = darts(4, 3)
    weights = random_weights(space)
    theirs = to_torch(space, weights)
    normal, reduce = weights["parts"][0], weights["parts"][1]
    stem = weights["stem"]["conv"]["kernel"]
    assert theirs["stem.0.weight"].shape == (12, 3, 3, 3)
    assert theirs["stem.0.weight"][5, 2, 0, 1] == stem[0, 1, 2, 5]
    kernel = normal["edges"][0]["sep_conv_5x5"]["depthwise2"]["kernel"]  # edges of a plain cell lie in order of source
    edge = sorted(range(14), key=lambda e: space.edges[e]).index(6)
    assert theirs["cells.0._ops.6._ops.5.op.5.weight"].shape == (4, 1, 5, 5)
    assert theirs["cells.0._ops.6._ops.5.op.5.weight"][3, 0, 1, 4] == kernel[0, edge, 1, 4, 3]
    pointwise = reduce["edges"][1]["dil_conv_3x3"]["pointwise"]["kernel"]  # 6 edges between nodes; (2, 3) is first
    assert theirs["cells.1._ops.4._ops.6.op.2.weight"].shape == (8, 8, 1, 1)
    assert theirs["cells.1._ops.4._ops.6.op.2.weight"][6, 1, 0, 0] == pointwise[0, 0, 1, 6]
    np.testing.assert_array_equal(theirs["classifier.weight"], weights["head"]["kernel"].T)


@pytest.mark.parametrize(
    "space", [darts(4, 3), nas_bench_201(4, 1), nas_bench_201(2, 2), nasnet(2, 1), nasnet_frc(4, 1)]
)
def test_there_and_back_is_exact(space):
    weights = random_weights(space)
    jax.tree.map(np.testing.assert_array_equal, from_torch(space, to_torch(space, weights)), weights)


def test_padding_is_not_carried_over():
    """Behind the stem (6 channels) a cell of a row is padded to 8: two rows of zeros, which no official name holds."""
    space = darts(2, 8)
    weights = random_weights(space)
    theirs = to_torch(space, weights)
    assert theirs["cells.0.preprocess1.op.1.weight"].shape == theirs["cells.1.preprocess0.op.1.weight"].shape
    assert theirs["cells.0.preprocess1.op.1.weight"].shape == (2, 6, 1, 1)
    assert theirs["cells.1.preprocess1.op.1.weight"].shape == (2, 8, 1, 1)
    for which in ("current", "next"):
        weights["parts"][0]["inputs"][which]["conv"]["kernel"][0, 6:] = 0
    jax.tree.map(np.testing.assert_array_equal, from_torch(space, theirs), weights)


@pytest.fixture(scope="module")
def official():
    """(space, its parameters by official name); copy before you change."""
    space = nas_bench_201(2, 1)
    return space, to_torch(space, random_weights(space))


def test_type_of_the_numbers_is_kept(official):
    space, theirs = official
    half = {name: value.astype(np.float16) for name, value in theirs.items()}
    assert {leaf.dtype for leaf in jax.tree.leaves(from_torch(space, half))} == {np.dtype(np.float16)}


def test_prefix_and_running_statistics_are_passed_over(official):
    space, theirs = official
    given = {"module." + name: value for name, value in theirs.items()}
    given |= {f"module.stem.1.{name}": np.ones(2) for name in ("running_mean", "running_var", "num_batches_tracked")}
    jax.tree.map(np.testing.assert_array_equal, from_torch(space, given), from_torch(space, theirs))


@pytest.mark.parametrize("front", ["_orig_mod.", "module.module.", "_orig_mod.module.", "module._orig_mod.", ""])
def test_what_wrappers_put_in_front_of_names_is_passed_over(official, front):
    space, theirs = official
    given = {front + name: value for name, value in theirs.items()}
    jax.tree.map(np.testing.assert_array_equal, from_torch(space, given), from_torch(space, theirs))


def test_names_that_are_one_without_their_wrappers(official):
    space, theirs = official
    with pytest.raises(ValueError, match="differ only in what PyTorch's wrappers put in front"):
        from_torch(space, {**theirs, "module.stem.0.weight": theirs["stem.0.weight"]})


def test_no_names(official):
    with pytest.raises(ValueError, match="the state dict is empty"):
        from_torch(official[0], {})


def test_missing_names(official):
    space, theirs = official
    given = {name: value for name, value in theirs.items() if not name.startswith("classifier")}
    with pytest.raises(ValueError, match=r"'nas_bench_201' .*missing 2 \(classifier.bias, classifier.weight\), left"):
        from_torch(space, given)


def test_left_over_names(official):
    space, theirs = official
    with pytest.raises(ValueError, match=r"missing 0 \(\), left over 1 \(alphas_normal\)\. Leave out what is no"):
        from_torch(space, {**theirs, "alphas_normal": np.zeros((14, 8))})


def test_a_deeper_network_shows_some_of_its_names(official):
    _, theirs = official
    with pytest.raises(ValueError, match=r"missing \d+ \(cells\..*, \.\.\.\), left over \d+ \("):
        from_torch(nas_bench_201(2, 2), theirs)


@pytest.mark.parametrize(
    "name, shape",
    [("classifier.weight", (10, 9)), ("cells.0.edges.1<-0.3.op.1.weight", (2, 2, 1, 1)), ("stem.1.bias", (3,))],
)
def test_another_shape(official, name, shape):
    space, theirs = official
    with pytest.raises(ValueError, match=f"{name} has shape .*; the space needs") as error:
        from_torch(space, {**theirs, name: np.zeros(shape)})
    assert str(shape) in str(error.value)


class Mine(nn.Module):
    """A user's own operation."""

    stride: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(x.shape[-1])(x[:, :: self.stride, :: self.stride])


def test_operations_without_official_names():
    assert official_name(ops.SepConv(1), ("depthwise1", "kernel")) == "op.1.weight"
    space = darts(2, 3)
    own = space.replace(ops=space.ops + (("mine", Mine),))
    with pytest.raises(ValueError, match="Mine has no official name for its parameter Dense_0/"):
        to_torch(own, random_weights(own))


def test_without_torch_it_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ImportError, match="needs PyTorch: pip install torch, or give arrays by name"):
        read_state_dict(tmp_path / "weights.pt")


@no_torch
@pytest.mark.parametrize("wrap", (lambda state: state, lambda state: {"state_dict": state}))
def test_a_saved_state_dict_comes_back(official, tmp_path, wrap):
    import torch

    space, theirs = official
    state = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in theirs.items()}
    torch.save(wrap(state), tmp_path / "weights.pt")
    back = read_state_dict(tmp_path / "weights.pt")
    assert set(back) == set(theirs)
    jax.tree.map(np.testing.assert_array_equal, from_torch(space, back), from_torch(space, theirs))


class Command:
    """What a hostile file holds: unpickling it would make a folder."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@no_torch
def test_a_file_of_arbitrary_objects_is_refused(tmp_path):
    import pickle

    import torch

    torch.save({"weight": Command(tmp_path / "made")}, tmp_path / "weights.pt")
    with pytest.raises(pickle.UnpicklingError):
        read_state_dict(tmp_path / "weights.pt")
    assert not (tmp_path / "made").exists()
