"""A network as a file of plain flax: tidy, of what is used only, and alone it gives the same logits."""

import re
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import python

from jaxnas.augmentation import Statistics, plain
from jaxnas.evaluation import flax_module
from jaxnas.spaces.darts import darts, darts_network, snas_network
from jaxnas.spaces.genotype import genotype, read
from jaxnas.spaces.imagenet import darts_imagenet_network
from jaxnas.spaces.nas_bench_201 import nas_bench_201_network
from jaxnas.spaces.nasnet import FixedReduction, fixed_reduction
from jaxnas.spaces.network import network
from jaxnas.spaces.ops import Zero
from jaxnas.spaces.published import DARTS_V2
from jaxnas.spaces.space import Layer

STATISTICS = Statistics(np.array([120.0, 110.5, 100.0]), np.array([60.0, 55.5, 40.1]))


def cells(normal, reduce=None):
    """From rows `op source target`; the output are the states 2 to 4."""
    rows = lambda text: [(op, int(s), int(t)) for op, s, t in map(str.split, text.split(", "))]
    found = {"normal": rows(normal), **({"reduce": rows(reduce)} if reduce else {})}
    return genotype("darts", found, dict.fromkeys(found, (2, 3, 4)))


EVERY = cells(  # strided and not; one edge twice; a closed edge
    "sep_conv_3x3 0 2, sep_conv_3x3 0 2, dil_conv_5x5 1 3, avg_pool_3x3 2 3, skip_connect 1 4, none 3 4",
    "skip_connect 0 2, conv_7x1_1x7 1 2, max_pool_3x3 0 3, avg_pool_3x3 1 3, dil_conv_3x3 0 4, sep_conv_5x5 3 4",
)
POOLS = cells("max_pool_3x3 0 2, avg_pool_3x3 1 3, none 0 4, none 1 4")
LAYERS = (Layer("normal", 4), Layer("normal", 4), Layer("reduce", 8, 2), Layer("normal", 8))  # two are one program
CIFAR = darts_network(4, 3, 3, image=(8, 8, 3)).replace(skeleton=LAYERS)
IMAGENET = darts_imagenet_network(4, 3, 3, image=(32, 32, 3))
FIXED = fixed_reduction(snas_network(4, 3, 3, image=(8, 8, 3)), partial(FixedReduction, affine=True))
CASES = {  # name of the file -> whose
    "cifar": (EVERY, CIFAR),
    "imagenet": (EVERY, IMAGENET.replace(skeleton=(IMAGENET.skeleton[0], *LAYERS[2:]))),
    "normed_pools": (POOLS, FIXED.replace(skeleton=FIXED.skeleton[:2])),
    "tabular": (
        read("|none~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_3x3~0|none~1|avg_pool_3x3~2|"),
        nas_bench_201_network(4, 1, 3, image=(8, 8, 3)),
    ),
}
ALONE = """
import importlib, sys
import jax, numpy
sys.modules["jaxnas"] = None  # an import of it fails
for name in sys.argv[1:]:
    file = importlib.import_module(name)
    variables, images = file.load(name + ".npz"), numpy.load(name + "-images.npy")
    wanted = jax.eval_shape(lambda: file.Network().init(jax.random.key(0), images))
    assert jax.tree.map(jax.numpy.shape, variables) == jax.tree.map(jax.numpy.shape, wanted)
    numpy.save(name + "-logits.npy", jax.jit(file.Network().apply)(variables, images))
"""


def drawn(genotype, space):
    """Variables with which logits are about 1."""
    draw = np.random.default_rng(0)
    size = lambda shape: max(1, int(np.prod(shape[:-1]))) ** -0.5

    def one(path, leaf):
        kernel = path[-1].key == "kernel"
        numbers = size(leaf.shape) * draw.normal(size=leaf.shape) if kernel else draw.uniform(0.5, 1, leaf.shape)
        return jnp.asarray(numbers, leaf.dtype)

    return jax.tree_util.tree_map_with_path(one, jax.eval_shape(network(genotype, space).init, jax.random.key(0)))


def test_the_files_alone_give_the_same_logits(tmp_path):
    """In a Python in which jaxnas cannot be imported; their arrays are all that the files want, and no more."""
    wanted = {}
    for name, (found, space) in CASES.items():
        net, variables = network(found, space), drawn(found, space)
        images = np.random.default_rng(1).integers(0, 256, (3, *space.image)).astype(np.uint8)
        prepare = partial(plain(STATISTICS), None)
        wanted[name] = jax.jit(lambda v, x, net=net, prepare=prepare: net.apply(v, prepare(x)))(variables, images)
        (tmp_path / f"{name}.py").write_text(flax_module.source(found, space, STATISTICS))
        np.savez(tmp_path / f"{name}.npz", **flax_module.arrays(found, space, variables))
        np.save(tmp_path / f"{name}-images.npy", images)
    (tmp_path / "alone.py").write_text(ALONE)
    done = python("alone.py", *CASES, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for name, logits in wanted.items():
        assert 0.1 < np.abs(logits).max() < 10
        np.testing.assert_allclose(np.load(tmp_path / f"{name}-logits.npy"), logits, atol=1e-6, err_msg=name)


def test_a_file_reads_well(tmp_path):
    """A line for each node and layer, nothing that is not used, as ruff would write it, and as the page shows it."""
    text = flax_module.source(DARTS_V2, darts_network(), STATISTICS)
    lines = [line.strip() for line in text.splitlines()]
    page = (Path(__file__).parent.parent / "docs" / "evaluation.md").read_text(encoding="utf-8")
    assert re.search(r"```\n(class NormalCell.*?)```", page, re.S)[1] in text
    assert 'older, newer = newer, ReduceCell(72, name="layer6")(older, newer, train)' in lines
    assert 'older, newer = newer, NormalCell(144, older_stride=2, name="layer14")(older, newer, train)' in lines
    assert "def max_pool" in text and "avg_pool" not in text and "FactorizedConv" not in text and "jaxnas" not in text
    if not find_spec("ruff"):
        pytest.skip("ruff is not here")
    for name, (found, space) in CASES.items():
        (tmp_path / f"{name}.py").write_text(flax_module.source(found, space, STATISTICS))
    for command in (("check", "--select", "E,F,I,B,UP,SIM,C4,RUF"), ("format", "--check")):
        ruff = [sys.executable, "-m", "ruff", *command, "--isolated", "--line-length", "120", str(tmp_path)]
        done = subprocess.run(ruff, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_operation_of_the_papers_networks_has_a_plain_layer():
    """All of each space, three to a cell; only zeros are left out."""
    for space in (CIFAR, snas_network(4, 3), nas_bench_201_network(4, 1)):
        for name, factory in space.ops:
            edges = [(name, 0, 1 if space.inputs == 1 else 2)]
            cell = dict.fromkeys(space.cells, edges)
            found = genotype(space.name, cell, {cell: [edges[0][2]] for cell in space.cells})
            text = flax_module.source(found, space, STATISTICS)
            assert ("jnp.zeros_like(s0" in text) == (factory is Zero), name


def test_what_is_not_of_this_package_is_refused():
    with pytest.raises(ValueError, match="ReluConvNorm has no plain flax layer"):
        flax_module.source(DARTS_V2, darts(4, 3), STATISTICS)  # norms without scale and shift
    with pytest.raises(ValueError, match="the head Zero has no plain flax layers"):
        flax_module.source(DARTS_V2, CIFAR.replace(head=lambda classes: Zero(1)), STATISTICS)
    with pytest.raises(ValueError, match="the genotype has the cells"):
        flax_module.source(read("|none~0|"), CIFAR, STATISTICS)
