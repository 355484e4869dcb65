"""What tells whether two runs used the same images: a text made of names, shapes, labels, rows and pixels.

Where in the river: beside the spring. Knows arrays; no data set by name, no file.

    digest = sha256(name, classes, shapes, labels, rows) + "+" + sum over images of blake2b(place, pixels)  modulo 2^64

Images on disk that several processes read have their pixels counted where they are read, and the sums are added. Runs
of older versions have no part behind the "+".
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

WORDS = 2  # of 64 bits, in the part of the pixels


def of_rows(name: str, classes: int, shapes: Any, labels: Iterable[Any], rows: Sequence[np.ndarray]) -> str:
    """The part before the "+", 64 characters.

    Args:
      name, classes, shapes: of the data set.
      labels: of its parts.
      rows: which images are in each half of the split, in their order.
    """
    seen = hashlib.sha256(f"{name} {classes} {shapes} {[len(r) for r in rows]}".encode())
    for integers in (*rows, *labels):
        seen.update(np.asarray(integers).astype("<i8").tobytes())
    return seen.hexdigest()


def of_pixels(part: int, images: np.ndarray, places: Iterable[int] | None = None) -> np.ndarray:
    """A sum over images, int64 [2], that may be added to that of others.

    Args:
      part: number of the part of the split that they are in.
      images: [n, H, W, C].
      places: where they stand in that part; from 0 on unless given.
    """
    total = np.zeros(WORDS, np.uint64)
    for place, image in zip(range(len(images)) if places is None else places, images, strict=True):
        seen = hashlib.blake2b(f"{part} {place} ".encode(), digest_size=8 * WORDS)
        seen.update(np.ascontiguousarray(image).data)
        total += np.frombuffer(seen.digest(), "<u8")
    return total.view(np.int64)


def joined(rows: str, pixels: np.ndarray) -> str:
    """Both parts.

    Args:
      rows: of `of_rows`.
      pixels: the sum of `of_pixels` over all images.
    """
    return f"{rows}+{pixels.astype('>i8').tobytes().hex()}"


def alike(one: str, other: str) -> bool:
    """Whether two digests may be of the same images: where one has no pixels, the rest decides.

    Args:
      one, other: digests.
    """
    parts = [text.partition("+")[::2] for text in (one, other)]
    return parts[0][0] == parts[1][0] and (parts[0][1] == parts[1][1] or not all(pixels for _, pixels in parts))
