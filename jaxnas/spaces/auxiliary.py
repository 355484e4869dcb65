"""The auxiliary head: a second classifier half-way, whose loss helps to train a deep network.

Where in the river: behind the last reduction of a network built from a genotype, in training only.

Reference: Szegedy et al. 2015, arXiv:1409.4842, section 5; as in quark0/darts, `cnn/model.py`, `AuxiliaryHeadCIFAR`
and `AuxiliaryHeadImageNet`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import numpy as np
from jax import Array, lax

from jaxnas.spaces import ops

_affine = partial(ops.BatchNorm, affine=True)
WINDOW = 5  # pixels that are averaged


class AuxiliaryHead(nn.Module):
    """ReLU, 5x5 means, 1x1 convolution to 128, norm, ReLU, 2x2 convolution to 768, norm, ReLU, linear.

    Deviates: larger images give the 2x2 convolution more than one pixel, and their mean is classified; the official
      heads take states of 8x8 (CIFAR, stride 3) and 7x7 pixels (ImageNet, stride 2) only.
    """

    classes: int
    stride: int = 3  # between means
    last_norm: Callable[..., Any] = _affine  # quark0/darts has none in its ImageNet network: `ops.Identity`

    @nn.compact
    def __call__(self, x: Array) -> Array:
        if min(x.shape[1:3]) < WINDOW + self.stride:
            raise ValueError(
                f"the auxiliary head needs states of {WINDOW + self.stride} x {WINDOW + self.stride} pixels, "
                f"these are {x.shape[1]} x {x.shape[2]}: build the network without it, or for larger images."
            )
        zero, window, strides = np.zeros((), x.dtype), (1, WINDOW, WINDOW, 1), (1, self.stride, self.stride, 1)
        x = lax.reduce_window(nn.relu(x), zero, lax.add, window, strides, "VALID") / WINDOW**2
        x = nn.relu(_affine(name="norm1")(ops.Conv(128, name="conv1")(x)))
        x = ops.Conv(768, (2, 2), pad=False, name="conv2")(x)
        return ops.Classifier(self.classes, name="classifier")(nn.relu(self.last_norm(name="norm2")(x)))
