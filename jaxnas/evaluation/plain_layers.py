"""The parts of a network as plain flax layers: what `flax_module.py` copies into the files that it writes.

Where in the river: the mouth. Nothing here runs in jaxnas. Each part has the name, the arguments and the submodules of
its twin in `spaces/`, whose formula it follows; the text of those that a network needs is written as it stands here.
"""

import flax.linen as nn
import jax.numpy as jnp
from jax import Array


def norm(train: bool, name: str) -> nn.BatchNorm:
    """Batch norm: by the batch in training, else by the running statistics."""
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-5, name=name)


def conv(
    features: int, kernel: tuple[int, int], stride: tuple[int, int], name: str, dilation: int = 1, groups: int = 1
) -> nn.Conv:
    """Convolution without bias, zeros around the image: sides are divided by the stride."""
    around = [(dilation * (side // 2),) * 2 for side in kernel]
    return nn.Conv(features, kernel, stride, around, 1, dilation, groups, use_bias=False, name=name)


def depthwise(x: Array, kernel: int, stride: int, name: str, dilation: int = 1) -> Array:
    """One filter for each channel."""
    channels = x.shape[-1]
    return conv(channels, (kernel, kernel), (stride, stride), name, dilation, groups=channels)(x)


def pointwise(x: Array, features: int, name: str, stride: int = 1) -> Array:
    """1x1 convolution."""
    return conv(features, (1, 1), (stride, stride), name)(x)


def max_pool(x: Array, stride: int = 1) -> Array:
    """3x3 maximum."""
    return nn.max_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)))


def avg_pool(x: Array, stride: int = 1) -> Array:
    """3x3 mean over the pixels inside the image."""
    return nn.avg_pool(x, (3, 3), (stride, stride), ((1, 1), (1, 1)), count_include_pad=False)


class ReluConvNorm(nn.Module):
    """ReLU, convolution, norm."""

    features: int
    kernel: int = 1
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        x = conv(self.features, (self.kernel,) * 2, (self.stride,) * 2, "conv")(nn.relu(x))
        return norm(train, "norm")(x)


class FactorizedReduce(nn.Module):
    """Halves height and width: ReLU, 1x1 convolutions of the even and of the odd pixels side by side, norm."""

    features: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        x, half = nn.relu(x), self.features // 2
        even = pointwise(x, half, "even", stride=2)
        odd = pointwise(x[:, 1:, 1:], self.features - half, "odd", stride=2)
        return norm(train, "norm")(jnp.concatenate([even, odd], -1))


class SepConv(nn.Module):
    """Twice: ReLU, depthwise convolution, 1x1 convolution, norm."""

    features: int
    kernel: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        x = depthwise(nn.relu(x), self.kernel, self.stride, "depthwise1")
        x = norm(train, "norm1")(pointwise(x, self.features, "pointwise1"))
        x = depthwise(nn.relu(x), self.kernel, 1, "depthwise2")
        return norm(train, "norm2")(pointwise(x, self.features, "pointwise2"))


class DilConv(nn.Module):
    """ReLU, depthwise convolution with dilation 2, 1x1 convolution, norm."""

    features: int
    kernel: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        x = depthwise(nn.relu(x), self.kernel, self.stride, "depthwise", dilation=2)
        return norm(train, "norm")(pointwise(x, self.features, "pointwise"))


class FactorizedConv(nn.Module):
    """ReLU, 1 x K then K x 1 convolution, norm."""

    features: int
    kernel: int
    stride: int = 1

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        x = conv(self.features, (1, self.kernel), (1, self.stride), "row")(nn.relu(x))
        x = conv(self.features, (self.kernel, 1), (self.stride, 1), "column")(x)
        return norm(train, "norm")(x)


class ResidualReduction(nn.Module):
    """Halves height and width: two convolutions beside a 1x1 convolution of 2x2 means."""

    features: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        y = ReluConvNorm(self.features, 3, stride=2, name="conv_a")(x, train)
        y = ReluConvNorm(self.features, 3, name="conv_b")(y, train)
        return y + pointwise(nn.avg_pool(x, (2, 2), (2, 2)), self.features, "downsample")


class GroupedReduction(nn.Module):
    """Halves height and width: ReLU, 1x3 and 3x1 convolutions in 8 groups, norm, ReLU, 1x1 convolution, norm."""

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        c = x.shape[-1]
        x = conv(c, (1, 3), (1, 2), "row", groups=8)(nn.relu(x))
        x = conv(c, (3, 1), (2, 1), "column", groups=8)(x)
        x = nn.relu(norm(train, "norm1")(x))
        return norm(train, "norm2")(pointwise(x, c, "pointwise"))


class FixedReduction(nn.Module):
    """The reduction that GDAS does not search: both inputs, convolved and pooled, side by side."""

    features: int

    @nn.compact
    def __call__(self, x: Array, older: Array, train: bool = False) -> Array:
        quarter = self.features // 4
        x = ReluConvNorm(quarter, name="prepare_x")(x, train)
        if older.shape[1] == x.shape[1]:
            older = ReluConvNorm(quarter, name="prepare_older_1")(older, train)
        else:
            older = FactorizedReduce(quarter, name="prepare_older_2")(older, train)
        convolved = [GroupedReduction(name="conv_older")(older, train), GroupedReduction(name="conv_x")(x, train)]
        pooled = [norm(train, "pool_older")(max_pool(older, 2)), norm(train, "pool_x")(max_pool(x, 2))]
        return jnp.concatenate([*convolved, *pooled], -1)


class Stem(nn.Module):
    """3x3 convolution and norm: images to the first state."""

    features: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        return norm(train, "norm")(conv(self.features, (3, 3), (1, 1), "conv")(x))


class ImageNetStem(nn.Module):
    """Two strided 3x3 convolutions with norms, ReLU between them: images to a quarter of their sides."""

    features: int

    @nn.compact
    def __call__(self, x: Array, train: bool = False) -> Array:
        x = norm(train, "norm1")(conv(self.features // 2, (3, 3), (2, 2), "conv1")(x))
        return norm(train, "norm2")(conv(self.features, (3, 3), (2, 2), "conv2")(nn.relu(x)))
