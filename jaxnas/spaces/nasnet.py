"""The NASNet-like space of GDAS: the cells of DARTS with other operations, and its fixed reduction cell.

Where in the river: the banks. Unlike in the DARTS space, convolutions of the search have biases, pools have no norm,
and a norm and ReLU stand before the classifier.

Reference: Dong and Yang 2019, GDAS, arXiv:1910.04465, section 3; official code D-X-Y/AutoDL-Projects,
`xautodl/models/cell_searchs/search_model_gdas_nasnet.py`, `search_model_gdas_frc_nasnet.py`, `cell_operations.py`.
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jax import Array

from jaxnas.spaces import ops
from jaxnas.spaces.nas_bench_201 import head
from jaxnas.spaces.space import Candidates, Factory, Layer, Space, dag

_affine = partial(ops.BatchNorm, affine=True)


def _candidates(**options) -> Candidates:
    return (
        ("none", ops.Zero),
        ("skip_connect", partial(ops.Skip, **options)),
        ("dua_sepc_3x3", partial(ops.SepConv, kernel=3, **options)),
        ("dua_sepc_5x5", partial(ops.SepConv, kernel=5, **options)),
        ("dil_sepc_3x3", partial(ops.DilConv, kernel=3, **options)),
        ("dil_sepc_5x5", partial(ops.DilConv, kernel=5, **options)),
        ("avg_pool_3x3", ops.AveragePool),
        ("max_pool_3x3", ops.MaxPool),
    )


SEARCHED = _candidates(bias=True)  # `bias = not affine` in the official code
FINAL = _candidates(norm=_affine)


def preprocess(features: int, stride: int, name: str | None = None) -> nn.Module:
    """Brings a cell's input to the cell's width: 1x1, or a factorised reduction where the input is larger."""
    if stride == 1:
        return ops.ReluConvNorm(features=features, bias=True, name=name)
    return ops.FactorizedReduce(features, bias=True, name=name)


def preprocess_affine(features: int, stride: int, name: str | None = None) -> nn.Module:
    """The same with learnt scales and shifts instead of biases, as in networks built from a genotype."""
    if stride == 1:
        return ops.ReluConvNorm(features=features, norm=_affine, name=name)
    return ops.FactorizedReduce(features, norm=_affine, name=name)


def skeleton(channels: int, cells_per_stage: int) -> tuple[Layer, ...]:
    """N cells, then twice a reduction and N - 1 cells, each reduction doubling the width: N N R N R N for N = 2."""
    if cells_per_stage < 1:
        raise ValueError(f"cells_per_stage={cells_per_stage}: give at least 1.")
    stage = lambda width, cells: (Layer("normal", width),) * cells
    smaller = lambda width: (Layer("reduce", width, 2), *stage(width, cells_per_stage - 1))
    return (*stage(channels, cells_per_stage), *smaller(2 * channels), *smaller(4 * channels))


def nasnet(
    channels: int = 16, cells_per_stage: int = 2, classes: int = 10, *, image: tuple[int, int, int] = (32, 32, 3)
) -> Space:
    """The search space of GDAS: 8 operations on 14 edges, a normal and a reduction cell.

    Args:
      channels: width of the first cells.
      cells_per_stage: N of `skeleton`, at least 1; the official search has 2, which makes 6 cells.
      classes: number of labels.
      image: (height, width, channels) of the images; sides are multiples of 4.

    Raises:
      ValueError: where these contradict each other; says what is possible.

    >>> [layer.cell[0] for layer in nasnet().skeleton]
    ['n', 'n', 'r', 'n', 'r', 'n']
    """
    return Space(
        name="nasnet",
        ops=SEARCHED,
        edges=dag(inputs=2, nodes=4),
        inputs=2,
        outputs=(2, 3, 4, 5),
        cells=("normal", "reduce"),
        skeleton=skeleton(channels, cells_per_stage),
        stem=ops.Stem,
        stem_channels=3 * channels,
        preprocess=preprocess,
        head=head,
        classes=classes,
        image=image,
    )


def nasnet_network(
    channels: int = 36, cells_per_stage: int = 6, classes: int = 10, *, image: tuple[int, int, int] = (32, 32, 3)
) -> Space:
    """The space in which a genotype of `nasnet` is a network: affine norms, no biases.

    Args:
      channels, cells_per_stage, classes, image: as for `nasnet`.

    Deviates: where both operations of a node stand on one edge both are built; the official retraining code keeps the
      second only.
    """
    space = nasnet(channels, cells_per_stage, classes, image=image)
    return space.replace(ops=FINAL, preprocess=preprocess_affine)


# ------------------------------------------------------------------------------- the fixed reduction cell (FRC)


class GroupedReduction(nn.Module):
    """Halves height and width: ReLU, 1x3 and 3x1 convolutions in 8 groups, norm, ReLU, 1x1 convolution, norm."""

    affine: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        c, bias, norm = x.shape[-1], not self.affine, partial(ops.BatchNorm, affine=self.affine)
        x = ops.Conv(c, (1, 3), (1, 2), bias, groups=8, name="row")(nn.relu(x))
        x = ops.Conv(c, (3, 1), (2, 1), bias, groups=8, name="column")(x)
        x = nn.relu(norm(name="norm1")(x))
        return norm(name="norm2")(ops.Conv(c, bias=bias, name="pointwise")(x))


class FixedReduction(nn.Module):
    """The reduction cell that GDAS does not search: both inputs, convolved and pooled, side by side.

        [conv(older), conv(x), pool(older), pool(x)]    each a quarter of the width, from inputs brought to it before

    Reference: Dong and Yang 2019, arXiv:1910.04465, figure 3; AutoDL-Projects `cell_operations.py`.
    """

    features: int  # of all four together
    stride: int = 2
    affine: bool = False

    @nn.compact
    def __call__(self, x: Array, older: Array) -> Array:
        prepare = preprocess_affine if self.affine else preprocess
        norm, shrink = partial(ops.BatchNorm, affine=self.affine), older.shape[1] // x.shape[1]
        x = prepare(self.features // 4, 1, name="prepare_x")(x)
        older = prepare(self.features // 4, shrink, name=f"prepare_older_{shrink}")(older)
        convolved = (
            GroupedReduction(self.affine, name="conv_older")(older),
            GroupedReduction(self.affine, name="conv_x")(x),
        )
        pooled = (norm(name="pool_older")(ops.MaxPool(2)(older)), norm(name="pool_x")(ops.MaxPool(2)(x)))
        return jnp.concatenate([*convolved, *pooled], -1)


def fixed_reduction(space: Space, block: Factory = FixedReduction) -> Space:
    """The same space with its normal cell searched only: all reductions are a fixed block (FRC).

    Args:
      space: a space with the cells `normal` and `reduce`, such as `darts` or `nasnet`.
      block: what stands in place of a reduction, four times as wide as the nodes of the cell it replaces;
        `partial(FixedReduction, affine=True)` in networks built from a genotype.

    Raises:
      ValueError: other cells, or a width that 8 groups do not divide.
    """
    if space.cells != ("normal", "reduce"):
        raise ValueError(f"fixed_reduction needs the cells normal and reduce; {space.name!r} has {space.cells}.")
    widths = [layer.channels for layer in space.skeleton if layer.cell == "reduce"]
    if any(width % 8 for width in widths):
        raise ValueError(
            f"reductions are {widths} channels wide, and filtered in 8 groups: give multiples of 4 channels."
        )
    fixed = lambda layer: Layer("fixed", 4 * layer.channels, 2) if layer.cell == "reduce" else layer
    return space.replace(
        name=f"{space.name}-frc",
        cells=("normal",),
        skeleton=tuple(map(fixed, space.skeleton)),
        blocks=(*space.blocks, ("fixed", block)),
        alive=tuple(pair for pair in space.alive if pair[0] == "normal"),
    )


def nasnet_frc(
    channels: int = 16, cells_per_stage: int = 2, classes: int = 10, *, image: tuple[int, int, int] = (32, 32, 3)
) -> Space:
    """`nasnet` with a fixed reduction cell. Channels are a multiple of 4.

    Args:
      channels, cells_per_stage, classes, image: as for `nasnet`.
    """
    return fixed_reduction(nasnet(channels, cells_per_stage, classes, image=image))


def nasnet_frc_network(
    channels: int = 36, cells_per_stage: int = 6, classes: int = 10, *, image: tuple[int, int, int] = (32, 32, 3)
) -> Space:
    """The space in which a genotype of `nasnet_frc` is a network.

    Args:
      channels, cells_per_stage, classes, image: as for `nasnet_frc`.
    """
    space = nasnet_network(channels, cells_per_stage, classes, image=image)
    return fixed_reduction(space, partial(FixedReduction, affine=True))
