"""Genotypes that papers found, as they published them: what a retraining or a comparison can start from.

Where in the river: dry land; nothing is searched here. `networks` that build them: `darts_network` and
`darts_imagenet_network`; `GDAS_F1`, which has no reduction cell, in `fixed_reduction(darts_network(...),
partial(FixedReduction, affine=True))`.
"""

from jaxnas.spaces.genotype import Genotype, genotype


def _published(normal: str, reduce: str | None, concat: tuple[tuple[int, ...], ...] = ((2, 3, 4, 5),) * 2) -> Genotype:
    """From `op source` rows, nodes apart by `;`."""
    texts = {"normal": normal} if reduce is None else {"normal": normal, "reduce": reduce}
    cells = {}
    for name, text in texts.items():
        nodes = [[row.split() for row in node.split(",")] for node in text.split(";")]
        cells[name] = [(op, int(source), 2 + i) for i, node in enumerate(nodes) for op, source in node]
    space = "darts" if reduce else "darts-frc"
    return genotype(space, cells, dict(zip(cells, concat, strict=False)))


# Zoph et al. 2018, arXiv:1707.07012; as in quark0/darts, `cnn/genotypes.py`.
NASNET = _published(
    "sep_conv_5x5 1, sep_conv_3x3 0; sep_conv_5x5 0, sep_conv_3x3 0; avg_pool_3x3 1, skip_connect 0; "
    "avg_pool_3x3 0, avg_pool_3x3 0; sep_conv_3x3 1, skip_connect 1",
    "sep_conv_5x5 1, sep_conv_7x7 0; max_pool_3x3 1, sep_conv_7x7 0; avg_pool_3x3 1, sep_conv_5x5 0; "
    "skip_connect 3, avg_pool_3x3 2; sep_conv_3x3 2, max_pool_3x3 1",
    ((2, 3, 4, 5, 6), (4, 5, 6)),
)

# Real et al. 2019, arXiv:1802.01548; as in quark0/darts, `cnn/genotypes.py`.
AMOEBANET = _published(
    "avg_pool_3x3 0, max_pool_3x3 1; sep_conv_3x3 0, sep_conv_5x5 2; sep_conv_3x3 0, avg_pool_3x3 3; "
    "sep_conv_3x3 1, skip_connect 1; skip_connect 0, avg_pool_3x3 1",
    "avg_pool_3x3 0, sep_conv_3x3 1; max_pool_3x3 0, sep_conv_7x7 2; sep_conv_7x7 0, avg_pool_3x3 1; "
    "max_pool_3x3 0, max_pool_3x3 1; conv_7x1_1x7 0, sep_conv_3x3 5",
    ((4, 5, 6), (3, 4, 6)),
)

# Liu et al. 2018, arXiv:1712.00559; as in D-X-Y/AutoDL-Projects, `genotypes.py`.
PNASNET = _published(
    "sep_conv_5x5 0, max_pool_3x3 0; sep_conv_7x7 1, max_pool_3x3 1; sep_conv_5x5 1, sep_conv_3x3 1; "
    "sep_conv_3x3 4, max_pool_3x3 1; sep_conv_3x3 0, skip_connect 1",
    "sep_conv_5x5 0, max_pool_3x3 0; sep_conv_7x7 1, max_pool_3x3 1; sep_conv_5x5 1, sep_conv_3x3 1; "
    "sep_conv_3x3 4, max_pool_3x3 1; sep_conv_3x3 0, skip_connect 1",
    ((2, 3, 4, 5, 6), (2, 3, 4, 5, 6)),
)

# Liu et al. 2019, arXiv:1806.09055, first order; quark0/darts, `cnn/genotypes.py`.
DARTS_V1 = _published(
    "sep_conv_3x3 1, sep_conv_3x3 0; skip_connect 0, sep_conv_3x3 1; skip_connect 0, sep_conv_3x3 1; "
    "sep_conv_3x3 0, skip_connect 2",
    "max_pool_3x3 0, max_pool_3x3 1; skip_connect 2, max_pool_3x3 0; max_pool_3x3 0, skip_connect 2; "
    "skip_connect 2, avg_pool_3x3 0",
)

