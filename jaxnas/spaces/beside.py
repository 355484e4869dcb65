"""ReLU, zeros and joined channels whose cases stand beside the channels, [B, H, W, n, C], and stay there.

Where in the river: inside candidates. Knows images; no gate, no kernel.

JAX's rules of batching move the axis of `vmap` to the front for a selection from zeros, a sum with an array that has no
such axis, and a concatenation, and so transpose all images. Elsewhere than under such a `vmap` these are what they say.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxnas.spaces.bilinear import is_beside
from jaxnas.spaces.sums import over_pixels


def relu(x: Array) -> Array:
    """max(x, 0), whose slope at 0 is 0.

    Args:
      x: images.
    """
    return _relu(x) if is_beside() else nn.relu(x)


@jax.custom_jvp
def _relu(x: Array) -> Array:
    """Its tangent is a product, not a selection."""
    return jnp.maximum(x, 0)


_relu.defjvps(lambda dx, y, x: dx * (x > 0).astype(x.dtype))


def zeros(like: Array, gate: Array | float) -> Array:
    """Zeros whatever the gate is: a product would be a pass over them, and its gradient another.

    Args:
      like: images of their shape and type.
      gate: []; each case has its own, which gives the zeros of each case.
    """
    if not is_beside():
        return jnp.zeros_like(like)
    return over_pixels(jnp.broadcast_to(lax.stop_gradient(gate) * 0, like.shape[-1:]), like)


def joined(first: Array, second: Array) -> Array:
    """Channels of two images of one size, one after the other.

    Args:
      first, second: images, [B, H, W, C] and [B, H, W, D].
    """
    if not is_beside():
        return jnp.concatenate([first, second], -1)
    pad = lambda x, *around: jnp.pad(x, [(0, 0)] * 3 + [around])
    return pad(first, 0, second.shape[-1]) + pad(second, first.shape[-1], 0)
