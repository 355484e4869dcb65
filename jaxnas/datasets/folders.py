"""Images in folders: a sub-folder of PNG or JPEG files for each class.

Where in the river: above the spring, `data` calls it. Knows files and pixels; no jax, no split.

    photos/cat/1.jpg                      one part, of which a fifth is held out
    photos/train/cat/1.jpg                parts: train; test or, without it, valid is held out; with both, the images of
    photos/test/cat/2.jpg                 valid join those of train, which a search deals out anyway

Classes are the sub-folders of train in the order of their names. Images are grey if all are, else RGB; transparency is
put on black. Images of one size stay as they are. Where sizes differ, each is scaled until its shorter side is S pixels
(bilinear, antialiased), and the S x S pixels in the middle are kept; S is the largest of 32, 64, 128 and 224 that is at
most the median of the shorter sides, and 32 where that is smaller.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from jaxnas.memory import free_here, size

KINDS = (".png", ".jpg", ".jpeg")
SIDES = (32, 64, 128, 224)
NAMES = (("train", "training"), ("valid", "val", "validation"), ("test", "testing"))  # of the three parts
GREY = ("1", "L", "LA", "I", "I;16", "F")  # modes of Pillow

Part = tuple[np.ndarray, np.ndarray]  # uint8 [N, H, W, C], int32 [N]


def read(folder: Path) -> tuple[tuple[Part, ...], tuple[str, ...]]:
    """The parts of a folder, training and then held-out if it has one, and the names of the classes.

    Args:
      folder: with a sub-folder for each class, or with `train/` and others that have these.

    Raises:
      FileNotFoundError: where there are no images.
      ValueError: for a file that is no image, a held-out class that is not trained, or images that do not fit into the
        memory that is free.
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
    shape, scale = _shape([path for part in parts for path, _ in part])
    needed = sum(map(len, parts)) * int(np.prod(shape))
    if (free := free_here()) is not None and needed > free:
        raise ValueError(f"the images of {folder} need {size(needed)} of memory, and {size(free)} are free.")
    return tuple(_read(part, shape, scale) for part in parts if part), classes


def _folders(place: Path) -> list[Path]:
    return sorted(one for one in place.iterdir() if one.is_dir() and not one.name.startswith("."))


def _files(place: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """Every image below the folder of its class, with the number of that."""
    unknown = [one.name for one in _folders(place) if one.name not in classes]
    if unknown:
        raise ValueError(f"{place} has the classes {', '.join(unknown[:5])}, of which there is nothing to train on.")
    inside = ((number, sorted((place / name).rglob("*"))) for number, name in enumerate(classes))
    return [(file, number) for number, files in inside for file in files if file.suffix.lower() in KINDS]


def _shape(files: Sequence[Path]) -> tuple[tuple[int, int, int], bool]:
    """[H, W, C] of all images, and whether they are to be scaled; only the heads of the files are read."""
    heads = []
    for file in files:
        with _opened(file) as image:
            heads.append((image.height, image.width, image.mode in GREY))
    channels = 1 if all(grey for *_, grey in heads) else 3
    sizes = {head[:2] for head in heads}
    if len(sizes) == 1:
        return (*sizes.pop(), channels), False
    middle = float(np.median([min(height, width) for height, width, _ in heads]))
    side = max((side for side in SIDES if side <= middle), default=SIDES[0])
    return (side, side, channels), True


def _read(part: Sequence[tuple[Path, int]], shape: tuple[int, int, int], scale: bool) -> Part:
    image = np.empty((len(part), *shape), np.uint8)
    for at, (file, _) in enumerate(part):
        with _opened(file) as found:
            image[at] = _pixels(found, file, shape, scale)
    return image, np.array([number for _, number in part], np.int32)


def _pixels(image: Image.Image, file: Path, shape: tuple[int, int, int], scale: bool) -> np.ndarray:
    height, width, channels = shape
    try:
        if image.mode in ("I", "I;16", "F"):  # 16 bits
            image = Image.fromarray((np.asarray(image).astype(np.float32) / 257).clip(0, 255).astype(np.uint8))
        image = image.convert("L" if channels == 1 else "RGB")
    except OSError as error:
        raise ValueError(f"{file} is damaged ({error}): mend or remove it.") from error
    if scale:
        ratio = height / min(image.size)
        wide, high = (max(height, round(side * ratio)) for side in image.size)
        left, top = (wide - width) // 2, (high - height) // 2
        image = image.resize((wide, high), Image.Resampling.BILINEAR).crop((left, top, left + width, top + height))
    return np.asarray(image).reshape(height, width, channels)


def _opened(file: Path) -> Image.Image:
    try:
        return Image.open(file)
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise ValueError(f"{file} is no image that can be read ({error}): mend or remove it.") from error
