"""Candidate operations and the fixed parts of a network: flax modules on images `[B, H, W, C]`.

Where in the river: what a gate opens. Knows images and strides; no edges or genotypes. A candidate keeps the number of
channels and divides height and width by its stride. A user's own candidate is any flax module with a field `stride`
that does the same; if it takes a gate too (see `norm.py`), it is faster.

Formulas follow the official PyTorch code of DARTS (Liu et al. 2019, arXiv:1806.09055, `cnn/operations.py`) and of
NAS-Bench-201 (Dong and Yang 2020, arXiv:2001.00326, `cell_operations.py`). Initial values are those of PyTorch:
uniform in ±1/sqrt(fan_in). Every module computes in the type of its input; statistics in float32 at least.

Deviates: in a search normalisation uses the batch's own statistics and keeps no running ones. All passes of the
official searches are in train mode, where these play no part.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxnas.spaces.beside import joined, relu, zeros
from jaxnas.spaces.dense import dense_convolution
from jaxnas.spaces.depthwise import depthwise_convolution
from jaxnas.spaces.gate import scaled
from jaxnas.spaces.norm import BatchNorm, Gate
from jaxnas.spaces.pointwise import pointwise_convolution
from jaxnas.spaces.pools import average_pool, max_pool
from jaxnas.spaces.sums import at_least_float32, over_pixels


def uniform_fan_in(fan_in: int) -> Callable[..., Array]:
    """Initialiser U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default for convolutions and linear layers.

    Args:
      fan_in: inputs of one output.
    """
    bound = fan_in**-0.5
    return lambda key, shape: jax.random.uniform(key, shape, jnp.result_type(float), -bound, bound)


class Conv(nn.Module):
    """Convolution with zero padding; 1x1 kernels are matrix products of [pixels, C], which vmap batches."""

    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    bias: bool = False
    groups: int = 1  # of channels that are filtered apart; kernels larger than 1x1 only
    pad: bool = True  # zeros around the image, else only windows inside it

    @nn.compact
    def __call__(self, x: Array) -> Array:
        fan_in = self.kernel[0] * self.kernel[1] * x.shape[-1] // self.groups
        init = uniform_fan_in(fan_in)
        if self.kernel == (1, 1):
            weight = self.param("kernel", init, (x.shape[-1], self.features))
            x = x[:, :: self.stride[0], :: self.stride[1]]
            y = pointwise_convolution(x, weight)
        else:
            shape = (*self.kernel, x.shape[-1] // self.groups, self.features)
            weight = self.param("kernel", init, shape).astype(x.dtype)
            down, across = ((k // 2 * self.pad,) * 2 for k in self.kernel)
            y = self._filtered(x, weight, self.stride, (down, across))
        if not self.bias:
            return y
        return y + over_pixels(self.param("bias", init, (self.features,)), y)

    def _filtered(self, x: Array, weight: Array, stride: tuple[int, int], pad) -> Array:
        if self.groups == 1:
            return dense_convolution(x, weight, stride=stride, pad=pad)
        axes = ("NHWC", "HWIO", "NHWC")
        return lax.conv_general_dilated(x, weight, stride, pad, dimension_numbers=axes, feature_group_count=self.groups)


class Depthwise(nn.Module):
    """One K x K filter for each channel."""

    kernel: int
    stride: int = 1
    dilation: int = 1

    @nn.compact
    def __call__(self, x: Array) -> Array:
        shape = (self.kernel, self.kernel, x.shape[-1])
        weight = self.param("kernel", uniform_fan_in(self.kernel**2), shape)
        return depthwise_convolution(x, weight, stride=self.stride, dilation=self.dilation)


class Zero(nn.Module):
    """`none`: no connection."""

    stride: int

    def __call__(self, x: Array, gate: Gate = 1.0) -> Array:
        return zeros(x[:, :: self.stride, :: self.stride], gate)


class Identity(nn.Module):
    """The input itself; accepts and ignores a width, so that it can stand where a cell's inputs are prepared."""

    features: int = 0
    stride: int = 1

    def __call__(self, x: Array) -> Array:
        return x


