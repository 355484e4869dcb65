"""Costs on hardware: how they enter the loss, and how they are measured."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas.data import Batch
from jaxnas.evaluation.latency import counted, latency
from jaxnas.hypergradient import INNER, OUTER, first_order
from jaxnas.search import bind
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.spaces.networks import Model
from jaxnas.spaces.space import Gates
from jaxnas.strategies.algorithms import darts
from jaxnas.strategies.penalty import expected_cost, log_power, log_ratio, plus, times

SPACE = nas_bench_201(4, 1, image=(8, 8, 3))
TWICE = optax.constant_schedule(2.0)


@pytest.fixture
def opened(draw):
    """Gates, costs of three cells, and what the network costs under them."""
    gates, costs = np.abs(draw((6, 5))), 10 * np.abs(draw((3, 6, 5)))
    return {"cell": Gates(jnp.asarray(gates, jnp.float32), jnp.ones(6))}, {"cell": costs}, (gates * costs).sum()


def test_penalties_by_their_formulas(opened):
    gates, costs, cost = opened
    step = jnp.float32(0)
    for penalty, expected in (
        (expected_cost(costs, TWICE), 2 * cost),
        (log_ratio(costs, 30.0, TWICE, fixed=5.0), 2 * np.log((cost + 5) / 30)),
        (log_power(costs, fixed=5.0), 0.2 * np.log(cost + 5) ** 0.6),
        (log_power(costs, scale=1.5, power=2.0), 1.5 * np.log(cost) ** 2),
    ):
        np.testing.assert_allclose(penalty(gates, {}, SPACE, step), expected, rtol=1e-5)


def test_closed_gates_have_finite_slopes(opened):
    """Below e the cost counts as e: the logarithm is 1, its slope 0."""
    _, costs, _ = opened
    closed = {"cell": Gates(jnp.zeros((6, 5)), jnp.ones(6))}
    value, slope = jax.value_and_grad(lambda gates: log_power(costs)(gates, {}, SPACE, jnp.float32(0)))(closed)
    assert float(value) == pytest.approx(0.2) and not np.any(slope["cell"].ops)
    with pytest.raises(ValueError, match="target=0"):
        log_ratio(costs, 0, TWICE)
    for penalty in (log_power({"cell": np.ones((3, 6, 4))}), log_ratio({}, 1.0, TWICE)):
        with pytest.raises(ValueError, match="needs"):
            penalty(closed, {}, SPACE, jnp.float32(0))


@pytest.mark.parametrize(
    "join, expected", [(plus, lambda loss, cost: loss + cost), (times, lambda loss, cost: loss * cost)]
)
def test_the_penalty_joins_the_outer_loss_only(opened, join, expected):
    """On a model of one weight, whose logits are (weight, 0, ..., 0), so that nothing large is compiled."""
    _, costs, _ = opened
    logits = lambda weight, images, gates, key, step: jnp.pad(jnp.full((len(images), 1), weight), ((0, 0), (0, 9)))
    model = lambda space, mixing: Model(lambda key: jnp.float32(0.3), logits, logits)
    row = darts(10, hypergradient=first_order()).replace(penalty=log_power(costs), join=join)
    search = bind(row, SPACE, model=model)
    state = search.init(jax.random.key(0))
    batch = Batch(jnp.zeros((2, 8, 8, 3)), jnp.zeros(2, jnp.int32))
    loss = lambda level: search.problem(state).loss(level, jnp.float32(0.3), state.bilevel.alpha, batch)[0]
    plain = np.log(np.exp(0.3) + 9) - 0.3
    cost = log_power(costs)(search.scores(state), {}, SPACE, jnp.float32(0))
    np.testing.assert_allclose(loss(INNER), plain, rtol=1e-6)
    np.testing.assert_allclose(loss(OUTER), expected(plain, float(cost)), rtol=1e-6)


def test_latency_of_a_function_with_and_without_arguments():
    images, weights = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 10))
    for found in (
        latency(lambda images: images.mean((1, 2)) @ weights, images, repeats=5),
        latency(lambda weights, images: images.mean((1, 2)) @ weights, weights, images, repeats=5, warmup=0),
    ):
        assert 0 < found.low <= found.median <= found.high and found.repeats == 5 and found.compile > 0
    with pytest.raises(ValueError, match="time 1 call at least"):
        latency(jnp.sin, images, repeats=0)


def test_the_compiler_counts_what_living_operations_do():
    """Only 1x1 convolutions live: two operations for each multiply-add, and all bytes that are read."""
    alive = np.zeros((6, 5), bool)
    alive[:, 2] = True
    space = SPACE.with_alive({"cell": alive})
    found = counted(space, batch=2)["cell"]
    assert found.flops.shape == found.bytes.shape == (3, 6, 5)
    assert not found.flops[..., ~alive[0]].any() and not found.bytes[..., ~alive[0]].any()
    for cell, (side, width) in enumerate([(8, 4), (4, 8), (2, 16)]):
        products, read = 2 * side * side * width * width, 4 * (2 * side * side * width + width * width)
        assert (found.flops[cell, :, 2] >= 2 * products).all() and (found.flops[cell, :, 2] < 20 * products).all()
        assert (found.bytes[cell, :, 2] >= read).all()
    with pytest.raises(ValueError, match="batch=0"):
        counted(space, batch=0)
