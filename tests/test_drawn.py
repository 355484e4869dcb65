"""First weights are drawn in few loops, from the bits that each key gives alone."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.spaces.drawn import drawn_together
from jaxnas.spaces.space import Layer

pytestmark = pytest.mark.smoke


class Block(nn.Module):
    """Draws of two shapes and two distributions, one of which reads a shape that is computed."""

    @nn.compact
    def __call__(self, x):
        for _ in range(3):
            x = nn.Dense(x.shape[-1], use_bias=False)(x)
        scale = self.param("scale", nn.initializers.uniform(0.5), (x.shape[-1],))
        return x * scale[None]


@jax.jit
def nested(key):
    """A draw that waits for another one, behind one that chooses between two."""
    first = jax.random.normal(key, (3,))
    return jax.lax.cond(first[0] > 0, lambda k: jax.random.uniform(k, (3,)), lambda k: jnp.ones(3), key)


def init(key):
    """Weights of two blocks of one width and one of another, of a row of blocks, and what is no draw."""
    keys = jax.random.split(key, 5)
    of = lambda width: lambda key: Block().init({"params": key}, jnp.zeros((1, width)))["params"]
    row = jax.vmap(of(4))(jax.random.split(keys[3], 2))
    kept = jax.random.split(keys[4])[1]
    return {"a": of(4)(keys[0]), "b": of(4)(keys[1]), "c": of(5)(keys[2]), "row": row, "more": nested(kept), "one": 1.0}


def close(found, expected):
    """Other bits are other numbers; the same bits become normal numbers to rounding."""
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)


def loops(function, *args):
    """In the compiled program, where functions that are called are written out."""
    return jax.jit(function).lower(*args).compile().as_text().count(" while(")


def test_numbers_are_those_of_each_key_alone_and_loops_are_fewer(key):
    together = drawn_together(init)
    close(jax.jit(together)(key), jax.jit(init)(key))
    close(together(key), init(key))
    assert loops(together, key) < 0.6 * loops(init, key)


def test_functions_of_one_text_keep_their_own_constants(key):
    """Arrays that they close over are not in the text of what is traced."""

    def shifted(by):
        return jax.jit(lambda key: jax.random.uniform(key, (3,)) + by)

    arrays = [np.array([1.0, 2.0, 3.0]), np.array([4.0, 5.0, 6.0]), jnp.array([1.0, 2.0, 3.0]), jnp.array([4.0, 5, 6])]
    both = lambda key: [
        shifted(by.astype(np.float32))(k) for by, k in zip(arrays, jax.random.split(key, 4), strict=True)
    ]
    close(jax.jit(drawn_together(both))(key), both(key))


def test_under_vmap(key):
    keys = jax.random.split(key, 3)
    found, alone = jax.jit(jax.vmap(drawn_together(init)))(keys), [init(k) for k in keys]
    close(found, jax.tree.map(lambda *rows: np.stack(rows), *alone))


def test_what_no_result_needs_is_not_run(key):
    ran = []

    def wasteful(key):
        x = jax.random.normal(key, (2,))
        y = jnp.linalg.inv(x[None] * x[:, None])  # nobody reads it
        ran.append(y)
        return x

    names = [eqn.params.get("name") for eqn in jax.make_jaxpr(drawn_together(wasteful))(key).eqns]
    assert ran and "_normal" in names and "inv" not in names


def test_a_supernet_draws_in_few_loops(tiny_space, key):
    """More cells of other widths are more shapes, and no more than these."""
    from jaxnas.spaces.networks import supernet

    deep = tiny_space.replace(skeleton=(*tiny_space.skeleton, Layer("normal", 4), Layer("normal", 4)))
    few, more = (loops(supernet(space).init, key) for space in (tiny_space, deep))
    assert few <= 30 and more <= few + 7  # 60 and 85 where each is drawn alone
