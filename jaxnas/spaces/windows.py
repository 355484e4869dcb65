"""Shifted views of padded images, and computations that XLA fuses with nothing: what fast kernels on CPU are made of.

Where in the river: under depthwise convolutions, pools and gates. Knows images; no kernel, no gate.
"""

from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.experimental.xla_metadata import set_xla_metadata


def alone(*options: str) -> Callable[[Callable], Callable]:
    """Makes a function a call that XLA does not inline, and so fuses with nothing; equal calls are one in StableHLO.

    The function must be written in `lax`: whatever is itself a jitted function, such as `jnp.where`, would become a
    call of its own too.

    Args:
      options: names of its arguments that are no arrays.
    """

    def decorate(function: Callable) -> Callable:
        jitted = jax.jit(function, static_argnames=options)

        def call(*args, **settings):
            with set_xla_metadata(inlineable="false"):
                return jitted(*args, **settings)

        return call

    return decorate


def padded(x: Array, pad: int, value: float = 0, *, spread: int = 1, sides: Sequence[int] | None = None) -> Array:
    """Images with a constant around them and, to undo a stride, between their pixels.

    Args:
      x: images, [..., H, W, C].
      pad: pixels on each side, down and across.
      value: what stands there.
      spread: steps from one pixel to the next.
      sides: height and width to fill up to before padding; what the pixels span unless given.

    Returns:
      Images with sides `sides` + 2 `pad`.
    """
    spans = [(side - 1) * spread + 1 for side in x.shape[-3:-1]]
    inside = [(pad, pad + full - span, spread - 1) for full, span in zip(sides or spans, spans, strict=True)]
    return lax.pad(x, jnp.asarray(value, x.dtype), [(0, 0, 0)] * (x.ndim - 3) + inside + [(0, 0, 0)])


def taps(images: Array, size: int, stride: int = 1, dilation: int = 1) -> Iterator[Array]:
    """The K*K shifted (and strided) views of padded images, row by row.

    Args:
      images: padded, [..., H, W, C].
      size: K.
      stride: pixels between outputs.
      dilation: pixels between the taps of a window.
    """
    height, width = (side - (size - 1) * dilation for side in images.shape[-3:-1])
    for i in range(0, size * dilation, dilation):
        for j in range(0, size * dilation, dilation):
            yield images[..., i : i + height : stride, j : j + width : stride, :]
