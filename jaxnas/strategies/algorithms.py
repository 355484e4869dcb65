"""The table: every algorithm is a row that names its arrows.

Where in the river: the map. Knows the constructors of the slots and optax; no space, data set or device, and of time
only steps.
"""

from collections.abc import Callable

import optax

from jaxnas.bilevel import after, alternating, never
from jaxnas.hypergradient import Hypergradient, Lookahead, neumann, through, unrolled
from jaxnas.strategies.mixing import opened, partial_channels, sampled
from jaxnas.strategies.optimizers import box, clip_norm, cosine, heavy_ball, l2_adam
from jaxnas.strategies.perturbation import closed, uniform_noise
from jaxnas.strategies.proximal import binary
from jaxnas.strategies.relaxation import edge_normalized, softmax, uniform
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
    Deviates: gradients are clipped at 5, as in the other rows; at 0.25 by default there.
    """
    del alpha_rate
    solver = alternating(_sgd(steps, every), optax.set_to_zero(), when=never)
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
    Deviates: one draw for each move of the weights, as there; with a second-order solver the look-ahead sees it too.
    """
    epochs = max(1, -(-steps // every))
    grown = optax.linear_schedule(0.03, radius, epochs)
    solver = alternating(_sgd(steps, every), l2_adam(alpha_rate, decay=1e-3))
    return Strategy(solver=solver, perturb=uniform_noise(lambda step: grown(step // every)))


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
    Deviates: operations are those of the space, without `none` (the official sets differ from those of DARTS). The
      optional penalty on the size of operations is left to the slot `penalty`.
    """
    alpha = optax.chain(l2_adam(alpha_rate, decay=1e-3), box(0.0, 1.0))
    solver = alternating(_sgd(steps, every), alpha)
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
    Deviates: the products are exact; there the mixed one is a central difference, which also leaves the weights moved
      ("adding noise"). A step is one of the weights, so that as many steps have a T-th of the moves of alpha.
    """
    rate = cosine(0.025, 0.001, steps, every)
    last = lambda step: (step + 1) % inner == 0
    alpha = l2_adam(alpha_rate, decay=1e-3)
    implicit = neumann(terms, rate)
    solver = alternating(_sgd(steps, every), alpha, hypergradient=implicit, when=last, weights_first=True)
    return Strategy(solver=solver)


def _sgd(steps: int, every: int) -> optax.GradientTransformation:
    """What moves the weights of DARTS."""
    return optax.chain(clip_norm(5.0), heavy_ball(cosine(0.025, 0.001, steps, every), momentum=0.9, decay=3e-4))
