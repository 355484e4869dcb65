"""Networks for ImageNet from genotypes of the DARTS space.

Where in the river: the banks. Three strided convolutions stand before the cells, which so start at an eighth of the
image; the first cell reads the state behind the second of them as its older input, twice as large.

Reference: Liu, Simonyan, Yang 2019, DARTS, arXiv:1806.09055, appendix A.3; official code quark0/darts,
`cnn/model.py`, `NetworkImageNet`.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
from jax import Array

from jaxnas.spaces import ops
from jaxnas.spaces.auxiliary import AuxiliaryHead
from jaxnas.spaces.darts import darts_network
from jaxnas.spaces.space import Layer, Space

_affine = partial(ops.BatchNorm, affine=True)


class Stem(nn.Module):
    """Two strided 3x3 convolutions with norms, ReLU between them: images to a quarter of their sides."""

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = _affine(name="norm1")(ops.Conv(self.features // 2, (3, 3), (2, 2), name="conv1")(x))
        return _affine(name="norm2")(ops.Conv(self.features, (3, 3), (2, 2), name="conv2")(nn.relu(x)))


class SecondStem(ops.ReluConvNorm):
    """ReLU, strided 3x3 convolution, affine norm: a quarter of the image to an eighth."""

    kernel: int = 3
    norm: Callable[..., nn.Module] = _affine


def darts_imagenet_network(
    channels: int = 48, layers: int = 14, classes: int = 1000, *, image: tuple[int, int, int] = (224, 224, 3)
) -> Space:
    """The space in which a genotype of DARTS is a network for ImageNet.

    Args:
      channels: width of the first cells; even.
      layers: number of cells, at least 3.
      classes: number of labels.
      image: (height, width, channels) of the images; sides are multiples of 32.

    Raises:
      ValueError: where these contradict each other; says what is possible.

    Deviates: none from quark0/darts. P-DARTS, AutoDL-Projects and SNAS keep the last norm of the auxiliary head:
      `.replace(auxiliary=partial(AuxiliaryHead, stride=2))`.
    """
    space = darts_network(channels, layers, classes, image=image)
    return space.replace(
        skeleton=(Layer("stem1", channels, 2), *space.skeleton),
        blocks=(("stem1", SecondStem),),
        stem=Stem,
        stem_channels=channels,
        stem_stride=4,
        auxiliary=partial(AuxiliaryHead, stride=2, last_norm=ops.Identity),
    )
