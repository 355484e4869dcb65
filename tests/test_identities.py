"""What must be the same whatever is in between. Others stand beside what they are about: `partial_channels(1)` in
test_pc_darts, drawn gates that average to the softmax in test_gdas, one stage that is the plain search in test_p_darts,
one-hot gates that are the network of one operation in test_networks.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from draws import random_batches, small_model

from jaxnas.hypergradient import first_order, gradient, through, unrolled
from jaxnas.search import bind
from jaxnas.spaces.darts import s2
from jaxnas.strategies.algorithms import darts
from jaxnas.strategies.mixing import broadcast, dropped_path, dropped_skip, opened, sampled, weighted_sum
from jaxnas.strategies.relaxation import edge_normalized, softmax

OPS = {
    "skip_connect": lambda x, gate: gate * x,
    "sine": lambda x, gate: gate * jnp.sin(x),
    "cube": lambda x, g: g * x**3,
}
NOTHING = optax.constant_schedule(0.0)
SAME = {
    "sampled": sampled(),
    "broadcast": broadcast(),
    "opened": opened(),
    "dropped_path(0)": dropped_path(NOTHING),
    "dropped_skip(0)": dropped_skip(NOTHING),
}


@pytest.mark.parametrize("name", SAME)
def test_on_one_hot_gates_all_mixings_are_the_weighted_sum(name, key):
    x = jax.random.normal(key, (2, 3, 3, 4))
    for gates in jnp.eye(3):
        out = [m.mix(OPS, gates, x, key, jnp.int32(0)) for m in (SAME[name], weighted_sum())]
        np.testing.assert_allclose(*out, rtol=1e-6)


def test_equal_weights_of_edges_are_one_over_the_edges_into_the_node(key):
    space = s2(channels=4, layers=3)
    gates = edge_normalized(softmax(), deviation=0.0)
    found = gates.mean(gates.init(key, space), space)["normal"].edges
    expected = [1 / len(space.incoming(target)) for _, target in space.edges]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_look_ahead_of_no_length_is_first_order(key, tiny_space):
    search = bind(darts(10), tiny_space, model=small_model)
    state = search.init(key)
    both = (first_order(), unrolled(through(optax.sgd(0.0))))
    found = [gradient(h, search.problem(state), state.bilevel, random_batches(tiny_space)) for h in both]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), *found)
