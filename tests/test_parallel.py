"""One search on one, two and eight devices: equal numbers, equal bits on every device, and clear words otherwise."""


import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxnas import parallel
from jaxnas.bilevel import joint
from jaxnas.data import Batch, Split
from jaxnas.epoch import compile_epoch
from jaxnas.hypergradient import Batches, finite_difference, first_order, through, unrolled
from jaxnas.search import bind
from jaxnas.spaces.darts import s2
from jaxnas.spaces.depthwise import depthwise_convolution
from jaxnas.spaces.networks import Model
from jaxnas.spaces.norm import standardize
from jaxnas.strategies.algorithms import darts
from jaxnas.strategies.draws import concrete
from jaxnas.strategies.relaxation import softmax

SPACE = s2(channels=2, layers=3, image=(8, 8, 3))
SGD = optax.sgd(0.1)
LOOK = through(SGD)
SOLVERS = {
    "first": darts(9, hypergradient=first_order()).solver,
    "exact": darts(9, hypergradient=unrolled(LOOK)).solver,
    "difference": darts(9, hypergradient=finite_difference(LOOK)).solver,
    "joint": joint(SGD, optax.sgd(0.1)),
}
GATES = {"soft": softmax(), "sampled": concrete(lambda step: 1.0)}


def images(seed, count):
    draw = np.random.default_rng(seed)
    return Batch(draw.integers(0, 255, (count, 8, 8, 3)).astype(np.uint8), draw.integers(0, 10, count).astype(np.int32))


DATA = Split(images(0, 21), images(1, 19), images(2, 4), "digest")  # neither 2 nor 8 divides 21 or 19
SIZES = (21, 19)


def small(normed):
    """A network that compiles at once: depthwise convolution, norm, and a mixture of classifiers by the gates."""

    def model(space, mixing):
        del mixing

        def init(key):
            kernel, head = jax.random.split(key)
            shape = (len(space.ops), 3, space.classes)
            return {"kernel": jax.random.normal(kernel, (3, 3, 3)), "head": jax.random.normal(head, shape)}

        def apply(weights, images, gates, key, step):
            x = depthwise_convolution(images, weights["kernel"])
            x = standardize(x, jnp.ones(3, x.dtype)) if normed else x
            mixed = sum((g.ops * g.edges[:, None]).sum(0) for g in gates.values())
            return jnp.einsum("o,bc,ock->bk", mixed, jnp.tanh(x).mean((1, 2)), weights["head"])

        return Model(init, apply, lambda *args: [])

    return model


def scaled(key, pixels):
    del key
    return pixels.astype(jnp.result_type(float)) / 100


def noisy(key, pixels):
    return scaled(key, pixels) + 0.1 * jax.random.normal(key, pixels.shape)


def ended(make, count, solver, gates, normed, augment):
    """Alpha and the metrics after an epoch of three steps."""
    placement = make(jax.devices()[:count])
    strategy = darts(9).replace(solver=SOLVERS[solver], relaxation=GATES[gates])
    search = bind(strategy, SPACE, model=small(normed), augment=augment, axis_name=placement.axis_name)
    whole = jnp.result_type(int)  # int64 in float64
    data = Batches(*(placement.images(half._replace(label=half.label.astype(whole))) for half in DATA[:2]))
    program = compile_epoch(search, data, 8, placement, SIZES)
    state = placement.spread(jax.jit(search.init)(jax.random.key(0)))
    key = placement.spread(jax.random.key(1))
    state, sums, bad = program.run(state, data, key, np.int32(0), np.int32(program.steps))
    assert int(bad) == -1
    parallel.check_copies(state.bilevel, "the state")
    bilevel = placement.single(state).bilevel
    return jax.device_get((bilevel.alpha, bilevel.weights, sums))


@pytest.mark.parametrize("gates", GATES)
@pytest.mark.parametrize("solver", SOLVERS)
def test_a_mesh_gives_the_numbers_of_one_device(solver, gates, x64):
    """Statistics of whole batches and the pixel noise of one device: the same search."""
    one, two, eight = (ended(parallel.mesh, n, solver, gates, True, noisy) for n in (1, 2, 8))
    for other in (two, eight):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), one, other)
    assert np.abs(one[0]["normal"]).max() > 1e-4  # alpha moved


@pytest.mark.parametrize("solver, gates", [("first", "sampled"), ("exact", "soft"), ("difference", "soft")])
@pytest.mark.parametrize("make", [parallel.mesh_local, parallel.pmapped])
def test_averages_over_devices_give_the_numbers_of_one_device(make, solver, gates, x64):
    """Without a norm, means of the parts' gradients are those of the batch."""
    one, two, eight = (ended(make, n, solver, gates, False, scaled) for n in (1, 2, 8))
    for other in (two, eight):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10), one[:2], other[:2])
        for name in ("loss", "accuracy", "moves"):
            np.testing.assert_allclose(other[2]["valid"][name], one[2]["valid"][name], rtol=1e-8)