# Liu et al. 2019, arXiv:1806.09055, second order; quark0/darts, `cnn/genotypes.py`.
DARTS_V2 = _published(
    "sep_conv_3x3 0, sep_conv_3x3 1; sep_conv_3x3 0, sep_conv_3x3 1; sep_conv_3x3 1, skip_connect 0; "
    "skip_connect 0, dil_conv_3x3 2",
    "max_pool_3x3 0, max_pool_3x3 1; skip_connect 2, max_pool_3x3 1; max_pool_3x3 0, skip_connect 2; "
    "skip_connect 2, max_pool_3x3 1",
)

# Xie et al. 2019, arXiv:1812.09926, mild constraint; SNAS-Series, `SNAS/genotypes.py`.
SNAS_MILD = _published(
    "sep_conv_3x3 0, sep_conv_3x3 1; skip_connect 0, dil_conv_3x3 1; skip_connect 0, skip_connect 1; "
    "skip_connect 0, sep_conv_3x3 1",
    "max_pool_3x3 0, max_pool_3x3 1; max_pool_3x3 1, skip_connect 2; max_pool_3x3 1, skip_connect 2; "
    "max_pool_3x3 0, dil_conv_5x5 2",
)

# Xie et al. 2019, moderate constraint; the same file.
SNAS_MODERATE = _published(
    "dil_conv_5x5 0, skip_connect 1; sep_conv_3x3 0, skip_connect 1; skip_connect 0, skip_connect 1; "
    "sep_conv_3x3 0, dil_conv_5x5 1",
    "max_pool_3x3 0, max_pool_3x3 1; sep_conv_5x5 0, dil_conv_5x5 1; sep_conv_5x5 0, sep_conv_5x5 1; "
    "sep_conv_5x5 0, sep_conv_5x5 1",
)

# Xie et al. 2019, aggressive constraint; the same file. Two nodes of its reduction cell are zero.
SNAS_AGGRESSIVE = _published(
    "sep_conv_5x5 0, skip_connect 1; skip_connect 0, skip_connect 1; dil_conv_5x5 1, skip_connect 0; "
    "skip_connect 0, dil_conv_5x5 1",
    "sep_conv_5x5 0, none 1; sep_conv_5x5 0, none 1; none 1, none 0; none 1, none 0",
)

# The cell of `SNAS_MILD` with every edge written down, as its training script reads it.
SNAS_MILD_EDGE_ALL = _published(
    "sep_conv_3x3 0, sep_conv_3x3 1; skip_connect 0, dil_conv_3x3 1, none 2; "
    "skip_connect 0, skip_connect 1, none 3, none 2; skip_connect 0, sep_conv_3x3 1, none 4, none 3, none 2",
    "max_pool_3x3 0, max_pool_3x3 1; none 0, max_pool_3x3 1, skip_connect 2; "
    "none 0, max_pool_3x3 1, skip_connect 2, none 3; max_pool_3x3 0, dil_conv_5x5 2, none 1, none 3, none 4",
)

# The cell of `SNAS_MODERATE`, likewise.
SNAS_MODERATE_EDGE_ALL = _published(
    "dil_conv_5x5 0, skip_connect 1; sep_conv_3x3 0, skip_connect 1, none 2; "
    "skip_connect 0, none 3, none 2, skip_connect 1; sep_conv_3x3 0, dil_conv_5x5 1, none 4, none 3, none 2",
    "max_pool_3x3 0, max_pool_3x3 1; sep_conv_5x5 0, none 2, dil_conv_5x5 1; "
    "none 3, none 2, sep_conv_5x5 0, sep_conv_5x5 1; none 4, none 3, none 2, sep_conv_5x5 0, sep_conv_5x5 1",
)

# The cell of `SNAS_AGGRESSIVE`, likewise.
SNAS_AGGRESSIVE_EDGE_ALL = _published(
    "sep_conv_5x5 0, skip_connect 1; skip_connect 0, skip_connect 1, none 2; "
    "dil_conv_5x5 1, skip_connect 0, none 2, none 3; skip_connect 0, dil_conv_5x5 1, none 2, none 3, none 4",
    "sep_conv_5x5 0, none 1; sep_conv_5x5 0, none 1, none 2; none 0, none 1, none 2, none 3; "
    "none 0, none 1, none 2, none 3, none 4",
)

