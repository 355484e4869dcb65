"""Concrete gates, dropped paths, costs of operations, resource terms, and the row made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from draws import normal_like, random_batches, random_state, small_model
from problems import NOTHING

from jaxnas.evaluation.resources import Resources, module_resources, resources
from jaxnas.hypergradient import Batches, two_losses
from jaxnas.search import bind
from jaxnas.spaces import ops
from jaxnas.spaces.darts import darts, s2
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.spaces.networks import supernet
from jaxnas.spaces.space import Gates
from jaxnas.strategies.algorithms import snas
from jaxnas.strategies.draws import concrete, concrete_gates
from jaxnas.strategies.mixing import dropped_path, sampled
from jaxnas.strategies.optimizers import annealed
from jaxnas.strategies.penalty import no_penalty, resource_linear, resource_log

STEP = jnp.int32(0)
OPS = {"same": lambda x, gate: gate * x, "negative": lambda x, gate: -gate * x}
ONE = optax.constant_schedule(1.0)

# -------------------------------------------------------------------------------------------------- gates


def test_temperature_is_one_stair_ahead_and_ends_at_the_end():
    """By hand, three epochs of four steps and a last one of two."""
    schedule = annealed(1.0, 0.2, 14, every=4)
    found = [float(schedule(jnp.int32(step))) for step in range(20)]
    np.testing.assert_allclose(found, np.repeat([0.8, 0.6, 0.4, 0.2, 0.2], 4), rtol=1e-6)
    with pytest.raises(ValueError, match="steps=0, held for every=1: both must be at least 1"):
        annealed(1.0, 0.2, 0)


def test_gates_are_concrete_with_one_draw_for_each_cell_type(key):
    """Probabilities of the largest gate are those of alpha at any temperature (Maddison et al. 2017, proposition 1)."""
    space = s2(channels=4, layers=3)
    mask = np.ones((14, 2), bool)
    mask[5, 0] = False
    space = space.with_alive({"normal": mask, "reduce": np.ones((14, 2), bool)})
    alpha = {cell: jnp.tile(jnp.log(jnp.array([1.0, 3.0])), (14, 1)) for cell in space.cells}
    gates = jax.vmap(lambda k: concrete(lambda step: 0.5).sample(k, alpha, space, STEP))(jax.random.split(key, 1000))
    assert np.isfinite(gates["normal"].ops).all()
    np.testing.assert_allclose(gates["normal"].ops.sum(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(gates["normal"].ops[:, 5], np.tile([0.0, 1.0], (1000, 1)))
    assert (gates["normal"].ops[:, 4] != gates["reduce"].ops[:, 4]).all()
    first = (gates["reduce"].ops[..., 1] > 0.5).mean()
    assert abs(first - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 14_000)


def test_alpha_starts_around_one_and_scores_are_its_softmax(key):
    space = darts(channels=4, layers=3)
    relaxation = concrete(ONE)
    alpha = relaxation.init(key, space)
    table = np.asarray(alpha["normal"], np.float64)
    assert abs(table.mean() - 1) < 4e-3 and 0.008 < table.std() < 0.012
    expected = np.exp(table) / np.exp(table).sum(-1, keepdims=True)
    np.testing.assert_allclose(relaxation.mean(alpha, space)["normal"].ops, expected, rtol=1e-5)


def test_cold_gates_are_one_hot_and_stay_finite(key):
    space = s2(channels=4, layers=3)
    noise = {cell: jnp.full((14, 2), 15.0).at[:, 0].set(-4.0) for cell in space.cells}
    loss = lambda a: sum(g.ops[:, 1].sum() for g in concrete_gates(a, noise, 0.03, space).values())
    alpha = concrete(ONE).init(key, space)
    value, slope = jax.value_and_grad(loss)(alpha)
    assert value == 28 and all(np.isfinite(s).all() for s in slope.values())


# ------------------------------------------------------------------------------------------ dropped paths


def test_a_path_is_dropped_for_whole_images_and_kept_in_the_mean(key):
    x = jnp.ones((4000, 2, 2, 3))
    mixing = dropped_path(lambda step: 0.1 * step)
    y = mixing.mix(OPS, jnp.array([1.0, 0.5]), x, key, jnp.float32(3))
    kept = np.asarray(y)[:, 0, 0, 0] > 0
    np.testing.assert_allclose(y, np.broadcast_to(kept[:, None, None, None] * 0.5 / 0.7, y.shape), rtol=1e-6)
    assert abs(kept.mean() - 0.7) < 4 * np.sqrt(0.3 * 0.7 / 4000)
    other = mixing.mix(OPS, jnp.array([1.0, 0.5]), x, jax.random.fold_in(key, 1), jnp.float32(3))
    assert ((np.asarray(other)[:, 0, 0, 0] > 0) != kept).mean() > 0.3
    np.testing.assert_array_equal(mixing.mix(OPS, jnp.array([1.0, 0.5]), x, key, jnp.float32(0)), 0.5 * x)


def test_all_paths_dropped_have_a_finite_gradient(key):
    """Rate 1; half precision stays what it is, and widths are those of what is wrapped."""
    mixing = dropped_path(lambda step: 1.0, sampled())
    mix = lambda x: mixing.mix(OPS, jnp.array([0.0, 1.0], x.dtype), x, key, STEP)
    y, pull = jax.vjp(mix, jnp.ones((3, 2, 2, 1), jnp.bfloat16))
    assert y.dtype == jnp.bfloat16 and not y.any() and not pull(jnp.ones_like(y))[0].any()
    assert mixing.width(8) == 8


# -------------------------------------------------------------------------------------------------- costs

SHAPES = {  # module -> (size, flops, memory) on 8x8x4, by the formulas of the official `operations.py`
    "identity": (ops.Skip(1), (0, 0, 2 * 4 * 64)),
    "none": (ops.Zero(2), (0, 0, 0)),
    "strided pool": (ops.normalized(ops.MaxPool)(stride=2), (0, 9 * 16 * 4, 5 * 16 * 4)),
    "separable": (ops.SepConv(2, 5), (2 * 25 * 4 + 2 * 16, 232 * 16, 16 * 11 * 4 + 232)),
    "dilated": (ops.DilConv(1, 3), (9 * 4 + 16, 52 * 64, 64 * 4 * 4 + 52)),
    "reduction": (ops.Skip(2), (16, 16 * 16, 2 * 16 * (4 * 4 + 2) + 16)),
    "convolution": (ops.ReluConvNorm(kernel=3), (144, 144 * 64, 64 * 8 + 144)),
}


@pytest.mark.parametrize("name", SHAPES)
def test_costs_of_modules(name):
    module, expected = SHAPES[name]
    assert module_resources(module, (8, 8, 4)) == Resources(*expected)


def test_costs_of_a_space_by_cell_and_edge():
    """Five cells N R N R N; dead operations are free; a space with blocks has its cells alone."""
    space = s2(channels=4, layers=5, image=(8, 8, 3))
    alive = np.ones((14, 2), bool)
    alive[3, 1] = False
    table = resources(space.with_alive({"normal": alive, "reduce": alive}))
    assert table["normal"].size.shape == (3, 14, 2) and table["reduce"].size.shape == (2, 14, 2)
    np.testing.assert_array_equal(table["normal"].size[:, 0, 1], [104, 272, 800])  # 2 (9 C + C^2), C = 4, 8, 16
    assert not table["normal"].flops[:, 3, 1].any()
    np.testing.assert_array_equal(table["reduce"].size[0, :3, 0], [64, 64, 64])  # two edges into 2, the first into 3
    np.testing.assert_array_equal(table["reduce"].size[0, 4:6, 0], [0, 64])  # 2 -> 3 is not strided
    assert resources(nas_bench_201(channels=4, cells_per_stage=1))["cell"].size.shape == (3, 6, 5)


def test_resource_terms_are_their_formulas(draw, x64):
    space = s2(channels=4, layers=5, image=(8, 8, 3))
    gates = {cell: Gates(jnp.asarray(np.abs(draw((14, 2)))), jnp.ones(14)) for cell in space.cells}
    table = resources(space)
    linear = log = 0.0
    for cell, g in gates.items():
        size, flops, memory = (np.einsum("eo,ceo->ce", g.ops, t) for t in table[cell])
        linear += 0.43 * (2 * size + flops / 4000 + memory / 100).sum(1).mean()
        log += sum(np.log(np.maximum(t, 1)) for t in (size, flops, memory)).sum(1).mean() / 3
    double = lambda step: 2.0 * step
    found = [penalty(double)(gates, {}, space, jnp.float64(3)) for penalty in (resource_linear, resource_log)]
    np.testing.assert_allclose(found, [6 * linear, 6 * log], rtol=1e-12)


def test_the_logarithm_of_nothing_is_zero_with_a_finite_gradient():
    space = s2(channels=4, layers=3, image=(8, 8, 3))
    value, slope = jax.value_and_grad(lambda ops: resource_log(ONE)({"normal": Gates(ops, ops)}, {}, space, STEP))(
        jnp.zeros((14, 2))
    )
    assert value == 0 and not slope.any()


# ---------------------------------------------------------------------------------------------------- row


def test_one_loss_moves_both_players_on_one_batch(tiny_space):
    """Alpha's first moment is half of clipped gradient + decay; the term is that of the sampled gates, scaled 1e-2."""
    data = random_batches(tiny_space)
    rows = {"with": snas(8, every=2), "without": snas(8, every=2).replace(penalty=no_penalty())}
    state = random_state(rows["with"], bind(rows["with"], tiny_space, model=small_model))

    def step(row, valid):
        after, metrics = bind(row, tiny_space, model=small_model).step(state, Batches(data.train, valid))
        return after.bilevel, metrics

    both = jax.jit(lambda valid: {name: step(row, valid) for name, row in rows.items()})
    found, same = both(data.valid), both(data.train)
    jax.tree.map(np.testing.assert_array_equal, found, same)  # the other half of the images plays no part
    after, metrics = found["with"]
    assert set(metrics) == {"train"} and metrics["train"]["moves"] == 1
    assert metrics["train"]["loss"] == found["without"][1]["train"]["loss"]
    moments = {name: optax.tree.get(s.alpha_opt, "mu") for name, (s, _) in found.items()}
    key_step = jax.random.fold_in(state.key, STEP)
    key_gates, _ = jax.random.split(jax.random.fold_in(key_step, 1))
    draw = lambda a: concrete(annealed(1.0, 0.03, 8, 2)).sample(key_gates, a, tiny_space, STEP)
    cost = lambda a: resource_log(optax.constant_schedule(1e-2))(draw(a), {}, tiny_space, STEP)
    slope = jax.grad(cost)(state.bilevel.alpha)
    for cell in tiny_space.cells:
        np.testing.assert_allclose(
            moments["with"][cell] - moments["without"][cell], slope[cell] / 2, rtol=1e-3, atol=1e-6
        )
    assert optax.tree.norm(slope) > 1e-2
    genotype = bind(rows["with"], tiny_space, model=small_model).genotype(state._replace(bilevel=after))
    assert [len(genotype.edges(cell)) for cell in tiny_space.cells] == [14, 14]


