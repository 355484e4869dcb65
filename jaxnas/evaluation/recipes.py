"""Recipes: how a network is trained from scratch, as plain data.

Where in the river: behind the second waist. A recipe is written into every result, so that two accuracies can be told
to come from the same training. Knows numbers; no network, no data.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxnas.augmentation import Statistics, Transform, chain, cutout, flip, identity, mirrored, normalize, pad_crop
from jaxnas.data import Dataset
from jaxnas.spec import Decay, Positive
from jaxnas.strategies.optimizers import clip_norm, cosine, heavy_ball, linear_with_tail, nesterov, stairs, warmed_up

CHANGED = ", changed"  # behind the name of a recipe with other numbers


@dataclass(frozen=True)
class Cosine:
    """The rate falls along half a cosine: rate (1 + cos(pi e / E)) / 2 in epoch e of E, counted from 0."""

    def schedule(self, rate: float, epochs: int) -> optax.Schedule:
        """Epoch -> rate."""
        return cosine(rate, 0.0, epochs)


@dataclass(frozen=True)
class Exponential:
    """The rate is multiplied after every epoch: rate factor^e."""

    factor: float = 0.97

    def schedule(self, rate: float, epochs: int) -> optax.Schedule:
        """Epoch -> rate."""
        del epochs
        return optax.exponential_decay(rate, 1, self.factor)


@dataclass(frozen=True)
class Linear:
    """The rate falls along a line, its last value spread over a tail of epochs; see `linear_with_tail`."""

    tail: int = 5

    def schedule(self, rate: float, epochs: int) -> optax.Schedule:
        """Epoch -> rate."""
        return linear_with_tail(rate, epochs, self.tail)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a network is trained from scratch: SGD with momentum, decay in the gradient, one rate for each epoch.

    Raises:
      ValueError: where a number is out of its range; says which.
    """

    name: str
    epochs: int
    batch: int  # images
    rate: Positive  # learning rate before any decay
    decay: Cosine | Exponential | Linear = Cosine()  # of the rate, by epoch
    warmup: int = 0  # epochs at 1/warmup, 2/warmup, ... of the rate
    momentum: Decay = 0.9
    nesterov: bool = False
    weight_decay: float = 3e-4  # of every weight, those of norms too
    clip: Positive | None = 5.0  # largest norm of all gradients together
    smoothing: Decay = 0.0  # share of the label that is spread over all classes
    auxiliary: float = 0.0  # weight of the second head's loss; 0 builds none
    drop_path: Decay = 0.0  # rate p e / E of dropping an edge, in epoch e of E
    shift: int = 4  # pixels each way, with zeros
    flip: bool = True  # left to right
    cutout: int = 0  # side of the square, pixels

    def __post_init__(self) -> None:
        least = {"epochs": 1, "batch": 1, "warmup": 0, "shift": 0, "cutout": 0, "auxiliary": 0, "weight_decay": 0}
        wrong = [name for name, low in least.items() if not getattr(self, name) >= low]
        wrong += [name for name in ("momentum", "smoothing", "drop_path") if not 0 <= getattr(self, name) < 1]
        wrong += ["rate"] * (not self.rate > 0) + ["clip"] * (self.clip is not None and not self.clip > 0)
        if wrong:
            told = ", ".join(f"{name}={getattr(self, name)}" for name in wrong)
            raise ValueError(
                f"the recipe {self.name!r} has {told}: epochs, batch, rate and clip are above 0, momentum, smoothing "
                "and drop_path in [0, 1), all others at least 0."
            )
        self.decay.schedule(self.rate, self.epochs)  # says what does not fit


