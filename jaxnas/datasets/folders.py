"""Images in folders: a sub-folder of PNG or JPEG files for each class.

Where in the river: above the spring, `data` calls it. Knows files; no pixels, no jax, no split.

    photos/cat/1.jpg                      one part, of which a fifth is held out
    photos/train/cat/1.jpg                parts: train; test or, without it, valid is held out; with both, the images of
    photos/test/cat/2.jpg                 valid join those of train, which a search deals out anyway

Classes are the sub-folders of train in the order of their names. `pictures` says what becomes of images of other sizes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxnas.datasets.pictures import Form, Found, Tell, decoded, form, silent
from jaxnas.datasets.stored import Stored

KINDS = (".png", ".jpg", ".jpeg")
NAMES = (("train", "training"), ("valid", "val", "validation"), ("test", "testing"))  # of the three parts

Part = tuple[Stored, np.ndarray]  # uint8 [N, H, W, C], int32 [N]


def opened(folder: Path, tell: Tell = silent) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """The parts of a folder, training and then held-out if it has one, and the names of the classes.

    Args:
      folder: with a sub-folder for each class, or with `train/` and others that have these.
      tell: called while the heads of the files are read.

    Raises:
      FileNotFoundError: where there are no images.
      ValueError: for a file that is no image, or a held-out class that is not trained.
    """
    train, valid, test = (next((folder / one for one in names if (folder / one).is_dir()), None) for names in NAMES)
    joined = [train, valid] if train and valid and test else [train or folder]
    held = [test or valid] if train and (test or valid) else []
    classes = tuple(sorted({one.name for place in joined if place for one in _folders(place)}))
    parts = [[file for place in places if place for file in _files(place, classes)] for places in (joined, held)]
    if len(classes) < 2 or not parts[0] or (held and not parts[1]):
        raise FileNotFoundError(
            f"{folder} has {len(parts[0])} images in {len(classes)} sub-folders: give a sub-folder of "
            f"{', '.join(KINDS)} files for each class, two at least, in {folder} or in its train/ and test/."
        )
    paths = [path for part in parts for path, _ in part]
    to = form((Found(at, path, path) for at, path in enumerate(paths)), len(paths), tell)
    return tuple(_part(part, to) for part in parts if part), classes


def _folders(place: Path) -> list[Path]:
    return sorted(one for one in place.iterdir() if one.is_dir() and not one.name.startswith("."))


def _files(place: Path, classes: Sequence[str]) -> list[tuple[str, int]]:
    """Every image below the folder of its class, with the number of that."""
    unknown = [one.name for one in _folders(place) if one.name not in classes]
    if unknown:
        raise ValueError(f"{place} has the classes {', '.join(unknown[:5])}, of which there is nothing to train on.")
    inside = ((number, sorted((place / name).rglob("*"))) for number, name in enumerate(classes))
    return [(str(file), number) for number, files in inside for file in files if file.suffix.lower() in KINDS]


def _part(part: Sequence[tuple[str, int]], to: Form) -> Part:
    paths = [path for path, _ in part]

    def read(rows: np.ndarray) -> np.ndarray:
        return decoded((Found(at, paths[row], paths[row]) for at, row in enumerate(rows)), len(rows), to)

    stored = Stored(read, np.arange(len(part)), to.shape, np.dtype(np.uint8))
    return stored, np.array([number for _, number in part], np.int32)
