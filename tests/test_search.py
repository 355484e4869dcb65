"""What a bound search promises: one trace, a stable state, keys that decide everything, seeds and devices side by side.

Compiled steps are kept for the whole file (spaces are values), and drawn from nowhere else.
"""

from functools import cache, partial
from itertools import pairwise

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from draws import random_batches, random_state
from jax.sharding import Mesh, PartitionSpec

from jaxnas.hypergradient import Batches, first_order, unrolled
from jaxnas.search import SearchState, bind
from jaxnas.spaces.darts import s1
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.spaces.space import Layer
from jaxnas.strategies.algorithms import darts as darts_row
from jaxnas.strategies.decoding import argmax_edges
from jaxnas.strategies.penalty import entropy

ORDERS = {"first": first_order(), "exact second": unrolled}
orders = pytest.mark.parametrize("order", ORDERS)
STEPS = 3


def strategy(order="first"):
    """The row of DARTS for a search of ten steps."""
    return darts_row(10, hypergradient=ORDERS[order])


@cache
def initialised(space):
    """Jitted init: the same for both orders."""
    return jax.jit(bind(strategy(), space).init)


@cache
def searched(space, order):
    """(search, jitted init, jitted step that complains about a second trace)."""
    chex.clear_trace_counter()  # which tells functions apart by their name
    search = bind(strategy(order), space)
    return search, initialised(space), jax.jit(chex.assert_max_traces(search.step, n=1))


def at(tree, i):
    """Entry i of every array."""
    return jax.tree.map(lambda a: a[i], tree)


@cache
def walked(space, order, seed):
    """[(state, metrics of the step to it)] of a loop of jitted steps; the first has none."""
    _, init, step = searched(space, order)
    path, data = [(init(jax.random.key(seed)), None)], random_batches(space, STEPS)
    for i in range(STEPS):
        path.append(step(path[-1][0], at(data, i)))
    return path


def plain(tree):
    """The same tree with keys as integers."""
    is_key = lambda a: jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key)
    return jax.tree.map(lambda a: np.asarray(jax.random.key_data(a) if is_key(a) else a), tree)


def assert_close(a, b, **tolerance):
    """Equal trees within a tolerance."""
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **tolerance), plain(a), plain(b))


@orders
def test_state_keeps_its_structure(tiny_space, order):
    """Traced once for all steps of all seeds; same tree, shapes and types after each; alpha and weights move."""
    path = walked(tiny_space, order, 0)
    describe = lambda tree: (jax.tree.structure(tree), [(a.shape, a.dtype) for a in jax.tree.leaves(tree)])
    for i, (state, _) in enumerate(path):
        assert isinstance(state, SearchState)
        assert describe(state) == describe(path[0][0])
        assert state.bilevel.step == i and state.bilevel.step.dtype == np.int32
        assert np.array_equal(plain(state.key), plain(path[0][0].key))
    for (before, _), (after, _) in pairwise(path):
        for cell in tiny_space.cells:
            moved = np.abs(after.bilevel.alpha[cell] - before.bilevel.alpha[cell])
            assert 1e-5 < moved.max() < 1e-3  # Adam with a rate of 3e-4
        stem = lambda state: np.asarray(state.bilevel.weights["stem"]["conv"]["kernel"])
        assert np.abs(stem(after) - stem(before)).max() > 1e-6


@orders
def test_metrics(tiny_space, order):
    """Losses, accuracies and gradient norms of both levels: finite scalars of plausible size."""
    for _, metrics in walked(tiny_space, order, 0)[1:]:
        assert set(metrics) == {"train", "valid"}
        for level in metrics.values():
            assert set(level) == {"loss", "accuracy", "grad_norm", "moves"}
            chex.assert_shape(list(level.values()), ())
            chex.assert_tree_all_finite(level)
            assert level["accuracy"] * 4 in range(5) and level["moves"] == 1
            assert 0.1 < level["loss"] < 10 and 1e-3 < level["grad_norm"] < 1e3