def describe(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain data, for the record of a run.

    Args:
      recipe: what to describe.
    """
    kind = type(recipe.decay).__name__.lower()
    return asdict(recipe) | {"decay": {"kind": kind, **asdict(recipe.decay)}}


def changed(recipe: Recipe, changes: Mapping[str, Any]) -> Recipe:
    """The recipe with other numbers where they are not None; its name says so.

    Args:
      recipe: what to change.
      changes: {field: value}; None changes nothing.
    """
    given = {name: value for name, value in changes.items() if value not in (None, getattr(recipe, name))}
    return replace(recipe, **given, name=f"{recipe.name}{CHANGED}") if given else recipe


def fitted(recipe: Recipe, dataset: Dataset) -> Recipe:
    """The recipe for images of another size or kind: shift and cutout no larger than they suit, no mirrored digits.

    Under 28 pixels the shift is an eighth of the side; the cutout is at most half the side.

    Args:
      recipe: of a paper.
      dataset: what will be trained on.
    """
    side = min(dataset.train.image.shape[1:3])
    return replace(
        recipe,
        shift=recipe.shift if side >= 28 else min(recipe.shift, max(1, side // 8)),
        cutout=min(recipe.cutout, side // 2),
        flip=recipe.flip and mirrored(dataset),
    )


def rates(recipe: Recipe, rate: Any = None) -> optax.Schedule:
    """Epoch, counted from 0 -> learning rate.

    Args:
      recipe: whose rate, decay, warmup and epochs count.
      rate: another one before any decay, perhaps traced.
    """
    schedule = recipe.decay.schedule(recipe.rate if rate is None else rate, recipe.epochs)
    whole = warmed_up(schedule, 1, recipe.warmup) if recipe.warmup else schedule

    def at(epoch):
        with jax.numpy_dtype_promotion("standard"):  # schedules of optax divide by integers
            return whole(jnp.asarray(epoch))

    return at


def drop_rate(recipe: Recipe, epoch):
    """Probability that an edge is dropped in an epoch, counted from 0: drop_path e / E.

    Args:
      recipe: whose drop_path and epochs count.
      epoch: e, from 0.

    Reference: quark0/darts, `cnn/train.py`, `drop_path_prob`.
    """
    return recipe.drop_path * jnp.asarray(epoch, jnp.result_type(float)) / recipe.epochs


def optimizer(recipe: Recipe, every: int, numbers: Mapping[str, Any] | None = None) -> optax.GradientTransformation:
    """Clip, then decay, then momentum, as torch has them; `every` is the number of steps in an epoch.

    Args:
      recipe: whose rates, momentum, weight decay and clip count.
      every: steps in an epoch.
      numbers: others of `scaling`, perhaps traced.
    """
    of = numbers or scaling(recipe)
    sgd = (nesterov if recipe.nesterov else heavy_ball)(
        stairs(rates(recipe, of["rate"]), every), of["momentum"], of["weight_decay"]
    )
    return sgd if recipe.clip is None else optax.chain(clip_norm(of["clip"]), sgd)


def scaling(recipe: Recipe) -> dict[str, Any]:
    """The numbers of its optimizer that only scale: arguments of a compiled epoch.

    Args:
      recipe: whose.
    """
    names = ("rate", "momentum", "weight_decay", *(() if recipe.clip is None else ("clip",)))
    return {name: float(getattr(recipe, name)) for name in names}


def augment(recipe: Recipe, stats: Statistics) -> Transform:
    """(key, uint8 images) -> shifted, mirrored, normalised images with a hole, as far as the recipe says so.

    Args:
      recipe: whose shift, flip and cutout (pixels) count.
      stats: mean and deviation of each channel.
    """
    mirror = flip() if recipe.flip else identity
    return chain(pad_crop(recipe.shift), mirror, normalize(stats), cutout(recipe.cutout))


def cifar() -> Recipe:
    """How DARTS retrains on CIFAR-10: 600 epochs, second head, drop path, cutout.

    Reference: Liu, Simonyan, Yang 2019, arXiv:1806.09055, appendix A.2; quark0/darts, `cnn/train.py`. PC-DARTS and
      P-DARTS take drop_path=0.3.
    Deviates: the last batch of an epoch is filled up; pixels are normalised by their own mean and deviation.
    """
    return Recipe(name="cifar", epochs=600, batch=96, rate=0.025, auxiliary=0.4, drop_path=0.2, cutout=16)


def imagenet() -> Recipe:
    """How DARTS retrains on ImageNet: 250 epochs, the rate times 0.97 after each, smoothed labels, second head.

    Reference: Liu, Simonyan, Yang 2019, arXiv:1806.09055, appendix A.3; quark0/darts, `cnn/train_imagenet.py`.
    Deviates: images come in one size and are shifted and mirrored; random crops of random size and changes of colour
      are not made. All images lie in the device's memory, so a set as large as ImageNet at 224 pixels does not fit.
    """
    return Recipe(
        name="imagenet",
        epochs=250,
        batch=128,
        rate=0.1,
        decay=Exponential(0.97),
        weight_decay=3e-5,
        smoothing=0.1,
        auxiliary=0.4,
    )


def imagenet_linear() -> Recipe:
    """How P-DARTS and PC-DARTS retrain on ImageNet: batches of 1024, rate 0.5 along a line, five epochs of warm-up.

    Reference: chenxin061/pdarts and yuhuixu1993/PC-DARTS, `train_imagenet.py`.
    Deviates: as `imagenet`.
    """
    return replace(imagenet(), name="imagenet-linear", batch=1024, rate=0.5, decay=Linear(), warmup=5)


def nas_bench_201() -> Recipe:
    """How the networks of NAS-Bench-201 were trained: 200 epochs, Nesterov momentum, no second head.

    Reference: Dong and Yang 2020, arXiv:2001.00326, table 1 and section 2.3.
    Deviates: the last batch of an epoch is filled up.
    """
    return Recipe(name="nas-bench-201", epochs=200, batch=256, rate=0.1, nesterov=True, weight_decay=5e-4, clip=None)


def small(epochs: int = 10, batch: int = 64) -> Recipe:
    """A few epochs on a CPU. What it gives can be compared with what it gave, and with no published number.

    Args:
      epochs: length of the training.
      batch: images in a step.
    """
    return Recipe(name="small", epochs=epochs, batch=batch, rate=0.05)
