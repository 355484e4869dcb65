"""Networks from genotypes: one program for equal cells, running statistics, drop path, the auxiliary head."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.evaluation.shared_weights import one_hot_gates
from jaxnas.interop import to_torch as supernet_to_torch
from jaxnas.interop_network import cell_ops, entries, from_torch, to_torch
from jaxnas.spaces import imagenet, ops, plan, published
from jaxnas.spaces.auxiliary import AuxiliaryHead, means
from jaxnas.spaces.darts import darts_network
from jaxnas.spaces.genotype import from_nas_bench_201, genotype
from jaxnas.spaces.imagenet import darts_imagenet_network
from jaxnas.spaces.nas_bench_201 import nas_bench_201_network
from jaxnas.spaces.nasnet import nasnet_frc_network
from jaxnas.spaces.network import Variables, drop_paths, network
from jaxnas.spaces.networks import supernet
from jaxnas.spaces.norm import BatchNorm
from jaxnas.spaces.space import Layer, dag

SMALL = genotype(
    "darts",
    {
        "normal": [("dil_conv_3x3", 0, 2), ("skip_connect", 1, 2), ("max_pool_3x3", 2, 3)],
        "reduce": [("skip_connect", 0, 2), ("avg_pool_3x3", 1, 2), ("skip_connect", 2, 3)],
    },
    {"normal": [2, 3], "reduce": [2, 3]},
)
CELLS = (Layer("normal", 4), Layer("normal", 4), Layer("reduce", 8, 2), Layer("normal", 8))
SPACE = darts_network(4, 3, 5, image=(8, 8, 3)).replace(skeleton=CELLS)  # the first two are one scanned program
BATCH = 3


def numbers(shapes, seed=0):
    """Random positive numbers in the structure of some variables."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: rng.uniform(0.1, 1.0, s.shape), shapes)


def trained(net, images, probe):
    """Gradient of a random combination of logits, and the new statistics."""

    def loss(weights, statistics, paths):
        logits, _, moved = net.train(Variables(weights, statistics), images, paths)
        return (logits * probe).sum(), (logits, moved)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


class Pass:
    """A network of the small genotype with random variables, in float64."""

    def __init__(self, space):
        rng = np.random.default_rng(1)
        self.images, self.probe = rng.normal(size=(BATCH, *space.image)), rng.normal(size=(BATCH, space.classes))
        self.space, self.net = space, network(SMALL, space)
        self.shapes = jax.eval_shape(self.net.init, jax.random.key(0))
        # through the official names, so that rows of padded kernels are zeros
        self.start = from_torch(SMALL, space, to_torch(SMALL, space, numbers(self.shapes)))
        self.paths = rng.uniform(0.5, 2, (*self.net.paths, BATCH))
        self.train, self.apply = trained(self.net, self.images, self.probe), jax.jit(self.net.apply)

    def named(self, weights, statistics):
        return to_torch(SMALL, self.space, Variables(weights, statistics))


@pytest.fixture(scope="module")
def small_pass():
    """The scanned network and its jitted passes."""
    with jax.enable_x64(True):
        return Pass(SPACE)


@pytest.fixture
def small(small_pass, x64):
    """The same, run in float64."""
    return small_pass


def test_scanned_equals_one_program_per_cell(small, monkeypatch):
    """Logits, gradients and statistics under drop path, and logits in evaluation."""
    (_, (logits, moved)), grads = small.train(*small.start, small.paths)
    ours, evaluated = small.named(grads, moved), small.apply(small.start, small.images)
    official = small.named(*small.start)
    monkeypatch.setattr(plan, "_rows", lambda space: [(layer, (i,)) for i, layer in enumerate(space.skeleton)])
    alone = Pass(SPACE)
    assert (len(alone.start.weights["parts"]), len(small.start.weights["parts"])) == (4, 3)
    start = from_torch(SMALL, SPACE, official)
    (_, (logits_alone, moved)), grads = alone.train(*start, small.paths)
    theirs = alone.named(grads, moved)
    np.testing.assert_allclose(logits, logits_alone, rtol=1e-9)
    np.testing.assert_allclose(evaluated, alone.apply(start, small.images), rtol=1e-9)
    assert set(ours) == set(theirs)
    for name, value in ours.items():
        np.testing.assert_allclose(value, theirs[name], rtol=1e-7, atol=1e-9, err_msg=name)


