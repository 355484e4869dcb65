"""Random numbers in the shapes of a space: weights, states and batches, without running its initialisation."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxnas.data import Batch
from jaxnas.hypergradient import Batches
from jaxnas.search import SearchState
from jaxnas.spaces.networks import Model
from jaxnas.spaces.space import Layer


def two_cells(space):
    """The space with one normal and one reduction cell: two programs instead of the three of its fewest layers."""
    width = space.skeleton[0].channels
    return space.replace(skeleton=(Layer("normal", width), Layer("reduce", 2 * width, 2)))


def normal_like(shapes):
    """Normal numbers with deviation 0.5 in the structure of some shapes."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.5, s.shape), s.dtype), shapes)


def random_state(strategy, search):
    """A state with random weights and alpha, where compiling the initialisation is not worth it."""
    shapes = jax.eval_shape(search.init, jax.random.key(0)).bilevel
    weights, alpha = normal_like((shapes.weights, shapes.alpha))
    return SearchState(jax.random.key(0), strategy.solver.init(weights, alpha))


def small_model(space, mixing):
    """Instead of a supernet: logits that depend on weights, images and every gate; compiles in no time."""

    def init(key):
        table = jax.random.normal(key, (len(space.edges), len(space.ops)))
        return {
            "head": jax.random.normal(key, (space.image[-1], space.classes)),
            "cells": dict.fromkeys(space.cells, table),
        }

    def apply(weights, images, gates, key, step):
        opened = sum((g.edges[:, None] * g.ops * weights["cells"][cell]).sum() for cell, g in gates.items())
        return jax.nn.softplus(opened) * (images.mean((1, 2)) @ weights["head"])

    return Model(init, apply, lambda *args: [])


def random_batches(space, *lead, size=4):
    """Random batches of some images for both levels, with leading axes (steps) if any."""
    rng = np.random.default_rng(0)

    def draw():
        images = rng.normal(size=(*lead, size, *space.image)).astype(np.float32)
        return Batch(images, rng.integers(space.classes, size=(*lead, size)).astype(np.int32))

    return Batches(draw(), draw())
