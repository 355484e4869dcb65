"""The table: every algorithm is a row that names its arrows.

Where in the river: the map. Knows the constructors of the slots and optax; no space, data set or device, and of time
only steps.
"""

from collections.abc import Callable

import optax

from jaxnas.bilevel import after, alternating, joint
from jaxnas.hypergradient import Hypergradient, Lookahead, through, unrolled
from jaxnas.strategies.decoding import argmax_edges, threshold_edges, top_edges
from jaxnas.strategies.mixing import dropped_path, partial_channels, weighted_sum
from jaxnas.strategies.optimizers import (
    annealed,
    clip_norm,
    cosine,
    exponentiated_gradient,
    heavy_ball,
    l2_adam,
)
from jaxnas.strategies.penalty import resource_log, zero_one
from jaxnas.strategies.relaxation import concrete, dirichlet, edge_normalized, sigmoid, simplex, softmax
from jaxnas.strategies.strategy import Strategy


def darts(
    steps: int,
    *,
    hypergradient: Hypergradient | Callable[[Lookahead], Hypergradient] = unrolled,
    every: int = 1,
    alpha_rate: float = 3e-4,
) -> Strategy:
    """DARTS: softmax gates, weighted sums, alpha along the validation loss and weights along the training loss.

        alpha   <-  Adam on grad_alpha L_valid(w - xi grad_w L_train(w, alpha), alpha)
        weights <-  SGD on grad_w L_train(w, alpha)

    Args:
      steps: length of the search; the learning rate falls from 0.025 to 0.001 along a cosine.
      hypergradient: `first_order()` or any other, or what makes one from the look-ahead of this row: `unrolled` (exact
        second order) and `finite_difference` (the official estimate of it).
      every: steps between two changes of the learning rate; an epoch of steps gives the official staircase.
      alpha_rate: learning rate of alpha; the official 3e-4 hardly moves alpha in less than some thousand steps.

    Reference: Liu, Simonyan, Yang 2019, arXiv:1806.09055, algorithm 1; quark0/darts `cnn/train_search.py`,
      `cnn/architect.py`.
    Deviates: second order is exact unless `finite_difference` is asked for. The look-ahead has momentum and decay, and
      no clipping, like the official one.

    >>> darts(100).replace(relaxation=edge_normalized(softmax())).mixing.width(16)
    16
    """
    sgd = heavy_ball(cosine(0.025, 0.001, steps, every), momentum=0.9, decay=3e-4)
    ahead = through(sgd, part=lambda state: state[1])  # behind the clipping
    chosen = hypergradient if isinstance(hypergradient, Hypergradient) else hypergradient(ahead)
    weights = optax.chain(clip_norm(5.0), sgd)
    return Strategy(solver=alternating(weights, l2_adam(alpha_rate, decay=1e-3), hypergradient=chosen))


