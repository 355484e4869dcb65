"""What is measured: one search step, described by a few numbers and names that can be sent to another process.

Knows no JAX and no PyTorch, so that a process that needs one of them does not load the other.
"""

from typing import Literal, NamedTuple

import numpy as np

CLASSES = 10


class Peering(NamedTuple):
    """The PyTorch step that a strategy is compared with."""

    order: Literal["first", "second"]  # of the peer's hypergradient
    passes: int  # least work of a step in forward passes: forward 1, gradient of the data 1, of the weights 1


PEERS = {  # names of strategies; first order: 2 for alpha, 3 for the weights; second: 3 + 3 + 2 * 2 + 3
    "darts": Peering("second", 13),
    "darts-first-order": Peering("first", 5),
    "darts-official": Peering("second", 13),
}


class Case(NamedTuple):
    """One search step on random images."""

    space: str = "darts"
    strategy: str = "darts-first-order"
    channels: int = 16
    depth: int = 8  # cells, or cells for each stage
    batch: int = 16  # images for the weights, and again for alpha
    image: int = 32  # side of the images, pixels
    precision: str = "float32"  # float32, tf32 or bfloat16
    seed: int = 0


def images(case: Case) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Normal pixels [B, H, W, 3] float32 and uniform labels [B] int32, for the weights and for alpha."""
    rng = np.random.default_rng(case.seed)
    shape = (case.batch, case.image, case.image, 3)
    half = lambda: (rng.standard_normal(shape, np.float32), rng.integers(CLASSES, size=case.batch, dtype=np.int32))
    return half(), half()
