"""Differentiable neural architecture search in JAX: every method a row of one table.

The public names, in the order in which data flows:

    jn.spaces      what may be built        jn.darts(steps), ...  a row of the table (a Strategy)
    jn.relaxation, jn.draws, jn.proximal   alpha -> gates          jn.mixing   gates -> output of an edge
    jn.penalty     gates -> extra loss      jn.decoding           scores -> genotype
    jn.bind        strategy + space -> pure functions             jn.run    the loop over epochs
    jn.diagnostics curvature, agreement     jn.stopping           when a run ends, and with what
    jn.robust      searches of several runs
    jn.compare     methods by their runs    jn.ablations          a row without each of its parts
    jn.benchmark, jn.tabular, jn.methods   NAS-Bench-201: genotypes looked up; searches on the table
    jn.parallel    on which devices a run lies                     jn.over_seeds   one search -> many, in one program
    jn.network     genotype -> the network that is trained        jn.published   genotypes of papers
    jn.fit         trains it from scratch, by jn.recipes           jn.drawing     pictures

Other modules are imported by their path, such as `from jaxnas import logs`.
"""

from importlib.metadata import version as _version
from typing import TYPE_CHECKING as _TYPE_CHECKING

from jaxnas import augmentation as augmentation
from jaxnas import data as data
from jaxnas import drawing as drawing
from jaxnas import interop as interop
from jaxnas import interop_network as interop_network
from jaxnas import live as live
from jaxnas import logs as logs
from jaxnas import parallel as parallel
from jaxnas import precision as precision
from jaxnas import reading as reading
from jaxnas import robust as robust
from jaxnas import seeds as seeds
from jaxnas import spaces as spaces
from jaxnas import stages as stages
from jaxnas.ablation import ablations as ablations
from jaxnas.data import Batch as Batch
from jaxnas.evaluation import benchmark as benchmark
from jaxnas.evaluation import cost as cost
from jaxnas.evaluation import diagnostics as diagnostics
from jaxnas.evaluation import methods as methods
from jaxnas.evaluation import outcomes as outcomes
from jaxnas.evaluation import recipes as recipes
from jaxnas.evaluation import report as report
from jaxnas.evaluation import stopping as stopping
from jaxnas.evaluation import tabular as tabular
from jaxnas.evaluation.comparison import compare as compare
from jaxnas.evaluation.perturbation import select_by_perturbation as select_by_perturbation
from jaxnas.evaluation.random_search import pick_shared as pick_shared
from jaxnas.evaluation.random_search import random_search as random_search
from jaxnas.hypergradient import Batches as Batches
from jaxnas.hypergradient import conjugate_gradient as conjugate_gradient
from jaxnas.hypergradient import finite_difference as finite_difference
from jaxnas.hypergradient import first_order as first_order
from jaxnas.hypergradient import neumann as neumann
from jaxnas.hypergradient import unrolled as unrolled
from jaxnas.moved import moved as _moved
from jaxnas.retraining import fit as fit
from jaxnas.runner import run as run
from jaxnas.search import bind as bind
from jaxnas.seeds import over_seeds as over_seeds
from jaxnas.spaces import genotype as genotype
from jaxnas.spaces import ops as ops
from jaxnas.spaces import published as published
from jaxnas.spaces.genotype import Genotype as Genotype
from jaxnas.spaces.network import network as network
from jaxnas.spaces.space import Gates as Gates
from jaxnas.spaces.space import Layer as Layer
from jaxnas.spaces.space import Space as Space
from jaxnas.spaces.space import dag as dag
from jaxnas.stages import Stage as Stage
from jaxnas.strategies import decoding as decoding
from jaxnas.strategies import draws as draws
from jaxnas.strategies import mixing as mixing
from jaxnas.strategies import penalty as penalty
from jaxnas.strategies import perturbation as perturbation
from jaxnas.strategies import proximal as proximal
from jaxnas.strategies import relaxation as relaxation
from jaxnas.strategies.algorithms import darts as darts
from jaxnas.strategies.algorithms import dr_nas as dr_nas
from jaxnas.strategies.algorithms import fair_darts as fair_darts
from jaxnas.strategies.algorithms import gaea as gaea
from jaxnas.strategies.algorithms import gdas as gdas
from jaxnas.strategies.algorithms import i_darts as i_darts
from jaxnas.strategies.algorithms import nasp as nasp
from jaxnas.strategies.algorithms import p_darts as p_darts
from jaxnas.strategies.algorithms import pc_darts as pc_darts
from jaxnas.strategies.algorithms import pc_darts_imagenet as pc_darts_imagenet
from jaxnas.strategies.algorithms import r_darts_drop_path as r_darts_drop_path
from jaxnas.strategies.algorithms import r_darts_l2 as r_darts_l2
from jaxnas.strategies.algorithms import random_sharing as random_sharing
from jaxnas.strategies.algorithms import smooth_darts as smooth_darts
from jaxnas.strategies.algorithms import snas as snas
from jaxnas.strategies.strategy import Strategy as Strategy

