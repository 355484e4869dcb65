"""What the names of the command line stand for: spaces, rows, rules.

Where in the river: on the shore. Names become values here and nowhere else.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxnas import parallel
from jaxnas.evaluation import recipes
from jaxnas.evaluation.methods import evolution, local_search, random_search, reinforce
from jaxnas.evaluation.random_search import pick_shared
from jaxnas.evaluation.stopping import Rule, never, sharp_rise, too_many_skips
from jaxnas.evaluation.tabular import Method
from jaxnas.hypergradient import finite_difference, first_order, unrolled
from jaxnas.options import given_or
from jaxnas.precision import BFLOAT16, FLOAT32, TF32, Precision
from jaxnas.runner import Finish
from jaxnas.spaces import published
from jaxnas.spaces.darts import darts, darts_network, s1, s2, s3, s4
from jaxnas.spaces.genotype import Genotype
from jaxnas.spaces.imagenet import darts_imagenet_network
from jaxnas.spaces.layout import Layout, computed_again, for_accelerators
from jaxnas.spaces.nas_bench_201 import nas_bench_201, nas_bench_201_network
from jaxnas.spaces.nasnet import (
    FixedReduction,
    fixed_reduction,
    nasnet,
    nasnet_frc,
    nasnet_frc_network,
    nasnet_network,
)
from jaxnas.spaces.space import Space
from jaxnas.stages import Stage, dr_nas_stages, p_darts_stages
from jaxnas.strategies import algorithms
from jaxnas.strategies.decoding import Decode, argmax_edges
from jaxnas.strategies.mixing import broadcast
from jaxnas.strategies.strategy import Strategy

Settings = Mapping[Callable[..., Any], Mapping[str, Any]]  # of a row, or of its stages


class SpaceChoice(NamedTuple):
    """What stands behind the name of a space."""

    make: Callable[..., Space]  # (channels, depth, classes, image=)
    network: Callable[..., Space]  # the same sizes, for a genotype
    decode: Callable[[Decode], Decode]  # the row's rule -> the rule for this space
    depth: int  # of the default search: cells, or cells for each stage
    searched: int  # the same in the papers' search, of 16 channels
    official: tuple[int, int]  # (channels, depth) that the papers build networks with
    settings: Settings = MappingProxyType({})  # of rows that search it otherwise


def _fixed(make: Callable[..., Space], *block) -> Callable[..., Space]:
    """The space that `make` makes, its reductions fixed."""
    return lambda *sizes, **options: fixed_reduction(make(*sizes, **options), *block)


_AFFINE = partial(FixedReduction, affine=True)
_DARTS = (darts_network, lambda rule: rule, 5, 8, (36, 20))
_NASNET = (lambda rule: rule, 1, 2, (36, 6))
_TABULATED: Settings = {  # all edges are kept, and the official code of GDAS has another gradient
    algorithms.gdas: {"convention": broadcast},
    dr_nas_stages: {"keep": (5, 3), "divisors": (4, 2)},
    algorithms.nasp: {"kept": None},
    algorithms.random_sharing: {"kept": None},
}
DEVICES: dict[str, Callable[[], parallel.Placement]] = {
    "mesh": parallel.mesh,
    "mesh-local": parallel.mesh_local,
    "pmap": parallel.pmapped,
    "one": parallel.one,
}
LAYOUTS: dict[str, Layout | None] = {
    "auto": None,
    "side-by-side": for_accelerators(),
    "side-by-side-recomputed": for_accelerators(computed_again),
    "in-loops": Layout(),
}
PRECISIONS: dict[str, Precision] = {"float32": FLOAT32, "tf32": TF32, "bfloat16": BFLOAT16}
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
    "darts-frc": SpaceChoice(_fixed(darts), _fixed(darts_network, _AFFINE), *_DARTS[1:]),
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
    "snas-mild": partial(algorithms.snas, weight=algorithms.MILD),
    "snas-moderate": partial(algorithms.snas, weight=algorithms.MODERATE),
    "snas-aggressive": partial(algorithms.snas, weight=algorithms.AGGRESSIVE),
    "dr-nas": algorithms.dr_nas,
    "fair-darts": algorithms.fair_darts,
    "gaea": algorithms.gaea,
    "smooth-darts": algorithms.smooth_darts,
    "nasp": algorithms.nasp,
    "i-darts": algorithms.i_darts,
    "random-sharing": algorithms.random_sharing,
}


class StagesChoice(NamedTuple):
    """How a strategy runs in stages; all others run in one."""

    make: Callable[..., Sequence[Stage]]  # (spaces, steps in an epoch, epochs of a stage, alpha_rate=)
    growth: tuple[float, ...]  # depths of the stages in parts of the first


STAGES = {"p-darts": StagesChoice(p_darts_stages, (1, 2.2, 3.4)), "dr-nas": StagesChoice(dr_nas_stages, (1, 1))}
STOPS: dict[str, Rule] = {"never": never, "sharp-rise": sharp_rise(), "too-many-skips": too_many_skips()}
STOPPED = {"darts-es": "sharp-rise"}  # strategies whose search ends by a rule unless told otherwise
# strategies whose genotype is not decoded from alpha: (samples=) -> how the run ends
FINISH: dict[str, Callable[..., Finish]] = {"random-sharing": partial(partial, pick_shared)}
# what the halves of the training images do where alpha does not move by its own half
HALVES = {
    **{name: ("move the weights and alpha", "do nothing (SNAS has one loss)") for name in STRATEGIES if "snas" in name},
    "random-sharing": ("move the weights", "score genotypes"),
}
PUBLISHED = {name: found for name, found in vars(published).items() if isinstance(found, Genotype)}
TABULAR: dict[str, Callable[..., Method]] = {  # searches on a table
    "random": random_search,
    "evolution": evolution,
    "local": local_search,
    "reinforce": reinforce,
}
RECIPES = {
    "small": recipes.small(),
    "cifar": recipes.cifar(),
    "imagenet": recipes.imagenet(),
    "imagenet-linear": recipes.imagenet_linear(),
    "nas-bench-201": recipes.nas_bench_201(),
}
IMAGENET = "darts-imagenet"  # name of the network that cells of DARTS make on ImageNet


class Build(NamedTuple):
    """The network that a genotype is retrained in."""

    name: str
    channels: int
    depth: int


def build(space: str, recipe: str, channels: int | None, depth: int | None) -> Build:
    """The network of a space's genotype for a recipe: the papers' size, a small one for `small`, or as given."""
    chosen, name = SPACES[space], space
    width, layers = (8, chosen.depth) if recipe == "small" else chosen.official
    if recipe.startswith("imagenet") and chosen.network is darts_network:
        name, (width, layers) = IMAGENET, (48, 14)
    return Build(name, given_or(channels, width), given_or(depth, layers))


def network_space(name: str) -> Callable[..., Space]:
    """(channels, depth, classes, image=) -> the space in which a network of that name is built."""
    return darts_imagenet_network if name == IMAGENET else SPACES[name].network
