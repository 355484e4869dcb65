"""The one look at all images before a run: do they fit into memory, what are their statistics, which are they.

Where in the river: at the spring, behind the split. Knows parts of a split, memory and processes; no step.

Images that fit are decoded once and kept. Larger ones are decoded here, piece by piece, and again in each epoch
(`feeding`); so a damaged file is told before the run, and the fingerprint is that of the same images in memory.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxnas import agreement, augmentation, fingerprint, parallel
from jaxnas.data import Batch, Split
from jaxnas.datasets.pictures import Tell, silent
from jaxnas.datasets.stored import Stored, held, pieces, to_stream
from jaxnas.memory import for_images

LOOK = "reading all images once"


def read(
    parts: Split, placement: parallel.Placement | None = None, tell: Tell = silent, most: int | None = None
) -> tuple[Split, augmentation.Statistics]:
    """The parts of a split in memory, or marked to be read in each epoch; and the statistics of all training images.

    Args:
      parts: of `data.split` or `data.whole`; images that are in memory already stay there.
      placement: where they will lie; one device unless given. Of several processes each reads its own rows.
      tell: called with (what is done, images, of how many).
      most: bytes that images may take; `memory.for_images` of these devices unless given.

    Raises:
      ValueError: for an image that is damaged, by the name of its file.
    """
    if not any(isinstance(part.image, Stored) for part in parts[:3]):
        return parts, augmentation.statistics(parts.train)
    placement = placement or parallel.one()
    rows, alone = _rows(parts, placement), jax.process_count() == 1
    needed = sum(part.image[r].nbytes for part, r in zip(parts[:3], rows, strict=True))
    fits = agreement.everywhere(needed <= (for_images(placement.devices) if most is None else most))
    total, looks = sum(map(len, rows)), []
    for number, (part, mine) in enumerate(zip(parts[:3], rows, strict=True)):
        before = sum(map(len, rows[:number]))
        told = lambda done, before=before: tell(LOOK, before + done, total)
        image = part.image if fits else to_stream(part.image)
        looks.append(_look(number, part._replace(image=image), mine, fits and (alone or number < 2), told))
    parallel.wait("the images are read")
    (train, valid, test), pixels, counted = zip(*looks, strict=True)
    digest = fingerprint.joined(parts.digest, agreement.summed(np.sum(pixels, 0)))
    return Split(train, valid, test, digest), augmentation.of_counts(agreement.summed(np.sum(counted, 0)))


def _rows(parts: Split, placement: parallel.Placement) -> list[np.ndarray]:
    """What this process looks at: what its devices hold of both halves, and its share of the test images."""
    held = [placement.rows(len(part.label)) for part in parts[:2]]
    return [*held, np.arange(jax.process_index(), len(parts.test.label), jax.process_count())]


def _look(number: int, part: Batch, rows: np.ndarray, keep: bool, told: Callable[[int], None]):
    """A part as it goes on, its share of the fingerprint, and how often each value occurs if it is what trains."""
    image: Any = part.image
    kept = np.empty((len(rows), *image.shape[1:]), np.uint8) if keep and isinstance(image, Stored) else None
    pixels, counted, done = np.zeros(fingerprint.WORDS, np.int64), np.zeros((image.shape[-1], 256), np.int64), 0
    for places, found in pieces(image, rows):
        pixels += fingerprint.of_pixels(number, found, places)
        counted += augmentation.counts(part._replace(image=found)) if number == 0 else 0
        if kept is not None:
            kept[done : done + len(found)] = found
        told(done := done + len(found))
    if kept is not None:
        image = kept if jax.process_count() == 1 else held(image, rows, kept)
    return part._replace(image=image), pixels, counted