def test_one_hot_gates_are_the_network(small):
    """The supernet of the same operations, each edge open for what was chosen: logits and gradients."""
    names = {choice.op for cell in SMALL.names for choice in SMALL.edges(cell)}
    kept = tuple(op for op in SPACE.ops if op[0] in names)
    space = SPACE.replace(ops=kept, edges=dag(2, 2), outputs=(2, 3))
    model, gates = supernet(space), one_hot_gates(SMALL, space)
    weights = numbers(jax.eval_shape(model.init, jax.random.key(0)), seed=2)
    named = lambda tree: ((network_name(name, space), t) for name, t in supernet_to_torch(space, tree).items())
    run = lambda w: (model.apply(w, small.images, gates, jax.random.key(0), jnp.int32(0)) * small.probe).sum()
    value, grads = jax.jit(jax.value_and_grad(run))(weights)
    start = from_torch(SMALL, SPACE, {name: tensor for name, tensor in named(weights) if name})
    (found, _), ours = small.train(*start, np.ones_like(small.paths))
    np.testing.assert_allclose(found, value, rtol=1e-10)
    ours = small.named(ours, start.statistics)
    for name, tensor in named(grads):
        if name:
            np.testing.assert_allclose(ours[name], tensor, rtol=1e-7, atol=1e-9, err_msg=name)


def network_name(name, space):
    """Name of a supernet's parameter in the network, or None where its operation was not chosen."""
    parts = name.split(".")
    if "_ops" not in parts:
        return name
    layer, edge, op = int(parts[1]), space.edges[int(parts[3])], space.op_names[int(parts[5])]
    choices = SMALL.edges(space.skeleton[layer].cell)
    place = [i for i, choice in enumerate(choices) if choice == (op, *edge)]
    return ".".join(["cells", parts[1], "_ops", str(place[0]), *parts[6:]]) if place else None


def test_the_identity_is_not_dropped(small):
    """Factor 0 on the identity changes nothing, on a strided skip and on a convolution it does; one image each."""
    normal, reduce = 3, 2  # layers
    logits = lambda paths: small.train(*small.start, paths)[0][1][0]
    ones = np.ones_like(small.paths)
    whole = logits(ones)

    def dropped(layer, choice):
        paths = ones.copy()
        paths[layer, choice, 1] = 0
        return logits(paths)

    for layer, choice in ((normal, 1), (reduce, 2)):
        np.testing.assert_array_equal(dropped(layer, choice), whole)
    for layer, choice in ((normal, 0), (reduce, 0), (reduce, 1)):
        assert np.abs(dropped(layer, choice) - whole).max() > 1e-3


def test_drop_paths_keep_the_mean(key, small):
    factors = drop_paths(key, small.net, 2000, 0.25)
    assert factors.shape == (4, 3, 2000) and set(np.unique(factors).round(6)) == {0.0, round(4 / 3, 6)}
    np.testing.assert_allclose(factors.mean(-1), np.ones((4, 3)), atol=0.08)  # 6 deviations of 2000 draws
    np.testing.assert_array_equal(drop_paths(key, small.net, 5, 0.0), np.ones((4, 3, 5)))


def test_the_program_does_not_grow_with_depth():
    """Rows of 2, 2, 2 cells and of 6, 6, 6 are the same program."""
    lines = {}
    for layers in (8, 20):
        net = network(SMALL, darts_network(2, layers, 4, image=(8, 8, 3)))
        start = jax.eval_shape(net.init, jax.random.key(0))
        images = jnp.zeros((2, 8, 8, 3))
        lowered = trained(net, images, jnp.ones((2, 4))).lower(*start, jnp.ones((*net.paths, 2)))
        lines[layers] = lowered.as_text().count("\n")
    assert lines[8] == lines[20] < 12_000


def test_running_statistics_by_hand(draw, x64):
    x, gate = 3 + 2 * draw((2, 3, 3, 4)), 0.5
    norm = BatchNorm(affine=True)
    params = {"scale": draw(4), "bias": draw(4)}
    start = {"mean": draw(4), "variance": 1 + draw(4) ** 2}
    out, found = norm.apply({"params": params, "statistics": start}, x, gate, mutable=["statistics"])
    np.testing.assert_allclose(out, norm.apply({"params": params}, x, gate), rtol=1e-12)  # by the batch
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2), ddof=1)
    np.testing.assert_allclose(found["statistics"]["mean"], 0.9 * start["mean"] + 0.1 * mean, rtol=1e-12)
    np.testing.assert_allclose(found["statistics"]["variance"], 0.9 * start["variance"] + 0.1 * variance, rtol=1e-12)
    out = norm.apply({"params": params, "statistics": start}, x, gate)
    expected = (x - start["mean"]) / np.sqrt(start["variance"] + 1e-5) * params["scale"] + params["bias"]
    np.testing.assert_allclose(out, gate * expected, rtol=1e-10)


