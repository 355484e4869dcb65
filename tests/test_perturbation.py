"""Selection by perturbation: on a supernet with known accuracies, and once for real."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import random_batches, random_state

from jaxnas.evaluation.perturbation import Decided, fine_tuning, projected, select_by_perturbation
from jaxnas.hypergradient import Batches, first_order, two_losses
from jaxnas.search import bind
from jaxnas.spaces.darts import darts
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.spaces.space import Layer
from jaxnas.strategies.algorithms import darts as darts_row
from jaxnas.strategies.decoding import argmax_edges
from jaxnas.strategies.relaxation import softmax

ROW = darts_row(10, hypergradient=first_order())
SMALL = nas_bench_201(channels=2, image=(8, 8, 3)).replace(skeleton=(Layer("cell", 2),))


@pytest.mark.parametrize("seed", [0, 1])
def test_each_choice_is_what_the_accuracy_misses_most(seed, draw):
    """Accuracy is the sum of gate * worth: without operation o it falls by gate_o * worth_o, in whatever order."""
    space = darts(channels=4, layers=3, image=(8, 8, 3))
    worth = {cell: np.abs(draw((14, 8))) for cell in space.cells}
    measure = lambda state, gates, batch, key: {"accuracy": sum((g.ops * worth[c]).sum() for c, g in gates.items())}
    search = bind(ROW, space)._replace(measure=measure)
    state, data = random_state(ROW, search), random_batches(space)
    found = select_by_perturbation(search, state, data, jax.random.key(seed), 4, epochs=0)
    for cell, gates in search.scores(state).items():
        loss = np.where(np.array(space.op_names) == "none", -1, gates.ops * worth[cell])
        best = loss.argmax(-1)
        left = worth[cell][np.arange(14), best]
        kept = [e for node in space.nodes for e in sorted(space.incoming(node), key=lambda e: -left[e])[:2]]
        assert sorted(found.edges(cell)) == sorted((space.op_names[best[e]], *space.edges[e]) for e in kept)


def test_what_is_decided_is_fixed_and_the_rest_learns(draw):
    """Edge 0 is decided, edge 1 is free, edge 5 closed."""
    alpha = {"cell": jnp.asarray(draw((6, 5)), jnp.float32)}
    ops, free, kept = np.zeros((6, 5)), np.ones(6), np.ones(6)
    ops[0, 3], free[0], kept[5] = 1, 0, 0
    relaxation = projected(softmax(), {"cell": Decided(ops, free, kept)})
    gates = relaxation.sample(jax.random.key(0), alpha, SMALL, jnp.int32(0))["cell"]
    np.testing.assert_array_equal(gates.ops[0], [0, 0, 0, 1, 0])
    np.testing.assert_array_equal(gates.ops[1], softmax().mean(alpha, SMALL)["cell"].ops[1])
    assert not np.any(gates.ops[5]) and gates.edges[5] == 0
    weight = jnp.asarray(draw((6, 5)), jnp.float32)
    slope = jax.grad(lambda a: (relaxation.mean(a, SMALL)["cell"].ops * weight).sum())(alpha)["cell"]
    assert [bool(np.any(row)) for row in slope] == [False, True, True, True, True, False]


def test_a_real_selection_trains_between_choices():
    """Six choices, five trainings of an epoch; compiled once each, and repeatable."""
    strategy = ROW.replace(decode=argmax_edges())
    search, data = bind(strategy, SMALL), random_batches(SMALL, size=8)
    state, rebound = random_state(strategy, search), []
    watched = search._replace(rebind=lambda other: rebound.append(other) or search.rebind(other))
    run = lambda: select_by_perturbation(watched, state, data, jax.random.key(0), 4, kept=None, epochs=1)
    first = run()
    assert len(rebound) == 1  # traced once for all five
    assert [choice[1:] for choice in first.edges("cell")] == [*SMALL.edges] and first.count("none") == 0
    assert np.isfinite(jax.device_get(state.bilevel.weights["stem"]["conv"]["kernel"])).all()  # the caller's is intact
    assert run() == first


def test_an_edge_without_choice_is_refused():
    search, data = bind(ROW, SMALL), random_batches(SMALL)
    search = search._replace(measure=lambda *_: {"accuracy": jnp.zeros(())})
    with pytest.raises(ValueError, match="no operation besides"):
        select_by_perturbation(search, random_state(ROW, search), data, jax.random.key(0), never=SMALL.op_names)


def test_fine_tuning_starts_at_a_tenth_of_the_rate():
    slope = lambda weights, alpha, batch: (weights.sum() + alpha.sum(), {})
    solver, weights = fine_tuning(10), jnp.array([1.0, 2.0])
    state, _ = solver.step(two_losses(slope, slope), solver.init(weights, jnp.zeros(2)), Batches((), ()))
    np.testing.assert_allclose(state.weights, weights - 0.0025 * (1 + 3e-4 * weights), rtol=1e-6)
    np.testing.assert_allclose(state.alpha, [-3e-4, -3e-4], rtol=1e-4)
