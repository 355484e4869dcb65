"""Random numbers in the shapes of a space: weights, states and batches, without running its initialisation."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.data import Batch
from jaxnas.hypergradient import Batches
from jaxnas.search import SearchState


def normal_like(shapes):
    """Normal numbers with deviation 0.5 in the structure of some shapes."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.5, s.shape), s.dtype), shapes)


def random_state(strategy, search):
    """A state with random weights and alpha, where compiling the initialisation is not worth it."""
    shapes = jax.eval_shape(search.init, jax.random.key(0)).bilevel
    weights, alpha = normal_like((shapes.weights, shapes.alpha))
    return SearchState(jax.random.key(0), strategy.solver.init(weights, alpha))


def random_batches(space, *lead, size=4):
    """Random batches of some images for both levels, with leading axes (steps) if any."""
    rng = np.random.default_rng(0)

    def draw():
        images = rng.normal(size=(*lead, size, *space.image)).astype(np.float32)
        return Batch(images, rng.integers(space.classes, size=(*lead, size)).astype(np.int32))

    return Batches(draw(), draw())
