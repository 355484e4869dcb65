"""Hypergradients against closed forms, dense matrices and plain autodiff: float64, no cell, no flax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from jaxnas.hypergradient import (
    Batches,
    BilevelState,
    conjugate_gradient,
    finite_difference,
    first_order,
    gradient,
    neumann,
    through,
    two_losses,
    unrolled,
)
from jaxnas.strategies.algorithms import clip_norm, heavy_ball

pytestmark = pytest.mark.usefixtures("x64")
RATE = 0.3

_draw = np.random.default_rng(0).standard_normal
M, W, A, T, C, TRACE = _draw((4, 3)), _draw(4), _draw(3), _draw(4), _draw(3), _draw(4)
_root = _draw((4, 4))
H = _root @ _root.T / 4 + 0.5 * np.eye(4)


def _state(weights, alpha, weights_opt=()):
    return BilevelState(jnp.zeros((), jnp.int32), weights, alpha, weights_opt, ())


def _quadratic(weights, alpha, batch):
    r = weights - M @ alpha
    return r @ H @ r / 2, {}


def _quartic(weights, alpha, batch):
    """Not quadratic, so that the Hessian depends on the weights and differences have an error."""
    return _quadratic(weights, alpha, batch)[0] + jnp.sum((weights - M @ alpha) ** 4) / 4, {}


def _distance(weights, alpha, batch):
    return jnp.sum(jnp.square(weights - T)) / 2 + C @ alpha, {}


QUADRATIC, QUARTIC = two_losses(_quadratic, _distance), two_losses(_quartic, _distance)
NOTHING = Batches((), ())
_jitted = jax.jit(gradient, static_argnums=(0, 1))


def _update(tx, *args):
    """tx.update; optax divides by the integers it counts in, which strict promotion forbids."""
    with jax.numpy_dtype_promotion("standard"):
        return tx.update(*args)


def _by_autodiff(tx, problem, state, batches):
    """jax.grad through the whole step of the optimizer."""

    def loss(alpha):
        grads = jax.grad(problem.inner, has_aux=True)(state.weights, alpha, batches.train)[0]
        updates, _ = _update(tx, grads, state.weights_opt, state.weights)
        return problem.outer(optax.apply_updates(state.weights, updates), alpha, batches.valid)[0]

    return jax.jit(jax.grad(loss))(state.alpha)


def _close(actual, expected, rtol=1e-10, atol=1e-12):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), actual, expected)


# ------------------------------------------------------------------------------ one look-ahead step


def test_first_order_is_the_direct_part():
    np.testing.assert_array_equal(_jitted(first_order(), QUADRATIC, _state(W, A), NOTHING), C)


def test_unrolled_of_a_plain_step():
    """w' = w - eta H (w - M a), so dw'/da = eta H M."""
    ahead = W - RATE * H @ (W - M @ A)
    expected = C + (RATE * H @ M).T @ (ahead - T)
    state = _state(W, A, optax.sgd(RATE).init(W))
    _close(_jitted(unrolled(through(optax.sgd(RATE))), QUADRATIC, state, NOTHING), expected)


def test_unrolled_of_a_heavy_ball_that_rolls():
    """b' = mu b + g + decay w shifts w' and leaves dw'/da as it was."""
    momentum, decay = 0.9, 0.2
    ball = heavy_ball(RATE, momentum, decay)
    opt = jax.tree.map(lambda x: jnp.asarray(TRACE), ball.init(W))  # the trace is the whole state
    assert jax.tree.leaves(opt)
    ahead = W - RATE * (momentum * TRACE + H @ (W - M @ A) + decay * W)
    expected = C + (RATE * H @ M).T @ (ahead - T)
    _close(_jitted(unrolled(through(ball)), QUADRATIC, _state(W, A, opt), NOTHING), expected)


@pytest.mark.parametrize("problem", (QUADRATIC, QUARTIC), ids=("quadratic", "quartic"))
def test_unrolled_of_a_clipped_step(problem):
    """An active clip turns the gradient's direction into the step: its derivative is not a multiple of one."""
    limit = 0.1
    tx = optax.chain(clip_norm(limit), heavy_ball(RATE, 0.9, 0.1))
    state = _state(W, A, tx.init(W))
    norm = np.linalg.norm(jax.grad(problem.inner, has_aux=True)(W, A, ())[0])
    assert norm > 10 * limit
    found = _jitted(unrolled(through(tx)), problem, state, NOTHING)
    _close(found, _by_autodiff(tx, problem, state, NOTHING))
    free = _jitted(unrolled(through(tx, part=lambda s: (optax.EmptyState(), *s[1:]))), problem, state, NOTHING)
    _close(free, found)  # the clip itself has no state


