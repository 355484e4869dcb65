"""What is traced once for each shape."""

import jax
import jax.numpy as jnp
import pytest

from jaxnas.spaces.bilinear import in_common_operations, shared
from jaxnas.spaces.norm import BatchNorm
from jaxnas.wanted import wanted, weights_wanted

pytestmark = pytest.mark.smoke


def _counted():
    """A shared function, and the shapes and flags for which Python ran it."""
    seen = []

    @shared
    def double(x):
        """Twice."""
        seen.append((x.shape, len(wanted())))
        return 2 * x

    return double, seen


def test_a_shared_function_is_traced_once_for_each_shape():
    double, seen = _counted()
    found = jax.jit(lambda x, y: (double(x), double(x + 1), double(y)))(jnp.ones(3), jnp.ones(4))
    assert [float(y.sum()) for y in found] == [6, 12, 8]
    assert seen == [((3,), 0), ((4,), 0)]
    assert double.__name__ == "double" and double.__doc__ == "Twice."


def test_it_is_differentiated_in_every_mode():
    double, _ = _counted()
    x = jnp.arange(3.0)
    assert jax.grad(lambda x: double(x).sum())(x).tolist() == [2, 2, 2]
    assert jax.jvp(double, (x,), (x,))[1].tolist() == [0, 2, 4]
    assert jax.vmap(double)(x).tolist() == [0, 2, 4]


def test_the_flag_is_an_argument_of_it():
    """Each array has a trace of its own, and none of them leaks into the next."""
    double, seen = _counted()

    def under(flag, x):
        with weights_wanted(flag):
            return double(x)

    for flag in (True, False):
        assert jax.jit(under)(flag, jnp.ones(3)).tolist() == [2, 2, 2]
    assert double(jnp.ones(3)).tolist() == [2, 2, 2]
    assert seen == [((3,), 1), ((3,), 0)]


def test_converters_see_what_is_inside():
    double, _ = _counted()
    text = lambda: str(jax.make_jaxpr(lambda x: double(x))(jnp.ones(3)))
    assert "double" in text()
    with in_common_operations():
        assert "double" not in text()


def test_equal_norms_are_one_function_of_the_program():
    norm = BatchNorm()
    chain = lambda x, times: norm.apply({}, chain(x, times - 1)) if times else x
    images = jax.ShapeDtypeStruct((2, 4, 4, 3), jnp.float32)
    text = [jax.jit(lambda x, n=n: chain(x, n)).lower(images).as_text() for n in (1, 3)]
    assert [t.count("func.func private @standardize") for t in text] == [1, 1]
    assert [t.count("call @standardize") for t in text] == [1, 3]
