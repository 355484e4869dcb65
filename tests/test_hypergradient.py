"""Hypergradients against closed forms, dense matrices and plain autodiff: float64, no cell, no flax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree
from problems import (
    NETWORK,
    NOTHING,
    PENALTIES,
    POINTS,
    QUADRATIC,
    QUARTIC,
    RIDGE,
    ROWS,
    TRACE,
    A,
    C,
    H,
    M,
    T,
    W,
    close,
    flat,
    moved,
    network_state,
    ridge_hessian,
    ridge_solution,
    state_of,
)

from jaxnas.hypergradient import (
    conjugate_gradient,
    finite_difference,
    first_order,
    gradient,
    neumann,
    through,
    two_losses,
    unrolled,
)
from jaxnas.strategies.optimizers import clip_norm, heavy_ball

pytestmark = pytest.mark.usefixtures("x64")
RATE = 0.3
_jitted = jax.jit(gradient, static_argnums=(0, 1))


def _unrolled_loss(tx, problem, state, batches):
    """Alpha -> outer loss after a whole step of the optimizer."""

    def loss(alpha):
        grads = jax.grad(problem.inner, has_aux=True)(state.weights, alpha, batches.train)[0]
        weights, _ = moved(tx, grads, state.weights_opt, state.weights)
        return problem.outer(weights, alpha, batches.valid)[0]

    return jax.jit(loss)


def _by_autodiff(tx, problem, state, batches):
    """jax.grad through the whole step of the optimizer."""
    return jax.jit(jax.grad(_unrolled_loss(tx, problem, state, batches)))(state.alpha)


# ------------------------------------------------------------------------------ one look-ahead step


def test_first_order_is_the_direct_part():
    np.testing.assert_array_equal(_jitted(first_order(), QUADRATIC, state_of(W, A), NOTHING), C)


def test_unrolled_of_a_plain_step():
    """w' = w - eta H (w - M a), so dw'/da = eta H M."""
    ahead = W - RATE * H @ (W - M @ A)
    expected = C + (RATE * H @ M).T @ (ahead - T)
    state = state_of(W, A, optax.sgd(RATE).init(W))
    close(_jitted(unrolled(through(optax.sgd(RATE))), QUADRATIC, state, NOTHING), expected)


def test_unrolled_of_a_heavy_ball_that_rolls():
    """b' = mu b + g + decay w shifts w' and leaves dw'/da as it was."""
    momentum, decay = 0.9, 0.2
    ball = heavy_ball(RATE, momentum, decay)
    opt = jax.tree.map(lambda x: jnp.asarray(TRACE), ball.init(W))  # the trace is the whole state
    assert jax.tree.leaves(opt)
    ahead = W - RATE * (momentum * TRACE + H @ (W - M @ A) + decay * W)
    expected = C + (RATE * H @ M).T @ (ahead - T)
    close(_jitted(unrolled(through(ball)), QUADRATIC, state_of(W, A, opt), NOTHING), expected)


@pytest.mark.parametrize("problem", (QUADRATIC, QUARTIC), ids=("quadratic", "quartic"))
def test_unrolled_of_a_clipped_step(problem):
    """An active clip turns the gradient's direction into the step: its derivative is not a multiple of one."""
    limit = 0.1
    tx = optax.chain(clip_norm(limit), heavy_ball(RATE, 0.9, 0.1))
    state = state_of(W, A, tx.init(W))
    norm = np.linalg.norm(jax.grad(problem.inner, has_aux=True)(W, A, ())[0])
    assert norm > 10 * limit
    found = _jitted(unrolled(through(tx)), problem, state, NOTHING)
    close(found, _by_autodiff(tx, problem, state, NOTHING))
    free = _jitted(unrolled(through(tx, part=lambda s: (optax.EmptyState(), *s[1:]))), problem, state, NOTHING)
    close(free, found)  # the clip itself has no state


def test_look_ahead_with_a_part_of_the_optimizer():
    """`part` finds the ball behind the clip, so that the look-ahead is not clipped."""
    ball = heavy_ball(RATE, 0.9, 0.1)
    tx = optax.chain(clip_norm(0.1), ball)
    opt = jax.tree.map(lambda x: jnp.asarray(TRACE), tx.init(W))
    found = _jitted(unrolled(through(ball, part=lambda s: s[1])), QUADRATIC, state_of(W, A, opt), NOTHING)
    close(found, _by_autodiff(ball, QUADRATIC, state_of(W, A, opt[1]), NOTHING))


