"""The table: every algorithm is a row that names its arrows.

Where in the river: the map. Knows the constructors of the slots and optax; no space, data set or device, and of time
only steps.
"""

from collections.abc import Callable

import optax

from jaxnas.bilevel import after, alternating
from jaxnas.hypergradient import Hypergradient, Lookahead, through, unrolled
from jaxnas.strategies.decoding import top_pairs
from jaxnas.strategies.mixing import Mixing, partial_channels, selected_only
from jaxnas.strategies.optimizers import clip_norm, cosine, heavy_ball, l2_adam, linear, nesterov
from jaxnas.strategies.relaxation import edge_normalized, gumbel_hard, softmax
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
    Deviates: the clip sees weights only; the official one counts alpha's gradient in, that of the move before included.
    """
    sgd = nesterov(cosine(0.025, 0.001, steps, every), momentum=0.9, decay=5e-4)
    solver = alternating(optax.chain(clip_norm(5.0), sgd), l2_adam(alpha_rate, decay=1e-3), weights_first=True)
    relaxation = gumbel_hard(linear(10.0, 0.1, steps, every))
    return Strategy(solver=solver, relaxation=relaxation, mixing=convention(), decode=top_pairs(2))
