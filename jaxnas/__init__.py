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
    jn.parallel    on which devices a run lies                     jn.precision in which numbers
    jn.logs        what a run tells while it runs                  jn.live     one screen of it
    jn.over_seeds  one search -> many, in one program             jn.Layout how the supernet is compiled
    jn.network     genotype -> the network that is trained        jn.published   genotypes of papers
    jn.fit         trains it from scratch, by jn.recipes           jn.Trained     what that leaves
"""

from importlib.metadata import version as _version

from jaxnas import augmentation as augmentation
from jaxnas import data as data
from jaxnas import drawing as drawing
from jaxnas import interop as interop
from jaxnas import interop_network as interop_network
from jaxnas import live as live
from jaxnas import logs as logs
from jaxnas import parallel as parallel
from jaxnas import precision as precision
from jaxnas import robust as robust
from jaxnas import seeds as seeds
from jaxnas import spaces as spaces
from jaxnas.ablation import ablations as ablations
from jaxnas.bilevel import Solver as Solver
from jaxnas.bilevel import after as after
from jaxnas.bilevel import alternating as alternating
from jaxnas.bilevel import always as always
from jaxnas.bilevel import every as every
from jaxnas.bilevel import joint as joint
from jaxnas.bilevel import never as never
from jaxnas.data import Batch as Batch
from jaxnas.epoch import Diverged as Diverged
from jaxnas.evaluation import benchmark as benchmark
from jaxnas.evaluation import cost as cost
from jaxnas.evaluation import diagnostics as diagnostics
from jaxnas.evaluation import methods as methods
from jaxnas.evaluation import outcomes as outcomes
from jaxnas.evaluation import recipes as recipes
from jaxnas.evaluation import report as report
from jaxnas.evaluation import statistics as statistics
from jaxnas.evaluation import stopping as stopping
from jaxnas.evaluation import tabular as tabular
from jaxnas.evaluation import training as training
from jaxnas.evaluation.comparison import compare as compare
from jaxnas.evaluation.diagnostics import Watch as Watch
from jaxnas.evaluation.latency import counted as counted
from jaxnas.evaluation.latency import latencies as latencies
from jaxnas.evaluation.latency import latency as latency
from jaxnas.evaluation.official_table import convert as convert
from jaxnas.evaluation.perturbation import select_by_perturbation as select_by_perturbation
from jaxnas.evaluation.random_search import pick_shared as pick_shared
from jaxnas.evaluation.random_search import random_genotype as random_genotype
from jaxnas.evaluation.random_search import random_search as random_search
from jaxnas.evaluation.recipes import Recipe as Recipe
from jaxnas.evaluation.shared_weights import one_hot_gates as one_hot_gates
from jaxnas.evaluation.shared_weights import scorer as scorer
from jaxnas.hypergradient import Batches as Batches
from jaxnas.hypergradient import Problem as Problem
from jaxnas.hypergradient import conjugate_gradient as conjugate_gradient
from jaxnas.hypergradient import finite_difference as finite_difference
from jaxnas.hypergradient import first_order as first_order
from jaxnas.hypergradient import neumann as neumann
from jaxnas.hypergradient import through as through
from jaxnas.hypergradient import two_losses as two_losses
from jaxnas.hypergradient import unrolled as unrolled
from jaxnas.interruption import Interrupted as Interrupted
from jaxnas.retraining import Trained as Trained
from jaxnas.retraining import fit as fit
from jaxnas.runner import Result as Result
from jaxnas.runner import run as run
from jaxnas.search import Search as Search
from jaxnas.search import bind as bind
from jaxnas.seeds import over_seeds as over_seeds
from jaxnas.spaces import genotype as genotype
from jaxnas.spaces import layout as layout
from jaxnas.spaces import ops as ops
from jaxnas.spaces import published as published
from jaxnas.spaces.genotype import Genotype as Genotype
from jaxnas.spaces.layout import Layout as Layout
from jaxnas.spaces.network import Network as Network
from jaxnas.spaces.network import Variables as Variables
from jaxnas.spaces.network import drop_paths as drop_paths
from jaxnas.spaces.network import network as network
from jaxnas.spaces.networks import supernet as supernet
from jaxnas.spaces.space import Gates as Gates
from jaxnas.spaces.space import Layer as Layer
from jaxnas.spaces.space import Space as Space
from jaxnas.spaces.space import dag as dag
from jaxnas.stages import Stage as Stage
from jaxnas.stages import dr_nas_stages as dr_nas_stages
from jaxnas.stages import keep_best as keep_best
from jaxnas.stages import p_darts_stages as p_darts_stages
from jaxnas.stages import progressive as progressive
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
