"""What the names of the command line stand for: spaces, rows, rules.

Where in the river: on the shore. Names become values here and nowhere else.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxnas import parallel
from jaxnas.evaluation.random_search import pick_shared
from jaxnas.evaluation.stopping import Rule, never, sharp_rise, too_many_skips
from jaxnas.hypergradient import finite_difference, first_order, unrolled
from jaxnas.runner import Finish
from jaxnas.spaces.darts import darts, darts_network, s1, s2, s3, s4
from jaxnas.spaces.nas_bench_201 import nas_bench_201, nas_bench_201_network
from jaxnas.spaces.nasnet import nasnet, nasnet_frc, nasnet_frc_network, nasnet_network
from jaxnas.spaces.space import Space
from jaxnas.stages import Stage, p_darts_stages
from jaxnas.strategies import algorithms
from jaxnas.strategies.decoding import Decode, argmax_edges
from jaxnas.strategies.mixing import broadcast
from jaxnas.strategies.strategy import Strategy

Settings = Mapping[Callable[..., Strategy], Mapping[str, Any]]


class SpaceChoice(NamedTuple):
    """What stands behind the name of a space."""

    make: Callable[..., Space]  # (channels, depth, classes, image=)
    network: Callable[..., Space]  # the same sizes, for a genotype
    decode: Callable[[Decode], Decode]  # the row's rule -> the rule for this space
    depth: int  # of the default search: cells, or cells for each stage
    searched: int  # the same in the papers' search, of 16 channels
    official: tuple[int, int]  # (channels, depth) that the papers build networks with
    settings: Settings = MappingProxyType({})  # of rows that search it otherwise


_DARTS = (darts_network, lambda rule: rule, 5, 8, (36, 20))
_NASNET = (lambda rule: rule, 1, 2, (36, 6))
_TABULATED: Settings = {  # all edges are kept, and the official code of GDAS has another gradient
    algorithms.gdas: {"convention": broadcast},
    algorithms.nasp: {"kept": None},
    algorithms.random_sharing: {"kept": None},
}
DEVICES: dict[str, Callable[[], parallel.Placement]] = {
    "mesh": parallel.mesh,
    "mesh-local": parallel.mesh_local,
    "pmap": parallel.pmapped,
    "one": parallel.one,
}
SPACES = {
    "darts": SpaceChoice(darts, *_DARTS),
    "nas_bench_201": SpaceChoice(
        nas_bench_201, nas_bench_201_network, lambda rule: argmax_edges(), 1, 5, (16, 5), _TABULATED
    ),
    "nasnet": SpaceChoice(nasnet, nasnet_network, *_NASNET),
    "nasnet-frc": SpaceChoice(nasnet_frc, nasnet_frc_network, *_NASNET),
    "s1": SpaceChoice(s1, *_DARTS),
    "s2": SpaceChoice(s2, *_DARTS),
    "s3": SpaceChoice(s3, *_DARTS),
    "s4": SpaceChoice(s4, *_DARTS),
}
STRATEGIES: dict[
    str, Callable[..., Strategy]
] = {  # (steps, every=steps in an epoch, alpha_rate=) -> a row of the table
    "darts": partial(algorithms.darts, hypergradient=unrolled),
    "darts-first-order": partial(algorithms.darts, hypergradient=first_order()),
    "darts-official": partial(algorithms.darts, hypergradient=finite_difference),
    "p-darts": algorithms.p_darts,
    "darts-es": partial(algorithms.darts, hypergradient=unrolled),
    "r-darts-l2": algorithms.r_darts_l2,
    "r-darts-drop-path": algorithms.r_darts_drop_path,
    "pc-darts": algorithms.pc_darts,
    "pc-darts-imagenet": algorithms.pc_darts_imagenet,
    "gdas": algorithms.gdas,
    "snas": algorithms.snas,
    "dr-nas": algorithms.dr_nas,
    "fair-darts": algorithms.fair_darts,
    "gaea": algorithms.gaea,
    "smooth-darts": algorithms.smooth_darts,
    "nasp": algorithms.nasp,
    "i-darts": algorithms.i_darts,
    "random-sharing": algorithms.random_sharing,
}
# strategies that run in stages: (spaces, steps in an epoch, epochs of a stage, alpha_rate=); all others run in one
STAGES: dict[str, Callable[..., Sequence[Stage]]] = {"p-darts": p_darts_stages}
GROWTH = (1, 2.2, 3.4)  # depths of the stages in parts of the first: 5, 11, 17 cells
STOPS: dict[str, Rule] = {"never": never, "sharp-rise": sharp_rise(), "too-many-skips": too_many_skips()}
STOPPED = {"darts-es": "sharp-rise"}  # strategies whose search ends by a rule unless told otherwise
FINISH: dict[str, Finish] = {"random-sharing": pick_shared}  # strategies whose genotype is not decoded from alpha
SHORT = 5000  # steps below which the official rate of alpha, made for 20,000 steps, would leave it where it is
