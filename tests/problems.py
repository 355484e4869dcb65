"""Bilevel problems with known answers, for the tests of solvers and hypergradients: float64, no cell, no flax."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnas.hypergradient import Batches, BilevelState, two_losses

_draw = np.random.default_rng(0).standard_normal
NOTHING = Batches((), ())


def state_of(weights, alpha, weights_opt=()):
    """A state at which only a hypergradient is wanted."""
    return BilevelState(jnp.zeros((), jnp.int32), weights, alpha, weights_opt, ())


def moved(tx, grads, opt, params):
    """(params', opt') of one optax step, which divides by the integers it counts in: not strict promotion."""
    with jax.numpy_dtype_promotion("standard"):
        updates, opt = tx.update(grads, opt, params)
    return optax.apply_updates(params, updates), opt


def close(actual, expected, rtol=1e-10, atol=1e-12):
    """Equal trees within a tolerance."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=rtol, atol=atol), actual, expected)


def stack(trees):
    """One tree of stacked arrays."""
    return jax.tree.map(lambda *xs: jnp.stack(xs), *trees)


# ------------------------------------------------------------------ weights that come to rest at w* = M a

M, W, A, T, C, TRACE = _draw((4, 3)), _draw(4), _draw(3), _draw(4), _draw(3), _draw(4)
_root = _draw((4, 4))
H = _root @ _root.T / 4 + 0.5 * np.eye(4)


def quadratic(weights, alpha, batch):
    """Half the square of w - M a, measured by H."""
    r = weights - M @ alpha
    return r @ H @ r / 2, {}


def quartic(weights, alpha, batch):
    """Not quadratic, so that the Hessian depends on the weights and differences have an error."""
    return quadratic(weights, alpha, batch)[0] + jnp.sum((weights - M @ alpha) ** 4) / 4, {}


def distance(weights, alpha, batch):
    """Outer loss: half the square of w - T, so v = w - T, and a direct part C."""
    return jnp.sum(jnp.square(weights - T)) / 2 + C @ alpha, {}


def flat(weights, alpha, batch):
    """Outer loss: the direct part alone."""
    return C @ alpha + 0 * weights.sum(), {}


QUADRATIC, QUARTIC = two_losses(quadratic, distance), two_losses(quartic, distance)

# --------------------------------------------------------------- ridge regression, a penalty for each weight

_x, _y, _xv, _yv = _draw((8, 4)), _draw(8), _draw((6, 4)), _draw(6)
ROWS = Batches((_x, _y), (_xv, _yv))
PENALTIES = _draw(4) / 2


def squares(weights, alpha, batch):
    """Outer loss: half the mean square."""
    x, y = batch
    return jnp.mean(jnp.square(x @ weights - y)) / 2, {}


def ridge(weights, alpha, batch):
    """The same with penalties exp(alpha)."""
    return squares(weights, alpha, batch)[0] + jnp.sum(jnp.exp(alpha) * jnp.square(weights)) / 2, {}


def ridge_hessian(alpha):
    """Second derivative of the inner loss along the weights."""
    return _x.T @ _x / len(_y) + jnp.diag(jnp.exp(alpha))


def ridge_solution(alpha):
    """Weights at rest."""
    return jnp.linalg.solve(ridge_hessian(alpha), _x.T @ _y / len(_y))


RIDGE = two_losses(ridge, squares)

# ------------------------------------------------------------------------------------------ a small network

_weights = {"in": _draw((2, 4)), "bias": _draw(4), "out": _draw(4)}
_alpha = {"cell": _draw(3)}
POINTS = Batches((_draw((5, 2)), _draw(5)), (_draw((5, 2)), _draw(5)))


def network(weights, alpha, batch):
    """One hidden layer; alpha mixes three activations."""
    x, y = batch
    before = x @ weights["in"] + weights["bias"][None]
    gates = jax.nn.softmax(alpha["cell"])
    mixed = sum(g * f(before) for g, f in zip(gates, (jnp.tanh, jnp.sin, jax.nn.softplus), strict=True))
    return jnp.mean(jnp.square(mixed @ weights["out"] - y)), {}


NETWORK = two_losses(network, network)


def network_state(tx):
    """A state with an optimizer that has seen a gradient."""
    weights = jax.tree.map(jnp.asarray, _weights)
    return state_of(weights, _alpha, moved(tx, jax.tree.map(jnp.cos, weights), tx.init(weights), weights)[1])