def test_look_ahead_with_a_part_of_the_optimizer():
    """`part` finds the ball behind the clip, so that the look-ahead is not clipped."""
    ball = heavy_ball(RATE, 0.9, 0.1)
    tx = optax.chain(clip_norm(0.1), ball)
    opt = jax.tree.map(lambda x: jnp.asarray(TRACE), tx.init(W))
    found = _jitted(unrolled(through(ball, part=lambda s: s[1])), QUADRATIC, _state(W, A, opt), NOTHING)
    _close(found, _by_autodiff(ball, QUADRATIC, _state(W, A, opt[1]), NOTHING))


def test_unrolled_of_adam():
    tx = optax.adam(RATE)
    _, opt = _update(tx, jnp.asarray(TRACE), tx.init(jnp.asarray(W)))
    found = _jitted(unrolled(through(tx)), QUARTIC, _state(W, A, opt), NOTHING)
    _close(found, _by_autodiff(tx, QUARTIC, _state(W, A, opt), NOTHING))


# ------------------------------------------------------------------------------- finite differences

_sgd = through(optax.sgd(RATE))


def _estimate(radius, problem=QUARTIC, weights=W):
    return _jitted(finite_difference(_sgd, radius), problem, _state(weights, A, optax.sgd(RATE).init(W)), NOTHING)


def _exact(problem=QUARTIC):
    return _jitted(unrolled(_sgd), problem, _state(W, A, optax.sgd(RATE).init(W)), NOTHING)


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
    ahead = W - RATE * jax.grad(_quartic, has_aux=True)(W, A, ())[0]
    v = ahead - T
    r = 0.01 / np.linalg.norm(v)
    p, n = (jax.grad(_quartic, 1, has_aux=True)(W + way * r * v, A, ())[0] for way in (1, -1))
    np.testing.assert_allclose(_estimate(0.01), C - RATE * (p - n) / (2 * r), rtol=1e-10)


def test_finite_difference_where_the_outer_loss_is_flat():
    flat = two_losses(_quartic, lambda weights, alpha, batch: (C @ alpha + 0 * weights.sum(), {}))
    np.testing.assert_array_equal(_estimate(1e-2, flat), C)


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
    found = _jitted(neumann(terms, eta), QUARTIC, _state(W, A), NOTHING)
    _close(found, C - eta * mixed @ total @ v)


def test_neumann_tends_to_the_implicit_gradient():
    """On the quadratic problem this is M^T v: w* = M a."""
    eta = 1 / np.linalg.eigvalsh(H)[-1]
    implicit = C + M.T @ (W - T)
    _close(_jitted(neumann(400, eta), QUADRATIC, _state(W, A), NOTHING), implicit, rtol=1e-9)
    short = _jitted(neumann(2, eta), QUADRATIC, _state(W, A), NOTHING)
    assert np.abs(short - implicit).max() > 1e-2


_x, _y, _xv, _yv = _draw((8, 4)), _draw(8), _draw((6, 4)), _draw(6)


def _ridge(weights, alpha, batch):
    x, y = batch
    return jnp.mean(jnp.square(x @ weights - y)) / 2 + jnp.sum(jnp.exp(alpha) * jnp.square(weights)) / 2, {}


def _squares(weights, alpha, batch):
    x, y = batch
    return jnp.mean(jnp.square(x @ weights - y)) / 2, {}


RIDGE, DATA = two_losses(_ridge, _squares), Batches((_x, _y), (_xv, _yv))
PENALTIES = _draw(4) / 2


def _solution(alpha):
    return jnp.linalg.solve(_x.T @ _x / len(_y) + jnp.diag(jnp.exp(alpha)), _x.T @ _y / len(_y))


def test_conjugate_gradient_on_ridge_regression():
    expected = jax.grad(lambda a: _squares(_solution(a), a, DATA.valid)[0])(PENALTIES)
    state = _state(_solution(PENALTIES), PENALTIES)
    _close(_jitted(conjugate_gradient(4), RIDGE, state, DATA), expected, rtol=1e-8)
    early = _jitted(conjugate_gradient(1), RIDGE, state, DATA)
    assert np.abs(early - expected).max() > 1e-4


def test_conjugate_gradient_with_damping():
    damping = 0.7
    weights = _solution(PENALTIES)
    damped = _x.T @ _x / len(_y) + np.diag(np.exp(PENALTIES)) + damping * np.eye(4)
    v = _xv.T @ (_xv @ weights - _yv) / len(_yv)
    expected = -np.exp(PENALTIES) * weights * np.linalg.solve(damped, v)
    _close(_jitted(conjugate_gradient(4, damping), RIDGE, _state(weights, PENALTIES), DATA), expected, rtol=1e-8)


