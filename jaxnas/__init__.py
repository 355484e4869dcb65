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

from importlib import import_module as _import_module
from typing import TYPE_CHECKING
from typing import Any as _Any

if TYPE_CHECKING:  # type checkers and the documentation read this; when it runs, a name is imported where it is used
    from jaxnas import augmentation as augmentation
    from jaxnas import data as data
    from jaxnas import drawing as drawing
    from jaxnas import interop as interop
    from jaxnas import parallel as parallel
    from jaxnas import reading as reading
    from jaxnas import robust as robust
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

    __version__: str

# The same as tables, package or module -> what is handed on of it; a test compares them.
_MODULES = {
    "jaxnas": "augmentation data drawing interop parallel reading robust spaces stages",
    "jaxnas.evaluation": "benchmark cost diagnostics methods outcomes recipes report stopping tabular",
    "jaxnas.spaces": "genotype ops published",
    "jaxnas.strategies": "decoding draws mixing penalty perturbation proximal relaxation",
}
_NAMES = {
    "jaxnas.ablation": "ablations",
    "jaxnas.data": "Batch",
    "jaxnas.evaluation.comparison": "compare",
    "jaxnas.evaluation.perturbation": "select_by_perturbation",
    "jaxnas.evaluation.random_search": "pick_shared random_search",
    "jaxnas.hypergradient": "Batches conjugate_gradient finite_difference first_order neumann unrolled",
    "jaxnas.retraining": "fit",
    "jaxnas.runner": "run",
    "jaxnas.search": "bind",
    "jaxnas.seeds": "over_seeds",
    "jaxnas.spaces.genotype": "Genotype",
    "jaxnas.spaces.network": "network",
    "jaxnas.spaces.space": "Gates Layer Space dag",
    "jaxnas.stages": "Stage",
    "jaxnas.strategies.algorithms": "darts dr_nas fair_darts gaea gdas i_darts nasp p_darts pc_darts "
    "pc_darts_imagenet r_darts_drop_path r_darts_l2 random_sharing smooth_darts snas",
    "jaxnas.strategies.strategy": "Strategy",
}
_PLACES = {name: f"{package}.{name}" for package, names in _MODULES.items() for name in names.split()}
_HOMES = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = [*_PLACES, *_HOMES]
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


def __dir__() -> list[str]:
    return [*__all__, "__all__", "__doc__", "__version__"]


if not TYPE_CHECKING:  # a type checker would take any name for one of ours

    def __getattr__(name: str) -> _Any:
        """The module or the object of a public name, imported when it is first asked for (PEP 562)."""
        if name in _PLACES:
            return _import_module(_PLACES[name])
        if name in _HOMES:
            globals()[name] = found = getattr(_import_module(_HOMES[name]), name)
            return found
        if name == "__version__":
            return _import_module("importlib.metadata").version("jaxnas")
        if name in _MOVED:
            return _import_module("jaxnas.moved").moved(__name__, _MOVED, gone="0.3")(name)
        raise AttributeError(f"module 'jaxnas' has no attribute {name!r}")
