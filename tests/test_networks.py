"""The supernet: one program per shape, and the values of a network written out edge by edge."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas.spaces import ops
from jaxnas.spaces.darts import SEARCHED, darts
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.spaces.nasnet import FixedReduction, nasnet_frc
from jaxnas.spaces.networks import supernet
from jaxnas.spaces.plan import Cells, plan
from jaxnas.spaces.space import Gates, Layer

STEP = np.int32(0)


def few(space, *names):
    """The space with some of its operations."""
    return space.replace(ops=tuple(op for op in space.ops if op[0] in names))


def pair():
    """Two normal cells behind a stem of another width, 8x8 images: the smallest network that scans over cells."""
    space = few(darts(2, 3, 4, image=(8, 8, 3)), "none", "skip_connect", "sep_conv_3x3")
    return space.replace(cells=("normal",), skeleton=(Layer("normal", 2),) * 2)


def numbers(shapes, seed=0, dtype=np.float32):
    """Random numbers in the structure of some weights, different everywhere, padding included."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: rng.normal(0, 0.5, s.shape).astype(dtype), shapes)


def weights_of(space, seed=0, dtype=np.float32):
    """Random weights of a space's supernet, without running its initialisation."""
    return numbers(jax.eval_shape(supernet(space).init, jax.random.key(0)), seed, dtype)


def gates_of(space, seed=0, dtype=np.float32):
    """Random positive gates: nothing says that they sum to one, or vanish where an operation is dead."""
    rng, shape = np.random.default_rng(seed), (len(space.edges), len(space.ops))
    draw = lambda *size: rng.uniform(0.2, 1.0, size).astype(dtype)
    return {cell: Gates(draw(*shape), draw(len(space.edges))) for cell in space.cells}


def images_of(space, batch=3, seed=0, dtype=np.float32):
    """Random images."""
    return np.random.default_rng(seed).normal(size=(batch, *space.image)).astype(dtype)


def some_alive(space, seed=0):
    """The space with random masks, another one for each edge and cell type."""
    rng, masks = np.random.default_rng(seed), {}
    for cell in space.cells:
        masks[cell] = rng.random((len(space.edges), len(space.ops))) < 0.4
        masks[cell][np.arange(len(space.edges)), rng.integers(len(space.ops), size=len(space.edges))] = True
    return space.with_alive(masks)


# ---------------------------------------------------------------- the same network, edge by edge


@partial(jax.jit, static_argnums=0)
def run(module, params, *xs):
    """One module on its inputs."""
    return module.apply({"params": params}, *xs)


def take(tree, *index):
    """One entry of every stacked array."""
    return jax.tree.map(lambda a: a[index], tree)


def prepared(space, channels, params, x, stride=1):
    """An input of a cell, prepared with the rows of the kernel that belong to channels that exist."""
    if "conv" in params:
        conv = params["conv"]
        params = {**params, "conv": {**conv, "kernel": conv["kernel"][: x.shape[-1]]}}
    return run(space.preprocess(features=channels, stride=stride), params, x)


