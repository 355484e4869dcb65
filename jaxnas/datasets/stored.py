"""Images that stay on disk until their rows are asked for, so that each of several processes decodes its own.

Where in the river: above the spring. Knows rows and shapes; no files, no jax.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np


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
    ndim = 4

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, H, W, C], as an array has it."""
        return (len(self.rows), *self.each)

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
    if not isinstance(images, Stored):
        return images
    kept, place = np.asarray(images[rows]), {int(row): at for at, row in enumerate(images.rows[rows])}

    def read(asked: np.ndarray) -> np.ndarray:
        if all(int(row) in place for row in asked):
            return kept[[place[int(row)] for row in asked]]
        return images.read(asked)

    return dataclasses.replace(images, read=read)
