"""Hard Gumbel gates, the conventions of their gradient, pairs, and the row and the spaces of GDAS."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from draws import random_batches, random_state
from problems import NETWORK, POINTS, moved, network, network_state
from published import GDAS_F1
from test_strategies import MASKED, SPACE

from jaxnas.evaluation.cost import genotype_cost, module_cost, supernet_cost, total
from jaxnas.search import bind
from jaxnas.spaces.darts import darts_network
from jaxnas.spaces.genotype import read, to_darts
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.spaces.nasnet import FixedReduction, fixed_reduction, nasnet, nasnet_frc, nasnet_frc_network
from jaxnas.spaces.space import Gates
from jaxnas.strategies.algorithms import gdas
from jaxnas.strategies.decoding import top_pairs
from jaxnas.strategies.draws import gumbel_hard, hard_gates
from jaxnas.strategies.mixing import broadcast, partial_channels, selected_only, straight_through
from jaxnas.strategies.optimizers import linear, nesterov

# ------------------------------------------------------------------------------------------- relaxation


def test_hard_gates_by_hand(draw, x64):
    """Values: the largest of alpha + noise alone; slope: that of a softmax, (diag p - p p^T) / tau."""
    alpha, noise, tau = jnp.asarray(draw((5, 3))), jnp.asarray(draw((5, 3))), 0.7
    alive = MASKED.mask("normal")
    gates, pull = jax.vjp(lambda a: hard_gates(noise, a, alive, tau), alpha)
    chosen = np.where(alive, alpha + noise, -np.inf).argmax(-1)
    np.testing.assert_allclose(gates.ops, np.eye(3)[chosen], atol=1e-15)
    np.testing.assert_array_equal(gates.edges, np.ones(5))
    weight = np.exp((alpha + noise) / tau) * alive
    p, c = weight / weight.sum(-1, keepdims=True), draw((5, 3))
    (slope,) = pull(Gates(jnp.asarray(c), jnp.zeros(5)))
    np.testing.assert_allclose(slope, (p * c - p * (p * c).sum(-1, keepdims=True)) / tau, atol=1e-14)
    assert not np.any(np.asarray(slope)[~alive])


@pytest.mark.parametrize("tau", [10.0, 0.1])
def test_operations_are_drawn_from_the_softmax_of_alpha_at_any_temperature(tau, key):
    alpha = {cell: jnp.log(jnp.array([[0.5, 0.2, 0.3]] * 5)) for cell in SPACE.cells}
    sample = jax.vmap(lambda k: gumbel_hard(lambda step: tau).sample(k, alpha, SPACE, jnp.int32(0)))
    drawn = {cell: gates.ops.argmax(-1) for cell, gates in sample(jax.random.split(key, 4000)).items()}
    for found in drawn.values():  # within 5 deviations of 4000 draws
        frequencies = [(found == o).mean(0) for o in range(3)]
        np.testing.assert_allclose(frequencies, np.transpose([[0.5, 0.2, 0.3]] * 5), atol=0.04)
    together = (drawn["normal"][:, 0] == drawn["reduce"][:, 0]).mean()
    np.testing.assert_allclose(together, 0.25 + 0.04 + 0.09, atol=0.04)  # cells draw on their own, as do edges
    np.testing.assert_allclose((drawn["normal"][:, 0] == drawn["normal"][:, 1]).mean(), 0.38, atol=0.04)


def test_the_temperature_follows_the_step(key):
    """Where tau is huge p is uniform whatever the noise, and the slope (c_o - mean c) / (3 tau)."""
    relaxation = gumbel_hard(lambda step: jnp.where(step < 5, 1e4, 1e3))
    alpha, c = {cell: jnp.zeros((5, 3)) for cell in SPACE.cells}, jnp.array([3.0, 0.0, 0.0])
    weigh = lambda a, step: (relaxation.sample(key, a, SPACE, jnp.int32(step))["normal"].ops * c[None]).sum()
    for step, tau in ((4, 1e4), (5, 1e3)):
        slope = jax.grad(weigh)(alpha, step)["normal"]
        np.testing.assert_allclose(slope * 3 * tau, [[2, -1, -1]] * 5, rtol=0.02)
    np.testing.assert_allclose(relaxation.mean(alpha, SPACE)["normal"].ops, np.full((5, 3), 1 / 3), rtol=1e-6)


# ----------------------------------------------------------------------------------------------- mixing

OPS = {str(n): lambda x, gate, n=n: n * gate.astype(x.dtype) * x for n in (2, 3, 0)}


@pytest.mark.parametrize(
    "mixing, others",
    [(selected_only(), [0, 0]), (broadcast(), [1, 1]), (straight_through(), [2, 0])],
    ids=["selected only", "broadcast", "straight through"],
)
def test_conventions_of_the_gradient(mixing, others, draw, key, x64):
    """dL/dg is <c, 3x> for the gate that is open; the others' is 0, sum c, or <c, op x>."""
    x, c, gates = jnp.asarray(draw((2, 3, 3, 4))), jnp.asarray(draw((2, 3, 3, 4))), jnp.array([0.0, 1.0, 0.0])
    y, pull = jax.vjp(lambda g: mixing.mix(OPS, g, x, key, jnp.int32(0)), gates)
    np.testing.assert_array_equal(y, 3 * x)
    unit = [np.sum(c)] * 2 if others == [1, 1] else [np.sum(c * x)] * 2
    np.testing.assert_allclose(pull(c)[0], [others[0] * unit[0], 3 * np.sum(c * x), others[1] * unit[1]], rtol=1e-12)


