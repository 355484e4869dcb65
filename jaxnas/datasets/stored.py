"""Images that stay on disk until their rows are asked for: larger than memory, or for one of several processes.

Where in the river: above the spring. Knows rows and shapes; no files, no jax.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import zip_longest
from typing import Any, TypeVar

import numpy as np

PIECE = 2**26  # bytes of images that are looked at together

Made = TypeVar("Made")


@dataclasses.dataclass(frozen=True, eq=False)
class Stored:
    """Images on disk, indexed as an array of them is; only `np.asarray` decodes.

    >>> tens = lambda rows: 10 * rows.reshape(-1, 1, 1, 1).astype(np.uint8)
    >>> np.asarray(Stored(tens, np.arange(9), (1, 1, 1), np.dtype(np.uint8))[5:][[0, 2]]).ravel().tolist()
    [50, 70]
    """

    read: Callable[[np.ndarray], np.ndarray]  # rows on disk [n] -> images [n, H, W, C]
    rows: np.ndarray  # which of those on disk these are, in their order
    each: tuple[int, ...]  # [H, W, C]
    dtype: np.dtype
    streamed: bool = False  # too many for the memory: an epoch reads them chunk by chunk
    in_order: str = ""  # why they cannot be read in any order, and what to do about it
    ndim = 4

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, H, W, C], as an array has it."""
        return (len(self.rows), *self.each)

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded images."""
        return int(np.prod(self.shape)) * self.dtype.itemsize

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> "Stored":
        return dataclasses.replace(self, rows=self.rows[index])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        del copy
        return self.read(self.rows).astype(dtype or self.dtype, copy=False)


def near(images: Any, rows: np.ndarray) -> Any:
    """The same images, some of them decoded at once and kept; arrays are near already.

    Args:
      images: `Stored`, or an array.
      rows: which of them will be asked for; others still can be.
    """
    return held(images, rows, np.asarray(images[rows])) if isinstance(images, Stored) else images


def held(images: Stored, rows: np.ndarray, kept: np.ndarray) -> Stored:
    """The same images, some of which are decoded already.

    Args:
      images: on disk.
      rows: which are decoded.
      kept: these, [n, H, W, C].
    """
    place = {int(row): at for at, row in enumerate(images.rows[rows])}

    def read(asked: np.ndarray) -> np.ndarray:
        if all(int(row) in place for row in asked):
            return kept[[place[int(row)] for row in asked]]
        return images.read(asked)

    return dataclasses.replace(images, read=read)


def streamed(images: Any) -> bool:
    """Whether images are read from disk chunk by chunk, in each epoch anew.

    Args:
      images: `Stored`, or an array.
    """
    return isinstance(images, Stored) and images.streamed


def to_stream(images: Any) -> Any:
    """The same images, to be read chunk by chunk; arrays stay what they are.

    Args:
      images: `Stored`, or an array.

    Raises:
      ValueError: where they can be read in their order only; says what to do.
    """
    if isinstance(images, Stored) and images.in_order:
        raise ValueError(images.in_order)
    return dataclasses.replace(images, streamed=True) if isinstance(images, Stored) else images


def settled(parts: Sequence[Any], most: int) -> tuple[Any, ...]:
    """Images on disk as arrays where all of them together take at most so many bytes, else to be streamed.

    Args:
      parts: `Stored` or arrays, each [N, H, W, C].
      most: bytes.

    Raises:
      ValueError: where they do not fit, and can be read in their order only; says what to do.
    """
    fits = sum(part.nbytes for part in parts if isinstance(part, Stored)) <= most
    return tuple(np.asarray(part) if fits else to_stream(part) for part in parts)


def pieces(images: Any, rows: np.ndarray | None = None) -> Iterator[tuple[np.ndarray, Any]]:
    """Rows and their images as arrays, some at a time; those on disk are decoded one piece ahead.

    Args:
      images: `Stored`, or an array [N, H, W, C].
      rows: which; all unless given.
    """
    rows = np.arange(len(images)) if rows is None else rows
    step = max(1, PIECE // max(1, int(np.prod(images.shape[1:]))))
    starts = range(0, len(rows), step)
    read = ahead(lambda start: np.asarray(images[rows[start : start + step]]))
    for start, following in zip_longest(starts, starts[1:]):
        yield rows[start : start + step], read(start, following)


def ahead(make: Callable[[Any], Made]) -> Callable[[Any, Any], Made]:
    """(what is wanted, what comes next or None) -> what was made of it; the next is made on a thread meanwhile.

    Nothing else that was made is kept.

    Args:
      make: called in the order of what is asked for, one at a time.
    """
    pool, made = ThreadPoolExecutor(1, "ahead"), dict[Any, Future[Made]]()

    def get(wanted: Any, following: Any) -> Made:
        asked = [item for item in (wanted, following) if item is not None]
        for old in made.keys() - set(asked):
            made.pop(old).cancel()
        for item in asked:
            if item not in made:
                made[item] = pool.submit(make, item)
        return made[wanted].result()

    return get
