"""Images and labels that a user brings: what is refused, and what to do about it.

Where in the river: above the spring, `data` calls it. Knows numpy arrays and `.npz` files; no set by name, no jax.
"""

import difflib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxnas import archive

WANTED = ("image", "label", "test_image", "test_label", "classes")
ALIASES = {  # how other programs call the same arrays, lower case
    "image": ("images", "x_train", "train_images", "train_x", "x", "data", "arr_0"),
    "label": ("labels", "y_train", "train_labels", "train_y", "y", "target", "targets", "arr_1"),
    "test_image": ("test_images", "x_test", "test_x"),
    "test_label": ("test_labels", "y_test", "test_y"),
}
MANY = 10**5  # classes; more are ids
FEW = (1, 3, 4)  # channels of images
INTEGER = "expected one integer per image, [N]"


def is_file(name: str) -> bool:
    """Whether the name of a set is a path, and none of TFDS.

    Args:
      name: as it was given.
    """
    return bool(re.search(r"\.(?!\d+(\.|$))\w+$|^[~./]|/$|\\|://", name.strip())) or Path(name).is_file()


def path_of(name: str, data_dir: str | os.PathLike | None) -> Path:
    """The `.npz` file or the folder of a name; `~` is the home folder, and a relative path starts in `data_dir`.

    Args:
      name, data_dir: as they were given.

    Raises:
      ValueError: for another kind of file; says how to make one of this kind.
    """
    path = Path(os.path.expanduser(data_dir or "."), os.path.expanduser(name.strip()))  # without a home, as it is
    if path.suffix.lower() == ".npz" or path.is_dir():
        return path
    if "://" in name or "\\" in name:
        raise ValueError(f"no data set {name!r}: give the path of a file on this machine, with / between folders.")
    kind = f"a file of the kind {path.suffix!r}" if path.suffix else "not there"
    raise ValueError(
        f"{name!r} is {kind}: give an .npz file, by numpy.savez('mine.npz', image=..., label=...), a folder with a "
        "sub-folder of images for each class, digits, or the name of a TFDS set."
    )


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file: image [N, H, W, C] and label [N], perhaps test_image, test_label and classes [].

    Args:
      path: of the file.

    Raises:
      FileNotFoundError: where there is no such file.
      ValueError: where the file is damaged, or holds other arrays; says which, and how to give them these names.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "is not there"
        raise FileNotFoundError(f"{path} {what}: give the path of an .npz file, or its folder as data_dir.")
    try:
        names = archive.names(path)
        arrays = archive.read(path, WANTED)
    except ValueError as error:
        raise ValueError(
            f"{path} cannot be read ({error}); write it by numpy.savez(path, image=..., label=...) from "
            "plain numeric arrays. Pickled objects are never loaded."
        ) from error
    if not {"image", "label"} <= set(arrays) or ("test_image" in arrays) != ("test_label" in arrays):
        needs = "it needs image and label, and test_image with test_label"
        raise ValueError(f"{path} has {', '.join(names) or 'no arrays'}; {needs}{_renamed(path, names)}.")
    return arrays


def _renamed(path: Path, names: Sequence[str]) -> str:
    """The line that gives arrays of other names the right ones, where both images and labels are known."""
    lower = {name.lower(): name for name in names}
    meant = {}
    for wanted, others in ALIASES.items():
        found = next((lower[other] for other in (wanted, *others) if other in lower), None)
        close = difflib.get_close_matches(wanted, lower, n=1, cutoff=0.8)
        if found or (close and wanted in ("image", "label")):
            meant[wanted] = found or lower[close[0]]
    if not {"image", "label"} <= set(meant):
        return ""
    given = ", ".join(f'{wanted}=a["{name}"]' for wanted, name in meant.items())
    return f': a = numpy.load({str(path)!r}); numpy.savez("renamed.npz", {given})'