def test_statistics_start_at_zero_and_one_and_weights_in_their_bounds(key):
    net = network(SMALL, SPACE)
    start = jax.tree.map(np.asarray, jax.jit(net.init)(key))
    flat = jax.tree_util.tree_flatten_with_path(start.statistics)[0]
    assert all((leaf == float(path[-1].key == "variance")).all() for path, leaf in flat)
    kernel = start.weights["parts"][0]["inputs"]["current"]["conv"]["kernel"]  # 12 channels, then 8: padded to 12
    assert not kernel[1, 8:].any() and np.abs(kernel[0]).max() <= 12**-0.5 < np.abs(kernel[1, :8]).max() <= 8**-0.5


def test_half_precision(small, key):
    """Logits and statistics stay in float32."""
    start = jax.tree.map(np.float32, small.start)
    logits, _, moved = jax.eval_shape(small.net.train, start, small.images.astype(jnp.bfloat16), small.paths)
    assert {leaf.dtype for leaf in jax.tree.leaves(moved)} == {logits.dtype} == {np.dtype(np.float32)}
    assert jax.eval_shape(small.net.apply, start, small.images.astype(jnp.bfloat16)).dtype == np.float32


# ----------------------------------------------------------------------------------------- the auxiliary head


class Relu(nn.Module):
    """Stands before a classifier."""

    @nn.compact
    def __call__(self, x):
        return nn.relu(x)


def test_an_auxiliary_head_behind_the_last_cell_rectifies_it(x64):
    """Its in-place ReLU in the official code; seen in training only, and only where no cell follows."""
    space = darts_network(2, 3, 4, image=(32, 32, 3))
    rectified = space.replace(head=partial(ops.Classifier, before=Relu))
    nets = [network(SMALL, space, auxiliary=True), network(SMALL, rectified)]
    start = numbers(jax.eval_shape(nets[0].init, jax.random.key(0)))
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 3))
    logits = [jax.jit(net.train)(start, images, None) for net in nets]
    np.testing.assert_allclose(logits[0][0], logits[1][0], rtol=1e-10)
    assert logits[0][1].shape == (2, 4) and logits[1][1] is None