@pytest.mark.parametrize("scale", (1.0, 1e-3))
def test_conjugate_gradient_with_iterations_to_spare(scale):
    """In float32, long after the residual has vanished, the solution is still there."""
    single = lambda x: jnp.asarray(x, jnp.float32)
    h, m, t = single(scale * H), single(M), single(T)

    def inner(weights, alpha, batch):
        r = weights - m @ alpha
        return r @ h @ r / 2, {}

    problem = two_losses(inner, lambda weights, alpha, batch: (jnp.sum(jnp.square(weights - t)) / 2, {}))
    found = _jitted(conjugate_gradient(200), problem, _state(single(W), single(A)), NOTHING)
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, M.T @ (W - T), rtol=1e-3, atol=1e-4)


def test_implicit_gradients_where_the_outer_loss_is_flat():
    flat = two_losses(_quadratic, lambda weights, alpha, batch: (C @ alpha + 0 * weights.sum(), {}))
    for hypergradient in (neumann(2, 0.1), conjugate_gradient(3)):
        np.testing.assert_array_equal(_jitted(hypergradient, flat, _state(W, A), NOTHING), C)


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

_weights = {"in": _draw((2, 4)), "bias": _draw(4), "out": _draw(4)}
_alpha = {"cell": _draw(3)}
_data = Batches((_draw((5, 2)), _draw(5)), (_draw((5, 2)), _draw(5)))


def _network(weights, alpha, batch):
    x, y = batch
    before = x @ weights["in"] + weights["bias"][None]
    gates = jax.nn.softmax(alpha["cell"])
    mixed = sum(g * f(before) for g, f in zip(gates, (jnp.tanh, jnp.sin, jax.nn.softplus), strict=True))
    return jnp.mean(jnp.square(mixed @ weights["out"] - y)), {}


NETWORK = two_losses(_network, _network)


def _start(tx):
    weights = jax.tree.map(jnp.asarray, _weights)
    _, opt = _update(tx, jax.tree.map(jnp.cos, weights), tx.init(weights), weights)
    return _state(weights, _alpha, opt)


def test_unrolled_is_the_dense_mixed_derivative():
    """-eta (d^2 L_inner / dalpha dw)^T v with the whole matrix written out."""
    flat, restore = ravel_pytree(jax.tree.map(jnp.asarray, _weights))
    inner = lambda w, a: _network(restore(w), {"cell": a}, _data.train)[0]
    outer = lambda w, a: _network(restore(w), {"cell": a}, _data.valid)[0]
    alpha = jnp.asarray(_alpha["cell"])

    @jax.jit
    def dense(w, a):
        ahead = w - RATE * jax.grad(inner)(w, a)
        mixed = jax.jacfwd(jax.grad(inner), 1)(w, a)  # [w, alpha]
        v, direct = jax.grad(outer, (0, 1))(ahead, a)
        return direct - RATE * mixed.T @ v, direct

    expected, direct = dense(flat, alpha)
    assert np.abs(expected - direct).max() > 1e-2
    found = _jitted(unrolled(_sgd), NETWORK, _start(optax.sgd(RATE)), _data)
    _close(found["cell"], expected)


@pytest.mark.parametrize("tx", (heavy_ball(RATE, 0.9, 0.1), optax.adam(0.1)), ids=("heavy_ball", "adam"))
def test_unrolled_is_the_slope_of_the_unrolled_loss(tx):
    state = _start(tx)

    @jax.jit
    def loss(alpha):
        grads = jax.grad(_network, has_aux=True)(state.weights, {"cell": alpha}, _data.train)[0]
        updates, _ = _update(tx, grads, state.weights_opt, state.weights)
        return _network(optax.apply_updates(state.weights, updates), {"cell": alpha}, _data.valid)[0]

    ways = 1e-5 * np.eye(3)
    slopes = [(loss(_alpha["cell"] + way) - loss(_alpha["cell"] - way)) / 2e-5 for way in ways]
    found = _jitted(unrolled(through(tx)), NETWORK, state, _data)
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
    state = _start(optax.sgd(RATE))
    alphas = {"cell": jnp.stack([state.alpha["cell"], 2 * state.alpha["cell"] + 1])}
    whole = lambda alpha: gradient(EVERY[name], NETWORK, state._replace(alpha=alpha), _data)
    compiled = jax.jit(whole)
    one, two = ({"cell": alphas["cell"][i]} for i in range(2))
    _close(compiled(one), whole(one), rtol=1e-9)
    batched = jax.jit(jax.vmap(whole))(alphas)
    _close(batched, {"cell": jnp.stack([compiled(one)["cell"], compiled(two)["cell"]])}, rtol=1e-9)
    assert np.abs(batched["cell"][0] - batched["cell"][1]).max() > 1e-3