def test_metrics_are_the_losses_at_the_state(tiny_space):
    """First order: the outer loss at the old weights and alpha, the inner one at the old weights and the new alpha."""
    search, _, _ = searched(tiny_space, "first")
    (before, _), (after, metrics) = walked(tiny_space, "first", 0)[:2]
    data, s = at(random_batches(tiny_space, STEPS), 0), before.bilevel

    @jax.jit
    def losses(state, new_alpha, data):
        problem = search.problem(state)
        inner = problem.inner(state.bilevel.weights, new_alpha, data.train)
        return inner[0], problem.outer(state.bilevel.weights, state.bilevel.alpha, data.valid)[0]

    inner, outer = losses(before, after.bilevel.alpha, data)
    np.testing.assert_allclose(metrics["train"]["loss"], inner, rtol=1e-5)
    np.testing.assert_allclose(metrics["valid"]["loss"], outer, rtol=1e-5)
    assert s.step == 0 and inner != outer


@orders
def test_the_key_decides_everything(tiny_space, order):
    first, other = walked(tiny_space, order, 0), walked(tiny_space, order, 1)
    _, init, step = searched(tiny_space, order)
    state, data = init(jax.random.key(0)), random_batches(tiny_space, STEPS)
    for i in range(STEPS):
        state, metrics = step(state, at(data, i))
    jax.tree.map(np.testing.assert_array_equal, plain((state, metrics)), plain(first[-1]))
    assert np.abs(first[-1][0].bilevel.alpha["normal"] - other[-1][0].bilevel.alpha["normal"]).max() > 1e-4
    assert first[-1][1]["train"]["loss"] != other[-1][1]["train"]["loss"]


@orders
def test_scanned_steps_of_two_seeds_equal_loops(tiny_space, order):
    """`lax.scan` over steps inside `vmap` over seeds, against one step after another, one seed after another."""
    search, init, _ = searched(tiny_space, order)
    data = random_batches(tiny_space, STEPS)
    states = [init(jax.random.key(seed)) for seed in (0, 1)]
    together = jax.tree.map(lambda *xs: jnp.stack(xs), *states)
    epoch = jax.jit(jax.vmap(partial(jax.lax.scan, search.step), (0, None)))
    ended, metrics = epoch(together, data)
    for seed in (0, 1):
        path = walked(tiny_space, order, seed)
        alpha = lambda state: state.bilevel.alpha
        assert_close(alpha(at(ended, seed)), alpha(path[-1][0]), rtol=1e-4, atol=2e-6)
        assert_close(at(ended, seed).bilevel.weights, path[-1][0].bilevel.weights, rtol=1e-3, atol=2e-5)
        for i in range(STEPS):
            assert_close(jax.tree.map(lambda a, at=(seed, i): a[at], metrics), path[i + 1][1], rtol=1e-3, atol=1e-5)


@orders
def test_scores_and_genotype(tiny_space, order):
    """Gates [E, O] that sum to one on each edge; two edges for each node, none of them `none`."""
    search, _, _ = searched(tiny_space, order)
    state = walked(tiny_space, order, 0)[-1][0]
    scores = search.scores(state)
    assert set(scores) == set(tiny_space.cells)
    for cell, gates in scores.items():
        chex.assert_shape(gates.ops, (14, 3))
        np.testing.assert_allclose(gates.ops.sum(-1), 1, rtol=1e-5)
        np.testing.assert_array_equal(gates.edges, np.ones(14))
        alpha = np.exp(np.asarray(state.bilevel.alpha[cell], np.float64))
        np.testing.assert_allclose(gates.ops, alpha / alpha.sum(-1, keepdims=True), rtol=1e-5)
    found = search.genotype(state)
    assert found.space == "darts" and found.names == tiny_space.cells
    for cell in tiny_space.cells:
        assert found.concat(cell) == tiny_space.outputs
        assert [choice.target for choice in found.edges(cell)] == [2, 2, 3, 3, 4, 4, 5, 5]
        assert {(c.source, c.target) for c in found.edges(cell)} <= set(tiny_space.edges)
        assert {choice.op for choice in found.edges(cell)} <= {"skip_connect", "sep_conv_3x3"}


