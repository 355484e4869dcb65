"""Norms that do not wait for each other are made together: how many are left, and that no number changes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.spaces.bilinear import beside_channels, is_beside
from jaxnas.spaces.lockstep import each, in_lockstep, marked

pytestmark = pytest.mark.smoke

X = (2, 4, 4, 3)
ONE, THREE = np.ones(1, np.float32), np.arange(1, 4, dtype=np.float32)


def _wide(scale, x):
    return each(scale, x.shape[-1]).astype(x.dtype).reshape(1, 1, 1, -1)


@jax.jit
def standard(x, scale):
    """What is counted: around the mean, over the deviation, times the scale."""
    y = centred(x, jnp.ones(1, x.dtype))
    return _wide(scale, x) * y / jnp.sqrt(jnp.square(y).mean((0, 1, 2), keepdims=True) + 1e-5)


@jax.jit
def centred(x, scale):
    """Another norm of the same name."""
    return _wide(scale, x) * (x - x.mean((0, 1, 2), keepdims=True))


norm, other = marked(standard), marked(centred)


def _draw(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape))


def _close(actual, expected, rtol=1e-9):
    jax.tree.map(partial(np.testing.assert_allclose, rtol=rtol, atol=1e-10), actual, expected)


def _widths(function, *args):
    """Channels of each norm that is made, in order."""
    eqns = jax.make_jaxpr(in_lockstep(function))(*args).eqns
    return [eqn.invars[0].aval.shape[-1] for eqn in eqns if eqn.params.get("name") in ("standard", "centred")]


def six(x, scale):
    """Six norms that need x only."""
    return sum(norm(jnp.sin((i + 1) * x), scale) for i in range(6))


def chain(x, scale):
    """Each of three needs the one before."""
    for _ in range(3):
        x = norm(jnp.tanh(x), scale)
    return x


def candidates(x, scale):
    """As those of an edge: four of one norm and two of two; the latter wait for their own only."""
    short = [norm(jnp.sin((i + 1) * x), scale) for i in range(4)]
    long = [norm(jnp.tanh(norm(jnp.cos((i + 1) * x), scale)), scale) for i in range(2)]
    return sum(short + long)


def nested(x, scale):
    """Norms inside compiled, recomputed, conditional and repeated parts, between norms of its own."""
    inner = lambda x: norm(jnp.sin(x), scale)
    x = norm(x, scale) + jax.jit(inner)(x) + jax.checkpoint(inner)(x)
    x = jax.lax.cond(x.sum() > 0, inner, lambda x: inner(2 * x), x)
    return norm(jax.lax.scan(lambda x, _: (x + inner(x), None), x, None, 2)[0], scale)


FUNCTIONS = {"six": six, "chain": chain, "candidates": candidates, "nested": nested}


@pytest.mark.parametrize(("name", "widths"), (("six", [18]), ("chain", [3, 3, 3]), ("candidates", [18, 6])))
@pytest.mark.parametrize("scale", (ONE, THREE), ids=("one scale", "a scale for each channel"))
def test_norms_that_wait_for_nothing_are_one(name, widths, scale):
    assert _widths(FUNCTIONS[name], jnp.ones(X), scale) == widths


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_derivatives_of_both_orders_stay(name, x64):
    function = FUNCTIONS[name]
    at, way = [(_draw(i, *X), _draw(i + 2, 3)) for i in (0, 1)]

    def derivatives(f, at, way):
        slope = jax.grad(lambda at: jnp.square(jnp.tanh(f(*at))).sum())
        return jax.jvp(lambda at: (f(*at), slope(at)), (at,), (way,))

    found = jax.jit(partial(derivatives, in_lockstep(function)))(at, way)
    _close(found, jax.jit(partial(derivatives, function))(at, way))


@pytest.mark.parametrize("name", FUNCTIONS)
def test_inside_they_may_be_differentiated_too(name, x64):
    """The function in lockstep is itself a gradient: its norms are in two modes of differentiation."""
    slope = jax.value_and_grad(lambda x, scale: jnp.square(jnp.tanh(FUNCTIONS[name](x, scale))).sum(), (0, 1))
    at = _draw(0, *X), _draw(1, 3)
    _close(jax.jit(in_lockstep(slope))(*at), jax.jit(slope)(*at))


def test_norms_of_other_sizes_types_shares_or_kinds_stay_apart(x64):
    double = THREE.astype(np.float64)

    def function(x, half, small):
        same = norm(x, THREE) + norm(2 * x, THREE)
        rest = norm(x, ONE), norm(half, double), norm(half, THREE), norm(small, THREE)
        return same, *rest, other(x, THREE)

    x = _draw(0, *X)
    args = x, x.astype(jnp.float32), x[:, ::2]
    assert sorted(_widths(function, *args)) == [3, 3, 3, 3, 3, 6]
    _close(in_lockstep(function)(*args), function(*args), 1e-5)


def test_the_shares_of_a_scale_are_kept(x64):
    """One scale of six channels beside two scales of twelve: each is for six."""
    x, wide = _draw(0, 2, 4, 4, 6), _draw(1, 2, 4, 4, 12)
    function = lambda x, wide: (norm(x, jnp.full(1, 2.0)), norm(wide, jnp.array([3.0, 5.0])))
    assert _widths(function, x, wide) == [18]
    _close(in_lockstep(function)(x, wide), (standard(x, jnp.full(1, 2.0)), standard(wide, jnp.array([3.0, 5.0]))))
    np.testing.assert_array_equal(each(jnp.array([3.0, 5.0]), 6), [3, 3, 3, 5, 5, 5])


def test_a_function_without_norms_is_what_it_was():
    tree = {"a": jnp.ones(3), "b": (jnp.arange(2), jnp.float32(2))}
    function = lambda tree, x: {"sum": tree["a"] * x, "same": tree, "constant": jnp.zeros(2), "x": x}
    found = in_lockstep(function)(tree, jnp.float32(3))
    expected = function(tree, jnp.float32(3))
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    plain, same = (jax.make_jaxpr(f)(tree, jnp.float32(3)) for f in (function, in_lockstep(function)))
    names = lambda jaxpr: sorted(str(eqn.primitive) for eqn in jaxpr.eqns)
    assert names(same) == names(plain)


def test_under_vmap_beside_the_channels_cases_share_one_norm(x64):
    x, scale = _draw(0, 2, 4, 4, 5, 3), _draw(1, 5, 3)
    many = jax.vmap(candidates, (3, 0), 3)
    eqns = jax.make_jaxpr(in_lockstep(many))(x, scale).eqns
    assert [e.invars[0].aval.shape[-1] for e in eqns if e.params.get("name") == "standard"] == [6 * 15, 2 * 15]
    _close(jax.jit(in_lockstep(many))(x, scale), jax.vmap(candidates, (3, 0), 3)(x, scale))
    in_front = jax.vmap(candidates)  # cases in front stay so
    _close(in_lockstep(in_front)(jnp.moveaxis(x, 3, 0), scale), in_front(jnp.moveaxis(x, 3, 0), scale))


def test_programs_side_by_side_under_an_outer_vmap(x64):
    x, scale = _draw(0, 4, *X), _draw(1, 4, 3)
    _close(jax.jit(jax.vmap(in_lockstep(nested)))(x, scale), jax.vmap(nested)(x, scale))


def test_elsewhere_a_marked_norm_is_the_norm_itself():
    text = lambda: str(jax.make_jaxpr(lambda *args: norm(*args))(jnp.ones(X), ONE))
    assert "norm_of_channels" not in text() and not is_beside()
    with beside_channels():
        assert "norm_of_channels" in text()
        np.testing.assert_array_equal(norm(jnp.ones(X), ONE), standard(jnp.ones(X), ONE))
