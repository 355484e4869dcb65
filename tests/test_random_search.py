"""Random genotypes, random search, and random search with shared weights."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import random_batches, random_state
from typer.testing import CliRunner

from jaxnas import cli, runner
from jaxnas.data import Batch
from jaxnas.evaluation.random_search import pick_shared, random_genotype, random_search
from jaxnas.evaluation.shared_weights import one_hot_gates, scorer
from jaxnas.hypergradient import Batches
from jaxnas.search import bind
from jaxnas.spaces.darts import darts, s1, s2
from jaxnas.spaces.genotype import genotype
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.spaces.space import Layer
from jaxnas.strategies.algorithms import random_sharing
from jaxnas.strategies.decoding import argmax_edges, top_edges
from jaxnas.strategies.draws import uniform
from jaxnas.strategies.relaxation import softmax

SMALL = nas_bench_201(channels=2, image=(8, 8, 3)).replace(skeleton=(Layer("cell", 2),))
STRATEGY = random_sharing(10, kept=None).replace(decode=argmax_edges())


def drawn(space, decode, n):
    return [random_genotype(k, space, decode) for k in jax.random.split(jax.random.key(1), n)]


def assert_near(counts, expected, possible):
    """Counts of a multinomial draw within five standard deviations of equal shares, nothing missing."""
    assert len(counts) == possible
    for count in counts.values():
        assert abs(count - expected) < 5 * np.sqrt(expected)


def test_random_genotypes_are_uniform():
    """Sources of the last node, {0..4} over 2, and seven operations; `none` never."""
    found = [g.edges("normal")[-2:] for g in drawn(darts(), top_edges(), 1500)]
    assert_near(Counter(frozenset(c.source for c in last) for last in found), 150, 10)
    assert_near(Counter(last[0].op for last in found), 1500 / 7, 7)


def test_random_genotypes_of_a_tabulated_space():
    found = drawn(SMALL, argmax_edges(), 1500)
    for edge in range(6):
        assert_near(Counter(g.edges("cell")[edge].op for g in found), 300, 5)


def test_dead_operations_are_not_drawn():
    space = s1()
    for g in drawn(space, top_edges(), 50):
        one_hot_gates(g, space)  # refuses them
    with pytest.raises(ValueError, match="dead on edge"):
        one_hot_gates(random_genotype(jax.random.key(0), darts(), top_edges()), space)


def test_random_search_returns_the_best_of_all(key):
    convolutions = lambda g: g.count("sep_conv_3x3")
    best, tried = random_search(convolutions, key, s2(), 30, top_edges())
    assert len(tried) == 30 and best.score == max(one.score for one in tried) == convolutions(best.genotype)
    assert len({one.genotype for one in tried}) > 25
    with pytest.raises(ValueError, match="at least"):
        random_search(convolutions, key, s2(), 0, top_edges())


def test_one_hot_gates_hold_the_genotype():
    for space, decode in ((darts(), top_edges()), (SMALL, argmax_edges())):
        for g in drawn(space, decode, 5):
            gates = one_hot_gates(g, space)
            assert {c: sorted(g.edges(c)) for c in g.names} == {
                c: sorted((space.op_names[o], *space.edges[e]) for e, o in np.argwhere(gates[c].ops)) for c in gates
            }
            for table in gates.values():
                np.testing.assert_array_equal(table.edges, table.ops.sum(-1))


@pytest.mark.parametrize(
    "cells, words",
    [
        ({"cell": [("conv", 0, 1)]}, "has conv on edge"),
        ({"cell": [("skip_connect", 0, 4)]}, r"on edge \(0, 4\)"),
        ({"normal": [("skip_connect", 0, 1)]}, "has the cells"),
    ],
)
def test_genotypes_of_other_spaces_are_refused(cells, words):
    with pytest.raises(ValueError, match=words):
        one_hot_gates(genotype("other", cells, {cell: [1] for cell in cells}), SMALL)


@pytest.mark.parametrize("kept", [None, 2])
def test_uniform_paths(kept):
    """One living operation on each open edge; two open edges into each node, every pair as often as another."""
    space = s1()
    relaxation, alpha = uniform(kept), {cell: jnp.zeros((14, 8)) for cell in space.cells}
    keys = jax.random.split(jax.random.key(0), 600)
    gates = jax.vmap(lambda k: relaxation.sample(k, alpha, space, jnp.int32(0)))(keys)["reduce"]
    target = np.array(space.edges)[:, 1]
    into = np.stack([np.asarray(gates.edges)[:, target == node].sum(-1) for node in space.nodes], -1)
    np.testing.assert_array_equal(into, np.tile([2, 2, 2, 2] if kept else [2, 3, 4, 5], (600, 1)))
    np.testing.assert_array_equal(gates.ops.sum(-1), gates.edges)
    assert not np.any(np.asarray(gates.ops)[:, ~space.mask("reduce")])
    assert_near(Counter(np.argmax(gates.ops[:, 0], -1).tolist()), 300, 2)
    if kept:
        assert_near(Counter(map(tuple, np.asarray(gates.edges)[:, target == 5].tolist())), 60, 10)


def test_alpha_rests_and_weights_move(key):
    search = bind(STRATEGY, SMALL)
    state = random_state(STRATEGY, search)
    after, metrics = jax.jit(search.step)(state, random_batches(SMALL))
    jax.tree.map(np.testing.assert_array_equal, after.bilevel.alpha, state.bilevel.alpha)
    stem = lambda s: s.bilevel.weights["stem"]["conv"]["kernel"]
    assert np.abs(stem(after) - stem(state)).max() > 1e-6
    assert metrics["train"]["moves"] == 1 and metrics["valid"]["moves"] == 0


def test_scores_are_those_of_the_supernet():
    """One batch with all images: mean gates give the outer loss; a path and the whole differ."""
    strategy = STRATEGY.replace(relaxation=softmax())
    search, data = bind(strategy, SMALL), random_batches(SMALL, size=6).valid
    state, score = random_state(strategy, search), scorer(search, 6)
    expected = jax.jit(lambda state: search.problem(state).outer(*state.bilevel[1:3], data)[1])(state)
    found = score(state, search.scores(state), data, jax.random.key(3))
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)
    assert found["accuracy"] == expected["accuracy"]
    path = one_hot_gates(random_genotype(jax.random.key(0), SMALL, argmax_edges()), SMALL)
    assert abs(score(state, path, data, jax.random.key(3))["loss"] - expected["loss"]) > 1e-3


def test_the_command_line_scores_what_suits_the_search(monkeypatch, tmp_path):
    """One genotype for each 20 steps: 1,797 digits make 12 steps an epoch; never fewer than 50, nor over 1,000."""
    seen = []
    monkeypatch.setattr(runner, "run", lambda *args, **options: seen.append((options["finish"], options["settings"])))
    start = ("search", "--strategy", "random-sharing", "--space", "nas_bench_201", "--out", str(tmp_path))
    for options in ((), ("--epochs", "500"), ("--epochs", "9999"), ("--samples", "7"), ("--smoke",)):
        done = CliRunner().invoke(cli.app, [*start, *options])
        assert done.exit_code == 0, done.output
    assert [settings["samples"] for _, settings in seen] == [50, 300, 1000, 7, 10]
    assert [finish.keywords["samples"] for finish, _ in seen] == [50, 300, 1000, 7, 10]
    refused = CliRunner().invoke(cli.app, ["search", "--strategy", "darts", "--samples", "7", "--out", str(tmp_path)])
    assert isinstance(refused.exception, ValueError) and "--samples is for random-sharing" in str(refused.exception)


def test_the_best_under_the_shared_weights_is_picked(key):
    """With a supernet whose accuracy is the share of skips, and on images labelled 1 that of pools in place of it.

    Most images are labelled 0, so that the whole validation half prefers skips.
    """

    def measure(state, gates, batch, key):
        ops = gates["cell"].ops
        return {"accuracy": jnp.where(batch.label.mean(dtype=float) > 0.5, ops[:, 4], ops[:, 1]).mean()}

    search = bind(STRATEGY, SMALL)._replace(measure=measure)
    half = Batch(jnp.zeros((12, 8, 8, 3)), jnp.arange(12) // 9)
    options = {"samples": 60, "batches": 2}
    told = []
    picked = pick_shared(search, None, Batches(half, half), key, 4, lambda *n: told.append(n), **options)
    sampled = [random_genotype(k, SMALL, argmax_edges()) for k in jax.random.split(jax.random.split(key, 3)[0], 60)]
    assert picked.count("skip_connect") == max(g.count("skip_connect") for g in sampled) >= 3
    whole = len(set(sampled)) + 10  # and the finalists
    assert told == [(done, whole) for done in range(1, whole + 1)]
    with pytest.raises(ValueError, match="finalists=0"):
        pick_shared(search, None, Batches(half, half), key, finalists=0)
