"""How the supernet is laid out changes its program, not its numbers; a sample runs one operation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.spaces.darts import darts
from jaxnas.spaces.layout import Layout, fanned, kept, products_kept, recomputed, scanned, side_by_side
from jaxnas.spaces.networks import supernet
from jaxnas.spaces.space import Gates, Layer
from jaxnas.strategies.draws import uniform
from jaxnas.strategies.mixing import sampled, weighted_sum
from jaxnas.strategies.relaxation import softmax

FEW = [op for op in darts().ops if op[0] in ("max_pool_3x3", "skip_connect", "dil_conv_3x3")]
ROW = (Layer("normal", 4),) * 2  # a program for both
SPACE = darts(4, 4, image=(16, 16, 3)).replace(ops=tuple(FEW), skeleton=(*ROW, Layer("reduce", 8, 2)))
POLICY = partial(jax.checkpoint, policy=jax.checkpoint_policies.dots_saveable)
LAYOUTS = {
    "edges written out by threes, cells by twos": Layout(edges=recomputed(3), cells=2),
    "edges of a node at once": Layout(edges=fanned()),
    "edges keep their inputs": Layout(edges=scanned()),
    "products kept": Layout(edges=scanned(remat=products_kept)),
    "a policy of JAX": Layout(edges=scanned(remat=POLICY)),
    "nothing computed again": Layout(edges=scanned(remat=kept)),
    "edges side by side in channels": Layout(edges=side_by_side()),
    "the same, computed again": Layout(edges=side_by_side(jax.checkpoint)),
}


def _slopes(mixing=None, layout=None, space=SPACE):
    """Loss and its gradients as a function of weights and gates."""
    net = supernet(space, mixing, layout)

    def loss(weights, gates, images):
        return jnp.square(net.apply(weights, images, gates, jax.random.key(0), jnp.int32(0))).mean()

    return net.init, jax.value_and_grad(loss, (0, 1))


@pytest.fixture(scope="module")
def point():
    """Weights, soft gates and images in float64."""
    with jax.enable_x64(True):
        weights = jax.jit(_slopes()[0])(jax.random.key(0))
        gates = softmax().mean(softmax(1.0).init(jax.random.key(1), SPACE), SPACE)
        return weights, gates, jax.random.normal(jax.random.key(2), (8, 16, 16, 3))


@pytest.fixture(scope="module")
def expected(point):
    with jax.enable_x64(True):
        return jax.jit(_slopes()[1])(*point)


def test_what_is_kept_takes_memory(point):
    """Inputs of edges only, products too, everything."""
    point = jax.tree.map(lambda x: x.astype(jnp.float32), point)

    def temporaries(remat):
        compiled = jax.jit(_slopes(layout=Layout(edges=scanned(remat=remat)))[1]).lower(*point).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    inputs, products, everything = map(temporaries, (jax.checkpoint, products_kept, kept))
    assert 1.1 * inputs < products < 0.9 * everything


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_changes_no_number(point, expected, name):
    with jax.enable_x64(True):
        found = jax.jit(_slopes(layout=LAYOUTS[name])[1])(*point)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-10), found, expected)


def test_what_a_layout_is_for(point):
    """Smaller programs one way, smaller memory the other."""
    with jax.enable_x64(True):
        lowered = {name: jax.jit(_slopes(layout=layout)[1]).lower(*point) for name, layout in LAYOUTS.items()}
        scan = jax.jit(_slopes()[1]).lower(*point)
    lines = lambda program: program.as_text().count("\n")
    assert lines(scan) < lines(lowered["edges of a node at once"])
    temp = lambda program: program.compile().memory_analysis().temp_size_in_bytes
    more = [temp(lowered[name]) for name in ("edges keep their inputs", "products kept", "nothing computed again")]
    assert temp(scan) < more[0] < more[1] < more[2]


def _one_hot(gates):
    pick = lambda g: Gates(jax.nn.one_hot(g.ops.argmax(-1), g.ops.shape[1], dtype=g.ops.dtype), g.edges)
    return {cell: pick(g) for cell, g in gates.items()}


@pytest.mark.parametrize("layout", [Layout(), Layout(edges=fanned())], ids=["scanned", "fanned"])
def test_a_sample_is_the_weighted_sum_of_one_hot_gates(point, layout):
    weights, gates, images = point
    with jax.enable_x64(True):
        gates = _one_hot(gates)
        loss, (of_weights, of_gates) = jax.jit(_slopes(weighted_sum())[1])(weights, gates, images)
        one, (same_weights, few_gates) = jax.jit(_slopes(sampled(), layout)[1])(weights, gates, images)
    np.testing.assert_allclose(one, loss, rtol=1e-12)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-11), same_weights, of_weights)
    for cell, g in gates.items():  # the chosen gate has its gradient, the others have none
        np.testing.assert_allclose(few_gates[cell].ops, of_gates[cell].ops * g.ops, rtol=1e-9, atol=1e-11)


def test_a_sample_runs_only_what_it_chose():
    """An operation that is not chosen leaves no trace: not even its NaN."""
    ops = {"good": lambda x, gate: gate * x, "bad": lambda x, gate: gate * x / 0}
    mix = lambda gates, x: sampled().mix(ops, gates, x, None, None).sum()
    gates, x = jnp.array([0.75, 0.25]), jnp.ones((1, 2, 2, 1))
    value, slopes = jax.jit(jax.value_and_grad(mix, (0, 1)))(gates, x)
    assert value == 3.0
    np.testing.assert_array_equal(slopes[0], [4.0, 0.0])
    np.testing.assert_array_equal(slopes[1], 0.75)


def test_uniform_draws_every_living_operation_alike():
    alive = np.ones((14, 3), bool)
    alive[:, 1] = False
    space = SPACE.with_alive({"normal": alive, "reduce": np.ones((14, 3), bool)})
    relaxation = uniform()
    alpha = relaxation.init(jax.random.key(0), space)
    draw = jax.jit(jax.vmap(lambda key: relaxation.sample(key, alpha, space, jnp.int32(0))))
    drawn = draw(jax.random.split(jax.random.key(1), 2000))
    for cell, gates in relaxation.mean(alpha, space).items():
        ops = np.asarray(drawn[cell].ops)
        assert set(np.unique(ops)) == {0.0, 1.0}
        np.testing.assert_array_equal(ops.sum(-1), 1)
        np.testing.assert_allclose(ops.mean(0), gates.ops, atol=0.05)
    assert not np.asarray(drawn["normal"].ops)[..., 1].any()
    assert (np.asarray(drawn["normal"].ops) != np.asarray(drawn["reduce"].ops)).any()
