"""The table: every algorithm is a row that names its arrows.

Where in the river: the map. A `Strategy` is plain data; `strategy.replace(slot=...)` is the whole language of
composition. Knows the constructors of the slots and optax; no space, data set or device, and of time only steps.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxnas.bilevel import Solver, after, alternating
from jaxnas.hypergradient import Hypergradient, Lookahead, through, unrolled
from jaxnas.strategies.decoding import Decode, top_edges
from jaxnas.strategies.mixing import Mixing, partial_channels, weighted_sum
from jaxnas.strategies.penalty import Penalty, no_penalty
from jaxnas.strategies.relaxation import Relaxation, edge_normalized, softmax


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strategy:
    """One row of the table: how an architecture is searched."""

    solver: Solver  # loss -> alpha', weights'
    relaxation: Relaxation = dataclasses.field(default_factory=softmax)  # alpha -> gates
    mixing: Mixing = dataclasses.field(default_factory=weighted_sum)  # gates -> output of an edge
    penalty: Penalty = dataclasses.field(default_factory=no_penalty)  # gates -> extra loss
    decode: Decode = dataclasses.field(default_factory=top_edges)  # scores -> genotype

    def replace(self, **slots) -> "Strategy":
        """The same strategy with some slots filled differently."""
        return dataclasses.replace(self, **slots)


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

    >>> darts(100).replace(decode=top_edges(1)).solver == darts(100).solver
    False
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


def cosine(start: float, end: float, steps: int, every: int = 1) -> optax.Schedule:
    """Cosine decay in stairs: end + (start - end) (1 + cos(pi e / E)) / 2 with e = step // every, E = steps / every.

    Reference: Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5. With `every` one epoch, the values that the
      official codes had with the torch of their day; newer torch shifts them by one epoch.
    """
    if steps < 1 or every < 1:
        raise ValueError(f"cosine over steps={steps}, held for every={every}: both must be at least 1.")
    curve = optax.cosine_decay_schedule(start - end, max(1, -(-steps // every)))
    return lambda step: end + curve(step // every)


def heavy_ball(rate: optax.ScalarOrSchedule, momentum: float, decay: float) -> optax.GradientTransformation:
    """SGD as torch has it: L2 decay in the gradient, buffer = momentum * buffer + gradient, step -rate * buffer."""
    return optax.chain(optax.add_decayed_weights(decay), optax.sgd(rate, momentum))


def l2_adam(rate: optax.ScalarOrSchedule, decay: float, b1: float = 0.5) -> optax.GradientTransformation:
    """Adam with L2 decay in the gradient, as torch has it: not AdamW, so alpha shrinks where its gradient is zero."""
    return optax.chain(optax.add_decayed_weights(decay), optax.adam(rate, b1=b1, b2=0.999, eps=1e-8))


def clip_norm(limit: float) -> optax.GradientTransformation:
    """Scales all gradients by min(1, limit / (norm + 1e-6)): torch's clip, whose 1e-6 optax does not have."""

    def update(updates, params=None):
        del params
        scale = jnp.minimum(1.0, limit / (optax.tree.norm(updates) + 1e-6))
        return jax.tree.map(lambda g: g * scale.astype(g.dtype), updates)

    return optax.stateless(update)
