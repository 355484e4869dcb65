"""Optimizers and schedules with the mathematics of the official codes, as optax transformations.

Where in the river: inside the last arrow, gradient -> step. Knows optax and steps; nothing of what is optimised.
"""

import jax
import jax.numpy as jnp
import optax


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


def box(low: float, high: float) -> optax.GradientTransformation:
    """Shortens each step so that parameters stay between two bounds: the last of a chain."""

    def update(updates, params):
        return jax.tree.map(lambda u, p: jnp.clip(p + u, low, high) - p, updates, params)

    return optax.stateless(update)


def clip_norm(limit: float) -> optax.GradientTransformation:
    """Scales all gradients by min(1, limit / (norm + 1e-6)): torch's clip, whose 1e-6 optax does not have."""

    def update(updates, params=None):
        del params
        scale = jnp.minimum(1.0, limit / (optax.tree.norm(updates) + 1e-6))
        return jax.tree.map(lambda g: g * scale.astype(g.dtype), updates)

    return optax.stateless(update)