def test_conventions_compose_with_partial_channels_and_half_precision(draw, key):
    x = jnp.asarray(draw((2, 3, 3, 4)), jnp.bfloat16)
    mixing = partial_channels(2, broadcast())
    y = mixing.mix(OPS, jnp.array([0.0, 1.0, 0.0]), x, key, jnp.int32(0))
    assert y.dtype == jnp.bfloat16 and broadcast().width(8) == 8 and mixing.width(8) == 4
    np.testing.assert_array_equal(y[..., 0::2], 3 * x[..., :2])


# --------------------------------------------------------------------------------------------- decoding

TABLE = [  # none, skip, conv
    [0.9, 0.05, 0.05],  # 0 -> 2
    [0.1, 0.5, 0.4],  # 1 -> 2
    [0.4, 0.3, 0.3],  # 0 -> 3
    [0.4, 0.2, 0.4],  # 1 -> 3
    [0.4, 0.3, 0.3],  # 2 -> 3
]


def choices(decode, space=SPACE, table=TABLE, cell="normal"):
    scores = {name: Gates(np.array(table), np.ones(5)) for name in space.cells}
    return [tuple(choice) for choice in decode(scores, space).edges(cell)]


def test_pairs_may_share_an_edge_and_are_never_none():
    """Node 2 takes both from edge 1 -> 2; ties at 0.3 go to the first edge, and there to the first operation."""
    assert choices(top_pairs(2)) == [("skip", 1, 2), ("conv", 1, 2), ("conv", 1, 3), ("skip", 0, 3)]
    assert choices(top_pairs(1, never=())) == [("none", 0, 2), ("none", 0, 3)]
    assert choices(top_pairs(3))[3:] == [("conv", 1, 3), ("skip", 0, 3), ("conv", 0, 3)]


def test_pairs_respect_masks():
    """Two living pairs that are not none come into node 2 of the masked cell and four into node 3."""
    found = choices(top_pairs(9), MASKED)
    alive = MASKED.mask("normal")
    alive[:, 0] = False
    assert sorted((o, *MASKED.edges[e]) for e, o in np.argwhere(alive)) == sorted(
        (MASKED.op_names.index(op), s, t) for op, s, t in found
    )
    with pytest.raises(ValueError, match="at least one pair"):
        top_pairs(0)


# -------------------------------------------------------------------------------------- optimizers, row


def test_linear_in_stairs():
    """Three epochs of four steps: the last one is at the end, and stays there."""
    found = [float(linear(10.0, 0.1, 12, every=4)(jnp.int32(step))) for step in range(16)]
    np.testing.assert_allclose(found, np.repeat([10, 5.05, 0.1, 0.1], 4), rtol=1e-6)
    assert linear(10.0, 0.1, 3, every=4)(jnp.int32(2)) == 10  # one epoch: nowhere to go
    with pytest.raises(ValueError, match="steps=0"):
        linear(1.0, 0.0, 0)


def test_nesterov_by_hand(draw, x64):
    w, tx, buffer = jnp.asarray(draw(4)), nesterov(0.1, 0.9, 0.2), np.zeros(4)
    params, state = w, tx.init(w)
    for g in draw((3, 4)):
        params, state = moved(tx, jnp.asarray(g), state, params)
        g = g + 0.2 * w
        buffer = 0.9 * buffer + g
        w = w - 0.1 * (g + 0.9 * buffer)
        np.testing.assert_allclose(params, w, rtol=1e-12)


