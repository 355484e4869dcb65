"""How the candidates of one edge become one output: (operations, their gates, x) -> y.

Where in the river: gates -> logits, at every edge. Knows pure functions, their gates and x; no space, no alpha, no
flax, and not which algorithm it serves.
"""

from collections.abc import Callable, Mapping
from functools import reduce
from itertools import product
from operator import add
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

Op = Callable[[Array, Array], Array]  # (x [B, H, W, C'], gate []) -> gate * y [B, H/s, W/s, C'], parameters inside


class Mixing(NamedTuple):
    """How an edge mixes its candidates."""

    width: Callable[[int], int]  # channels of the edge -> channels C' that a candidate sees
    mix: Callable[[Mapping[str, Op], Array, Array, Array, Array], Array]  # (ops, gates [O'], x, key, step) -> y


def weighted_sum() -> Mixing:
    """The mixed operation of DARTS: y = sum_o g_o op_o(x).

    Reference: Liu et al. 2019, arXiv:1806.09055, equation 2.
    """

    def mix(ops: Mapping[str, Op], gates: Array, x: Array, key: Array, step: Array) -> Array:
        del key, step
        return reduce(add, (op(x, gates[i]) for i, op in enumerate(ops.values())))

    return Mixing(lambda channels: channels, mix)


def sampled() -> Mixing:
    """One candidate only, that with the largest gate: y = g_i op_i(x) with i = argmax g.

    The others are not computed, forward or backward, and get no gradient of their own: alpha learns of them through
    the relaxation that made the gates. Under `vmap` over edges or seeds the switch becomes a selection: the value is
    the same, but every candidate is computed.

    Reference: Dong and Yang 2019 (GDAS), arXiv:1910.04465; D-X-Y/AutoDL-Projects `search_model_gdas_nasnet.py`.
    """

    def mix(ops: Mapping[str, Op], gates: Array, x: Array, key: Array, step: Array) -> Array:
        del key, step
        chosen = gates.argmax()
        # rematerialised, since a switch would fill the residuals of all that did not run with zeros
        return lax.switch(chosen, [jax.checkpoint(op) for op in ops.values()], x, gates[chosen])

    return Mixing(lambda channels: channels, mix)


def opened() -> Mixing:
    """The weighted sum of the candidates whose gate is not 0: y = sum over {o: g_o != 0} of g_o op_o(x).

    The others are not computed and get no gradient, neither they nor their gates. Costs a conditional for each
    candidate; under `vmap` over edges or seeds it becomes a selection, as with `sampled`.
    """

    def mix(ops: Mapping[str, Op], gates: Array, x: Array, key: Array, step: Array) -> Array:
        del key, step
        return reduce(add, (_unless_closed(op, x, gates[i]) for i, op in enumerate(ops.values())))

    return Mixing(lambda channels: channels, mix)


def _unless_closed(op: Op, x: Array, gate: Array) -> Array:
    shape = jax.eval_shape(op, x, gate)
    return lax.cond(gate != 0, jax.checkpoint(op), lambda x, gate: jnp.zeros(shape.shape, shape.dtype), x, gate)


def partial_channels(divisor: int, inner: Mixing | None = None) -> Mixing:
    """The partial connections of PC-DARTS: the first C/K channels are mixed, the others pass by.

        y = shuffle_K([inner(x[..., :C/K]), x[..., C/K:]])

    On strided edges the others are halved by 2x2 maxima. The shuffle spreads the mixed channels: channel g C/K + c of
    the concatenation becomes channel c K + g, so that the next edge mixes others.

    Args:
      divisor: K; must divide the channels of every edge.
      inner: how the first channels are mixed; a weighted sum unless given.

    Raises:
      ValueError: channels that K does not divide, where the supernet is built.

    Reference: Xu et al. 2020, arXiv:1907.05737, equation 2; yuhuixu1993/PC-DARTS `model_search.py`.
    Deviates: like the official code, and unlike the paper, no channels are sampled. Odd sides are halved upwards, as
      all other strided operations do it.
    """
    inner = inner or weighted_sum()

    def width(channels: int) -> int:
        if divisor < 1 or channels % divisor:
            raise ValueError(
                f"partial_channels({divisor}) on an edge with {channels} channels: choose a divisor of {channels}, or "
                f"channels that are a multiple of {divisor}."
            )
        return inner.width(channels // divisor)

    def mix(ops: Mapping[str, Op], gates: Array, x: Array, key: Array, step: Array) -> Array:
        some = x.shape[-1] // divisor
        mixed, rest = inner.mix(ops, gates, x[..., :some], key, step), x[..., some:]
        rest = rest if mixed.shape[1:3] == x.shape[1:3] else _halved(rest)
        y = jnp.concatenate([mixed, rest], -1)
        return y.reshape(*y.shape[:-1], divisor, some).swapaxes(-1, -2).reshape(y.shape)

    return Mixing(width, mix)


def _halved(x: Array) -> Array:
    """2x2 maxima; at ties the first pixel in reading order takes the gradient, as in PyTorch."""
    odd = [(0, side % 2) for side in x.shape[1:3]]
    x = jnp.pad(x, [(0, 0), *odd, (0, 0)], constant_values=-jnp.inf)
    return reduce(lambda a, b: jnp.where(b > a, b, a), (x[:, i::2, j::2] for i, j in product((0, 1), repeat=2)))