def test_a_penalty_changes_the_outer_loss_only(tiny_space):
    """Outer loss plus 0.7 times the mean entropy in nats; the reported losses are without it."""
    penalised = strategy().replace(penalty=entropy(lambda step: jnp.float32(0.7)))
    state, data = walked(tiny_space, "first", 0)[0][0], random_batches(tiny_space)

    def losses(search):
        problem, s = search.problem(state), state.bilevel
        inner, outer = (f(s.weights, s.alpha, data.valid) for f in (problem.inner, problem.outer))
        return inner, outer

    without, with_it = jax.jit(lambda: [losses(bind(s, tiny_space)) for s in (strategy(), penalised)])()
    (inner, report), (outer, _) = without
    (inner_with, report_with), (outer_with, report_outer) = with_it
    gates = [g.ops for g in searched(tiny_space, "first")[0].scores(state).values()]
    nats = -np.mean([np.sum(g * np.log(g), -1) for g in np.asarray(gates, np.float64)])
    np.testing.assert_allclose(outer_with - outer, 0.7 * nats, rtol=1e-4)
    np.testing.assert_allclose(inner_with, inner, rtol=1e-6)
    np.testing.assert_allclose(inner, outer, rtol=1e-6)
    np.testing.assert_allclose([report_with["loss"], report_outer["loss"]], report["loss"], rtol=1e-6)


def test_devices_agree(tiny_space):
    """Two devices with different images: states stay the same on both; gradients are averaged before the steps."""
    search = bind(strategy(), tiny_space, axis_name="data")
    _, init, _ = searched(tiny_space, "first")
    state, data = init(jax.random.key(0)), random_batches(tiny_space, size=8)
    mesh, split, whole = Mesh(jax.devices()[:2], "data"), PartitionSpec("data"), PartitionSpec()
    options = {"mesh": mesh, "in_specs": (whole, split), "out_specs": split, "check_vma": False}
    one = lambda state, batches: jax.tree.map(lambda a: a[None], search.step(state, batches))
    shard = jax.jit(jax.shard_map(one, **options))
    (ended, metrics) = shard(state, data)
    for leaf in jax.tree.leaves(plain((ended, metrics))):
        assert leaf.shape[0] == 2
        np.testing.assert_array_equal(leaf[0], leaf[1])
    # each device's losses are those of its own half under one device's step
    _, _, step = searched(tiny_space, "first")
    halves = [step(state, jax.tree.map(lambda a, i=i: a[4 * i : 4 * i + 4], data))[1] for i in range(2)]
    mean = np.mean([half["valid"]["loss"] for half in halves])
    np.testing.assert_allclose(metrics["valid"]["loss"][0], mean, rtol=1e-5)
    moved = at(ended, 0).bilevel.alpha["normal"] - state.bilevel.alpha["normal"]
    assert np.abs(moved).max() > 1e-5


def test_pixel_noise_differs_between_devices_and_steps(tiny_space):
    """The key of augmentation folds in the device, the step and the level."""
    seen, augment = {}, lambda key, images: images + jax.random.normal(key, images.shape)
    search = bind(strategy(), tiny_space, axis_name="data", augment=augment)

    def losses(state, batch):
        problem, s = search.problem(state), state.bilevel
        return problem.inner(s.weights, s.alpha, batch)[0], problem.outer(s.weights, s.alpha, batch)[0]

    state, batch = walked(tiny_space, "first", 0)[0][0], random_batches(tiny_space).train
    later = state._replace(bilevel=state.bilevel._replace(step=jnp.int32(1)))
    two = jax.tree.map(lambda a: np.stack([a, a]), batch)
    mapped = jax.jit(jax.vmap(losses, (None, 0), axis_name="data"))
    for name, at_step in (("now", state), ("later", later)):
        inner, outer = mapped(at_step, two)
        seen |= {(name, "inner", d): float(inner[d]) for d in (0, 1)}
        seen |= {(name, "outer", d): float(outer[d]) for d in (0, 1)}
    assert len({round(loss, 5) for loss in seen.values()}) == 8