@pytest.mark.parametrize("side", [4, 8, 16, 20, 24, 28, 32, 64])
@pytest.mark.parametrize("stride", [2, 3])
def test_an_auxiliary_head_takes_the_states_of_any_images(side, stride):
    """Images of 4 to 28 pixels have states of 1 to 7, and the official head is for 8."""
    head = AuxiliaryHead(classes=3, stride=stride)
    image = jax.ShapeDtypeStruct((2, side // 4, side, 5), np.float32)
    logits, made = jax.eval_shape(partial(head.init_with_output, mutable=True), jax.random.key(0), image)
    assert logits.shape == (2, 3) and made["params"]["conv2"]["kernel"].shape == (2, 2, 128, 768)


@pytest.mark.parametrize("side", [1, 2, 3, 4, 5, 6, 7])
def test_means_of_a_small_state_see_all_of_it(side):
    window, stride = means(side, 3)
    seen = {at + shift for at in range(0, side - window + 1, stride) for shift in range(window)}
    assert seen == set(range(side)) and (side == 1 or len(range(0, side - window + 1, stride)) == 2)


def test_weights_with_and_without_a_second_head_are_told_apart():
    space = darts_network(2, 3, 4, image=(32, 32, 3))
    shapes = [jax.eval_shape(network(SMALL, space, auxiliary=which).init, jax.random.key(0)) for which in (False, True)]
    without, with_head = (
        to_torch(SMALL, space, numbers(shape), auxiliary=which)
        for which, shape in zip((False, True), shapes, strict=True)
    )
    with pytest.raises(ValueError, match=r"left over \d+ .*has a second head: say auxiliary=True"):
        from_torch(SMALL, space, with_head)
    with pytest.raises(ValueError, match=r"missing \d+ .*have no second head: say auxiliary=False"):
        from_torch(SMALL, space, without, auxiliary=True)
    wide = {**without, "classifier.weight": np.ones((100, without["classifier.weight"].shape[1]), np.float32)}
    with pytest.raises(ValueError, match="Build the space with classes=100"):
        from_torch(SMALL, space, wide)


def test_an_auxiliary_head_needs_a_space_that_has_one():
    bench = from_nas_bench_201("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|none~0|none~1|none~2|")
    with pytest.raises(ValueError, match="no auxiliary head"):
        network(bench, nas_bench_201_network(4, 1), auxiliary=True)


# ------------------------------------------------------------------------------------------------ other spaces

BENCH = from_nas_bench_201("|nor_conv_3x3~0|+|none~0|skip_connect~1|+|nor_conv_1x1~0|avg_pool_3x3~1|none~2|")
F1 = genotype("nasnet-frc", {"normal": [("skip_connect", 0, 2), ("dua_sepc_3x3", 1, 2)]}, {"normal": [2]})
OTHERS = {
    "nas_bench_201": (BENCH, nas_bench_201_network(4, 2, 7, image=(8, 8, 3)), "cells.7.layers.0.op.1.weight"),
    "nasnet-frc": (F1, nasnet_frc_network(8, 2, 7, image=(8, 8, 3)), "cells.2.ops2.1.1.running_mean"),
    "imagenet": (SMALL, darts_imagenet_network(4, 6, 7, image=(64, 64, 3)), "cells.0.preprocess0.conv_1.weight"),
    "amoebanet": (published.AMOEBANET, darts_network(4, 3, 7, image=(16, 16, 3)), "cells.1._ops.8.2.weight"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_networks_of_other_spaces(name):
    """Logits of the right shape, statistics that keep theirs, and official names that bring everything back."""
    found, space, known = OTHERS[name]
    net = network(found, space)
    shapes = jax.eval_shape(net.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((2, *space.image), np.float32)
    logits, _, moved = jax.eval_shape(net.train, shapes, images, jnp.ones((*net.paths, 2)))
    assert logits.shape == (2, 7)
    same = lambda a, b: (a.shape, a.dtype) == (b.shape, b.dtype)
    assert jax.tree.all(jax.tree.map(same, moved, shapes.statistics))
    official = to_torch(found, space, numbers(shapes))
    assert known in official
    again = to_torch(found, space, from_torch(found, space, official))
    assert all(np.array_equal(tensor, again[name]) for name, tensor in official.items())


def test_the_imagenet_stem_has_two_steps():
    space = darts_imagenet_network(4, 6, 7, image=(64, 64, 3))
    first, second, *_ = plan.plan(space)
    assert (first.source.shrink, first.result.shrink) == (4, 8) == (second.previous.shrink, second.currents[0].shrink)
    assert second.reduction == 2 and isinstance(space.stem(features=4), imagenet.Stem)
    names = {entry.name for entry in entries(SMALL, space)}
    assert {"stem0.0.weight", "stem0.4.running_var", "stem1.1.weight", "stem1.2.bias"} <= names


def test_names_of_p_darts_and_weights_without_statistics():
    space = darts_network(4, 3, 7, image=(16, 16, 3))
    shapes = jax.eval_shape(network(SMALL, space).init, jax.random.key(0))
    official = to_torch(SMALL, space, numbers(shapes), names=cell_ops)
    assert "cells.0.cell_ops.0.op.1.weight" in official
    weights = {f"module.{n}": t for n, t in official.items() if not n.endswith(("running_mean", "running_var"))}
    start = from_torch(SMALL, space, weights, names=cell_ops).statistics
    assert not start["stem"]["norm"]["mean"].any() and (start["stem"]["norm"]["variance"] == 1).all()


@pytest.mark.parametrize(
    "found, space, text",
    [
        (SMALL, nas_bench_201_network(4, 1), "cells normal, reduce, the space 'nas_bench_201' has cell"),
        (published.GDAS_F1, SPACE, "cells normal, the space 'darts' has normal, reduce"),
        (published.DARTS_V2, SPACE.replace(ops=SPACE.ops[:3]), r"'sep_conv_3x3' on edge \(0, 2\) is not in"),
        (genotype("x", {"cell": [("none", 1, 2)]}, {"cell": [2]}), nas_bench_201_network(4, 1), "state 1 is read"),
    ],
)
def test_genotypes_that_do_not_fit(found, space, text):
    with pytest.raises(ValueError, match=text):
        network(found, space)
