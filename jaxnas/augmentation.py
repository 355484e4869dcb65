"""Pixels to network input: random crop, mirror, cutout, normalisation, inside the compiled step.

Where in the river: between the spring and the logits. A `Transform` is (key, images) -> images for a whole
batch, pure, with static shapes, so that it runs inside the jitted step, vmapped over seeds, or on each
device. One that holds numbers is a pytree of them: a compiled epoch takes them as arguments, so that another
split of the images is the same program. This file knows pixels; no labels (bar the names of sets whose classes
a mirror changes), no files, no network, no alpha.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax
from jax.tree_util import Partial
from jax.typing import DTypeLike

from jaxnas.data import Batch, Dataset
from jaxnas.datasets.stored import Stored, pieces
from jaxnas.hoisting import tree_of

Transform = Callable[[Array, Array], Array]  # (key, images [B, H, W, C]) -> images [B, H, W, C]

# Sets in which the mirror image of one class is no image of that class, or looks like another class.
_HANDED = ("digits", "mnist", "binarized_mnist", "mnist_corrupted", "kmnist", "emnist", "svhn_cropped",
           "omniglot", "binary_alpha_digits", "cmaterdb")  # fmt: skip


class Statistics(NamedTuple):
    """What `normalize` subtracts and divides by, in raw pixel steps (0..255)."""

    mean: np.ndarray  # [C] float64
    deviation: np.ndarray  # [C] float64, at least 0.01


def statistics(images: Batch) -> Statistics:
    """Mean and standard deviation of every channel, over all images and pixels.

    Exact: computed in float64 from the 256 possible values and how often each occurs.

    Args:
      images: uint8 `[N, H, W, C]`; the part of the data that trains the weights.

    Raises:
      ValueError: for images that are not uint8.

    Deviates: quark0/darts cnn/utils.py has constants for CIFAR-10, in units of 255 pixel steps.

    >>> statistics(Batch(np.full((2, 4, 4, 1), 7, np.uint8), np.zeros(2, np.int32))).mean
    array([7.])
    """
    return of_counts(counts(images))


def counts(images: Batch) -> np.ndarray:
    """How often each of the 256 values occurs in each channel, `[C, 256]` int64: those of parts add up to the whole's.

    Args:
      images: uint8 [N, H, W, C].

    Raises:
      ValueError: for images that are not uint8.
    """
    found = images.image if isinstance(images.image, Stored) else np.asarray(images.image)
    if found.dtype != np.uint8:
        raise ValueError(f"statistics need raw uint8 images, got {found.dtype}; give the part as `split` returns it.")
    channels = range(found.shape[-1])
    counted = np.zeros((len(channels), 256), np.int64)
    for _, pixels in pieces(found):
        counted += np.stack([np.bincount(pixels[..., c].ravel(), minlength=256) for c in channels])
    return counted


def of_counts(counted: np.ndarray) -> Statistics:
    """The statistics of images whose values occur so often.

    Args:
      counted: [C, 256], as `counts` returns them, or a sum of such.
    """
    share = counted / counted.sum(axis=1, keepdims=True)
    value = np.arange(256, dtype=np.float64)
    mean = share @ value
    variance = (share * (value - mean[:, None]) ** 2).sum(axis=1)
    return Statistics(mean, np.maximum(np.sqrt(variance), 0.01))


def normalize(stats: Statistics, dtype: DTypeLike = jnp.float32) -> Transform:
    """Images with mean 0 and standard deviation 1: `(x - mean) / deviation`, computed in float32.

    Args:
      stats: `[C]` each, in raw pixel steps.
      dtype: of the result.

    >>> stats = Statistics(np.array([3.0]), np.array([2.0]))
    >>> normalize(stats)(jax.random.key(0), jnp.full((1, 1, 1, 1), 7)).item()
    2.0
    """
    mean, deviation = (np.asarray(leaf, np.float32).reshape(1, 1, 1, -1) for leaf in stats)
    return Partial(partial(_normalized, dtype), mean, deviation)


def _normalized(dtype: DTypeLike, mean: Array, deviation: Array, key: Array, images: Array) -> Array:
    del key
    return ((images.astype(jnp.float32) - mean) / deviation).astype(dtype)


def pad_crop(padding: int) -> Transform:
    """Every image shifted on its own by up to `padding` pixels each way; what enters is zero.

    The same as padding by zeros on all sides and cropping the old size at a corner uniform in 0..2 padding.
    Before `normalize`, as in the official code, the border is black.

    Args:
      padding: in pixels; 0 leaves the images as they are.

    Raises:
      ValueError: for a negative padding.

    Reference: quark0/darts cnn/utils.py, _data_transforms_cifar10: RandomCrop(32, padding=4) before
      Normalize.

    >>> pad_crop(4)(jax.random.key(0), jnp.ones((2, 32, 32, 3))).shape
    (2, 32, 32, 3)
    """
    if padding < 0:
        raise ValueError(f"padding={padding}: give the number of pixels, 0 or more.")

    def transform(key: Array, images: Array) -> Array:
        border = ((0, 0), (padding, padding), (padding, padding), (0, 0))
        padded = jnp.pad(images, border)
        corner = jax.random.randint(key, (len(images), 2), 0, 2 * padding + 1, jnp.int32)
        return jax.vmap(lambda image, at: _window(image, at, images.shape[1:]))(padded, corner)

    return transform


def _window(image: Array, corner: Array, shape: tuple[int, ...]) -> Array:
    return lax.dynamic_slice(image, (corner[0], corner[1], jnp.zeros((), jnp.int32)), shape)


def flip() -> Transform:
    """Every image mirrored left to right with probability one half.

    Reference: quark0/darts cnn/utils.py, _data_transforms_cifar10: RandomHorizontalFlip.

    >>> flip()(jax.random.key(0), jnp.ones((2, 8, 8, 1))).shape
    (2, 8, 8, 1)
    """

    def transform(key: Array, images: Array) -> Array:
        mirrored = jax.random.bernoulli(key, shape=(len(images), 1, 1, 1))
        return jnp.where(mirrored, images[:, :, ::-1], images)

    return transform


def cutout(length: int) -> Transform:
    """Every image with a square set to zero, `length` pixels wide, around a uniform pixel, clipped at the
    borders.

    Rows `y - length // 2 <= r < y - length // 2 + length` for the centre `y`, columns likewise. After
    `normalize`, as in the official code, zero is the mean colour.

    Args:
      length: side of the square in pixels; 0 leaves the images as they are.

    Raises:
      ValueError: for a negative length.

    Reference: DeVries and Taylor 2017, Cutout, arXiv:1708.04552; quark0/darts cnn/utils.py, class Cutout.
    Deviates: there an odd length cuts `length - 1` pixels.

    >>> cutout(2)(jax.random.key(0), jnp.ones((1, 8, 8, 1))).shape
    (1, 8, 8, 1)
    """
    if length < 0:
        raise ValueError(f"length={length}: give the side of the square in pixels, 0 or more.")

    def transform(key: Array, images: Array) -> Array:
        key_row, key_column = jax.random.split(key)
        count, height, width, _ = images.shape
        rows = _stretch(key_row, count, height, length)[:, :, None, None]
        columns = _stretch(key_column, count, width, length)[:, None, :, None]
        return jnp.where(rows & columns, jnp.zeros((), images.dtype), images)

    return transform


def _stretch(key: Array, count: int, size: int, length: int) -> Array:
    """`[count, size]` booleans: which of `size` pixels are within `length` of a uniform centre."""
    start = jax.random.randint(key, (count, 1), 0, size, jnp.int32) - length // 2
    pixel = jnp.arange(size, dtype=jnp.int32)[None]
    return (pixel >= start) & (pixel < start + length)


def identity(key: Array, images: Array) -> Array:
    """The images as they are.

    Args:
      key: not used.
      images: [B, H, W, C].
    """
    del key
    return images


def chain(*transforms: Transform) -> Transform:
    """The transforms one after the other, the first one first, each with a key of its own.

    Args:
      transforms: (key, images [B, H, W, C]) -> images.

    >>> chain(pad_crop(1), flip())(jax.random.key(0), jnp.ones((2, 8, 8, 1))).shape
    (2, 8, 8, 1)
    """

    return Partial(_chained, tuple(map(tree_of, transforms)))


def _chained(transforms: tuple[Partial, ...], key: Array, images: Array) -> Array:
    for key_transform, apply in zip(jax.random.split(key, len(transforms)), transforms, strict=True):
        images = apply(key_transform, images)
    return images


def default_augmentation(dataset: Dataset, stats: Statistics) -> Transform:
    """What DARTS does to CIFAR-10 (shift, mirror, normalise), fitted to the size and kind of the images.

    Shift by 4 pixels from a side of 28 on, else by an eighth of the side and at least 1; no mirror for the
    sets of digits and letters that TFDS or this package name.

    Args:
      dataset: gives the name and the size of the images. A user's own `.npz` set is mirrored: chain
        `pad_crop` and `normalize` yourself where left and right matter.
      stats: of the images that train the weights.

    Reference: Liu et al. 2019, DARTS, arXiv:1806.09055; quark0/darts cnn/utils.py, _data_transforms_cifar10.
    """
    side = min(dataset.train.image.shape[1:3])
    shift = pad_crop(4 if side >= 28 else max(1, side // 8))
    return chain(shift, flip() if mirrored(dataset) else identity, normalize(stats))


def mirrored(dataset: Dataset) -> bool:
    """Whether the mirror image of a class is an image of that class: not for the named sets of digits and letters.

    Args:
      dataset: told by its name; one of the user's own counts as mirrored.
    """
    plain = lambda name: re.sub("[^a-z0-9]", "", re.split("[/:]", name)[0].lower())
    return plain(dataset.name) not in map(plain, _HANDED)


def plain(stats: Statistics) -> Transform:
    """Normalised and otherwise untouched: for the held-out test.

    Args:
      stats: mean and deviation of each channel, from `statistics`.
    """
    return normalize(stats)