def pc_darts(steps: int, *, every: int = 1, alpha_rate: float = 6e-4, rest: int | None = None) -> Strategy:
    """PC-DARTS: a quarter of the channels through the operations, learnt weights of edges, alpha rests at first.

        alpha, beta  <-  Adam on grad L_valid(w, alpha, beta), from step `rest` on
        weights      <-  SGD on grad_w L_train(w, alpha, beta)

    First order. Made for batches of 256, which the saved memory allows; the learning rate goes with them.

    Args:
      steps: length of the search; the learning rate falls from 0.1 to 0 along a cosine.
      every: steps between two changes of the learning rate; an epoch of steps gives the official staircase.
      alpha_rate: learning rate of alpha and beta.
      rest: steps before alpha and beta move; 15 of 50 parts of the search unless given.

    Reference: Xu et al. 2020, arXiv:1907.05737; yuhuixu1993/PC-DARTS `train_search.py`, `model_search.py`.
    Deviates: see `partial_channels`.
    """
    weights = optax.chain(clip_norm(5.0), heavy_ball(cosine(0.1, 0.0, steps, every), momentum=0.9, decay=3e-4))
    first = after(steps * 15 // 50 if rest is None else rest)
    solver = alternating(weights, l2_adam(alpha_rate, decay=1e-3), when=first)
    return Strategy(solver=solver, relaxation=edge_normalized(softmax()), mixing=partial_channels(4))


def snas(
    steps: int,
    *,
    every: int = 1,
    alpha_rate: float = 3e-4,
    optimizer: Callable[[float], optax.GradientTransformation] = l2_adam,
) -> Strategy:
    """SNAS: gates drawn from a cooling concrete distribution; one loss with a resource term moves alpha and weights.

        alpha, weights  <-  Adam, SGD on grad (L_train(w, Z(alpha)) + lambda R(Z(alpha)))

    Args:
      steps: length of the search; T falls from 1 to 0.03, the learning rate of the weights from 0.025 to 0.001.
      every: steps between two changes of these; an epoch of steps gives the official stairs.
      alpha_rate: learning rate of alpha.
      optimizer: of alpha, from its rate; `optax.sgd` as in the official code on one GPU.

    Reference: Xie et al. 2019, arXiv:1812.09926; SNAS-Series/SNAS-Series `SNAS/train_search.py` and its README.
    Deviates: Adam, as in the official code on many GPUs, where one GPU has SGD; cools within `steps`, not 150 epochs.
      The official search trains on all images, so give it a split without a half for alpha.
    """
    weights = optax.chain(clip_norm(5.0), heavy_ball(cosine(0.025, 0.001, steps, every), momentum=0.9, decay=3e-4))
    return Strategy(
        solver=joint(weights, optax.chain(clip_norm(10.0), optimizer(alpha_rate))),
        relaxation=concrete(annealed(1.0, 0.03, steps, every)),
        mixing=dropped_path(weighted_sum(), optax.constant_schedule(0.3)),
        penalty=resource_log(optax.constant_schedule(1e-2)),
        decode=argmax_edges(),
    )


def dr_nas(
    steps: int,
    *,
    every: int = 1,
    alpha_rate: float = 6e-4,
    divisor: int = 6,
    rest: int | None = None,
    regularizer: Callable[[float], optax.GradientTransformation] = optax.add_decayed_weights,
) -> Strategy:
    """DrNAS, one stage: gates drawn from Dirichlet distributions, partial channels, alpha rests at first.

        alpha    <-  Adam on grad_alpha L_valid(w, gates ~ Dirichlet(elu(alpha) + 1)), regularised, from `rest` on
        weights  <-  SGD on grad_w L_train(w, gates ~ the same)

    Args:
      steps: length of the search; the learning rate falls from 0.1 to 0 along a cosine.
      every: steps between two changes of the learning rate.
      alpha_rate: learning rate of alpha.
      divisor: K of the partial channels; 6, then 4 in the official two stages.
      rest: steps before alpha moves; 10 of 25 parts of the search unless given.
      regularizer: what its weight, 1e-3, adds to alpha's gradient; the official alternative is
        `partial(plus_gradient, dirichlet_divergence)`.

    Reference: Chen et al. 2021, arXiv:2006.10355; xiangning-chen/DrNAS `DARTS-space/train_search.py`, `architect.py`.
    Deviates: no second stage, which prunes to 4 operations an edge and widens K = 6 to 4. See `partial_channels`.
    """
    weights = optax.chain(clip_norm(5.0), heavy_ball(cosine(0.1, 0.0, steps, every), momentum=0.9, decay=3e-4))
    alpha = optax.chain(regularizer(1e-3), l2_adam(alpha_rate, decay=0.0))
    first = after(steps * 10 // 25 if rest is None else rest)
    solver, mixing = alternating(weights, alpha, when=first), partial_channels(divisor)
    return Strategy(solver=solver, relaxation=dirichlet(), mixing=mixing, decode=top_edges(never=()))


def fair_darts(steps: int, *, every: int = 1, alpha_rate: float = 3e-3, sharpness: float = 10.0) -> Strategy:
    """FairDARTS: independent gates, driven to 0 or 1; those above 0.85 are kept, at most two edges into a node.

        alpha    <-  Adam on grad_alpha (L_valid(w, sigmoid(alpha)) - sharpness mean (sigmoid(alpha) - 1/2)^2)
        weights  <-  SGD on grad_w L_train(w, sigmoid(alpha))

    First order, for batches of 128. Made for a space without `none`: `space.replace(ops=space.ops[1:])`.

    Args:
      steps: length of the search; the learning rate falls from 0.005 to 0.001 along a cosine.
      every: steps between two changes of the learning rate.
      alpha_rate: learning rate of alpha.
      sharpness: weight of the zero-one loss.

    Reference: Chu et al. 2020, arXiv:1911.12126; xiaomi-automl/FairDARTS `fairdarts/train_search.py`, `architect.py`.
    Deviates: see `threshold_edges`.
    """
    weights = optax.chain(clip_norm(5.0), heavy_ball(cosine(0.005, 0.001, steps, every), momentum=0.9, decay=3e-4))
    solver = alternating(weights, l2_adam(alpha_rate, decay=1e-3, b1=0.9))
    penalty = zero_one(optax.constant_schedule(sharpness))
    return Strategy(solver=solver, relaxation=sigmoid(), penalty=penalty, decode=threshold_edges())


def gaea(steps: int, *, every: int = 1, alpha_rate: float = 0.1) -> Strategy:
    """GAEA: alpha are points of simplices and move along exponentiated gradients; else first-order DARTS.

        alpha    <-  alpha exp(-alpha_rate grad_alpha L_valid(w, alpha)), normalised for each edge
        weights  <-  SGD on grad_w L_train(w, alpha)

    GAEA PC-DARTS: `gaea(steps).replace(relaxation=edge_simplex(simplex()), mixing=partial_channels(4))`; its weights
    have a learning rate of 0.1 -> 0 and batches of 256.

    Args:
      steps: length of the search; the learning rate falls from 0.025 to 0.001 along a cosine.
      every: steps between two changes of the learning rate.
      alpha_rate: learning rate of alpha, and of weights of edges.

    Reference: Li et al. 2021, arXiv:2004.07802; liamcli/gaea_release `cnn/architect/architect_edarts.py`.
    Deviates: weights of edges have the floor of alpha, 1e-5.
    """
    weights = optax.chain(clip_norm(5.0), heavy_ball(cosine(0.025, 0.001, steps, every), momentum=0.9, decay=3e-4))
    return Strategy(solver=alternating(weights, exponentiated_gradient(alpha_rate)), relaxation=simplex())