def check_part(where: str, image: Any, label: Any) -> None:
    """Raises a ValueError for what is not uint8 [N, H, W, C] with integers [N]; says how to make it so.

    Args:
      where: name of the set and its part, for the error.
      image, label: arrays, or images that are still on disk.
    """
    told = f"{where}: images are {dtype(image)} {np.shape(image)}"
    if dtype(image) != np.uint8:
        raise ValueError(f"{told}, expected uint8 with values 0..255; {_to_bytes(np.asarray(image))}.")
    if np.ndim(image) != 4:
        raise ValueError(f"{told}, expected [N, H, W, C]; for one channel image[..., None].")
    if 0 in np.shape(image):
        raise ValueError(f"{told}, there is nothing in them; give at least one image.")
    _, height, width, channels = np.shape(image)
    if height in FEW and width > max(FEW) and channels > max(FEW):
        raise ValueError(
            f"{told}, expected [N, H, W, C]: do the channels come first? Then give image.transpose(0, 2, 3, 1)."
        )
    if dtype(label).kind not in "iu" or np.ndim(label) != 1:
        raise ValueError(f"{where}: labels are {dtype(label)} {np.shape(label)}, {INTEGER}{_to_integers(label)}.")
    if len(image) != len(label):
        raise ValueError(f"{where}: {len(image)} images but {len(label)} labels; give one label per image.")


def _to_bytes(image: np.ndarray) -> str:
    """How to make uint8 of these images, by what they hold."""
    if image.dtype == bool:
        return "convert by image.astype(numpy.uint8) * 255"
    if image.dtype.kind not in "iuf" or not image.size:
        return "give plain numbers"
    if broken := int(image.size - np.isfinite(image).sum()):
        return f"{broken} of their values are not finite numbers, which no conversion mends: replace them first"
    low, high = image.min(), image.max()
    if low >= 0 and high <= 1 and image.dtype.kind == "f":
        return "convert floats in 0..1 by (image * 255).round().astype(numpy.uint8)"
    if low >= 0 and high <= 255:
        return f"they lie in {low:g}..{high:g}: convert by image.round().astype(numpy.uint8)"
    scaled = f"((image - {low:g}) * {255 / (float(high) - float(low)):g})"
    return f"they lie in {low:g}..{high:g}: bring them to 0..255 first, by {scaled}.round().astype(numpy.uint8) perhaps"


def _to_integers(label: Any) -> str:
    shape, kind = np.shape(label), dtype(label).kind
    if len(shape) == 2 and shape[1] == 1:
        return "; label[:, 0] is that"
    if len(shape) == 2:
        return "; where each row marks one class, label.argmax(1) is that"
    if kind in "US":
        return "; numpy.unique(label, return_inverse=True)[1] numbers names"
    if kind == "f" and np.isfinite(label).all() and np.array_equal(label, np.round(label)):
        return "; label.astype(int) is that"
    return ""


def check_labels(where: str, label: np.ndarray, classes: int) -> None:
    """Raises a ValueError for a label outside 0..classes-1, and for fewer than two classes.

    Args:
      where: name of the set and its part, for the error.
      label: integers [N].
      classes: their number.
    """
    if classes < 2:
        raise ValueError(f"{where}: {classes} class, and nothing to tell apart: give images of two classes at least.")
    outside = np.maximum(label.astype(np.int64) - (classes - 1), -label.astype(np.int64))
    worst = int(outside.argmax())
    if outside[worst] > 0:
        raise ValueError(
            f"{where}: label {label[worst]} at index {worst} is outside 0..{classes - 1}; number the classes "
            "from 0, and leave images without a label out."
        )


def count_classes(name: str, labels: Sequence[np.ndarray], told: Any = None) -> int:
    """The number of classes: as it is told, or the largest label and one, where all classes up to it have images.

    Args:
      name: of the set, for errors.
      labels: of its parts.
      told: number of classes, where the user gives it.

    Raises:
      ValueError: for labels with gaps, or ids, that nobody told the number of classes for.
    """
    if told is not None:
        if np.shape(told) != () or dtype(told).kind not in "iu":
            raise ValueError(f"{name}: classes is {dtype(told)} {np.shape(told)}, expected one integer.")
        return int(told)
    found = np.unique(np.concatenate(labels))
    count = int(found[-1]) + 1
    if len(found) < count:
        absent = np.setdiff1d(np.arange(min(count, len(found) + 4)), found)[:4]
        more = ", ..." if len(absent) < count - len(found) else ""
        meant = f", or put classes={count} into the file if that is meant" if count <= MANY else ""
        raise ValueError(
            f"{name}: the largest label is {found[-1]}, and only {len(found)} different labels occur; classes without "
            f"an image: {', '.join(map(str, absent))}{more}. A network has an output for each class: number the labels "
            f"by numpy.unique(label, return_inverse=True)[1]{meant}."
        )
    return count


def dtype(array: Any) -> np.dtype:
    """Asked, not computed: images may be on disk."""
    return array.dtype if hasattr(array, "dtype") else np.asarray(array).dtype