def test_gdas_moves_the_weights_first(x64):
    """A clipped Nesterov step from rest is 1 + 0.9 times gradient and decay; alpha moves along L at the new weights."""
    solver, state = gdas(100).solver, network_state(optax.identity())
    state = solver.init(state.weights, state.alpha)
    found, _ = jax.jit(partial(solver.step, NETWORK))(state, POINTS)
    slope = jax.grad(lambda w, a, b: network(w, a, b)[0], (0, 1))
    g = slope(state.weights, state.alpha, POINTS.train)[0]
    shrink = min(1, 5 / (float(optax.tree.norm(g)) + 1e-6))
    for name, w in state.weights.items():
        expected = w - 0.025 * 1.9 * (shrink * g[name] + 5e-4 * w)
        np.testing.assert_allclose(found.weights[name], expected, rtol=1e-6)
    towards = slope(found.weights, state.alpha, POINTS.valid)[1]["cell"] + 1e-3 * state.alpha["cell"]
    np.testing.assert_allclose(optax.tree.get(found.alpha_opt, "mu")["cell"], towards / 2, rtol=1e-8)


def test_a_search_with_a_fixed_reduction():
    """Only the normal cell has alpha, it moves, and its genotype is a network beside the same fixed cell."""
    space = nasnet_frc(4, 1, 4, image=(8, 8, 3))
    space = space.replace(ops=space.ops[:2])
    strategy = gdas(10)
    search = bind(strategy, space)
    state, metrics = jax.jit(search.step)(random_state(strategy, search), random_batches(space))
    moment = optax.tree.get(state.bilevel.alpha_opt, "mu")
    assert set(moment) == {"normal"} and np.all(np.abs(moment["normal"]) > 0)
    assert np.isfinite(metrics["valid"]["loss"]) and np.isfinite(metrics["train"]["loss"])
    found = search.genotype(state)
    assert found.count("skip_connect") == 8 and "reduce=None" in to_darts(found)
    assert total(genotype_cost(found, nasnet_frc_network(4, 1, 4, image=(8, 8, 3)))).parameters > 0


# ----------------------------------------------------------------------------------------------- spaces


def test_sizes_of_the_spaces():
    """C = 4, N = 1: the parameters of the official network of that size, NASNetworkGDAS; N = 2: N N R N R N."""
    assert total(supernet_cost(nasnet(4, 1))).parameters == 75_582
    assert "".join(layer.cell[0] for layer in nasnet().skeleton) == "nnrnrn"
    assert [layer.channels for layer in nasnet(4, 2).skeleton] == [4, 4, 8, 8, 16, 16]
    assert [layer.channels for layer in nasnet_frc(4, 1).skeleton] == [4, 32, 64]
    for frc in (nasnet_frc(4, 2), nasnet_frc_network(4, 2)):
        assert frc.name == "nasnet-frc" and frc.cells == ("normal",) and [b for b, _ in frc.blocks] == ["fixed"]
    with pytest.raises(ValueError, match="cells_per_stage=0"):
        nasnet(4, 0)


def test_the_fixed_reduction_counts():
    """Convolutions in 8 groups have 3 C/8 weights for each channel; norms have none, biases C for each convolution."""
    c, before, older = 16, 24, 20
    found = module_cost(FixedReduction(4 * c), (8, 8, before), (16, 16, older))
    prepared = before * c + c + older * c + c
    convolved = 2 * (2 * (3 * c * c // 8 + c) + c * c + c)
    assert found.parameters == prepared + convolved
    products = 64 * c * (before + older) + 2 * (32 * 3 * c * c // 8 + 16 * 3 * c * c // 8 + 16 * c * c)
    assert found.multiply_adds == products


def test_the_published_cell_with_a_fixed_reduction():
    """F1 of GDAS in the network of DARTS, 36 channels and 20 cells: 2.5 million parameters in the paper."""
    network = fixed_reduction(darts_network(), partial(FixedReduction, affine=True))
    found = total(genotype_cost(read(GDAS_F1), network)).parameters
    assert round(found / 1e6, 1) == 2.5


def test_masks_of_the_normal_cell_stay():
    masks = {"normal": np.eye(14, 8) + np.eye(14, 8, -8) > 0, "reduce": np.ones((14, 8), bool)}
    space = fixed_reduction(nasnet(4, 1).with_alive(masks))
    np.testing.assert_array_equal(space.mask("normal"), masks["normal"])


@pytest.mark.parametrize(
    "space, text", [(nas_bench_201(4, 1), "cells normal and reduce"), (nasnet(6, 1), "multiples of 4 channels")]
)
def test_a_reduction_that_cannot_be_fixed(space, text):
    with pytest.raises(ValueError, match=text):
        fixed_reduction(space)