def test_unrolled_of_adam():
    tx = optax.adam(RATE)
    _, opt = moved(tx, jnp.asarray(TRACE), tx.init(jnp.asarray(W)), jnp.asarray(W))
    found = _jitted(unrolled(through(tx)), QUARTIC, state_of(W, A, opt), NOTHING)
    close(found, _by_autodiff(tx, QUARTIC, state_of(W, A, opt), NOTHING))


# ------------------------------------------------------------------------------- finite differences

_sgd = through(optax.sgd(RATE))


def _estimate(radius, problem=QUARTIC):
    return _jitted(finite_difference(_sgd, radius), problem, state_of(W, A, optax.sgd(RATE).init(W)), NOTHING)


def _exact(problem=QUARTIC):
    return _jitted(unrolled(_sgd), problem, state_of(W, A, optax.sgd(RATE).init(W)), NOTHING)


def test_finite_difference_approaches_unrolled():
    np.testing.assert_allclose(_estimate(1e-4), _exact(), rtol=1e-7)
    errors = [np.abs(_estimate(radius) - _exact()).max() for radius in (0.04, 0.02, 0.01)]
    np.testing.assert_allclose([errors[0] / errors[1], errors[1] / errors[2]], 4, rtol=1e-2)


def test_finite_difference_does_not_depend_on_its_radius():
    """(p - n) / 2 * R in place of (p - n) / 2R would be smaller by R squared."""
    indirect = _exact(QUADRATIC) - C
    assert np.abs(indirect).min() > 1e-2
    for radius in (1.0, 1e-2, 1e-4):
        np.testing.assert_allclose(_estimate(radius, QUADRATIC) - C, indirect, rtol=1e-7)


def test_finite_difference_is_the_official_formula():
    ahead = W - RATE * jax.grad(QUARTIC.inner, has_aux=True)(W, A, ())[0]
    v = ahead - T
    r = 0.01 / np.linalg.norm(v)
    p, n = (jax.grad(QUARTIC.inner, 1, has_aux=True)(W + way * r * v, A, ())[0] for way in (1, -1))
    np.testing.assert_allclose(_estimate(0.01), C - RATE * (p - n) / (2 * r), rtol=1e-10)


def test_finite_difference_where_the_outer_loss_is_flat():
    np.testing.assert_array_equal(_estimate(1e-2, two_losses(QUARTIC.inner, flat)), C)


# ---------------------------------------------------------------------------- implicit differentiation


def _dense(problem):
    """Hessian, mixed derivative [alpha, w] and v as matrices."""
    hessian = jax.hessian(lambda w: problem.inner(w, A, ())[0])(W)
    mixed = jax.jacfwd(lambda w: jax.grad(lambda a: problem.inner(w, a, ())[0])(A))(W)
    return hessian, mixed, W - T


@pytest.mark.parametrize("terms", (0, 1, 3))
def test_neumann_is_the_truncated_series(terms):
    hessian, mixed, v = _dense(QUARTIC)
    eta, power, total = 0.05, np.eye(4), np.zeros((4, 4))
    for _ in range(terms + 1):
        total, power = total + power, power @ (np.eye(4) - eta * hessian)
    found = _jitted(neumann(terms, eta), QUARTIC, state_of(W, A), NOTHING)
    close(found, C - eta * mixed @ total @ v)


def test_neumann_tends_to_the_implicit_gradient():
    """On the quadratic problem this is M^T v: w* = M a."""
    eta = 1 / np.linalg.eigvalsh(H)[-1]
    implicit = C + M.T @ (W - T)
    close(_jitted(neumann(400, eta), QUADRATIC, state_of(W, A), NOTHING), implicit, rtol=1e-9)
    short = _jitted(neumann(2, eta), QUADRATIC, state_of(W, A), NOTHING)
    assert np.abs(short - implicit).max() > 1e-2


def test_conjugate_gradient_on_ridge_regression():
    expected = jax.grad(lambda a: RIDGE.outer(ridge_solution(a), a, ROWS.valid)[0])(PENALTIES)
    state = state_of(ridge_solution(PENALTIES), PENALTIES)
    close(_jitted(conjugate_gradient(4), RIDGE, state, ROWS), expected, rtol=1e-8)
    early = _jitted(conjugate_gradient(1), RIDGE, state, ROWS)
    assert np.abs(early - expected).max() > 1e-4


def test_conjugate_gradient_with_damping():
    damping = 0.7
    weights = ridge_solution(PENALTIES)
    damped = ridge_hessian(PENALTIES) + damping * np.eye(4)
    x, y = ROWS.valid
    v = x.T @ (x @ weights - y) / len(y)
    expected = -np.exp(PENALTIES) * weights * np.linalg.solve(damped, v)
    close(_jitted(conjugate_gradient(4, damping), RIDGE, state_of(weights, PENALTIES), ROWS), expected, rtol=1e-8)


