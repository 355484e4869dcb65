"""The table: every algorithm is a row that names its arrows.

Where in the river: the map. Knows the constructors of the slots and optax; no space, data set or device, and of time
only steps.
"""

from collections.abc import Callable
from typing import Any

import optax

from jaxnas.bilevel import after, alternating
from jaxnas.hypergradient import Hypergradient, Lookahead, through, unrolled
from jaxnas.strategies.mixing import dropped_path, partial_channels
from jaxnas.strategies.optimizers import clip_norm, cosine, heavy_ball, l2_adam, ramp
from jaxnas.strategies.relaxation import edge_normalized, softmax
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
    Deviates: second order is exact unless `finite_difference` is asked for. The look-ahead has momentum and decay, and
      no clipping, like the official one.

    >>> darts(100).replace(relaxation=edge_normalized(softmax())).mixing.width(16)
    16
    """
    sgd = heavy_ball(cosine(0.025, 0.001, steps, every), momentum=0.9, decay=decay)
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


def r_darts_l2(steps: int, decay: float = 81e-4, **settings: Any) -> Strategy:
    """R-DARTS (L2), one point of its grid: DARTS whose weights decay more, so that alpha's optimum is flatter.

        L_train(w, alpha) + decay/2 |w|^2

    Args:
      steps: length of the search.
      decay: of the weights; the grid is 3e-4 (DARTS itself), 9e-4, 27e-4, 81e-4, 243e-4, of which `robust.grid` picks.
      settings: of `darts`.

    Reference: Zela et al. 2020, arXiv:1909.09656, section 5.2; automl/RobustDARTS `scripts/start_search.sh`.
    """
    return darts(steps, decay=decay, **settings)


def r_darts_drop_path(steps: int, rate: float = 0.2, *, every: int = 1, **settings: Any) -> Strategy:
    """R-DARTS (DP), one point of its grid: DARTS whose edges are dropped more and more often.

        y = m inner(x) / (1 - p),    m ~ Bernoulli(1 - p),    p = rate * e / (E - 1) in the e-th of E epochs

    Args:
      steps, every: length of the search and of an epoch; without `every` the rate rises at each step.
      rate: at the end; the grid is 0, 0.2, 0.4, 0.6.
      settings: of `darts`.

    Reference: Zela et al. 2020, arXiv:1909.09656, section 5.1; automl/RobustDARTS `src/search/train_search.py`.
    Deviates: the official code ramps the probability of cutout alongside; augmentation does not know the step here.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"r_darts_drop_path(rate={rate}): give a probability from 0 to below 1, such as 0.2.")
    row = darts(steps, every=every, **settings)
    return row.replace(mixing=dropped_path(row.mixing, ramp(rate, steps, every)))
