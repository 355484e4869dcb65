"""Curvature in alpha against closed forms and against `jax.hessian`; agreement of seeds by hand."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from draws import two_cells
from jax.flatten_util import ravel_pytree
from problems import H, M, state_of

from jaxnas.data import Batch
from jaxnas.evaluation.diagnostics import (
    agreement,
    alpha_curvature,
    correlation,
    estimated_spectrum,
    estimated_trace,
    hessian,
    lanczos,
    spectrum,
)
from jaxnas.hypergradient import OUTER, Batches, first_order, two_losses
from jaxnas.search import Search, SearchState, bind
from jaxnas.spaces.darts import s2
from jaxnas.spaces.genotype import genotype
from jaxnas.strategies.algorithms import darts

KNOWN = 2.0 * M.T @ H @ M  # of the outer loss below: alpha comes in two parts, and the weights count as constants


def outer(weights, alpha, batch):
    """Quadratic in alpha, which is a tree; `batch` scales it."""
    a = jnp.concatenate([alpha["first"], alpha["second"].reshape(-1)])
    r = weights - M @ a
    return batch * (r @ H @ r) / 2, {}


def known(decay=0.0):
    weights, alpha = jnp.arange(4.0), {"first": jnp.ones(1), "second": jnp.ones((1, 2))}
    return alpha_curvature(two_losses(outer, outer), weights, alpha, 2.0, decay)


@pytest.mark.parametrize("chunk", [1, 2, 8])
def test_hessian_and_gradient_of_a_quadratic(chunk, x64):
    """In the order of the flattened tree; a chunk need not divide the size; the decay is no part of the gradient."""
    matrix, gradient = jax.jit(partial(hessian, known(0.25), chunk))()
    np.testing.assert_allclose(matrix, KNOWN + 0.25 * np.eye(3), rtol=1e-12)
    np.testing.assert_allclose(gradient, -2.0 * M.T @ H @ (np.arange(4.0) - M @ np.ones(3)), rtol=1e-12)


def test_lanczos_finds_the_ends_and_then_all(key, x64):
    expected = np.linalg.eigvalsh(KNOWN)
    np.testing.assert_allclose(lanczos(known(), key, 3), expected, rtol=1e-10)
    ends = np.r_[-4.0, np.linspace(-1, 1, 38), 6.0]  # of 40 eigenvalues
    basis, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((40, 40)))
    matrix = jnp.asarray(basis * ends @ basis.T)
    large = known()._replace(product=lambda v: (matrix @ v, v), like=jnp.zeros(40))
    found = lanczos(large, key, 14)
    np.testing.assert_allclose(found[np.array([0, -1])], [-4, 6], rtol=1e-6)
    np.testing.assert_allclose(lanczos(large, key, 40), np.sort(ends), atol=1e-10)  # orthogonal to the end


@pytest.mark.parametrize("values, expected", [((-3.0, -3.0, -3.0), [-3, -3, -3]), ((-2.0, -2.0, -5.0), [-5, -2])])
def test_lanczos_stops_where_nothing_is_left_to_span(values, expected, key, x64):
    """Equal eigenvalues end it early; what fills up must not pass for an eigenvalue at 0."""
    some = known()._replace(product=lambda v: (jnp.array(values) * v, v))
    found = lanczos(some, key, 3)
    np.testing.assert_allclose([found[0], found[-1]], [min(expected), max(expected)], rtol=1e-12)


def test_estimated_trace(key, x64):
    """Exact where nothing is off the diagonal; else right within a few of its standard errors."""
    diagonal = known()._replace(product=lambda v: (jnp.arange(1.0, 4.0) * v, v))
    np.testing.assert_allclose(estimated_trace(diagonal, key, 1), 6.0, rtol=1e-12)
    error = np.sqrt(2 * ((KNOWN - np.diag(np.diag(KNOWN))) ** 2).sum() / 2000)
    assert abs(estimated_trace(known(), key, 2000) - np.trace(KNOWN)) < 4 * error


@pytest.mark.parametrize("call", [lambda: hessian(known(), 0), lambda: lanczos(known(), jax.random.key(0), 4)])
def test_bad_settings(call):
    with pytest.raises(ValueError, match="1"):
        call()


def compiled(function, *args):
    """Compiled fast, not to fast code; it runs once."""
    return jax.jit(function).lower(*args).compile(compiler_options={"xla_backend_optimization_level": 0})(*args)


def test_spectrum_of_a_search_is_that_of_jax_hessian(key, x64):
    """S2, 56 numbers in alpha, float64; against the eigenvalues of jax.hessian of the same loss."""
    space = two_cells(s2(channels=2, layers=3, image=(8, 8, 3)))
    search = bind(darts(10, hypergradient=first_order()), space)
    state, batch = compiled(search.init, key), Batch(jax.random.normal(key, (4, 8, 8, 3)), jnp.arange(4))
    batches = Batches(batch._replace(image=batch.image * jnp.nan), batch)  # the training batch plays no part
    found = compiled(spectrum(search), state, batches)
    flat, unravel = ravel_pytree(state.bilevel.alpha)
    loss = lambda a: search.problem(state).loss(OUTER, state.bilevel.weights, unravel(a), batch)[0]
    values = np.linalg.eigvalsh(compiled(jax.hessian(loss), flat))
    assert flat.size == 56 and flat.dtype == float and values[-1] > 1e-4
    np.testing.assert_allclose(found["curvature"], values[-1] + 1e-3, rtol=1e-10)
    np.testing.assert_allclose(found["trace"], values.sum() + 56e-3, rtol=1e-10)


def test_both_spectra_of_one_state(x64):
    """A search whose loss is the quadratic; its estimate needs no more products than alpha has numbers."""
    weights, alpha = jnp.arange(4.0), {"first": jnp.ones(1), "second": jnp.ones((1, 2))}
    state = SearchState(jax.random.key(3), state_of(weights, alpha))
    search = Search(**dict.fromkeys(Search._fields))._replace(problem=lambda state: two_losses(None, outer))
    exact, estimate = (make(search, decay=0.5)(state, Batches(None, 2.0)) for make in (spectrum, estimated_spectrum))
    assert exact["curvature"] == pytest.approx(np.linalg.eigvalsh(KNOWN)[-1] + 0.5, rel=1e-12)
    assert estimate["curvature"] == pytest.approx(float(exact["curvature"]), rel=1e-10)
    slope = np.linalg.norm(M.T @ H @ (np.arange(4.0) - M @ np.ones(3)))
    assert exact["alpha_slope"] == pytest.approx(2 * slope, rel=1e-12)


def found_by(*ops):
    return genotype(
        "s",
        {"normal": [(op, i, 2) for i, op in enumerate(ops)], "reduce": [("a", 0, 2)]},
        {"normal": [2], "reduce": [2]},
    )


def test_agreement_is_the_share_of_equal_choices():
    assert agreement([found_by("a", "b"), found_by("a", "b")]) == 1
    assert agreement([found_by("a", "b"), found_by("a", "c"), found_by("a", "b")]) == pytest.approx((2 / 3 * 2 + 1) / 3)
    assert agreement([found_by("a", "b"), found_by("a")]) == pytest.approx(4 / 5)  # 2 of 3 and of 2
    with pytest.raises(ValueError, match="at least two"):
        agreement([found_by("a")])


def test_correlation_of_scores(draw):
    one = {"normal": draw((2, 3)), "reduce": draw((2, 3))}
    other = {"reduce": draw((2, 3)), "normal": draw((2, 3))}
    opposite = {cell: 1 - table for cell, table in one.items()}
    flat = [np.r_[found["normal"].ravel(), found["reduce"].ravel()] for found in (one, other)]
    assert correlation([one, other]) == pytest.approx(np.corrcoef(*flat)[0, 1])
    assert correlation([one, opposite]) == pytest.approx(-1)
    assert correlation([one, {cell: np.ones((2, 3)) for cell in one}]) == 0