def written_out_cell(space, layer, params, place, gates, older, newer):
    """One cell by the formulas: state_t = sum over edges into t of gate_e sum_o gate_eo op_o(state_s)."""
    inputs, states = params["inputs"], []
    if space.inputs == 2:
        first = inputs["first"] if place == 0 else take(inputs["next"], place - 1)
        states.append(prepared(space, layer.channels, first, older, older.shape[1] // newer.shape[1]))
    states.append(prepared(space, layer.channels, take(inputs["current"], place), newer))
    alive, strided = space.mask(layer.cell), lambda e: layer.stride == 2 and space.edges[e][0] < space.inputs
    for node in space.nodes:
        total = 0
        for e in space.incoming(node):
            group = [other for other in range(len(space.edges)) if strided(other) == strided(e)]
            stack = params["edges"][0 if layer.stride == 1 or strided(e) else 1]
            for o, (name, factory) in enumerate(space.ops):
                if alive[e, o]:
                    living = sorted((other for other in group if alive[other, o]), key=lambda i: space.edges[i])
                    mine = take(stack[name], place, living.index(e))
                    y = run(factory(stride=2 if strided(e) else 1), mine, states[space.edges[e][0]])
                    total = total + gates.edges[e] * gates.ops[e, o] * y
        states.append(total)
    return jnp.concatenate([states[node] for node in space.outputs], -1)


def written_out(space, weights, images, gates):
    """(logits, output of every layer) without a scan, a stack or padding."""
    older = newer = run(space.stem(features=space.stem_channels), weights["stem"], images)
    seen, part, place, before = [], -1, 0, None
    for layer in space.skeleton:
        searched = layer.cell in space.cells
        joins = layer == before and searched and layer.stride == 1
        part, place, before = (part, place + 1, layer) if joins else (part + 1, 0, layer)
        params = weights["parts"][part]
        if searched:
            out = written_out_cell(space, layer, params, place, gates[layer.cell], older, newer)
        else:
            block = dict(space.blocks)[layer.cell](features=layer.channels, stride=layer.stride)
            out = run(block, params, newer, *([older] if isinstance(block, FixedReduction) else []))
        seen.append(out)
        older, newer = newer, out
    return run(space.head(classes=space.classes), weights["head"], newer), seen


IMAGE = (8, 8, 3)
MIXED = ("none", "max_pool_3x3", "skip_connect", "sep_conv_3x3", "dil_conv_3x3")
WRITTEN_OUT = {
    "darts, 5 cells": few(darts(2, 5, 4, image=IMAGE), "skip_connect", "sep_conv_3x3"),
    "darts, 8 cells": few(darts(2, 8, 4, image=IMAGE), "skip_connect", "dil_conv_3x3", "avg_pool_3x3"),
    "darts, 8 cells, masks": some_alive(few(darts(2, 8, 4, image=IMAGE), *MIXED)),
    "darts, edges in another order": few(darts(2, 3, 4, image=IMAGE), "skip_connect", "dil_conv_3x3").replace(
        edges=tuple(darts().edges[e] for e in np.random.default_rng(0).permutation(14)), outputs=(5, 2)
    ),
    "nas_bench_201": nas_bench_201(2, 3, 4, image=IMAGE),
    "nasnet-frc": few(nasnet_frc(4, 1, 4, image=IMAGE), "skip_connect", "dil_sepc_3x3").replace(
        skeleton=(Layer("normal", 4),) * 2 + (Layer("fixed", 32, 2), Layer("fixed", 64, 2), Layer("normal", 16))
    ),
    "nas_bench_201, masks": some_alive(nas_bench_201(2, 2, 4, image=(8, 12, 1))),
}


@cache
def point(name):
    """(space, weights, images, gates) in float64, and what the network written out gives there."""
    space = WRITTEN_OUT[name]
    weights, images, gates = (draw(space, dtype=np.float64) for draw in (weights_of, images_of, gates_of))
    return (space, weights, images, gates), written_out(space, weights, images, gates)


@pytest.mark.parametrize("name", WRITTEN_OUT)
def test_scanned_equals_written_out(name, x64, key):
    (space, weights, images, gates), (expected, _) = point(name)
    logits = jax.jit(supernet(space).apply)(weights, images, gates, key, STEP)
    np.testing.assert_allclose(logits, expected, rtol=1e-9, atol=1e-9)
    assert logits.dtype == np.float64 and np.std(expected, 0).min() > 1e-3  # images are told apart


@pytest.mark.parametrize("name", ["darts, 8 cells", "nas_bench_201"])
def test_every_layer_equals_the_one_written_out(name, x64, key):
    (space, weights, images, gates), (_, expected) = point(name)
    states = jax.jit(supernet(space).states)(weights, images, gates, key, STEP)
    assert len(states) == len(expected) == len(space.skeleton)
    for ours, theirs in zip(states, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9)


# --------------------------------------------------------------------------------------------- weights


@pytest.mark.parametrize(
    "space", [darts(2, 8), some_alive(darts(2, 8)), some_alive(darts(2, 8), seed=1), some_alive(nas_bench_201(2, 2))]
)
def test_dead_operations_have_no_weights(space):
    """Parameters are stacked [cells, edges on which the operation lives, ...]; none where it lives nowhere."""
    weights = jax.eval_shape(supernet(space).init, jax.random.key(0))
    for part, params in zip(plan(space), weights["parts"], strict=True):
        if not isinstance(part, Cells):
            continue
        mask = space.mask(part.cell)
        groups = [list(range(len(space.edges)))]
        if part.stride == 2:
            from_inputs = [source < space.inputs for source, _ in space.edges]
            groups = [[e for e in groups[0] if from_inputs[e]], [e for e in groups[0] if not from_inputs[e]]]
        assert len(params["edges"]) == len(groups)
        for edges, group in zip(params["edges"], groups, strict=True):
            living = mask[group].sum(0)
            assert set(edges) == {name for name, n in zip(space.op_names, living, strict=True) if n}
            for name, n in zip(space.op_names, living, strict=True):
                for leaf in jax.tree.leaves(edges.get(name, {})):
                    assert leaf.shape[:2] == (len(part.layers), n)


def test_an_operation_that_lives_nowhere_is_absent():
    mask = np.ones((14, 8), bool)
    mask[:, 4] = False
    weights = jax.eval_shape(supernet(darts(2, 3).with_alive({"normal": mask, "reduce": mask})).init, jax.random.key(0))
    assert not any("sep_conv_3x3" in edges for part in weights["parts"] for edges in part["edges"])
    assert all("sep_conv_5x5" in edges for part in weights["parts"] for edges in part["edges"])


@pytest.fixture(scope="module")
def small():
    """(space, network, its initial weights, images, labels, gates) of two cells."""
    space = pair()
    net = supernet(space)
    weights = jax.jit(net.init)(jax.random.key(0))
    return space, net, weights, images_of(space), np.array([0, 3, 1]), gates_of(space)


@pytest.fixture(scope="module")
def logits(small):
    """The jitted network."""
    return jax.jit(small[1].apply)


def test_padded_kernels_start_at_zero_and_stay_there(small, key):
    """Behind the stem (6 channels) both kernels of the first cell are padded to the 8 channels of its neighbour."""
    _, net, weights, images, labels, gates = small

    def loss(weights):
        logits = net.apply(weights, images, gates, key, STEP)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    grads = jax.jit(jax.grad(loss))(weights)
    for tree in (weights, grads):
        inputs = tree["parts"][0]["inputs"]
        assert inputs["first"]["conv"]["kernel"].shape == (6, 2)
        assert inputs["current"]["conv"]["kernel"].shape == (2, 8, 2)
        assert inputs["next"]["conv"]["kernel"].shape == (1, 8, 2)
        for which in ("current", "next"):
            kernel = np.asarray(inputs[which]["conv"]["kernel"])
            np.testing.assert_array_equal(kernel[0, 6:], 0)
            assert np.abs(kernel[0, :6]).min() > 0
        assert np.abs(inputs["current"]["conv"]["kernel"][1]).min() > 0


def test_initial_kernels_have_the_bounds_of_their_real_width(small):
    """U(-1/sqrt(fan_in), 1/sqrt(fan_in)) with fan_in 6, not 8; different for each cell and edge."""
    kernels = np.asarray(small[2]["parts"][0]["inputs"]["current"]["conv"]["kernel"])
    assert np.abs(kernels[1]).max() <= 8**-0.5 and np.abs(kernels[0]).max() <= 6**-0.5
    depthwise = np.asarray(small[2]["parts"][0]["edges"][0]["sep_conv_3x3"]["depthwise1"]["kernel"])
    assert depthwise.shape == (2, 14, 3, 3, 2) and np.abs(depthwise).max() <= 1 / 3
    assert len(np.unique(depthwise)) > 0.99 * depthwise.size


# ------------------------------------------------------------------------------------------------ values


@pytest.mark.parametrize("shape", [(3, 8, 10, 3), (3, 16, 16, 3), (3, 8, 8, 1), (8, 8, 3)])
def test_images_of_another_size(small, key, shape):
    space, net, weights, _, _, gates = small
    with pytest.raises(ValueError, match="images have shape") as error:
        jax.eval_shape(net.apply, weights, jax.ShapeDtypeStruct(shape, np.float32), gates, key, STEP)
    assert str(shape) in str(error.value) and "built for [batch, 8, 8, 3]" in str(error.value)
    assert space.name in str(error.value)


def test_half_precision(small, logits, key):
    """Images in bfloat16 (8 bits) give float32 logits that differ by a few of its roundings, and differ."""
    _, _, weights, images, _, gates = small
    full = logits(weights, images, gates, key, STEP)
    half = logits(weights, images.astype(jnp.bfloat16), gates, key, STEP)
    assert full.dtype == half.dtype == np.float32
    error = np.abs(half - full).max() / np.abs(full).max()
    assert 1e-5 < error < 0.05


def test_double_precision(small, logits, key):
    _, net, weights, images, _, gates = small
    full = logits(weights, images, gates, key, STEP)
    with jax.enable_x64(True):
        double = jax.jit(net.apply)(weights, images.astype(np.float64), gates, key, STEP)
    assert double.dtype == np.float64
    np.testing.assert_allclose(full, double, rtol=1e-4, atol=1e-5)


def test_jitted_equals_eager(small, logits, key):
    _, net, weights, images, _, gates = small
    arguments = (weights, images, gates, key, STEP)
    np.testing.assert_allclose(logits(*arguments), net.apply(*arguments), rtol=1e-5, atol=1e-5)


def test_vmap_over_weights_equals_a_loop(small, logits, key):
    space, net, _, images, _, gates = small
    several = [weights_of(space, seed) for seed in range(3)]
    stacked = jax.tree.map(lambda *xs: np.stack(xs), *several)
    batched = jax.jit(jax.vmap(net.apply, (0, None, None, None, None)))(stacked, images, gates, key, STEP)
    loop = [logits(weights, images, gates, key, STEP) for weights in several]
    np.testing.assert_allclose(batched, np.stack(loop), rtol=1e-4, atol=1e-5)
    assert np.abs(batched[0] - batched[1]).max() > 1e-2


def test_second_derivative_along_alpha(key, x64):
    """d2/dt2 of the loss at alpha + t v, reverse over reverse, against a central difference of the first."""
    space = few(pair(), "skip_connect", "sep_conv_3x3")
    net, weights = supernet(space), weights_of(space, dtype=np.float64)
    images, labels = images_of(space, dtype=np.float64), np.array([0, 3, 1])
    alpha, v = np.random.default_rng(0).normal(size=(2, 14, 2))

    def loss(t):
        gates = {"normal": Gates(jax.nn.softmax(alpha + t * v, -1), np.ones(14))}
        logits = net.apply(weights, images, gates, key, STEP)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

    first = jax.jit(jax.grad(loss))
    second = jax.jit(jax.grad(jax.grad(loss)))(0.0)
    h = 1e-6
    expected = (first(h) - first(-h)) / (2 * h)
    assert np.isfinite(second) and abs(second) > 1e-4
    np.testing.assert_allclose(second, expected, rtol=1e-5)


@pytest.mark.parametrize("op", ("none", "skip_connect", "sep_conv_3x3"))
def test_one_hot_gates_equal_the_network_of_one_operation(tiny_space, key, op):
    """All other operations are gone; what is left has the same parameters and gives the same logits."""
    o = tiny_space.op_names.index(op)
    mask = np.arange(len(tiny_space.ops)) == np.full((14, 1), o)
    one = np.where(mask, np.float32(1), np.float32(0))
    gates = {cell: Gates(one, np.linspace(0.5, 1.5, 14, dtype=np.float32)) for cell in tiny_space.cells}
    weights, images = weights_of(tiny_space), images_of(tiny_space)
    lone = tiny_space.with_alive(dict.fromkeys(tiny_space.cells, mask))
    parts = [{**p, "edges": [{op: run[op]} for run in p["edges"]]} for p in weights["parts"]]
    whole = jax.jit(supernet(tiny_space).apply)(weights, images, gates, key, STEP)
    left = jax.jit(supernet(lone).apply)({**weights, "parts": parts}, images, gates, key, STEP)
    np.testing.assert_allclose(whole, left, rtol=1e-5, atol=1e-5)
    assert jax.tree.structure({**weights, "parts": parts}) == jax.tree.structure(weights_of(lone))


def test_edge_gates_scale_the_output_of_an_edge(key):
    """A node with two edges is linear in their gates: f(a, b) = a f(1, 0) + b f(0, 1)."""
    space = few(darts(2, 3, 4, image=(8, 8, 3)), "skip_connect", "sep_conv_3x3").replace(
        edges=((0, 2), (1, 2)), outputs=(2,), cells=("normal",), skeleton=(Layer("normal", 2),)
    )
    weights, images, ops_gates = weights_of(space), images_of(space), np.float32([[0.3, 0.7], [0.6, 0.4]])
    states = jax.jit(supernet(space).states)
    out = lambda a, b: states(weights, images, {"normal": Gates(ops_gates, np.float32([a, b]))}, key, STEP)[0]
    np.testing.assert_allclose(out(2, -3), 2 * out(1, 0) - 3 * out(0, 1), rtol=1e-5, atol=1e-5)
    assert np.abs(out(1, 0)).max() > 0.1 and np.abs(out(1, 0) - out(0, 1)).max() > 0.1


def test_noise_follows_the_key(key):
    """Edges of one cell and cells of one network see different noise; the same key gives the same noise."""
    space = pair().replace(ops=(("noise", ops.Noise), *SEARCHED[3:4]))
    one = {"normal": Gates(np.float32([[1, 0]] * 14), np.ones(14, np.float32))}
    states = jax.jit(supernet(space).states)
    weights, images = weights_of(space), images_of(space, batch=1)
    first, second = states(weights, images, one, key, STEP)
    again, _ = states(weights, images, one, key, STEP)
    other, _ = states(weights, images, one, jax.random.key(1), STEP)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1 and np.abs(first - second).max() > 0.1
    nodes = np.asarray(first).reshape(-1, 4, 2)  # node 2 has two noisy edges, node 5 five
    assert np.abs(np.corrcoef(nodes[..., 0].T) - np.eye(4)).max() < 0.6
    np.testing.assert_array_equal(states(weights, images + 1, one, key, STEP)[0], first)
