"""The optimizers of the table by hand, and one step of its row of DARTS."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import moved

from jaxnas.hypergradient import (
    Batches,
    finite_difference,
    first_order,
    gradient,
    neumann,
    through,
    two_losses,
    unrolled,
)
from jaxnas.strategies.algorithms import darts, i_darts
from jaxnas.strategies.optimizers import clip_norm, cosine, heavy_ball, l2_adam

# ------------------------------------------------------------------------------------------- optimizers


def _steps(tx, params, grads):
    """Parameters after each gradient."""
    state, path = tx.init(params), []
    for g in grads:
        params, state = moved(tx, g, state, params)
        path.append(params)
    return path


@pytest.mark.parametrize("size", (0.1, 1.0, 40.0))
def test_clip_norm_is_the_formula_of_torch(size, draw, x64):
    """One norm over all arrays; below the limit nothing changes."""
    grads = {"a": size * jnp.asarray(draw((2, 3))), "b": size * jnp.asarray(draw(4)), "none": jnp.zeros(2)}
    norm = np.sqrt(sum(np.sum(np.square(g)) for g in grads.values()))
    found, _ = clip_norm(5.0).update(grads, clip_norm(5.0).init(grads))
    for name, g in grads.items():
        np.testing.assert_allclose(found[name], g * min(1, 5 / (norm + 1e-6)), rtol=1e-13)
        if norm < 5 - 1e-6:
            np.testing.assert_array_equal(found[name], g)


def test_clip_norm_of_nothing_and_of_half_precision():
    found, _ = clip_norm(1.0).update({"a": jnp.zeros(3, jnp.bfloat16)}, optax.EmptyState())
    assert not np.any(found["a"]) and found["a"].dtype == jnp.bfloat16


def test_clip_norm_at_its_limit(x64):
    """Norm 5: torch shrinks by 5 / (5 + 1e-6), optax would not."""
    at_limit = jnp.array([3.0, 4.0])
    found, _ = clip_norm(5.0).update(at_limit, optax.EmptyState())
    np.testing.assert_allclose(found / at_limit - 1, -2e-7, rtol=1e-3)


def test_cosine_is_the_formula(x64):
    rate = cosine(0.025, 0.001, 50)
    for step in (0, 1, 10, 25, 49, 50):
        expected = 0.001 + 0.024 * (1 + np.cos(np.pi * step / 50)) / 2
        np.testing.assert_allclose(rate(jnp.asarray(step)), expected, rtol=1e-6)
    np.testing.assert_allclose(rate(jnp.asarray(80)), 0.001, rtol=1e-6)  # stays at the end


def test_cosine_in_stairs():
    """Three epochs of four steps: constant within each, the official value at each."""
    found = [float(cosine(1.0, 0.1, 12, every=4)(jnp.asarray(step))) for step in range(12)]
    expected = [0.1 + 0.9 * (1 + np.cos(np.pi * (step // 4) / 3)) / 2 for step in range(12)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    ragged = cosine(1.0, 0.0, 10, every=4)  # the last epoch is cut short: still three stairs
    np.testing.assert_allclose(ragged(jnp.asarray(9)), (1 + np.cos(np.pi * 2 / 3)) / 2, rtol=1e-6)


@pytest.mark.parametrize(("steps", "every"), ((0, 1), (-3, 1), (10, 0)))
def test_cosine_over_nothing(steps, every):
    with pytest.raises(ValueError, match="at least 1"):
        cosine(1.0, 0.0, steps, every)


def test_heavy_ball_by_hand(draw, x64):
    w, grads = jnp.asarray(draw(4)), jnp.asarray(draw((3, 4)))
    path = _steps(heavy_ball(lambda step: 0.1 / (1 + step), 0.9, 0.2), w, grads)
    buffer = np.zeros(4)
    for step in range(3):
        buffer = 0.9 * buffer + grads[step] + 0.2 * w
        w = w - 0.1 / (1 + step) * buffer
        np.testing.assert_allclose(path[step], w, rtol=1e-12)


def test_l2_adam_by_hand(draw, x64):
    """The decay is part of the gradient: of both moments, too."""
    a, grads = jnp.asarray(draw(4)), jnp.asarray(draw((3, 4)))
    path = _steps(l2_adam(0.1, decay=0.3), a, grads)
    m, v = np.zeros(4), np.zeros(4)
    for step in range(3):
        g = grads[step] + 0.3 * a
        m, v = 0.5 * m + 0.5 * g, 0.999 * v + 0.001 * g**2
        a = a - 0.1 * (m / (1 - 0.5 ** (step + 1))) / (np.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-8)
        np.testing.assert_allclose(path[step], a, rtol=1e-6)


# ------------------------------------------------------------------------------------- the row of DARTS

_draw = np.random.default_rng(6).standard_normal
_x, _y = 9 * _draw((4, 3)), 9 * _draw(4)  # large enough that the clip at 5 is active


def _loss(weights, alpha, batch):
    gated = weights * jax.nn.sigmoid(alpha)
    return jnp.mean(jnp.square(jnp.asarray(_x) @ gated - jnp.asarray(_y) + batch)), {}


PROBLEM, BATCHES = two_losses(_loss, _loss), Batches(1.0, -2.0)
_sgd = heavy_ball(0.025, 0.9, 3e-4)
_behind_the_clip = through(_sgd, part=lambda state: state[1])
ROWS = {
    "first order": (first_order(), first_order()),
    "unrolled": (unrolled, unrolled(_behind_the_clip)),
    "finite difference": (finite_difference, finite_difference(_behind_the_clip)),
    "neumann": (neumann(2, 0.1), neumann(2, 0.1)),
}


@pytest.mark.parametrize("name", ROWS)
def test_darts_moves_by_its_formula(name, draw, x64):
    """Alpha's first moment is half of hypergradient + decay, the look-ahead unclipped; the weights' step is clipped."""
    given, meant = ROWS[name]
    solver = darts(100, hypergradient=given).solver
    state = solver.init(jnp.asarray(draw(3)), jnp.asarray(draw(3)))
    found, metrics = jax.jit(partial(solver.step, PROBLEM))(state, BATCHES)
    assert metrics["train"]["grad_norm"] > 50
    expected = jax.jit(gradient, static_argnums=(0, 1))(meant, PROBLEM, state, BATCHES)
    moment = optax.tree.get(found.alpha_opt, "mu")
    np.testing.assert_allclose(moment, (expected + 1e-3 * state.alpha) / 2, rtol=1e-8)
    np.testing.assert_allclose(found.alpha, state.alpha - 3e-4 * np.sign(moment), rtol=1e-6)
    g = np.asarray(jax.grad(_loss, has_aux=True)(state.weights, found.alpha, BATCHES.train)[0])
    step = 5 * g / (np.linalg.norm(g) + 1e-6) + 3e-4 * state.weights
    np.testing.assert_allclose(found.weights, state.weights - 0.025 * step, rtol=1e-6)


def test_darts_weights_roll_while_their_rate_falls(draw, x64):
    """Five steps by hand: momentum from step to step, a rate that falls in stairs of two to 0.001."""
    solver = darts(4, hypergradient=first_order(), every=2).solver
    step, slope = jax.jit(partial(solver.step, PROBLEM)), jax.jit(jax.grad(_loss, has_aux=True))
    state, buffer = solver.init(jnp.asarray(draw(3)), jnp.asarray(draw(3))), np.zeros(3)
    for i in range(5):
        weights, (state, _) = state.weights, step(state, BATCHES)
        g = slope(weights, state.alpha, BATCHES.train)[0]
        buffer = 0.9 * buffer + g * min(1, 5 / (np.linalg.norm(g) + 1e-6)) + 3e-4 * weights
        rate = 0.001 + 0.024 * (1 + np.cos(np.pi * (i // 2) / 2)) / 2
        np.testing.assert_allclose(state.weights, weights - rate * buffer, rtol=1e-6)


def test_darts_is_unrolled_unless_told_otherwise(draw, x64):
    state = darts(10).solver.init(jnp.asarray(draw(3)), jnp.asarray(draw(3)))
    step = lambda row: jax.jit(partial(row.solver.step, PROBLEM))(state, BATCHES)[0].alpha_opt
    jax.tree.map(np.testing.assert_array_equal, step(darts(10)), step(darts(10, hypergradient=unrolled)))


# ------------------------------------------------------------------------------------- the row of iDARTS


def test_i_darts_moves_by_its_formula(draw, x64):
    """Alpha moves after each fourth step of the weights, along the series at the new weights, with the rate as eta."""
    solver = i_darts(100, terms=2, inner=4).solver
    step, state = jax.jit(partial(solver.step, PROBLEM)), solver.init(jnp.asarray(draw(3)), jnp.asarray(draw(3)))
    for i in range(8):
        before, (state, metrics) = state, step(state, BATCHES)
        assert bool(metrics["valid"]["moves"]) == (i in (3, 7)) and np.any(state.weights != before.weights)
        if i < 3:
            np.testing.assert_array_equal(state.alpha, before.alpha)
        if i == 3:
            eta = 0.001 + 0.024 * (1 + np.cos(np.pi * 3 / 100)) / 2
            seen = before._replace(weights=state.weights)
            expected = gradient(neumann(2, eta), PROBLEM, seen, BATCHES)
            moment = optax.tree.get(state.alpha_opt, "mu")
            np.testing.assert_allclose(moment, (expected + 1e-3 * before.alpha) / 2, rtol=1e-6)
