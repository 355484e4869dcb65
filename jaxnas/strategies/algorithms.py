"""The table: every algorithm is a row that names its arrows.

Where in the river: the map. Knows the constructors of the slots and optax; no space, data set or device, and of time
only steps.
"""

from collections.abc import Callable
from typing import Any

import optax

from jaxnas.bilevel import after, alternating, joint, last_of, never
from jaxnas.hypergradient import Hypergradient, Lookahead, neumann, through, unrolled
from jaxnas.spec import made
from jaxnas.strategies.decoding import argmax_edges, limit_skips, threshold_edges, top_edges, top_pairs
from jaxnas.strategies.draws import concrete, dirichlet, gumbel_hard, uniform
from jaxnas.strategies.mixing import (
    Mixing,
    dropped_path,
    dropped_skip,
    opened,
    partial_channels,
    sampled,
    selected_only,
    weighted_sum,
)
from jaxnas.strategies.optimizers import (
    annealed,
    box,
    chain,
    clip_norm,
    clipped_sgd,
    cosine,
    exponentiated_gradient,
    heavy_ball,
    l2_adam,
    linear,
    nesterov,
    ramp,
    rising,
    two_phase,
    warmed_up,
)
from jaxnas.strategies.penalty import resource_log, zero_one
from jaxnas.strategies.perturbation import closed, uniform_noise
from jaxnas.strategies.proximal import binary
from jaxnas.strategies.relaxation import edge_normalized, sigmoid, simplex, softmax
from jaxnas.strategies.strategy import Strategy


