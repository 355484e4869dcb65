"""A search with a known answer: labels that only one operation can see. Every row must find it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxnas.data import Batch
from jaxnas.evaluation.random_search import pick_shared
from jaxnas.hypergradient import Batches
from jaxnas.names import STRATEGIES
from jaxnas.search import bind
from jaxnas.spaces import ops
from jaxnas.spaces.darts import SEARCHED
from jaxnas.spaces.space import Layer, Space

PLANTED, STEPS, EPOCH = "sep_conv_3x3", 400, 20


class Pointwise(ops.nn.Module):
    """A stem that sees one pixel at a time, so that it cannot see the pattern."""

    features: int

    @ops.nn.compact
    def __call__(self, x):
        return ops.BatchNorm()(ops.Conv(self.features)(x))


# one cell, one edge: none, two pools, a skip, a convolution
SPACE = Space(
    name="planted",
    ops=SEARCHED[:5],
    edges=((0, 1),),
    inputs=1,
    outputs=(1,),
    cells=("normal",),
    skeleton=(Layer("normal", 12),),
    stem=Pointwise,
    stem_channels=12,
    preprocess=ops.Identity,
    head=ops.Classifier,
    classes=2,
    image=(8, 8, 3),
)


def stripes(key, *lead) -> Batch:
    """Noise that is smooth along rows (label 0) or along columns (label 1).

    Pixels alone, maxima and means over squares are the same for both; a convolution with a ReLU behind it is not.
    """
    key_noise, key_label = jax.random.split(key)
    noise = jax.random.normal(key_noise, (*lead, 8, 8, 3))
    label = jax.random.randint(key_label, lead, 0, 2)
    along = noise + jnp.roll(noise, 1, -2) + jnp.roll(noise, 2, -2)
    turned = jnp.swapaxes(along, -2, -3)
    return Batch(jnp.where((label == 0)[..., None, None, None], along, turned), label)


@pytest.mark.slow
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_row_finds_the_operation_that_sees(name, key):
    search = bind(STRATEGIES[name](STEPS, every=EPOCH, alpha_rate=RATES.get(name, 0.03)), SPACE)
    batches = Batches(*(stripes(k, STEPS, 32) for k in jax.random.split(key)))
    state = jax.jit(search.init)(key)
    state, metrics = jax.jit(partial(jax.lax.scan, search.step))(state, batches)
    held = Batches(*(stripes(k, 256) for k in jax.random.split(jax.random.key(1))))
    if name == "random-sharing":  # a supernet whose paths are mostly blind; the answer is that which scores best
        found = pick_shared(search, state, held, key, 32, samples=20)
    else:
        assert metrics["train"]["accuracy"][-EPOCH:].mean() > 0.7
        found = search.genotype(state)
    best = found.edges("normal")[0]  # the only one, but for the pairs of GDAS: they are in order
    assert best.op == PLANTED, np.asarray(search.scores(state)["normal"].ops)


RATES = {"gaea": 0.1}  # whose steps are multiplied, not added
