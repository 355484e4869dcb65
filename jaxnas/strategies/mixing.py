"""How the candidates of one edge become one output: (operations, their gates, x) -> y.

Where in the river: gates -> logits, at every edge. Knows pure functions, their gates and x; no space, no alpha, no
flax, and not which algorithm it serves.
"""

from collections.abc import Callable, Mapping
from functools import reduce
from operator import add
from typing import NamedTuple

import jax
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

    Reference: Dong and Yang 2019, arXiv:1910.04465, equation 7.
    """

    def mix(ops: Mapping[str, Op], gates: Array, x: Array, key: Array, step: Array) -> Array:
        del key, step
        chosen = gates.argmax()
        # rematerialised, since a switch would fill the residuals of all that did not run with zeros
        return lax.switch(chosen, [jax.checkpoint(op) for op in ops.values()], x, gates[chosen])

    return Mixing(lambda channels: channels, mix)
