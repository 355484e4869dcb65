"""The slots of a strategy on hand-made numbers: relaxation, mixing, penalty, decoding, and a row of them."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas.hypergradient import Hypergradient, first_order
from jaxnas.spaces.genotype import Choice
from jaxnas.spaces.space import Gates, Layer, Space, dag
from jaxnas.strategies.algorithms import darts
from jaxnas.strategies.decoding import argmax_edges, top_edges
from jaxnas.strategies.mixing import weighted_sum
from jaxnas.strategies.penalty import entropy, mean_entropy, no_penalty
from jaxnas.strategies.relaxation import masked_softmax, softmax
from jaxnas.strategies.strategy import Strategy

OPS = ("none", "skip", "conv")
SPACE = Space(
    name="hand-made",
    ops=tuple((name, object) for name in OPS),
    edges=dag(inputs=2, nodes=2),  # 0->2, 1->2, 0->3, 1->3, 2->3
    inputs=2,
    outputs=(2, 3),
    cells=("normal", "reduce"),
    skeleton=(Layer("normal", 4), Layer("reduce", 4, 2)),
    stem=object,
    stem_channels=4,
    preprocess=object,
    head=object,
    classes=3,
    image=(8, 8, 3),
)
MASK = np.array([[1, 1, 1], [0, 1, 1], [1, 0, 0], [0, 0, 1], [1, 1, 1]], bool)
MASKED = SPACE.with_alive({"normal": MASK, "reduce": ~MASK | np.array([[1, 0, 0]] * 5, bool)})


@pytest.fixture
def alpha(draw):
    """A table for each cell."""
    return {cell: jnp.asarray(draw((5, 3)), jnp.float32) for cell in SPACE.cells}


# ------------------------------------------------------------------------------------------- relaxation


@pytest.mark.parametrize("space", (SPACE, MASKED), ids=("free", "masked"))
def test_softmax_is_the_formula_over_living_operations(space, alpha, key):
    alpha = jax.tree.map(lambda a: 3 * a, alpha)
    found = softmax().mean(alpha, space)
    sampled = softmax().sample(key, alpha, space, jnp.asarray(7))
    for cell in space.cells:
        weight = np.exp(np.asarray(alpha[cell], np.float64)) * space.mask(cell)
        np.testing.assert_allclose(found[cell].ops, weight / weight.sum(-1, keepdims=True), rtol=1e-5)
        np.testing.assert_allclose(found[cell].ops.sum(-1), 1, rtol=1e-6)
        assert not np.any(np.asarray(found[cell].ops)[~space.mask(cell)])
        np.testing.assert_array_equal(found[cell].edges, np.ones(5))
        np.testing.assert_array_equal(sampled[cell].ops, found[cell].ops)


def test_dead_entries_have_no_gradient(alpha):
    """Also where they are the largest, the smallest, or the row has one survivor."""
    mean = softmax().mean
    squares = lambda alpha: sum(jnp.square(g.ops).sum() for g in mean(alpha, MASKED).values())
    for dead in (0.0, 1e6, -1e6):
        slope = jax.grad(squares)({cell: jnp.where(MASKED.mask(cell), a, dead) for cell, a in alpha.items()})
        for cell in SPACE.cells:
            assert np.isfinite(slope[cell]).all() and np.abs(slope[cell]).max() > 1e-3
            assert not np.any(np.asarray(slope[cell])[~MASKED.mask(cell)])
            lonely = MASKED.mask(cell).sum(-1) == 1
            assert lonely.any() and not np.any(np.asarray(slope[cell])[lonely])


def test_masked_softmax_of_huge_logits():
    logits = jnp.array([[1e4, -1e4, 0.0], [-1e4, -2e4, 5.0]])
    alive = np.array([[True, True, True], [True, True, False]])
    np.testing.assert_array_equal(masked_softmax(logits, alive), [[1, 0, 0], [1, 0, 0]])


@pytest.mark.parametrize("deviation", (1e-3, 0.5, 0.0))
def test_alpha_starts_normal(deviation, key):
    """2000 draws: the mean of each cell within five standard errors, the deviation within a tenth."""
    space = SPACE.replace(ops=tuple((str(i), object) for i in range(400)))
    alpha = softmax(deviation).init(key, space)
    assert list(alpha) == list(space.cells)
    for values in alpha.values():
        assert values.shape == (5, 400) and values.dtype == jnp.float32
        np.testing.assert_allclose(values.mean(), 0, atol=5 * deviation / np.sqrt(values.size))
        np.testing.assert_allclose(values.std(), deviation, rtol=0.1)
    if deviation:
        assert np.abs(alpha["normal"] - alpha["reduce"]).max() > deviation
    np.testing.assert_array_equal(softmax(deviation).init(key, space)["normal"], alpha["normal"])


def test_official_deviation_unless_told_otherwise(key):
    np.testing.assert_array_equal(softmax().init(key, SPACE)["reduce"], softmax(1e-3).init(key, SPACE)["reduce"])


# ---------------------------------------------------------------------------------------------- mixing


@pytest.mark.parametrize("dtype, tolerance", ((jnp.float32, 1e-6), (jnp.bfloat16, 2e-2)))
def test_weighted_sum(dtype, tolerance, draw, key):
    gated = lambda op: lambda x, gate: gate.astype(x.dtype) * op(x)
    ops = {"double": gated(lambda x: 2 * x), "square": gated(jnp.square), "zero": gated(jnp.zeros_like)}
    x = jnp.asarray(draw((2, 3, 3, 4)), dtype)
    y = weighted_sum().mix(ops, jnp.array([0.3, 0.6, 0.1]), x, key, jnp.asarray(0))
    assert y.dtype == dtype and weighted_sum().width(12) == 12
    wide = np.asarray(x.astype(jnp.float32))
    np.testing.assert_allclose(y.astype(jnp.float32), 0.6 * (wide + wide**2), rtol=tolerance, atol=tolerance)


# --------------------------------------------------------------------------------------------- penalty


def _gates(ops):
    return Gates(jnp.asarray(ops, jnp.float32), jnp.ones(len(ops)))


def test_entropy_in_closed_form():
    uniform, certain = _gates(np.full((5, 3), 1 / 3)), _gates(np.eye(3)[[0, 1, 2, 0, 1]])
    half = _gates([[0.5, 0.5, 0.0]] * 5)
    np.testing.assert_allclose(mean_entropy(uniform), np.log(3), rtol=1e-6)
    np.testing.assert_allclose(mean_entropy(half), np.log(2), rtol=1e-6)
    assert mean_entropy(certain) == 0
    mixed = _gates(np.concatenate([uniform.ops[:2], certain.ops[2:]]))
    np.testing.assert_allclose(mean_entropy(mixed), 0.4 * np.log(3), rtol=1e-6)


def test_entropy_penalty_follows_its_schedule_and_averages_cells():
    gates = {"normal": _gates(np.full((5, 3), 1 / 3)), "reduce": _gates([[0.5, 0.5, 0.0]] * 5)}
    penalty = entropy(optax.linear_schedule(0.0, -2.0, 10))
    for step in (0, 5, 10):
        expected = -0.2 * step * (np.log(3) + np.log(2)) / 2
        np.testing.assert_allclose(penalty(gates, gates, SPACE, jnp.asarray(step)), expected, rtol=1e-6)
    assert no_penalty()(gates, gates, SPACE, jnp.asarray(3)) == 0


def test_entropy_has_a_finite_gradient_at_closed_gates():
    """0 log 0 is 0, and its slope may be anything but infinite or NaN; the slope of an open gate is -(log g + 1)."""
    slope = jax.grad(lambda ops: mean_entropy(_gates(ops)))(jnp.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]))
    assert np.isfinite(slope).all()
    np.testing.assert_allclose(slope[0, :2], -(np.log(0.5) + 1) / 2, rtol=1e-6)
    np.testing.assert_allclose(slope[1, 0], -0.5, rtol=1e-6)


@pytest.mark.parametrize("largest", (1.0, 95.0, 300.0))
def test_entropy_has_a_finite_gradient_through_the_softmax(largest, alpha):
    """Dead entries, entries that are subnormal, and entries that round to zero."""
    alpha = {cell: a.at[0, 0].set(largest) for cell, a in alpha.items()}
    penalty = entropy(lambda step: jnp.ones(()))
    mean = lambda a: softmax().mean(a, MASKED)
    value, slope = jax.value_and_grad(lambda a: penalty({}, mean(a), MASKED, jnp.asarray(0)))(alpha)
    assert np.isfinite(value) and all(np.isfinite(s).all() for s in slope.values())
    assert np.abs(slope["normal"]).max() > 1e-3


# -------------------------------------------------------------------------------------------- decoding

TABLE = [  # none, skip, conv
    [0.8, 0.1, 0.1],  # 0 -> 2
    [0.1, 0.2, 0.7],  # 1 -> 2
    [0.3, 0.4, 0.3],  # 0 -> 3
    [0.2, 0.2, 0.6],  # 1 -> 3
    [0.0, 0.5, 0.5],  # 2 -> 3
]


def _scores(table=TABLE, edges=(1.0,) * 5):
    gates = Gates(np.array(table), np.array(edges))
    return {"normal": gates, "reduce": gates}


def _choices(genotype, cell="normal"):
    return [tuple(choice) for choice in genotype.edges(cell)]


def test_top_edges_ranks_by_the_best_operation_but_none():
    """`none` is 0.8 on the first edge, counts for nothing there, and ties go to the first in order."""
    found = top_edges(1)(_scores(), SPACE)
    assert _choices(found) == [("conv", 1, 2), ("conv", 1, 3)]
    found = top_edges(2)(_scores(), SPACE)
    assert _choices(found) == [("conv", 1, 2), ("skip", 0, 2), ("conv", 1, 3), ("skip", 2, 3)]
    assert found.space == "hand-made" and found.names == ("normal", "reduce")
    assert found.concat("normal") == found.concat("reduce") == (2, 3)
    assert found.edges("normal")[0] == Choice("conv", 1, 2)


def test_top_edges_keeps_all_where_fewer_come_in():
    found = top_edges(9)(_scores(), SPACE)
    assert [(s, t) for _, s, t in _choices(found)] == [(1, 2), (0, 2), (1, 3), (2, 3), (0, 3)]


def test_top_edges_breaks_ties_in_order_of_the_edges():
    found = top_edges(2)(_scores(np.full((5, 3), 1 / 3)), SPACE)
    assert _choices(found) == [("skip", 0, 2), ("skip", 1, 2), ("skip", 0, 3), ("skip", 1, 3)]


def test_top_edges_may_never_choose_what_it_is_told():
    everything = top_edges(1, never=())(_scores(), SPACE)
    assert _choices(everything) == [("none", 0, 2), ("conv", 1, 3)]
    only_skip = top_edges(1, never=("none", "conv"))(_scores(), SPACE)
    assert _choices(only_skip) == [("skip", 1, 2), ("skip", 2, 3)]


def test_edge_gates_change_the_ranking():
    """0.5 * 1.0 on the last edge passes 0.6 * 0.8 on the one before it; the operations stay."""
    found = top_edges(1)(_scores(edges=(1.0, 0.1, 1.0, 0.8, 1.0)), SPACE)
    assert _choices(found) == [("skip", 0, 2), ("skip", 2, 3)]


def test_decoding_respects_masks():
    """Scores of dead operations do not count, however high, nor where all are zero; each cell has its own mask."""
    table, zeros = [[0.1, 0.2, 0.7]] * 5, [[0.0, 0.0, 0.0]] * 5
    for scores, cell in product((table, zeros), MASKED.cells):
        for op, *edge in _choices(top_edges(2, never=())(_scores(scores), MASKED), cell):
            assert MASKED.mask(cell)[SPACE.edges.index(tuple(edge)), OPS.index(op)]
    found = top_edges(2, never=())(_scores(table), MASKED)
    assert _choices(found)[2:] == [("conv", 1, 3), ("conv", 2, 3)]
    everything = argmax_edges()(_scores(table), MASKED)
    assert [op for op, *_ in _choices(everything)] == ["conv", "conv", "none", "conv", "conv"]
    assert [op for op, *_ in _choices(everything, "reduce")] == ["none", "none", "conv", "skip", "none"]


def test_argmax_edges_keeps_every_edge_and_none():
    found = argmax_edges()(_scores(), SPACE)
    ops = ("none", "conv", "skip", "conv", "skip")
    assert _choices(found) == [(op, *edge) for op, edge in zip(ops, SPACE.edges, strict=True)]
    ops = ("skip", "skip", "skip", "skip", "skip")
    found = argmax_edges(never=("none", "conv"))(_scores(), SPACE)
    assert _choices(found) == [(op, *edge) for op, edge in zip(ops, SPACE.edges, strict=True)]


def test_softmax_decodes_to_the_largest_alpha(alpha):
    found = argmax_edges()(jax.device_get(softmax().mean(alpha, SPACE)), SPACE)
    for cell in SPACE.cells:
        assert [op for op, *_ in _choices(found, cell)] == [OPS[i] for i in np.argmax(alpha[cell], -1)]


# ---------------------------------------------------------------------------------------------- a row


def test_replace_fills_a_slot_and_leaves_the_rest():
    row = darts(10, hypergradient=first_order())
    decode = top_edges(1)
    other = row.replace(decode=decode)
    assert isinstance(other, Strategy) and other.decode is decode and row.decode is not decode
    assert all(getattr(other, slot) is getattr(row, slot) for slot in ("solver", "relaxation", "mixing", "penalty"))
    with pytest.raises(TypeError, match="unexpected keyword"):
        row.replace(decoder=decode)
    with pytest.raises(AttributeError):
        row.decode = decode


def test_an_empty_row_is_that_of_darts(alpha):
    """Softmax gates, weighted sums, no penalty, two edges."""
    row = Strategy(solver=darts(10).solver)
    gates = row.relaxation.mean(alpha, SPACE)
    assert len(_choices(row.decode(jax.device_get(gates), SPACE))) == 4
    assert row.mixing.width(8) == 8 and row.penalty(gates, gates, SPACE, jnp.asarray(0)) == 0
    assert isinstance(first_order(), Hypergradient)


def test_bad_arguments():
    with pytest.raises(ValueError, match="at least one edge"):
        top_edges(0)
    with pytest.raises(ValueError, match="steps=0"):
        darts(0)
    with pytest.raises(TypeError):
        Strategy(darts(10).solver)
