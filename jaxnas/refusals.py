"""What a search refuses, or warns of, before anything is written.

Where in the river: at its spring. Knows stages, a space and a split; computes nothing that lasts.
"""

import warnings
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from jaxnas.data import Split
from jaxnas.datasets.stored import streamed
from jaxnas.precision import LowPrecision, Precision
from jaxnas.spaces.space import Space
from jaxnas.stages import Stage
from jaxnas.strategies.strategy import Strategy


class Lopsided(RuntimeWarning):
    """A half of the images has one class only."""


def check(space: Space, data: Split, batch: int, stages: Sequence[Stage], at_once: bool = False) -> None:
    """Raises ValueError where stages, space and images do not fit one another; says what was given and what to do."""
    first = stages[0].reshape(space, None) if stages else space  # says what does not fit before anything is written
    for stage in stages:
        _check_fits(stage.strategy, first)
    for name, half in (("train", data.train), ("valid", data.valid)):
        shape = tuple(half.image.shape[1:])
        if shape != space.image:
            raise ValueError(
                f"{name} images are {shape}, the space is built for {space.image}: build it with image={shape}."
            )
        if int(half.label.min()) < 0 or int(half.label.max()) >= space.classes:
            worst = int(half.label.max() if half.label.min() >= 0 else half.label.min())
            raise ValueError(f"{name} label {worst} is outside the {space.classes} classes of the space.")
    if at_once and any(streamed(half.image) for half in data[:2]):
        raise ValueError(
            "the genotype is chosen by looking at all images of a half at once, and they do not fit into memory: take "
            "a part of them (--fraction), or a strategy that reads the genotype off alpha."
        )
    if text := lopsided(data):
        warnings.warn(text, Lopsided, stacklevel=3)
    if batch < 1 or not stages or any(stage.epochs < 1 for stage in stages):
        raise ValueError(f"batch={batch}, epochs={[stage.epochs for stage in stages]}: all must be at least 1.")


def lopsided(data: Split) -> str:
    """Why nothing can be learnt from a half of the images; empty where both have several classes."""
    for name, half, moved in (("train", data.train, "the weights"), ("valid", data.valid, "alpha")):
        if len(half.label) and int(half.label.min()) == int(half.label.max()):
            return (
                f"all {len(half.label)} {name} images, which move {moved}, are of class {int(half.label[0])}: nothing "
                "can be learnt from them. Take more images (--fraction), or another --seed."
            )
    return ""


def check_precision(
    precision: Precision, stages: Sequence[Stage], space: Space, data: Split, batch: int, augment: Callable
) -> None:
    """Warns where a precision spoils the search; raises ValueError where there is none such, or images are shorter."""
    precision.check()
    images = jax.ShapeDtypeStruct((batch, *space.image), getattr(data.train.image, "dtype", jnp.uint8))
    found = jax.eval_shape(augment, jax.random.key(0), images).dtype
    if jnp.issubdtype(found, jnp.floating) and jnp.finfo(found).bits < jnp.finfo(precision.activations).bits:
        raise ValueError(
            f"augment gives {found} images, and the search is to compute in {precision.activations}: give it "
            f"precision=BFLOAT16, or an augmentation that gives {precision.activations}."
        )
    if text := doubt(precision, [stage.strategy for stage in stages]):
        warnings.warn(text, LowPrecision, stacklevel=3)


def doubt(precision: Precision, strategies: Sequence[Strategy]) -> str:
    """Why a precision spoils one of these strategies, and what to do; empty where none is."""
    made = [strategy.solver.like.keywords for strategy in strategies if strategy.solver.like]
    if precision.exact or not any(one["hypergradient"].subtracts for one in made if "hypergradient" in one):
        return ""
    return (
        "the finite difference of this strategy subtracts two nearly equal gradients, and what rounding below float32 "
        "leaves of them is mostly noise. Take exact second order (darts; unrolled in Python), or --precision float32."
    )


def _check_fits(strategy: Strategy, space: Space) -> None:
    """Partial channels that do not divide, and decodings that look for other cells, say so here."""
    for layer in space.skeleton:
        if layer.cell in space.cells:
            strategy.mixing.width(layer.channels)
    alpha = strategy.relaxation.init(jax.random.key(0), space)
    strategy.decode(jax.device_get(strategy.relaxation.mean(alpha, space)), space)
