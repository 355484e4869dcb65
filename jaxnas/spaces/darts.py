"""The DARTS space: cells with two inputs and four nodes, and its restrictions S1 to S4.

Where in the river: the banks of most papers. This is what a user's own space looks like, too: a few tuples.

Reference: Liu, Simonyan, Yang 2019, DARTS, arXiv:1806.09055, section 3 and appendix A; official code quark0/darts,
`cnn/model_search.py`, `cnn/operations.py`. S1 to S4: Zela et al. 2020, arXiv:1909.09656, section 3; `src/spaces.py`.
"""

from functools import partial

import numpy as np

from jaxnas.spaces import ops
from jaxnas.spaces.auxiliary import AuxiliaryHead
from jaxnas.spaces.space import Layer, Space, dag

_affine = partial(ops.BatchNorm, affine=True)
_edges = dag(inputs=2, nodes=4)

SEARCHED = (
    ("none", ops.Zero),
    ("max_pool_3x3", ops.normalized(ops.MaxPool)),
    ("avg_pool_3x3", ops.normalized(ops.AveragePool)),
    ("skip_connect", ops.Skip),
    ("sep_conv_3x3", partial(ops.SepConv, kernel=3)),
    ("sep_conv_5x5", partial(ops.SepConv, kernel=5)),
    ("dil_conv_3x3", partial(ops.DilConv, kernel=3)),
    ("dil_conv_5x5", partial(ops.DilConv, kernel=5)),
)
FINAL = (
    ("none", ops.Zero),
    ("max_pool_3x3", ops.MaxPool),
    ("avg_pool_3x3", ops.AveragePool),
    ("skip_connect", partial(ops.Skip, norm=_affine)),
    ("sep_conv_3x3", partial(ops.SepConv, kernel=3, norm=_affine)),
    ("sep_conv_5x5", partial(ops.SepConv, kernel=5, norm=_affine)),
    ("sep_conv_7x7", partial(ops.SepConv, kernel=7, norm=_affine)),
    ("dil_conv_3x3", partial(ops.DilConv, kernel=3, norm=_affine)),
    ("dil_conv_5x5", partial(ops.DilConv, kernel=5, norm=_affine)),
    ("conv_3x1_1x3", partial(ops.FactorizedConv, kernel=3, norm=_affine)),
    ("conv_7x1_1x7", partial(ops.FactorizedConv, kernel=7, norm=_affine)),
)
_NORMED_POOLS = {
    "max_pool_3x3": ops.normalized(ops.MaxPool, affine=True),
    "avg_pool_3x3": ops.normalized(ops.AveragePool, affine=True),
}


def preprocess(features: int, stride: int):
    """Brings a cell's input to the cell's width: 1x1, or a factorised reduction where the input is larger."""
    return ops.ReluConvNorm(features=features) if stride == 1 else ops.FactorizedReduce(features)


def preprocess_affine(features: int, stride: int):
    """The same with learnt scales and shifts, as in networks built from a genotype."""
    if stride == 1:
        return ops.ReluConvNorm(features=features, norm=_affine)
    return ops.FactorizedReduce(features, norm=_affine)


