"""Dirichlet gates, their divergence, and the row made of them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from problems import NOTHING
from scipy import special

from jaxnas.hypergradient import two_losses
from jaxnas.spaces.darts import darts, s3
from jaxnas.strategies.algorithms import dr_nas
from jaxnas.strategies.draws import concentration, dirichlet, dirichlet_divergence
from jaxnas.strategies.optimizers import plus_gradient

STEP = jnp.int32(0)
ALPHA = np.array([-1.0, 0.0, 0.7])


def test_concentrations_are_elu_plus_one(x64):
    alpha = jnp.array([-40.0, -1.0, 0.0, 2.0])
    np.testing.assert_allclose(concentration(alpha), [np.exp(-40), np.exp(-1), 1, 3], rtol=1e-12)
    np.testing.assert_allclose(jax.grad(lambda a: concentration(a).sum())(alpha), [np.exp(-40), np.exp(-1), 1, 1])
    assert np.isfinite(jax.grad(lambda a: concentration(a).sum())(jnp.array([800.0]))).all()


def test_draws_have_the_mean_of_the_distribution_and_its_slope(key):
    """E g = c / sum c over living operations; the average slope of draws of g_o is that of E g_o."""
    space = s3(channels=4, layers=3)
    mask = np.ones((14, 3), bool)
    mask[2, 0] = False
    space = space.with_alive({"normal": mask, "reduce": mask})
    alpha = {cell: jnp.tile(jnp.asarray(ALPHA, jnp.float32), (14, 1)) for cell in space.cells}
    draws = jax.random.split(key, 500)

    def average(alpha):
        gates = jax.vmap(lambda k: dirichlet().sample(k, alpha, space, STEP)["normal"].ops)(draws)
        return gates.mean(0)

    gates, pull = jax.vjp(average, alpha)
    assert not gates[2, 0]
    np.testing.assert_allclose(gates.sum(-1), 1, rtol=1e-5)
    c = np.asarray(concentration(jnp.asarray(ALPHA, jnp.float32)), np.float64)
    np.testing.assert_allclose(np.delete(gates, 2, 0).mean(0), c / c.sum(), atol=0.01)  # of 6,500 draws
    np.testing.assert_allclose(gates[2, 1:], c[1:] / c[1:].sum(), atol=0.06)
    slope = np.delete(pull(jnp.zeros((14, 3)).at[:, 2].set(1.0))[0]["normal"], 2, 0).mean(0)
    expected = -c[2] / c.sum() ** 2 * np.minimum(c, 1)  # dc/da is exp(a) below 0, 1 above
    expected[2] = c[:2].sum() / c.sum() ** 2
    np.testing.assert_allclose(slope, expected, atol=0.01)


def test_the_divergence_is_its_formula_and_zero_at_zero(draw, x64):
    """KL(Dirichlet(c) || Dirichlet(1)) by the formula of its entropy and cross entropy."""
    alpha = {"normal": jnp.asarray(draw((5, 4))), "reduce": jnp.asarray(draw((5, 4)))}
    expected = 0.0
    for table in alpha.values():
        c = np.where(table > 0, 1 + table, np.exp(table))
        log_beta = special.gammaln(c).sum(-1) - special.gammaln(c.sum(-1))
        mean_log = special.digamma(c) - special.digamma(c.sum(-1, keepdims=True))
        expected += (((c - 1) * mean_log).sum(-1) - log_beta - special.gammaln(4)).sum()
    np.testing.assert_allclose(dirichlet_divergence(alpha), expected, rtol=1e-12)
    zero = jax.tree.map(jnp.zeros_like, alpha)
    value, slope = jax.value_and_grad(dirichlet_divergence)(zero)
    np.testing.assert_allclose(value, 0, atol=1e-12)
    np.testing.assert_allclose(slope["normal"], 0, atol=1e-12)


@pytest.mark.parametrize("name", ["square", "divergence"])
def test_alpha_rests_and_then_moves_along_a_regularised_gradient(name, draw, x64):
    """Adam's first moment is half of the gradient and 1e-3 times that of half the square, or of the divergence."""
    of = {"square": lambda a: jnp.square(a).sum() / 2, "divergence": dirichlet_divergence}[name]
    options = {} if name == "square" else {"regularizer": partial(plus_gradient, dirichlet_divergence)}
    loss = lambda w, a, batch: (jnp.sin(a).sum() + w.sum(), {})
    solver = dr_nas(10, rest=1, **options).solver
    state = solver.init(jnp.zeros(2), jnp.asarray(draw((3, 4))))
    step = jax.jit(partial(solver.step, two_losses(loss, loss)))
    first, _ = step(state, NOTHING)
    np.testing.assert_array_equal(first.alpha, state.alpha)
    second, _ = step(first, NOTHING)
    expected = (jnp.cos(state.alpha) + 1e-3 * jax.grad(of)(state.alpha)) / 2
    np.testing.assert_allclose(optax.tree.get(second.alpha_opt, "mu"), expected, rtol=1e-10)
    np.testing.assert_allclose(np.abs(second.alpha - state.alpha), 6e-4, rtol=1e-6)


def test_the_row_keeps_a_sixth_of_the_channels_and_may_choose_none():
    space, row = darts(channels=36, layers=3), dr_nas(25)
    assert row.mixing.width(36) == 6 and dr_nas(25, divisor=4).mixing.width(36) == 9
    alpha = {cell: jnp.zeros((14, 8)).at[:, 0].set(0.1) for cell in space.cells}
    genotype = row.decode(jax.device_get(row.relaxation.mean(alpha, space)), space)
    assert genotype.count("none") == 16
