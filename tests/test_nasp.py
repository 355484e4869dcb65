"""The proximal point of NASP, the mixing that leaves out what is closed, the box, and the row made of them."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from draws import random_batches, random_state
from problems import moved

from jaxnas.search import bind
from jaxnas.spaces.darts import darts
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.spaces.space import Layer
from jaxnas.strategies.algorithms import nasp
from jaxnas.strategies.mixing import opened, weighted_sum
from jaxnas.strategies.optimizers import box
from jaxnas.strategies.perturbation import closed
from jaxnas.strategies.proximal import FAINT, binary

STEP = jnp.int32(0)
SPACE = nas_bench_201(channels=2, image=(8, 8, 3)).replace(skeleton=(Layer("cell", 2),))  # edges 01, 02, 12, 03, 13, 23
ALPHA = np.array(
    [
        [0.9, 0.1, 0.2, 0.1, 0.1],  # `none` is never chosen: the third operation
        [0.0, 0.4, 0.3, 0.2, 0.1],
        [0.0, 0.1, 0.1, 0.1, 0.0],  # a tie: the second operation
        [0.0, 0.0, 0.0, 0.0, 0.5],
        [1.0, 0.4, 0.4, 0.3, 0.4],  # the worst of three edges into node 3
        [0.0, 0.0, 0.0, 0.7, 0.0],
    ],
    np.float32,
)


def sampled(relaxation, alpha, space=SPACE):
    return relaxation.sample(jax.random.key(0), {cell: jnp.asarray(alpha) for cell in space.cells}, space, STEP)


def test_the_proximal_point_by_hand():
    gates = sampled(binary(), ALPHA)["cell"]
    expected = np.full((6, 5), FAINT)
    expected[[0, 1, 2, 3, 5], [2, 1, 1, 4, 3]] = 1
    np.testing.assert_allclose(gates.ops, expected, rtol=1e-6)
    np.testing.assert_array_equal(gates.edges, 1)
    seen = closed()(None, {"cell": gates}, STEP)["cell"].ops
    np.testing.assert_array_equal(seen, expected == 1)
    expected[4, 1] = 1  # where all edges are kept
    np.testing.assert_allclose(sampled(binary(None), ALPHA)["cell"].ops, expected, rtol=1e-6)


def test_the_start_is_a_tie_that_the_first_win():
    space = darts().with_alive({cell: np.arange(14)[:, None] % 2 < np.arange(8) for cell in ("normal", "reduce")})
    relaxation = binary()
    alpha = relaxation.init(jax.random.key(0), space)
    for gates in relaxation.sample(jax.random.key(0), alpha, space, STEP).values():
        rows, columns = np.nonzero(np.asarray(gates.ops) == 1)
        np.testing.assert_array_equal(rows, [0, 1, 2, 3, 5, 6, 9, 10])
        np.testing.assert_array_equal(columns, 1 + rows % 2)
        assert not np.any(gates.ops[:, 0])  # dead: exactly 0


def test_alpha_moves_as_if_it_were_the_gates(draw):
    weight = jnp.asarray(draw((6, 5)), jnp.float32)
    slope = jax.grad(lambda a: (weight * sampled(binary(), a)["cell"].ops).sum())(jnp.asarray(ALPHA))
    np.testing.assert_array_equal(slope, weight)


OPS = {"double": lambda x, gate: gate * 2 * x, "broken": lambda x, gate: gate * x * jnp.nan, "same": lambda x, g: g * x}


def test_closed_candidates_are_not_run(key):
    x = jax.random.normal(key, (2, 3, 3, 4))

    @jax.jit
    def mixed(gates, x):
        return jax.value_and_grad(lambda g, x: opened().mix(OPS, g, x, key, STEP).sum(), (0, 1))(gates, x)

    value, (of_gates, of_x) = mixed(jnp.array([0.5, 0.0, FAINT]), x)
    np.testing.assert_allclose(value, x.sum(), rtol=1e-5)
    np.testing.assert_allclose(of_gates, [2 * x.sum(), 0, x.sum()], rtol=1e-5)  # the faint one has its gradient
    np.testing.assert_allclose(of_x, np.ones_like(x), rtol=1e-6)
    assert np.isnan(mixed(jnp.array([0.5, 1e-30, 0.0]), x)[0])
    sane, gates = {name: OPS[name] for name in ("double", "same")}, jnp.array([0.3, 0.6])
    whole = weighted_sum().mix(sane, gates, x, key, STEP)
    np.testing.assert_allclose(opened().mix(sane, gates, x, key, STEP), whole, rtol=1e-6)


def test_box_shortens_steps():
    tx = optax.chain(optax.sgd(1.0), box(0.0, 1.0))
    params = {"a": jnp.array([0.2, 0.9, 0.5])}
    after, _ = moved(tx, {"a": jnp.array([0.5, -0.5, 0.25])}, tx.init(params), params)
    np.testing.assert_allclose(after["a"], [0, 1, 0.25], atol=1e-7)


@pytest.fixture(scope="module")
def one_step():
    """(state before, state after) of a step whose alpha starts at ALPHA, some of it on the edge of the box."""
    strategy = nasp(10, alpha_rate=0.05)
    search = bind(strategy, SPACE)
    state = random_state(strategy, search)
    state = state._replace(bilevel=state.bilevel._replace(alpha={"cell": jnp.asarray(ALPHA)}))
    return state.bilevel, jax.jit(search.step)(state, random_batches(SPACE))[0].bilevel


def test_alpha_sees_all_operations_and_stays_in_its_box(one_step):
    """Adam's first step is as long as its rate wherever there is a gradient, and stops at the walls."""
    before, after = (np.asarray(s.alpha["cell"], np.float64) for s in one_step)
    step = np.abs(after - before)
    assert after.min() >= 0 and after.max() <= 1
    inner = (before > 0.05) & (before < 0.95)
    np.testing.assert_allclose(step[inner], 0.05, rtol=1e-3)
    assert set(np.round(step[~inner], 4)) <= {0.0, 0.05}


def test_weights_of_closed_operations_only_decay(one_step):
    """The 3x3 convolutions move where the new alpha opens them; a part holds its edges in order of their sources."""
    _, after = one_step
    old, new = (np.asarray(s.weights["parts"][0]["edges"][0]["nor_conv_3x3"]["conv"]["kernel"])[0] for s in one_step)
    moved_much = np.abs(new - (1 - 0.025 * 3e-4) * old).max((1, 2, 3, 4)) > 1e-6
    chosen = sampled(binary(), after.alpha["cell"])["cell"].ops[:, 3] == 1
    np.testing.assert_array_equal(moved_much, chosen[np.array([0, 1, 3, 2, 4, 5])])
    assert 0 < chosen.sum() < 6