__version__ = _version("jaxnas")
__all__ = [
    "Batch",
    "Batches",
    "Gates",
    "Genotype",
    "Layer",
    "Space",
    "Stage",
    "Strategy",
    "ablations",
    "augmentation",
    "benchmark",
    "bind",
    "compare",
    "conjugate_gradient",
    "cost",
    "dag",
    "darts",
    "data",
    "decoding",
    "diagnostics",
    "dr_nas",
    "drawing",
    "draws",
    "fair_darts",
    "finite_difference",
    "first_order",
    "fit",
    "gaea",
    "gdas",
    "genotype",
    "i_darts",
    "interop",
    "methods",
    "mixing",
    "nasp",
    "network",
    "neumann",
    "ops",
    "outcomes",
    "over_seeds",
    "p_darts",
    "parallel",
    "pc_darts",
    "pc_darts_imagenet",
    "penalty",
    "perturbation",
    "pick_shared",
    "proximal",
    "published",
    "r_darts_drop_path",
    "r_darts_l2",
    "random_search",
    "random_sharing",
    "reading",
    "recipes",
    "relaxation",
    "report",
    "robust",
    "run",
    "select_by_perturbation",
    "smooth_darts",
    "snas",
    "spaces",
    "stages",
    "stopping",
    "tabular",
    "unrolled",
]
_MOVED = {  # name that stood here -> where it lives
    "Solver": "jaxnas.bilevel",
    "after": "jaxnas.bilevel",
    "alternating": "jaxnas.bilevel",
    "always": "jaxnas.bilevel",
    "every": "jaxnas.bilevel",
    "joint": "jaxnas.bilevel",
    "never": "jaxnas.bilevel",
    "Diverged": "jaxnas.epoch",
    "statistics": "jaxnas.evaluation",
    "training": "jaxnas.evaluation",
    "Watch": "jaxnas.evaluation.diagnostics",
    "counted": "jaxnas.evaluation.latency",
    "latencies": "jaxnas.evaluation.latency",
    "latency": "jaxnas.evaluation.latency",
    "convert": "jaxnas.evaluation.official_table",
    "random_genotype": "jaxnas.evaluation.random_search",
    "Recipe": "jaxnas.evaluation.recipes",
    "one_hot_gates": "jaxnas.evaluation.shared_weights",
    "scorer": "jaxnas.evaluation.shared_weights",
    "Problem": "jaxnas.hypergradient",
    "through": "jaxnas.hypergradient",
    "two_losses": "jaxnas.hypergradient",
    "Interrupted": "jaxnas.interruption",
    "Trained": "jaxnas.retraining",
    "Result": "jaxnas.runner",
    "Search": "jaxnas.search",
    "layout": "jaxnas.spaces",
    "Layout": "jaxnas.spaces.layout",
    "Network": "jaxnas.spaces.network",
    "Variables": "jaxnas.spaces.network",
    "drop_paths": "jaxnas.spaces.network",
    "supernet": "jaxnas.spaces.networks",
    "dr_nas_stages": "jaxnas.stages",
    "keep_best": "jaxnas.stages",
    "p_darts_stages": "jaxnas.stages",
    "progressive": "jaxnas.stages",
}
if not _TYPE_CHECKING:  # type checkers know only the names above
    __getattr__ = _moved(__name__, _MOVED, gone="0.3")


def __dir__() -> list[str]:
    return [*__all__, "__all__", "__doc__", "__version__"]
