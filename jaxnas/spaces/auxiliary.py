"""The auxiliary head: a second classifier half-way, whose loss helps to train a deep network.

Where in the river: behind the last reduction of a network built from a genotype, in training only.

Reference: Szegedy et al. 2015, arXiv:1409.4842, section 5; as in quark0/darts, `cnn/model.py`, `AuxiliaryHeadCIFAR`
and `AuxiliaryHeadImageNet`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxnas.spaces import ops

_affine = partial(ops.BatchNorm, affine=True)
WINDOW = 5  # pixels that are averaged


def means(side: int, stride: int) -> tuple[int, int]:
    """How many pixels a mean covers, and how far the next one is: the official numbers where the state is large enough.

    Args:
      side: of the state, pixels.
      stride: between means, where they fit.

    >>> [means(side, 3) for side in (16, 8, 7, 6, 5, 2, 1)]
    [(5, 3), (5, 3), (5, 2), (5, 1), (4, 1), (1, 1), (1, 1)]
    """
    return (WINDOW, min(stride, side - WINDOW)) if side > WINDOW else (max(1, side - 1), 1)


class AuxiliaryHead(nn.Module):
    """ReLU, 5x5 means, 1x1 convolution to 128, norm, ReLU, 2x2 convolution to 768, norm, ReLU, linear.

    Deviates: the official heads take states of 8x8 (CIFAR, stride 3) and 7x7 pixels (ImageNet, stride 2) only. Larger
      states give the 2x2 convolution more than one pixel, and their mean is classified. Smaller ones are brought to 2x2
      means: the stride shrinks first (7 pixels: stride 2), then the windows (4 pixels: 3 wide), and one pixel is taken
      twice.
    """

    classes: int
    stride: int = 3  # between means
    last_norm: Callable[..., Any] = _affine  # quark0/darts has none in its ImageNet network: `ops.Identity`

    @nn.compact
    def __call__(self, x: Array) -> Array:
        (height, down), (width, right) = (means(side, self.stride) for side in x.shape[1:3])
        zero, window, strides = np.zeros((), x.dtype), (1, height, width, 1), (1, down, right, 1)
        x = lax.reduce_window(nn.relu(x), zero, lax.add, window, strides, "VALID") / (height * width)
        for axis in (1, 2):
            x = jnp.repeat(x, 2, axis) if x.shape[axis] == 1 else x
        x = nn.relu(_affine(name="norm1")(ops.Conv(128, name="conv1")(x)))
        x = ops.Conv(768, (2, 2), pad=False, name="conv2")(x)
        return ops.Classifier(self.classes, name="classifier")(nn.relu(self.last_norm(name="norm2")(x)))