def test_a_step_of_the_supernet_drops_paths(tiny_space):
    """Same weights, images and gates: logits differ with the key where the rate is not 0."""
    rate = lambda step: jnp.where(step > 0, 0.5, 0.0)
    net, gates = supernet(tiny_space, dropped_path(rate)), concrete(ONE).mean
    weights = normal_like(jax.eval_shape(net.init, jax.random.key(0)))
    gates = gates({cell: jnp.ones((14, 3)) for cell in tiny_space.cells}, tiny_space)
    images = random_batches(tiny_space).train.image
    logits = jax.jit(lambda seed, step: net.apply(weights, images, gates, jax.random.key(seed), step))
    first, second = (logits(seed, jnp.int32(1)) for seed in (0, 1))
    assert np.isfinite(first).all() and np.abs(first - second).min(1).max() > 1e-3
    np.testing.assert_array_equal(logits(0, STEP), logits(1, STEP))


def test_alpha_by_sgd_is_clipped_at_ten(x64):
    solver = snas(8, alpha_rate=0.1, optimizer=optax.sgd).solver
    loss = lambda w, a, batch: (30.0 * a.sum() + 0 * w.sum(), {})
    state = solver.init(jnp.zeros(2), jnp.zeros(4))
    moved, _ = solver.step(two_losses(loss, loss), state, NOTHING)
    np.testing.assert_allclose(moved.alpha, np.full(4, -0.1 * 10 / 2), rtol=1e-6)