# Dong and Yang 2019, arXiv:1910.04465; D-X-Y/AutoDL-Projects, `genotypes.py`.
GDAS_V1 = _published(
    "skip_connect 0, skip_connect 1; skip_connect 0, sep_conv_5x5 2; sep_conv_3x3 3, skip_connect 0; "
    "sep_conv_5x5 4, sep_conv_3x3 3",
    "sep_conv_5x5 0, sep_conv_3x3 1; sep_conv_5x5 2, sep_conv_5x5 1; dil_conv_5x5 2, sep_conv_3x3 1; "
    "sep_conv_5x5 0, sep_conv_5x5 1",
)

# Dong and Yang 2019, arXiv:1910.04465, with a fixed reduction cell (FRC); D-X-Y/GDAS, `lib/nas/genotypes.py`.
GDAS_F1 = _published(
    "skip_connect 0, skip_connect 1; skip_connect 0, sep_conv_3x3 2; skip_connect 0, sep_conv_3x3 2; "
    "skip_connect 0, sep_conv_3x3 2",
    None,
)

# The normal cell of `GDAS_F1` with the reduction cell of `GDAS_V1`; the same file.
GDAS_FG = _published(
    "skip_connect 0, skip_connect 1; skip_connect 0, sep_conv_3x3 2; skip_connect 0, sep_conv_3x3 2; "
    "skip_connect 0, sep_conv_3x3 2",
    "sep_conv_5x5 0, sep_conv_3x3 1; sep_conv_5x5 2, sep_conv_5x5 1; dil_conv_5x5 2, sep_conv_3x3 1; "
    "sep_conv_5x5 0, sep_conv_5x5 1",
)

# Chen et al. 2019, arXiv:1904.12760; chenxin061/pdarts, `genotypes.py`, `PDARTS`.
P_DARTS = _published(
    "skip_connect 0, dil_conv_3x3 1; skip_connect 0, sep_conv_3x3 1; sep_conv_3x3 1, sep_conv_3x3 3; "
    "sep_conv_3x3 0, dil_conv_5x5 4",
    "avg_pool_3x3 0, sep_conv_5x5 1; sep_conv_3x3 0, dil_conv_5x5 2; max_pool_3x3 0, dil_conv_3x3 1; "
    "dil_conv_3x3 1, dil_conv_5x5 3",
)

# Xu et al. 2020, arXiv:1907.05737, found on CIFAR-10; yuhuixu1993/PC-DARTS, `genotypes.py`, `PC_DARTS_cifar`.
PC_DARTS = _published(
    "sep_conv_3x3 1, skip_connect 0; sep_conv_3x3 0, dil_conv_3x3 1; sep_conv_5x5 0, sep_conv_3x3 1; "
    "avg_pool_3x3 0, dil_conv_3x3 1",
    "sep_conv_5x5 1, max_pool_3x3 0; sep_conv_5x5 1, sep_conv_5x5 2; sep_conv_3x3 0, sep_conv_3x3 3; "
    "sep_conv_3x3 1, sep_conv_3x3 2",
)

# Xu et al. 2020, found on ImageNet; the same file, `PC_DARTS_image`.
PC_DARTS_IMAGENET = _published(
    "skip_connect 1, sep_conv_3x3 0; sep_conv_3x3 0, skip_connect 1; sep_conv_3x3 1, sep_conv_3x3 3; "
    "sep_conv_3x3 1, dil_conv_5x5 4",
    "sep_conv_3x3 0, skip_connect 1; dil_conv_5x5 2, max_pool_3x3 1; sep_conv_3x3 2, sep_conv_3x3 1; "
    "sep_conv_5x5 0, sep_conv_3x3 3",
)

# Dong and Yang 2019, One-Shot Neural Architecture Search via Self-Evaluated Template Network, arXiv:1910.05733;
# D-X-Y/AutoDL-Projects, `genotypes.py`.
SETN = _published(
    "skip_connect 0, sep_conv_5x5 1; sep_conv_5x5 0, sep_conv_3x3 1; sep_conv_5x5 1, sep_conv_5x5 3; "
    "max_pool_3x3 1, conv_3x1_1x3 4",
    "sep_conv_3x3 0, sep_conv_5x5 1; avg_pool_3x3 0, sep_conv_5x5 1; avg_pool_3x3 0, sep_conv_5x5 1; "
    "avg_pool_3x3 0, skip_connect 1",
)