class FactorizedReduce(nn.Module):
    """Halves height and width: ReLU, two 1x1 convolutions of the even and the odd pixels side by side, norm.

    Deviates: odd sides are padded by one zero row and column (the official DARTS code fails on them).
    """

    features: int
    norm: Callable[..., nn.Module] = BatchNorm
    stride: int = 2
    bias: bool = False

    @nn.compact
    def __call__(self, x: Array, gate: Gate = 1.0) -> Array:
        x = relu(x)
        odd = [(0, side % 2) for side in x.shape[1:3]]
        shifted = jnp.pad(x, [(0, 0), *odd, (0, 0)])[:, 1::2, 1::2]
        first = Conv(self.features // 2, bias=self.bias, name="even")(x[:, ::2, ::2])
        second = Conv(self.features - self.features // 2, bias=self.bias, name="odd")(shifted)
        return self.norm(name="norm")(joined(first, second), gate)


class Skip(nn.Module):
    """`skip_connect`: the identity, or a factorised reduction where the edge is strided."""

    stride: int
    norm: Callable[..., nn.Module] = BatchNorm
    bias: bool = False

    @nn.compact
    def __call__(self, x: Array, gate: Gate = 1.0) -> Array:
        if self.stride == 1:
            return scaled(x, gate)
        return FactorizedReduce(x.shape[-1], self.norm, bias=self.bias, name="reduce")(x, gate)


class MaxPool(nn.Module):
    """3x3 maximum; at exact ties the first pixel takes the whole gradient (see `pools.py`)."""

    stride: int

    def __call__(self, x: Array) -> Array:
        return max_pool(x, self.stride)


class AveragePool(nn.Module):
    """3x3 mean over the pixels inside the image (count_include_pad=False)."""

    stride: int

    def __call__(self, x: Array) -> Array:
        return average_pool(x, self.stride)


class Sequence(nn.Module):
    """Modules applied one after another; the last one takes the gate."""

    modules: tuple[nn.Module, ...]

    def __call__(self, x: Array, gate: Gate = 1.0) -> Array:
        for module in self.modules[:-1]:
            x = module(x)
        return self.modules[-1](x, gate)


class ReluConvNorm(nn.Module):
    """ReLU, dense convolution, norm; keeps the number of channels unless `features` is given."""

    stride: int = 1
    kernel: int = 1
    features: int | None = None
    bias: bool = False
    norm: Callable[..., nn.Module] = BatchNorm

    @nn.compact
    def __call__(self, x: Array, gate: Gate = 1.0) -> Array:
        features = self.features or x.shape[-1]
        conv = Conv(features, (self.kernel,) * 2, (self.stride,) * 2, self.bias, name="conv")
        return self.norm(name="norm")(conv(relu(x)), gate)


class SepConv(nn.Module):
    """Twice: ReLU, depthwise K x K, pointwise, norm; the first depthwise filter carries the stride."""

    stride: int
    kernel: int = 3
    norm: Callable[..., nn.Module] = BatchNorm
    bias: bool = False  # of the pointwise convolutions

    @nn.compact
    def __call__(self, x: Array, gate: Gate = 1.0) -> Array:
        for stride, part, by in ((self.stride, "1", 1.0), (1, "2", gate)):
            x = Depthwise(self.kernel, stride, name="depthwise" + part)(relu(x))
            pointwise = Conv(x.shape[-1], bias=self.bias, name="pointwise" + part)
            x = self.norm(name="norm" + part)(pointwise(x), by)
        return x


class DilConv(nn.Module):
    """ReLU, depthwise K x K with dilation 2, pointwise, norm."""

    stride: int
    kernel: int = 3
    norm: Callable[..., nn.Module] = BatchNorm
    bias: bool = False  # of the pointwise convolution

    @nn.compact
    def __call__(self, x: Array, gate: Gate = 1.0) -> Array:
        x = Depthwise(self.kernel, self.stride, 2, name="depthwise")(relu(x))
        return self.norm(name="norm")(Conv(x.shape[-1], bias=self.bias, name="pointwise")(x), gate)


class FactorizedConv(nn.Module):
    """`conv_7x1_1x7`: ReLU, 1 x K then K x 1 dense convolution, each strided along its own axis, norm."""

    stride: int
    kernel: int = 7
    norm: Callable[..., nn.Module] = BatchNorm

    @nn.compact
    def __call__(self, x: Array, gate: Gate = 1.0) -> Array:
        c = x.shape[-1]
        x = Conv(c, (1, self.kernel), (1, self.stride), name="row")(relu(x))
        x = Conv(c, (self.kernel, 1), (self.stride, 1), name="column")(x)
        return self.norm(name="norm")(x, gate)


def normalized(factory: Callable[..., nn.Module], affine: bool = False) -> Callable[..., nn.Module]:
    """The same operation followed by a norm, as DARTS does to the pools of its search.

    Args:
      factory: (stride=) -> the operation.
      affine: whether the norm has a scale and a shift.
    """
    return lambda stride: Sequence((factory(stride=stride), BatchNorm(affine)))


class Stem(nn.Module):
    """3x3 convolution and affine norm: images to the first state."""

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = Conv(self.features, (3, 3), name="conv")(x)
        return BatchNorm(affine=True, name="norm")(x)


class Classifier(nn.Module):
    """Mean over the image, then a linear layer: states to logits [B, classes] in float32 at least."""

    classes: int
    before: Callable[..., Any] = Identity

    @nn.compact
    def __call__(self, x: Array) -> Array:
        x = at_least_float32(self.before()(x)).mean((1, 2))
        init = uniform_fan_in(x.shape[-1])
        weight = self.param("kernel", init, (x.shape[-1], self.classes)).astype(x.dtype)
        bias = self.param("bias", init, (self.classes,)).astype(x.dtype)
        return x @ weight + bias.reshape(1, -1)


class Noise(nn.Module):
    """`noise`: standard normal pixels whatever the input, to see whether a search can tell (R-DARTS, space S4)."""

    stride: int

    def __call__(self, x: Array) -> Array:
        shape = x[:, :: self.stride, :: self.stride].shape
        return jax.random.normal(self.make_rng("noise"), shape, x.dtype)
