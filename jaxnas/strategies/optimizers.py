"""Optimizers and schedules with the mathematics of the official codes, as optax transformations.

Where in the river: inside the last arrow, gradient -> step. Knows optax and steps; nothing of what is optimised.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxnas.hypergradient import global_norm
from jaxnas.spec import Count, Decay, Positive, specified


@specified
def cosine(start: float, end: float, steps: Count, every: Count = 1) -> optax.Schedule:
    """Cosine decay in stairs: end + (start - end) (1 + cos(pi e / E)) / 2 with e = step // every, E = steps / every.

    Reference: Loshchilov and Hutter 2017, arXiv:1608.03983, equation 5. With `every` one epoch, the values that the
      official codes had with the torch of their day; newer torch shifts them by one epoch.
    """
    curve = optax.cosine_decay_schedule(start - end, _epochs("cosine", steps, every))
    return lambda step: end + curve(step // every)


@specified
def linear(start: float, end: float, steps: Count, every: Count = 1) -> optax.Schedule:
    """A straight line in stairs: start + (end - start) e / (E - 1) with e = step // every, E = steps / every.

    The last stair is `end`, as in the official code of GDAS (`exps/NAS-Bench-201-algos/GDAS.py`).
    """
    line = optax.linear_schedule(start, end, max(1, _epochs("linear", steps, every) - 1))
    return lambda step: line(jnp.asarray(step // every, jnp.result_type(float)))


@specified
def annealed(start: float, end: float, steps: Count, every: Count = 1) -> optax.Schedule:
    """Line in stairs, one stair ahead: start + (end - start) (e + 1) / E with e = step // every, E = steps / every.

    Reference: SNAS-Series/SNAS-Series `SNAS/utils.py`, where E is always 150; it steps before its first epoch.
    """
    epochs = _epochs("annealed", steps, every)
    done = lambda step: jnp.minimum(step // every + 1, epochs).astype(jnp.result_type(float)) / epochs
    return lambda step: start + (end - start) * done(step)


@specified
def rising(end: float, start: float, steps: Count, every: Count = 1) -> optax.Schedule:
    """`linear`, named by where it arrives.

    Args:
      end, start: on the last stair, and on the first.
      steps, every: as there.
    """
    return linear(start, end, steps, every)


@specified
def ramp(end: float, start: float, steps: Count, every: Count = 1) -> optax.Schedule:
    """A line in stairs that has not quite arrived: start + (end - start) e / E with e = step // every.

    Reference: xiangning-chen/SmoothDARTS `sota/cnn/train_search.py`, its radius.
    """
    line = optax.linear_schedule(start, end, _epochs("ramp", steps, every))
    return lambda step: line(step // every)


@specified
def two_phase(rate: float, steps: Count, rest: int, every: Count = 1) -> optax.Schedule:
    """A dropout that falls twice: along a line while alpha rests, then from the full rate again, exponentially.

        p = rate (E - e - 1) / E      for e < R        with e = step // every, E = steps / every, R = rest / every
        p = rate exp(-0.2 (e - R))    from R on

    Args:
      rate: at least 0 and below 1.
      steps: length of the stage.
      rest: steps of the first phase.
      every: steps in an epoch.

    Reference: Chen et al. 2019, arXiv:1904.12760; chenxin061/pdarts `train_search.py` (E = 25, R = 10).
    """
    if not 0 <= rate < 1 or steps < 1 or every < 1:
        raise ValueError(f"two_phase({rate}, {steps}, every={every}): give a rate in [0, 1), steps and every above 0.")
    epochs = -(-steps // every)

    def schedule(step):
        passed = lambda since: (jnp.asarray(step - since) // every).astype(jnp.result_type(float))
        line, fall = (epochs - passed(0) - 1) / epochs, jnp.exp(-0.2 * passed(rest))
        return rate * jnp.where(step < rest, line, fall)

    return schedule


@specified
def linear_with_tail(rate: float, epochs: int, tail: int = 5) -> optax.Schedule:
    """Linear decay by epoch, its last value spread over a tail: ImageNet networks of P-DARTS and PC-DARTS.

        rate (E - T - e) / (E - T)    while more than T epochs are left, then    rate (E - e) / (T (E - T))

    Args:
      rate: at the first epoch.
      epochs: E; more than the tail.
      tail: T.

    Reference: chenxin061/pdarts `train_imagenet.py`.
    """
    if epochs <= tail:
        raise ValueError(f"epochs={epochs}: give more than the {tail} of the tail.")
    left = lambda epoch: epochs - epoch
    most = lambda epoch: jnp.where(left(epoch) > tail, left(epoch) - tail, left(epoch) / tail)
    return lambda epoch: rate * most(epoch) / (epochs - tail)


@specified
def stairs(by_epoch: optax.Schedule, every: Count) -> optax.Schedule:
    """A schedule of whole epochs, read at steps: by_epoch(step // every), with `every` the steps of an epoch."""
    return lambda step: by_epoch(step // every)


@specified
def warmed_up(schedule: optax.Schedule, every: Count, warmup: Count = 5) -> optax.Schedule:
    """The first epochs at a fraction of the rate: schedule(step) * min(1, (e + 1) / warmup) with e = step // every.

    Reference: yuhuixu1993/PC-DARTS `train_search_imagenet.py`, for batches above 256.
    """
    return lambda step: schedule(step) * jnp.minimum(1.0, (step // every + 1) / warmup)


def _epochs(what: str, steps: int, every: int) -> int:
    """Epochs of `every` steps in a search of so many, the last one perhaps cut short."""
    if steps < 1 or every < 1:
        raise ValueError(f"{what} over steps={steps}, held for every={every}: both must be at least 1.")
    return -(-steps // every)


@specified
def heavy_ball(rate: optax.ScalarOrSchedule, momentum: Decay, decay: float) -> optax.GradientTransformation:
    """SGD as torch has it: L2 decay in the gradient, buffer = momentum * buffer + gradient, step -rate * buffer."""
    return optax.chain(optax.add_decayed_weights(decay), optax.sgd(rate, momentum))


@specified
def nesterov(rate: optax.ScalarOrSchedule, momentum: Decay, decay: float) -> optax.GradientTransformation:
    """`heavy_ball` that looks ahead, as torch has it: step -rate * (gradient + momentum * buffer)."""
    return optax.chain(optax.add_decayed_weights(decay), optax.sgd(rate, momentum, nesterov=True))


@specified
def chain(*parts: optax.GradientTransformation) -> optax.GradientTransformation:
    """One transformation after the other, as `optax.chain`."""
    return optax.chain(*parts)


def clipped_sgd(start: float, end: float, steps: int, every: int) -> optax.GradientTransformation:
    """What moves the weights in most rows: clipped at 5, momentum 0.9, decay 3e-4, a cosine from start to end."""
    return chain(clip_norm(5.0), heavy_ball(cosine(start, end, steps, every), momentum=0.9, decay=3e-4))


@specified
def l2_adam(
    rate: optax.ScalarOrSchedule,
    decay: float = 1e-3,
    beta1: Decay = 0.5,
    beta2: Decay = 0.999,
    eps: Positive = 1e-8,
) -> optax.GradientTransformation:
    """Adam with L2 decay in the gradient, as torch has it: not AdamW, so alpha shrinks where its gradient is zero."""
    return optax.chain(optax.add_decayed_weights(decay), optax.adam(rate, b1=beta1, b2=beta2, eps=eps))


@specified
def exponentiated_gradient(rate: float, floor: float = 1e-5) -> optax.GradientTransformation:
    """Mirror descent on simplices, one for each row (last axis) of the parameters:  p <- p exp(-rate g), normalised.

    Args:
      rate: learning rate.
      floor: smallest entry before the sum is taken; entries that are 0 stay 0.

    Reference: Kivinen and Warmuth 1997; Li et al. 2021 (GAEA), arXiv:2004.07802, algorithm 1; liamcli/gaea_release
      `architect_edarts.py`.
    """

    def step(g: jax.Array, p: jax.Array) -> jax.Array:
        raw = jnp.where(p > 0, jnp.maximum(p * jnp.exp(-rate * g), floor), 0)
        return raw / raw.sum(-1, keepdims=True) - p

    return optax.stateless(lambda updates, params=None: jax.tree.map(step, updates, params))


@specified
def plus_gradient(of: Callable[[optax.Params], jax.Array], weight: float) -> optax.GradientTransformation:
    """Adds weight times the gradient of a function of the parameters alone, as L2 decay does for half their square."""

    def update(updates, params=None):
        return jax.tree.map(lambda u, g: u + weight * g, updates, jax.grad(of)(params))

    return optax.stateless(update)


@specified
def box(low: float, high: float) -> optax.GradientTransformation:
    """Shortens each step so that parameters stay between two bounds: the last of a chain."""

    def update(updates, params):
        return jax.tree.map(lambda u, p: jnp.clip(p + u, low, high) - p, updates, params)

    return optax.stateless(update)


@specified
def clip_norm(clip: Positive) -> optax.GradientTransformation:
    """Scales all gradients by min(1, clip / (norm + 1e-6)): torch's clip, whose 1e-6 optax does not have."""

    def update(updates, params=None):
        del params
        scale = jnp.minimum(1.0, clip / (global_norm(updates) + 1e-6))
        return jax.tree.map(lambda g: g * scale.astype(g.dtype), updates)

    return optax.stateless(update)