@pytest.mark.parametrize("scale", (1.0, 1e-3))
def test_conjugate_gradient_with_iterations_to_spare(scale):
    """In float32, long after the residual has vanished, the solution is still there."""
    single = lambda x: jnp.asarray(x, jnp.float32)
    h, m, t = single(scale * H), single(M), single(T)

    def inner(weights, alpha, batch):
        r = weights - m @ alpha
        return r @ h @ r / 2, {}

    problem = two_losses(inner, lambda weights, alpha, batch: (jnp.sum(jnp.square(weights - t)) / 2, {}))
    found = _jitted(conjugate_gradient(200), problem, state_of(single(W), single(A)), NOTHING)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, M.T @ (W - T), rtol=1e-3, atol=1e-4)


def test_implicit_gradients_where_the_outer_loss_is_flat():
    problem = two_losses(QUADRATIC.inner, flat)
    for hypergradient in (neumann(2, 0.1), conjugate_gradient(3)):
        np.testing.assert_array_equal(_jitted(hypergradient, problem, state_of(W, A), NOTHING), C)


@pytest.mark.parametrize(
    "make",
    (
        lambda: neumann(-1, 0.1),
        lambda: neumann(2, 0.0),
        lambda: neumann(2, -0.1),
        lambda: conjugate_gradient(0),
        lambda: conjugate_gradient(3, -1.0),
    ),
)
def test_bad_arguments(make):
    with pytest.raises(ValueError, match=r">= [01]"):
        make()


# ------------------------------------------------------------------------------------ a small network


def test_unrolled_is_the_dense_mixed_derivative():
    """-eta (d^2 L_inner / dalpha dw)^T v with the whole matrix written out."""
    state = network_state(optax.sgd(RATE))
    weights, restore = ravel_pytree(state.weights)
    inner, outer = (lambda w, a, rows=rows: NETWORK.inner(restore(w), {"cell": a}, rows)[0] for rows in POINTS)

    @jax.jit
    def dense(w, a):
        ahead = w - RATE * jax.grad(inner)(w, a)
        mixed = jax.jacfwd(jax.grad(inner), 1)(w, a)  # [w, alpha]
        v, direct = jax.grad(outer, (0, 1))(ahead, a)
        return direct - RATE * mixed.T @ v, direct

    expected, direct = dense(weights, jnp.asarray(state.alpha["cell"]))
    assert np.abs(expected - direct).max() > 1e-2
    found = _jitted(unrolled(_sgd), NETWORK, state, POINTS)
    close(found["cell"], expected)


@pytest.mark.parametrize("tx", (heavy_ball(RATE, 0.9, 0.1), optax.adam(0.1)), ids=("heavy_ball", "adam"))
def test_unrolled_is_the_slope_of_the_unrolled_loss(tx):
    state = network_state(tx)
    loss = _unrolled_loss(tx, NETWORK, state, POINTS)
    ways = 1e-5 * np.eye(3)
    at = lambda way: loss({"cell": state.alpha["cell"] + way})
    slopes = [(at(way) - at(-way)) / 2e-5 for way in ways]
    found = _jitted(unrolled(through(tx)), NETWORK, state, POINTS)
    np.testing.assert_allclose(found["cell"], slopes, rtol=1e-6, atol=1e-9)


EVERY = {
    "first_order": first_order(),
    "unrolled": unrolled(_sgd),
    "finite_difference": finite_difference(_sgd),
    "neumann": neumann(2, 0.05),
    "conjugate_gradient": conjugate_gradient(3, damping=5.0),
}


@pytest.mark.parametrize("name", EVERY)
def test_eager_compiled_and_batched_agree(name):
    state = network_state(optax.sgd(RATE))
    alphas = {"cell": jnp.stack([state.alpha["cell"], 2 * state.alpha["cell"] + 1])}
    whole = lambda alpha: gradient(EVERY[name], NETWORK, state._replace(alpha=alpha), POINTS)
    compiled = jax.jit(whole)
    one, two = ({"cell": alphas["cell"][i]} for i in range(2))
    close(compiled(one), whole(one), rtol=1e-9)
    batched = jax.jit(jax.vmap(whole))(alphas)
    close(batched, {"cell": jnp.stack([compiled(one)["cell"], compiled(two)["cell"]])}, rtol=1e-9)
    assert np.abs(batched["cell"][0] - batched["cell"][1]).max() > 1e-3
