"""The NAS-Bench-201 space: one cell of four states, six edges, five operations, fixed residual reductions.

Where in the river: the banks, for a space whose every architecture has been trained and tabulated.

Reference: Dong and Yang 2020, NAS-Bench-201, arXiv:2001.00326, section 2.1; official code D-X-Y/AutoDL-Projects,
`xautodl/models/cell_searchs/search_model_darts.py`, `cell_operations.py`.
"""

from collections.abc import Callable
from functools import partial

import flax.linen as nn
from jax import Array

from jaxnas.spaces import ops
from jaxnas.spaces.space import Layer, Space, dag

_affine = partial(ops.BatchNorm, affine=True)

SEARCHED = (  # a convolution whose norm has no shift gets a bias (`bias = not affine` in the official code)
    ("none", ops.Zero),
    ("skip_connect", ops.Skip),
    ("nor_conv_1x1", partial(ops.ReluConvNorm, kernel=1, bias=True)),
    ("nor_conv_3x3", partial(ops.ReluConvNorm, kernel=3, bias=True)),
    ("avg_pool_3x3", ops.AveragePool),
)
FINAL = (
    ("none", ops.Zero),
    ("skip_connect", partial(ops.Skip, norm=_affine)),
    ("nor_conv_1x1", partial(ops.ReluConvNorm, kernel=1, norm=_affine)),
    ("nor_conv_3x3", partial(ops.ReluConvNorm, kernel=3, norm=_affine)),
    ("avg_pool_3x3", ops.AveragePool),
)


class ResidualReduction(nn.Module):
    """Residual block that halves the image: conv_b(conv_a(x)) + 1x1(mean of 2x2 pixels), affine norms."""

    features: int
    stride: int = 2

    @nn.compact
    def __call__(self, x: Array) -> Array:
        y = x
        for stride, name in ((self.stride, "conv_a"), (1, "conv_b")):
            y = ops.ReluConvNorm(stride, 3, self.features, norm=_affine, name=name)(y)
        b, h, w, c = x.shape
        pooled = x.reshape(b, h // 2, 2, w // 2, 2, c).mean((2, 4))
        return y + ops.Conv(self.features, name="downsample")(pooled)


class NormRelu(nn.Module):
    """Affine norm, then ReLU: what stands before the classifier."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.relu(ops.BatchNorm(affine=True, name="norm")(x))


head: Callable = partial(ops.Classifier, before=NormRelu)


def nas_bench_201(
    channels: int = 16, cells_per_stage: int = 5, classes: int = 10, *, image: tuple[int, int, int] = (32, 32, 3)
) -> Space:
    """The search space of NAS-Bench-201: 15,625 architectures.

    Args:
      channels: width of the first stage; it doubles at both reductions.
      cells_per_stage: cells in each of the three stages (N of the paper), at least 1.
      classes: number of labels.
      image: (height, width, channels) of the images; sides are multiples of 4.

    Raises:
      ValueError: where these contradict each other; says what is possible.

    >>> len(nas_bench_201(channels=4, cells_per_stage=1).skeleton)
    5
    """
    if cells_per_stage < 1:
        raise ValueError(f"cells_per_stage={cells_per_stage}: give at least 1.")
    stage = lambda width: (Layer("cell", width),) * cells_per_stage
    reduction = lambda width: (Layer("residual", width, 2),)
    widths = (channels, 2 * channels, 4 * channels)
    return Space(
        name="nas_bench_201",
        ops=SEARCHED,
        edges=dag(inputs=1, nodes=3),
        inputs=1,
        outputs=(3,),
        cells=("cell",),
        skeleton=(
            *stage(widths[0]),
            *reduction(widths[1]),
            *stage(widths[1]),
            *reduction(widths[2]),
            *stage(widths[2]),
        ),
        stem=ops.Stem,
        stem_channels=channels,
        preprocess=ops.Identity,
        head=head,
        classes=classes,
        image=image,
        blocks=(("residual", ResidualReduction),),
    )


def nas_bench_201_network(
    channels: int = 16, cells_per_stage: int = 5, classes: int = 10, *, image: tuple[int, int, int] = (32, 32, 3)
) -> Space:
    """The space in which a genotype of NAS-Bench-201 is a network: affine norms, no biases.

    Args:
      channels, cells_per_stage, classes, image: as for `nas_bench_201`.
    """
    return nas_bench_201(channels, cells_per_stage, classes, image=image).replace(ops=FINAL)