def darts(
    steps: int,
    *,
    hypergradient: Hypergradient | Callable[[Lookahead], Hypergradient] = unrolled,
    every: int = 1,
    alpha_rate: float = 3e-4,
    decay: float = 3e-4,
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
      decay: L2 decay of the weights.

    Reference: Liu, Simonyan, Yang 2019, arXiv:1806.09055, algorithm 1; quark0/darts `cnn/train_search.py`,
      `cnn/architect.py`.
    Checked: official numbers in float64: supernet, both hypergradients, three whole iterations, discretisation.
    Deviates: second order is exact unless `finite_difference` is asked for. The look-ahead has momentum and decay, and
      no clipping, like the official one.

    >>> darts(100).replace(relaxation=edge_normalized(softmax())).mixing.width(16)
    16
    """
    sgd = heavy_ball(cosine(0.025, 0.001, steps, every), momentum=0.9, decay=decay)
    ahead = through(sgd, part=lambda state: state[1])  # behind the clipping
    chosen = hypergradient if isinstance(hypergradient, Hypergradient) else hypergradient(ahead)
    weights = chain(clip_norm(5.0), sgd)
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
    Checked: official numbers in float64: supernet with all gradients, discretisation with beta, schedules, counts.
    Deviates: like the official code, and unlike the paper, the first channels are taken and none are sampled.
    """
    weights = clipped_sgd(0.1, 0.0, steps, every)
    first = after(steps * 15 // 50 if rest is None else rest)
    solver = alternating(weights, l2_adam(alpha_rate, decay=1e-3), when=first)
    return Strategy(solver=solver, relaxation=edge_normalized(softmax()), mixing=partial_channels(4))


def pc_darts_imagenet(steps: int, *, every: int = 1, alpha_rate: float = 6e-3, rest: int | None = None) -> Strategy:
    """PC-DARTS as searched on ImageNet: half of the channels, rates for batches of 1,024, alpha clipped and later.

    Made for a tenth of the training images for the weights and a fortieth for alpha, and 50 epochs. The weights' rate
    falls from 0.5 to 0 along a cosine behind five epochs of warm start.

    Args:
      steps, every, alpha_rate: as in `pc_darts`.
      rest: steps before alpha and beta move; 35 of 50 parts of the search unless given.

    Reference: Xu et al. 2020, arXiv:1907.05737, section 4.3; yuhuixu1993/PC-DARTS `train_search_imagenet.py`.
    Checked: the official learning rates by epoch; the rest shares its code with `pc_darts`.
    Deviates: the official network evaluates every mixture twice; here once. Its stem, which halves the image three
      times, is not built: give the images at the size at which the cells see them.
    """
    rate = warmed_up(cosine(0.5, 0.0, steps, every), every)
    weights = chain(clip_norm(5.0), heavy_ball(rate, momentum=0.9, decay=3e-4))
    alpha = chain(clip_norm(5.0), l2_adam(alpha_rate, decay=1e-3))
    solver = alternating(weights, alpha, when=after(steps * 35 // 50 if rest is None else rest))
    return Strategy(solver=solver, relaxation=edge_normalized(softmax()), mixing=partial_channels(2))


def p_darts(
    steps: int, *, every: int = 1, alpha_rate: float = 6e-4, rest: int | None = None, skip_dropout: float = 0.0
) -> Strategy:
    """One stage of P-DARTS (`p_darts_stages` has all three): dropout behind skips, and few of them in the end.

        alpha   <-  Adam on grad_alpha L_valid(w, alpha), from step `rest` on
        weights <-  SGD on grad_w L_train(w, alpha)

    First order, both gradients clipped at norm 5. Made for batches of 96, or 64 in 12 GB.

    Args:
      steps: length of the stage; the learning rate falls from 0.025 to 0 along a cosine.
      every: steps in an epoch: the learning rate and the dropout change so often.
      alpha_rate: learning rate of alpha.
      rest: steps before alpha moves; 10 of 25 parts of the stage, in whole epochs, unless given.
      skip_dropout: the rate of `two_phase`.

    Reference: Chen et al. 2019, arXiv:1904.12760; chenxin061/pdarts `train_search.py`.
    Checked: official numbers in float64: a stage's network with all gradients, whole chains of cuts for every limit on
      skips, the dropout by epoch, counts.
    Deviates: see `limit_skips`.
    """
    rest = steps * 10 // 25 // every * every if rest is None else rest
    adam = chain(clip_norm(5.0), l2_adam(alpha_rate, decay=1e-3))
    solver = alternating(clipped_sgd(0.025, 0.0, steps, every), adam, when=after(rest))
    mixing = dropped_skip(two_phase(skip_dropout, steps, rest, every)) if skip_dropout else weighted_sum()
    return Strategy(solver=solver, mixing=mixing, decode=limit_skips(2))


def gdas(
    steps: int, *, every: int = 1, alpha_rate: float = 3e-4, convention: Callable[[], Mixing] = selected_only
) -> Strategy:
    """GDAS: one operation of each edge runs, drawn anew at each pass; the weights move first.

        weights <-  Nesterov SGD on grad_w L_train(w, h),    h = onehot - stopgradient(p) + p
        alpha   <-  Adam on grad L_valid(w', h'),            p = softmax((alpha + Gumbel noise) / tau)

    First order. The official batch is 256 on the NASNet space and 64 on NAS-Bench-201, both for 250 epochs.

    Args:
      steps: length of the search; tau falls from 10 to 0.1, the learning rate from 0.025 to 0.001 along a cosine.
      every: steps between two changes of both; an epoch of steps gives the official staircases.
      alpha_rate: learning rate of alpha.
      convention: what gates that were not drawn learn. The official code has `selected_only` on the NASNet space and
        `broadcast` on NAS-Bench-201 (whose genotypes want `decode=argmax_edges()`); `straight_through` is neither.

    Reference: Dong and Yang 2019, arXiv:1910.04465; AutoDL-Projects `exps/NAS-Bench-201-algos/GDAS.py`.
    Checked: official numbers in float64: both spaces with their conventions and all gradients, discretisation,
      temperatures, every operation of the NASNet-like space; `straight_through` against a float64 PyTorch computation.
    Deviates: the clip sees weights only; the official one counts alpha's gradient in, that of the move before included.
    """
    sgd = nesterov(cosine(0.025, 0.001, steps, every), momentum=0.9, decay=5e-4)
    solver = alternating(chain(clip_norm(5.0), sgd), l2_adam(alpha_rate, decay=1e-3), weights_first=True)
    relaxation = gumbel_hard(linear(10.0, 0.1, steps, every))
    return Strategy(solver=solver, relaxation=relaxation, mixing=convention(), decode=top_pairs(2))


# lambda of SNAS for networks of the paper's 2.9, 2.8 and 2.3 million parameters: fitted on searches far smaller than
# the paper's, so starting points (docs/results.md)
MILD, MODERATE, AGGRESSIVE = 7.5e-4, 8.8e-4, 1.2e-3


def snas(
    steps: int,
    *,
    every: int = 1,
    alpha_rate: float = 3e-4,
    weight: float = 1e-2,
    optimizer: Callable[[float], optax.GradientTransformation] = l2_adam,
) -> Strategy:
    """SNAS: gates drawn from a cooling concrete distribution; one loss with a resource term moves alpha and weights.

        alpha, weights  <-  Adam, SGD on grad (L_train(w, Z(alpha)) + lambda R(Z(alpha)))

    Args:
      steps: length of the search; T falls from 1 to 0.03, the learning rate of the weights from 0.025 to 0.001.
      every: steps between two changes of these; an epoch of steps gives the official stairs.
      alpha_rate: learning rate of alpha.
      weight: lambda, of the resource term; the official code's default, or `MILD`, `MODERATE`, `AGGRESSIVE`.
      optimizer: of alpha, from its rate; `optax.sgd` as in the official code on one GPU.

    Reference: Xie et al. 2019, arXiv:1812.09926; SNAS-Series/SNAS-Series `SNAS/train_search.py` and its README.
    Checked: official numbers in float64: a pass with given noise, costs of operations, both resource terms and their
      gradients, both discretisations, temperatures.
    Deviates: Adam, as in the official code on many GPUs, where one GPU has SGD; cools within `steps`, not 150 epochs.
      The official search trains on all images, so give it a split without a half for alpha. The weights of the paper's
      three constraints are nowhere told; ours are fitted to its numbers of parameters.
    """
    weights = clipped_sgd(0.025, 0.001, steps, every)
    return Strategy(
        solver=joint(weights, chain(clip_norm(10.0), made(optimizer, alpha_rate))),
        relaxation=concrete(annealed(1.0, 0.03, steps, every)),
        mixing=dropped_path(made(optax.constant_schedule, 0.3)),
        penalty=resource_log(made(optax.constant_schedule, weight)),
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
    """One stage of DrNAS (`dr_nas_stages` has both): gates from Dirichlet distributions, partial channels, alpha rests.

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
    Checked: the divergence and the mean of draws by formula; no official numbers.
    Deviates: see `partial_channels`, `dr_nas_stages`.
    """
    weights = clipped_sgd(0.1, 0.0, steps, every)
    alpha = chain(made(regularizer, 1e-3), l2_adam(alpha_rate, decay=0.0))
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
    Checked: penalty, gates and threshold by formula; no official numbers.
    Deviates: see `threshold_edges`.
    """
    weights = clipped_sgd(0.005, 0.001, steps, every)
    solver = alternating(weights, l2_adam(alpha_rate, decay=1e-3, beta1=0.9))
    penalty = zero_one(made(optax.constant_schedule, sharpness))
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
    Checked: the step of alpha by formula; no official numbers.
    Deviates: weights of edges have the floor of alpha, 1e-5.
    """
    weights = clipped_sgd(0.025, 0.001, steps, every)
    return Strategy(solver=alternating(weights, exponentiated_gradient(alpha_rate)), relaxation=simplex())


def r_darts_l2(
    steps: int, decay: float = 81e-4, *, every: int = 1, alpha_rate: float = 3e-4, **settings: Any
) -> Strategy:
    """R-DARTS (L2), one point of its grid: DARTS whose weights decay more, so that alpha's optimum is flatter.

        L_train(w, alpha) + decay/2 |w|^2

    Args:
      steps, every, alpha_rate: as in `darts`.
      decay: of the weights; the grid is 3e-4 (DARTS itself), 9e-4, 27e-4, 81e-4, 243e-4, of which `robust.grid` picks.
      settings: the others of `darts`.

    Reference: Zela et al. 2020, arXiv:1909.09656, section 5.2; automl/RobustDARTS `scripts/start_search.sh`.
    Checked: the rule of DARTS-ES on series made by hand, the curvature against `jax.hessian`; no official numbers.
    """
    return darts(steps, decay=decay, every=every, alpha_rate=alpha_rate, **settings)


def r_darts_drop_path(
    steps: int, rate: float = 0.2, *, every: int = 1, alpha_rate: float = 3e-4, **settings: Any
) -> Strategy:
    """R-DARTS (DP), one point of its grid: DARTS whose edges are dropped more and more often.

        y = m inner(x) / (1 - p),    m ~ Bernoulli(1 - p),    p = rate * e / (E - 1) in the e-th of E epochs

    Args:
      steps, every, alpha_rate: as in `darts`; the rate rises once in `every` steps.
      rate: at the end; the grid is 0, 0.2, 0.4, 0.6.
      settings: the others of `darts`.

    Reference: Zela et al. 2020, arXiv:1909.09656, section 5.1; automl/RobustDARTS `src/search/train_search.py`.
    Checked: mean and shape of what is dropped; no official numbers.
    Deviates: the official code ramps the probability of cutout alongside; augmentation does not know the step here.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"r_darts_drop_path(rate={rate}): give a probability from 0 to below 1, such as 0.2.")
    row = darts(steps, every=every, alpha_rate=alpha_rate, **settings)
    return row.replace(mixing=dropped_path(rising(rate, 0.0, steps, every), row.mixing))


def random_sharing(steps: int, *, every: int = 1, alpha_rate: float = 0.0, kept: int | None = 2) -> Strategy:
    """Random search with shared weights: each step trains one random architecture; alpha never moves.

        weights  <-  SGD on grad_w L_train(w, one_hot(o)),    o uniform over architectures

    The answer is not decoded from alpha: `pick_shared` scores random architectures with the weights.

    Args:
      steps: length of the search; the learning rate falls from 0.025 to 0.001 along a cosine.
      every: steps between two changes of the learning rate; an epoch of steps gives the official staircase.
      alpha_rate: not used; all rows take it.
      kept: edges into each node that an architecture has; None where genotypes keep all (NAS-Bench-201).

    Reference: Li and Talwalkar 2019, arXiv:1902.07638; liamcli/randomNAS_release `searchers/random_weight_share.py`,
      `benchmarks/cnn/darts/darts_wrapper_discrete.py`.
    Checked: that one operation on two edges into each node is open, uniformly; no official numbers.
    Deviates: gradients are clipped at 5, as in the other rows; at 0.25 by default there.
    """
    del alpha_rate
    solver = alternating(clipped_sgd(0.025, 0.001, steps, every), optax.set_to_zero(), when=never)
    return Strategy(solver=solver, relaxation=uniform(kept), mixing=sampled())


def smooth_darts(steps: int, *, every: int = 1, alpha_rate: float = 3e-4, radius: float = 0.3) -> Strategy:
    """SmoothDARTS with random perturbations: the weights are trained under noisy gates, so that they tolerate decoding.

        alpha    <-  Adam on grad_alpha L_valid(w, softmax(alpha)),    first order
        weights  <-  SGD on grad_w L_train(w, to_simplex(softmax(alpha) + u)),    u ~ U(-r, r),
        r        =   0.03 + (radius - 0.03) e / E    in epoch e of E

    Args:
      steps: length of the search.
      every: steps in an epoch: between two changes of the learning rate and of r.
      alpha_rate: learning rate of alpha.
      radius: r at the end.

    Reference: Chen and Hsieh 2020, arXiv:2002.05283 (SDARTS-RS); xiangning-chen/SmoothDARTS `sota/cnn/train_search.py`.
    Checked: the perturbed gates by formula, and that only the weights see them; no official numbers.
    Deviates: one draw for each move of the weights, as there; with a second-order solver the look-ahead sees it too.
    """
    solver = alternating(clipped_sgd(0.025, 0.001, steps, every), l2_adam(alpha_rate, decay=1e-3))
    return Strategy(solver=solver, perturb=uniform_noise(ramp(radius, 0.03, steps, every)))


def nasp(steps: int, *, every: int = 1, alpha_rate: float = 3e-4, kept: int | None = 2) -> Strategy:
    """NASP: both players see one operation on two edges into each node; alpha stays in a box.

        alpha    <-  clip(Adam on grad_g L_valid(w, g) at g = prox(alpha), 0, 1),    all operations computed
        weights  <-  SGD on grad_w L_train(w, prox(alpha)),    open operations only

    Args:
      steps: length of the search; the learning rate falls from 0.025 to 0.001 along a cosine.
      every: steps between two changes of the learning rate; an epoch of steps gives the official staircase.
      alpha_rate: learning rate of alpha.
      kept: open edges into each node; None where genotypes keep all (NAS-Bench-201).

    Reference: Yao et al. 2020, arXiv:1905.13577; xujinfan/NASP-codes `codes/train_search.py`, `codes/model_search.py`.
    Checked: the proximal point by formula, and the box; no official numbers.
    Deviates: operations are those of the space, without `none` (the official sets differ from those of DARTS). The
      optional penalty on the size of operations is left to the slot `penalty`.
    """
    alpha = chain(l2_adam(alpha_rate, decay=1e-3), box(0.0, 1.0))
    solver = alternating(clipped_sgd(0.025, 0.001, steps, every), alpha)
    return Strategy(solver=solver, relaxation=binary(kept), perturb=closed(), mixing=opened())


def i_darts(steps: int, *, every: int = 1, alpha_rate: float = 3e-4, terms: int = 2, inner: int = 4) -> Strategy:
    """iDARTS: after each `inner` steps of the weights, alpha along the implicit gradient of the last batches.

        alpha  <-  Adam on grad_alpha L_valid - eta grad^2_{alpha w} L_train sum_{k <= K} (I - eta H)^k grad_w L_valid

    Args:
      steps: steps of the weights; their learning rate eta falls from 0.025 to 0.001 along a cosine.
      every: steps between two changes of the learning rate; an epoch of steps gives the official staircase.
      alpha_rate: learning rate of alpha.
      terms: K, Hessian-vector products.
      inner: T, steps of the weights for each of alpha.

    Reference: Zhang et al. 2021, arXiv:2106.10784, algorithm 1; MiaoZhang0525/iDARTS, of which the NAS-Bench-201 search
      with T = 4, K = 2.
    Checked: the Neumann series against closed forms (`hypergradient.neumann`); no official numbers.
    Deviates: the products are exact; there the mixed one is a central difference, which also leaves the weights moved
      ("adding noise"). A step is one of the weights, so that as many steps have a T-th of the moves of alpha.
    """
    rate = cosine(0.025, 0.001, steps, every)
    weights = chain(clip_norm(5.0), heavy_ball(rate, momentum=0.9, decay=3e-4))
    alpha, implicit = l2_adam(alpha_rate, decay=1e-3), neumann(terms, rate)
    solver = alternating(weights, alpha, hypergradient=implicit, when=last_of(inner), weights_first=True)
    return Strategy(solver=solver)