def skeleton(channels: int, layers: int) -> tuple[Layer, ...]:
    """`layers` cells, reductions at a third and two thirds of the depth, each doubling the width.

    Raises:
      ValueError: for fewer than three cells, or a width that a factorised reduction cannot split in two.
    """
    if layers < 3:
        raise ValueError(f"layers={layers}: the DARTS skeleton has two reduction cells, so give at least 3 layers.")
    if channels < 2 or channels % 2:
        raise ValueError(f"channels={channels}: a factorised reduction splits them in two, so give an even number.")
    reductions = (layers // 3, 2 * layers // 3)
    width = lambda i: channels * 2 ** sum(i >= r for r in reductions)
    return tuple(Layer("reduce", width(i), 2) if i in reductions else Layer("normal", width(i)) for i in range(layers))


def darts(
    channels: int = 16, layers: int = 8, classes: int = 10, *, image: tuple[int, int, int] = (32, 32, 3)
) -> Space:
    """The search space of DARTS: 8 operations on 14 edges, a normal and a reduction cell, 1.1e18 architectures.

    Args:
      channels: width of the first cells; even.
      layers: number of cells, at least 3.
      classes: number of labels.
      image: (height, width, channels) of the images; sides are multiples of 4.

    Raises:
      ValueError: where these contradict each other; says what is possible.

    >>> darts(channels=4, layers=5).op_names[:3]
    ('none', 'max_pool_3x3', 'avg_pool_3x3')
    """
    return Space(
        name="darts",
        ops=SEARCHED,
        edges=_edges,
        inputs=2,
        outputs=(2, 3, 4, 5),
        cells=("normal", "reduce"),
        skeleton=skeleton(channels, layers),
        stem=ops.Stem,
        stem_channels=3 * channels,
        preprocess=preprocess,
        head=ops.Classifier,
        classes=classes,
        image=image,
    )


def darts_network(
    channels: int = 36, layers: int = 20, classes: int = 10, *, image: tuple[int, int, int] = (32, 32, 3)
) -> Space:
    """The space in which a genotype of DARTS is a network: affine norms, bare pools, more published operations.

    Official sizes for CIFAR: 36 channels, 20 cells. There may be a fifth node, as in the cells of NASNet and
    AmoebaNet; a genotype's own outputs count.

    Args:
      channels, layers, classes, image: as for `darts`.
    """
    space = darts(channels, layers, classes, image=image)
    edges = dag(inputs=2, nodes=5)
    return space.replace(ops=FINAL, preprocess=preprocess_affine, edges=edges, auxiliary=AuxiliaryHead)


def snas_network(
    channels: int = 36, layers: int = 20, classes: int = 10, *, image: tuple[int, int, int] = (32, 32, 3)
) -> Space:
    """`darts_network` as SNAS trains it: an affine norm behind each pool.

    Args:
      channels, layers, classes, image: as for `darts`.

    Reference: Xie et al. 2019, SNAS, arXiv:1812.09926; official code SNAS-Series, `SNAS/operations.py`.
    """
    space = darts_network(channels, layers, classes, image=image)
    return space.replace(ops=tuple((name, _NORMED_POOLS.get(name, op)) for name, op in space.ops))


_S1_NORMAL = "skip dil3, skip dil5, skip dil5, skip sep3, skip dil3, max skip, skip sep3, skip sep3, skip dil3, \
skip sep3, max skip, skip dil3, dil3 dil5, dil3 dil5"
_S1_REDUCE = "max avg, max dil3, max avg, max avg, skip dil5, max avg, max sep3, skip dil3, skip dil5, max avg, \
max avg, skip dil5, skip dil5, skip dil5"
_SHORT = ("none", "max", "avg", "skip", "sep3", "sep5", "dil3", "dil5")


def _pairs(table: str) -> np.ndarray:
    """[E, O] booleans from a row of short names."""
    return np.array([[name in row.split() for name in _SHORT] for row in table.split(",")])


def _only(space: Space, name: str, candidates) -> Space:
    return space.replace(name=name, ops=candidates)


def s1(channels: int = 16, layers: int = 8, classes: int = 10, *, image=(32, 32, 3)) -> Space:
    """S1 of R-DARTS: two operations on each edge, chosen beforehand; a mask on the DARTS space.

    Args:
      channels, layers, classes, image: as for `darts`.
    """
    space = darts(channels, layers, classes, image=image)
    return space.replace(name="s1").with_alive({"normal": _pairs(_S1_NORMAL), "reduce": _pairs(_S1_REDUCE)})


def s2(channels: int = 16, layers: int = 8, classes: int = 10, *, image=(32, 32, 3)) -> Space:
    """S2 of R-DARTS: skip_connect or sep_conv_3x3 on every edge.

    Args:
      channels, layers, classes, image: as for `darts`.
    """
    return _only(darts(channels, layers, classes, image=image), "s2", SEARCHED[3:5])


def s3(channels: int = 16, layers: int = 8, classes: int = 10, *, image=(32, 32, 3)) -> Space:
    """S3 of R-DARTS: none, skip_connect or sep_conv_3x3 on every edge.

    Args:
      channels, layers, classes, image: as for `darts`.
    """
    return _only(darts(channels, layers, classes, image=image), "s3", (SEARCHED[0], *SEARCHED[3:5]))


def s4(channels: int = 16, layers: int = 8, classes: int = 10, *, image=(32, 32, 3)) -> Space:
    """S4 of R-DARTS: noise or sep_conv_3x3 on every edge; a sound search never keeps the noise.

    Args:
      channels, layers, classes, image: as for `darts`.
    """
    return _only(darts(channels, layers, classes, image=image), "s4", (("noise", ops.Noise), SEARCHED[4]))
