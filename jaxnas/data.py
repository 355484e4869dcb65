"""Data sets as arrays: loading, splitting, and the order of an epoch.

Where in the river: the spring. What leaves this file are batches of raw uint8 pixels and labels, and the
split that says which of them move the weights, which move alpha, and which are held out; `augmentation` turns
pixels into what the network sees. This file knows arrays and files; no network, no alpha, no device, and it
prints nothing.
"""

import dataclasses
import importlib.resources
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxnas import fingerprint, memory
from jaxnas.datasets import arrays, folders, huggingface, prepared, stored
from jaxnas.datasets.pictures import Tell, silent
from jaxnas.datasets.stored import Stored

DIGITS = "digits"  # the set that travels with the package


class Batch(NamedTuple):
    """Images with their labels: numpy arrays on the host, jax arrays after `jax.device_put`."""

    image: Array  # [B, H, W, C] uint8 as stored; floats after `normalize`
    label: Array  # [B] int32


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A labelled image set in host memory, or on disk where it is larger; checked when it is built.

    Raises:
      ValueError: for images that are not uint8 `[N, H, W, C]`, labels that are not integers `[N]` in
        0..classes-1, an empty part, fewer than two classes, or parts of different image shapes.

    >>> load("digits").train.image.shape
    (1438, 8, 8, 1)
    """

    name: str
    train: Batch  # numpy: uint8 [N, H, W, C], int32 [N]
    test: Batch  # numpy, in the same form
    classes: int

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(getattr(self, part).label):,} {part}" for part in ("train", "test"))
        return f"Dataset({self.name!r}: {counts} images {_sides(self.train)}, {self.classes} classes)"

    def __post_init__(self) -> None:
        for part in ("train", "test"):
            where = f"{self.name}, {part} part"
            arrays.check_part(where, *getattr(self, part))
            arrays.check_labels(where, np.asarray(getattr(self, part).label), self.classes)
        if self.train.image.shape[1:] != self.test.image.shape[1:]:
            raise ValueError(
                f"{self.name}: training images are {self.train.image.shape[1:]}, test images "
                f"{self.test.image.shape[1:]}; bring both to one [H, W, C]."
            )


class Split(NamedTuple):
    """The three parts of a search, and a fingerprint that tells whether two runs used the same ones."""

    train: Batch  # moves the weights
    valid: Batch  # moves alpha
    test: Batch  # moves neither
    digest: str  # of rows, labels and pixels, see `fingerprint`

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(getattr(self, part).label):,} {part}" for part in ("train", "valid", "test"))
        return f"Split({counts} images {_sides(self.train)}; {self.digest[:12]})"


def load(name: str, data_dir: str | os.PathLike | None = None) -> Dataset:
    """An image set by name: embedded, from the user's own arrays, or from TensorFlow Datasets (TFDS).

    TFDS sets are read from array_record files, which needs no TensorFlow; a set that is not there is
    downloaded and prepared by TFDS, whose progress then shows on stderr. The held-out part is TFDS' "test",
    else its "validation"; where there is neither, and for "digits" and `.npz` files without a test part, it
    is one fifth of the images, drawn with seed 0. Images of a folder stay on disk where they would take more than a
    quarter of the memory that is free; a run reads them chunk by chunk then.

    Args:
      name: "digits"; or a folder, "photos/", with a sub-folder of images for each class, see `datasets.folders`, or as
        Hugging Face `datasets` saves one, see `datasets.huggingface`; or a path that ends in `.npz`, with the arrays
        `image` (uint8 `[N, H, W, C]`), `label` (integers `[N]`) and optionally `test_image` and `test_label` (pickled
        objects are refused), and `classes`, their number, where some of them have no image; or a TFDS name such as
        "cifar10" or "name/config:version".
      data_dir: where TFDS keeps its sets, by default ~/tensorflow_datasets; a relative `.npz` path starts
        here too.

    Raises:
      ValueError: for an unknown name, or data that is not an image-classification set of one image shape.
      FileNotFoundError: for a set that is not on disk and cannot be prepared, or a missing `.npz` file.

    Reference: "digits" is E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, 1998, UCI
      Machine Learning Repository, doi 10.24432/C50P49, CC BY 4.0; see jaxnas/datasets/README.md.

    >>> load("digits").classes
    10
    """
    found = _loaded(name, data_dir, prepared.read)
    images = stored.settled((found.train.image, found.test.image), memory.for_images())
    train, test = (part._replace(image=image) for part, image in zip((found.train, found.test), images, strict=True))
    return dataclasses.replace(found, train=train, test=test)


def opened(name: str, data_dir: str | os.PathLike | None = None, tell: Tell = silent) -> Dataset:
    """As `load`, but images stay on disk until their rows are asked for (`datasets.stored`); all labels are read.

    For one of several processes, which needs a part of them, and for what may be larger than memory: `reading.read`
    decides about the parts of a split. Digits and `.npz` files are read at once.

    Args:
      name, data_dir: as in `load`.
      tell: called with (what is done, how many, of how many) while the heads of a folder's files are read.
    """
    return _loaded(name, data_dir, prepared.opened, tell)


def spelt(name: str, found: Dataset) -> str:
    """A data set's name as records keep it: a user's path as it was given, else the set's own spelling.

    Args:
      name: what was asked for.
      found: what `load` gave.
    """
    return name if arrays.is_file(name) else found.name


def _loaded(name: str, data_dir: str | os.PathLike | None, read: Callable[..., Any], tell: Tell = silent) -> Dataset:
    parts: Any
    if name.lower() == DIGITS:
        with importlib.resources.files("jaxnas.datasets").joinpath("digits.npz").open("rb") as file:
            return _from_arrays(DIGITS, dict(np.load(file, allow_pickle=False)))
    if arrays.is_file(name):
        path = arrays.path_of(name, data_dir)
        if path.suffix.lower() == ".npz":
            return _from_arrays(path.stem, arrays.read_npz(path))
        kind = huggingface if huggingface.is_one(path) else folders
        parts, names = kind.opened(path, tell)
        name = path.resolve().name
        classes = len(names) or arrays.count_classes(name, [labels for _, labels in parts])
    else:
        parts, classes, name = read(name, data_dir)
    train, test = (Batch(*part) for part in parts) if len(parts) == 2 else _hold_out(name, Batch(*parts[0]))
    return Dataset(name=name, train=train, test=test, classes=classes)


def split(dataset: Dataset, *, seed: int = 0, valid_fraction: float = 0.5, fraction: float = 1.0) -> Split:
    """The training images dealt out, in a seeded random order, to weights and alpha; the test part untouched.

    Args:
      dataset: from `load`, or one's own.
      seed: of the permutation.
      valid_fraction: share of the kept training images that moves alpha, between 0 and 1.
      fraction: share of the training images that is kept at all, above 0 and at most 1; for small machines.

    Raises:
      ValueError: for shares out of range, or a part that would be empty.

    Reference: Liu et al. 2019, DARTS, arXiv:1806.09055, section 3.1.
    Deviates: quark0/darts cnn/train_search.py takes the first and the second half in the order of the files.

    >>> [len(part.label) for part in split(load("digits"), valid_fraction=0.25)[:3]]
    [1078, 360, 359]
    """
    if not (0 < valid_fraction < 1 and 0 < fraction <= 1):
        raise ValueError(
            f"valid_fraction={valid_fraction}, fraction={fraction}: give 0 < valid_fraction < 1 (one half "
            "as in DARTS) and 0 < fraction <= 1."
        )
    total = len(dataset.train.label)
    kept = round(total * fraction)
    order = np.random.default_rng(seed).permutation(total)[:kept]
    rows = np.split(order, [kept - round(kept * valid_fraction)])
    if not all(map(len, rows)):
        raise ValueError(
            f"{dataset.name}: of {total} training images fraction={fraction} keeps {kept}, of which "
            f"valid_fraction={valid_fraction} leaves {len(rows[0])} to the weights and {len(rows[1])} to "
            "alpha; both need some: give larger fractions."
        )
    return _split(dataset, rows)


def whole(dataset: Dataset, *, seed: int = 0, fraction: float = 1.0) -> Split:
    """All training images train, and none are held back but the test part: how networks are retrained.

    Args:
      dataset: from `load`, or one's own.
      seed: of the permutation from which a fraction is taken.
      fraction: share of the training images that is kept, above 0 and at most 1.

    Raises:
      ValueError: for a share out of range, or one that keeps no image.

    >>> [len(part.label) for part in whole(load("digits"))[:3]]
    [1438, 0, 359]
    """
    total = len(dataset.train.label)
    kept = round(total * fraction)
    if not (0 < fraction <= 1 and kept):
        raise ValueError(f"fraction={fraction} of {total} training images: give a larger one, at most 1.")
    rows = np.split(np.random.default_rng(seed).permutation(total)[:kept], [kept])
    return _split(dataset, rows)


def epoch_rows(key: Array, size: int, batch: int) -> Array:
    """The rows of every batch of one epoch: a fresh permutation, in which every image occurs at least once.

    `T = ceil(size / batch)` batches; the last is filled up with the first images of the same permutation, so
    that all batches have one shape and nothing is compiled twice.

    Args:
      key: draws the permutation.
      size: number of images.
      batch: images per batch; may exceed `size`, the permutation then repeats.

    Returns: `[T, batch]` int32.

    Raises:
      ValueError: for sizes below 1.

    Deviates: quark0/darts keeps a short last batch (40 of 64 at 25,000 images) in cnn/train_search.py, and
      draws the batches of alpha from a loader restarted at each step, without covering the images evenly.

    >>> epoch_rows(jax.random.key(0), size=10, batch=4).shape
    (3, 4)
    """
    if size < 1 or batch < 1:
        raise ValueError(f"size={size}, batch={batch}: an epoch needs at least one image and batches of at least one.")
    steps = -(-size // batch)
    order = jax.random.permutation(key, jnp.arange(size, dtype=jnp.int32))
    return jnp.resize(order, (steps, batch))


def take(images: Batch, rows: Array) -> Batch:
    """The given rows of a batch, gathered where it lies.

    Args:
      images: `[N, H, W, C]` and `[N]`.
      rows: integers in 0..N-1 of any shape, such as one line of `epoch_rows`.

    >>> take(jax.device_put(load("digits").train), jnp.array([3, 1])).image.shape
    (2, 8, 8, 1)
    """
    return Batch(*(jnp.asarray(leaf)[rows] for leaf in images))


def _sides(part: Batch) -> str:
    return " x ".join(map(str, np.shape(part.image)[1:]))


def _split(dataset: Dataset, rows: Sequence[np.ndarray]) -> Split:
    """The parts with their fingerprint; the pixels of images that are still on disk are not in it yet."""
    train, valid = (Batch(*(leaf[r] for leaf in dataset.train)) for r in rows)
    parts = (train, valid, dataset.test)
    shapes = [leaf.shape for part in (dataset.train, dataset.test) for leaf in part]
    labels = (dataset.train.label, dataset.test.label)
    digest = fingerprint.of_rows(dataset.name, dataset.classes, shapes, labels, rows)
    if not any(isinstance(part.image, Stored) for part in parts):
        pixels = [fingerprint.of_pixels(number, np.asarray(part.image)) for number, part in enumerate(parts)]
        digest = fingerprint.joined(digest, sum(pixels[1:], pixels[0]))
    return Split(*parts, digest)


def _from_arrays(name: str, found: Mapping[str, np.ndarray]) -> Dataset:
    parts = [_part(name, found, prefix) for prefix in ("", "test_") if prefix + "image" in found]
    classes = arrays.count_classes(name, [np.asarray(part.label) for part in parts], found.get("classes"))
    train, test = parts if len(parts) == 2 else _hold_out(name, parts[0])
    return Dataset(name=name, train=train, test=test, classes=classes)


def _part(name: str, found: Mapping[str, Any], prefix: str) -> Batch:
    where, image, label = f"{name}, {prefix}image", found[prefix + "image"], found[prefix + "label"]
    arrays.check_part(where, image, label)
    arrays.check_labels(where, label, classes=2**31)
    return Batch(image, label.astype(np.int32))


def _hold_out(name: str, images: Batch) -> tuple[Batch, Batch]:
    """Four fifths to train and one fifth to test, drawn with seed 0."""
    size = len(images.label)
    if size < 5:
        raise ValueError(f"{name}: {size} images and no test part; give at least 5, one fifth is held out.")
    test, train = np.split(np.random.default_rng(0).permutation(size), [size // 5])
    return Batch(*(leaf[train] for leaf in images)), Batch(*(leaf[test] for leaf in images))