# ------------------------------------------------------------------------------------- other spaces


def test_nas_bench_201_keeps_every_edge():
    space = nas_bench_201(2, 1, 4, image=(8, 8, 3))
    search = bind(row := strategy().replace(decode=argmax_edges()), space)
    state, data = random_state(row, search), random_batches(space)
    ended, metrics = jax.jit(search.step)(state, data)
    chex.assert_tree_all_finite(metrics)
    assert np.abs(ended.bilevel.alpha["cell"] - state.bilevel.alpha["cell"]).max() > 1e-5
    found = search.genotype(ended)
    assert found.space == "nas_bench_201"
    assert [(c.source, c.target) for c in found.edges("cell")] == list(space.edges)
    best = np.asarray(ended.bilevel.alpha["cell"]).argmax(-1)
    assert [choice.op for choice in found.edges("cell")] == [space.op_names[o] for o in best]


def test_dead_operations_have_no_influence():
    """S1: their alpha gets no gradient but that of its own L2 decay, and its value changes nothing else."""
    space = s1(2, 3, 4, image=(8, 8, 3))
    space = space.replace(skeleton=(Layer("normal", 2), Layer("reduce", 2, 2)))
    search = bind(strategy(), space)
    state, data, step = random_state(strategy(), search), random_batches(space), jax.jit(search.step)
    dead = {cell: ~space.mask(cell) for cell in space.cells}
    far = {c: jnp.where(dead[c], 10 + a, a) for c, a in state.bilevel.alpha.items()}
    states = state, state._replace(bilevel=state.bilevel._replace(alpha=far))
    ended, metrics = zip(*(step(s, data) for s in states), strict=True)
    jax.tree.map(np.testing.assert_array_equal, *metrics)
    jax.tree.map(np.testing.assert_array_equal, *(s.bilevel.weights for s in ended))
    for cell in space.cells:
        for before, after in zip(states, ended, strict=True):
            # first moment of Adam after one step: (1 - b1) (gradient + decay alpha), with b1 = 0.5
            gradient = optax.tree.get(after.bilevel.alpha_opt, "mu")[cell] / 0.5 - 1e-3 * before.bilevel.alpha[cell]
            np.testing.assert_allclose(gradient[dead[cell]], 0, atol=1e-8)
            assert (np.abs(gradient[~dead[cell]]) > 1e-6).mean() > 0.9
            np.testing.assert_array_equal(search.scores(after)[cell].ops[dead[cell]], 0)
        alive = [np.asarray(s.bilevel.alpha[cell])[~dead[cell]] for s in ended]
        np.testing.assert_array_equal(*alive)
    found = search.genotype(ended[1])
    assert found == search.genotype(ended[0]) and found.space == "s1"
    for cell in space.cells:
        rows = dict(zip(space.edges, space.mask(cell), strict=True))
        for choice in found.edges(cell):
            assert rows[choice.source, choice.target][space.op_names.index(choice.op)]


def test_bind_refuses_what_it_cannot_read(tiny_space):
    """Images of another size and labels of another shape fail when the step is traced."""
    search, _, _ = searched(tiny_space, "first")
    state, data = jax.eval_shape(search.init, jax.random.key(0)), random_batches(tiny_space)
    wide = Batches(*(batch._replace(image=np.zeros((4, 8, 12, 3), np.float32)) for batch in data))
    with pytest.raises(ValueError, match=r"images have shape \(4, 8, 12, 3\)"):
        jax.eval_shape(search.step, state, wide)
    short = Batches(*(batch._replace(label=batch.label[:3]) for batch in data))
    with pytest.raises(AssertionError):
        jax.eval_shape(search.step, state, short)
