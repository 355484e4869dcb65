"""How the candidates of one edge become one output: (operations, their gates, x) -> y.

Where in the river: gates -> logits, at every edge. Knows pure functions, their gates and x; no space, no alpha, no
flax, and not which algorithm it serves.
"""

from collections.abc import Callable, Mapping
from functools import partial, reduce
from itertools import product
from operator import add
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax

from jaxnas.spec import Count, Rate, specified

Op = Callable[[Array, Array], Array]  # (x [B, H, W, C'], gate []) -> gate * y [B, H/s, W/s, C'], parameters inside


Mix = Callable[[Mapping[str, Op], Array, Array, Array, Array], Array]  # (ops, gates [O'], x, key, step) -> y


class Mixing(NamedTuple):
    """How an edge mixes its candidates."""

    width: Callable[[int], int]  # channels of the edge -> channels C' that a candidate sees
    mix: Mix
    all_computed: Mix | None = None  # the same where all candidates are computed anyway, as of edges side by side

    @property
    def mix_all(self) -> Mix:
        """`mix` for edges side by side, which share each candidate's program: no conditionals."""
        return self.all_computed or self.mix


def _inside(inner: Mixing, width: Callable[[int], int], around: Callable[[Mixing], Mix]) -> Mixing:
    """A mixing around another one, in both of its forms."""
    return Mixing(width, around(inner), around(inner._replace(mix=inner.mix_all)))


def _closing(opens: Callable[[Array], Array]) -> Mix:
    """The weighted sum of the candidates whose gates `opens` lets through: the others count 0, and so do their slopes.

    All are computed. An operation that is not let through must be finite.
    """

    def mix(ops: Mapping[str, Op], gates: Array, x: Array, key: Array, step: Array) -> Array:
        return weighted_sum().mix(ops, jnp.where(opens(gates), gates, 0), x, key, step)

    return mix


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
    the same, but every candidate is computed. Edges side by side (`layout.side_by_side`) compute every
    candidate too, and multiply those that are not chosen by 0: one that gives NaN or infinity spoils their sum.

    Reference: Dong and Yang 2019 (GDAS), arXiv:1910.04465; D-X-Y/AutoDL-Projects `search_model_gdas_nasnet.py`.
    """

    def mix(ops: Mapping[str, Op], gates: Array, x: Array, key: Array, step: Array) -> Array:
        del key, step
        chosen = gates.argmax()
        # rematerialised, since a switch would fill the residuals of all that did not run with zeros
        return lax.switch(chosen, [jax.checkpoint(op) for op in ops.values()], x, gates[chosen])

    largest = lambda gates: jnp.arange(gates.size) == gates.argmax()
    return Mixing(lambda channels: channels, mix, _closing(largest))


def opened() -> Mixing:
    """The weighted sum of the candidates whose gate is not 0: y = sum over {o: g_o != 0} of g_o op_o(x).

    The others are not computed and get no gradient, neither they nor their gates. Costs a conditional for each
    candidate; under `vmap` over edges or seeds it becomes a selection, as with `sampled`. Edges side by side compute
    all, which must be finite, as there.
    """

    def mix(ops: Mapping[str, Op], gates: Array, x: Array, key: Array, step: Array) -> Array:
        del key, step
        return reduce(add, (_unless_closed(op, x, gates[i]) for i, op in enumerate(ops.values())))

    return Mixing(lambda channels: channels, mix, _closing(lambda gates: gates != 0))


def _unless_closed(op: Op, x: Array, gate: Array) -> Array:
    shape = jax.eval_shape(op, x, gate)
    return lax.cond(gate != 0, jax.checkpoint(op), lambda x, gate: jnp.zeros(shape.shape, shape.dtype), x, gate)


def selected_only() -> Mixing:
    """Gradient of hard gates, first convention: the gate of the chosen operation alone; `sampled` by its name in GDAS.

        dL/dg_i = <dL/dy, op_i(x)>,    dL/dg_o = 0 for all others

    Reference: AutoDL-Projects `search_cells.py`, `MixedOp.forward_gdas` (the NASNet space).
    """
    return sampled()


def broadcast() -> Mixing:
    """Gradient of hard gates, second convention: the other gates are added to every pixel, as the zeros they are.

        y = g_i op_i(x) + sum of the other g_o,    so that dL/dg_o = sum(dL/dy) whatever op_o is

    Reference: AutoDL-Projects `search_cells.py`, `NAS201SearchCell.forward_gdas` (NAS-Bench-201).
    """
    one = sampled()

    def around(one: Mixing) -> Mix:
        def mix(ops: Mapping[str, Op], gates: Array, x: Array, key: Array, step: Array) -> Array:
            y = one.mix(ops, gates, x, key, step)
            others = jnp.where(jnp.arange(gates.size) == gates.argmax(), 0, gates).sum()
            return y + others.astype(y.dtype)

        return mix

    return _inside(one, one.width, around)


def straight_through() -> Mixing:
    """Gradient of hard gates, third convention: dL/dg_o = <dL/dy, op_o(x)> for all, so that all operations run.

    Reference: Bengio, Leonard, Courville 2013, arXiv:1308.3432. No official code of GDAS does so.
    """
    return weighted_sum()


Part = Callable[[Array, Array, int], Array | int]  # (key, step, K) -> which of K parts of the channels is mixed


def first_part(key: Array, step: Array, parts: int) -> int:
    """The first channels, always: the official PC-DARTS.

    Args:
      key, step: not used.
      parts: how many parts the channels have.
    """
    del key, step, parts
    return 0


def random_part(key: Array, step: Array, parts: int) -> Array:
    """A part drawn anew for every edge at every pass: nearest to the paper's sampled mask. Our variant.

    Args:
      key: of the edge and the pass.
      step: not used.
      parts: how many parts the channels have.
    """
    del step
    return jax.random.randint(key, (), 0, parts)


def rotating_part(key: Array, step: Array, parts: int) -> Array:
    """The parts in turn, one for each step. Our variant.

    Args:
      key: not used.
      step: number of the step, from 0.
      parts: how many parts the channels have.
    """
    del key
    return step % parts


@specified
def partial_channels(divisor: Count, inner: Mixing | None = None, part: Part = first_part) -> Mixing:
    """The partial connections of PC-DARTS: C/K channels are mixed, the others pass by.

        y = shuffle_K([inner(x[..., :C/K]), x[..., C/K:]])    for the first part; another one is mixed in its place

    On strided edges the others are halved by 2x2 maxima. The shuffle spreads the mixed channels: channel g C/K + c of
    the concatenation becomes channel c K + g, so that the next edge mixes others.

    Args:
      divisor: K; must divide the channels of every edge.
      inner: how these channels are mixed; a weighted sum unless given.
      part: which of the K parts; `first_part` (official), `random_part` or `rotating_part`.

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

    def around(inner: Mixing) -> Mix:
        def mix(ops: Mapping[str, Op], gates: Array, x: Array, key: Array, step: Array) -> Array:
            some = x.shape[-1] // divisor
            behind = part(jax.random.fold_in(key, divisor), step, divisor) * some
            x = _rolled(x, -behind)
            mixed, rest = inner.mix(ops, gates, x[..., :some], key, step), x[..., some:]
            rest = rest if mixed.shape[1:3] == x.shape[1:3] else _halved(rest)
            y = _rolled(jnp.concatenate([mixed, rest], -1), behind)
            return y.reshape(*y.shape[:-1], divisor, some).swapaxes(-1, -2).reshape(y.shape)

        return mix

    return _inside(inner, width, around)


def _rolled(x: Array, by: Array | int) -> Array:
    """Channels turned by so many places; nothing to do for the literal 0."""
    return x if isinstance(by, int) and by == 0 else jnp.roll(x, by, -1)


@specified
def dropped_skip(rate: Rate, inner: Mixing | None = None, op: str = "skip_connect") -> Mixing:
    """Elementwise dropout behind the skips that keep the size of their input; strided ones pass whole.

        skip(x)  ->  m skip(x) / (1 - p),    m ~ Bernoulli(1 - p) for each number,    p = rate(step)

    Args:
      rate: p >= 0 and below 1 at every step, as a schedule.
      inner: how the candidates are mixed; a weighted sum unless given.
      op: name of the skip.

    Reference: Chen et al. 2019 (P-DARTS), arXiv:1904.12760, section 3.3; chenxin061/pdarts `model_search.py`.
    """
    inner = inner or weighted_sum()

    def around(inner: Mixing) -> Mix:
        def mix(ops: Mapping[str, Op], gates: Array, x: Array, key: Array, step: Array) -> Array:
            p = jnp.asarray(rate(step), jnp.result_type(float))
            drop = partial(_drop, p, jax.random.fold_in(key, 1))
            wrapped = {name: partial(drop, apply) if name == op else apply for name, apply in ops.items()}
            return inner.mix(wrapped, gates, x, key, step)

        return mix

    return _inside(inner, inner.width, around)


def _drop(p: Array, key: Array, apply: Op, x: Array, gate: Array) -> Array:
    y = apply(x, gate)
    if y.shape != x.shape:
        return y
    return jnp.where(jax.random.bernoulli(key, 1 - p, y.shape), y / (1 - p).astype(y.dtype), 0)


@specified
def dropped_path(rate: Rate, inner: Mixing | None = None) -> Mixing:
    """Drops the output of the edge, image by image:  y = m / (1 - p) inner(x),  m ~ Bernoulli(1 - p) for each image.

    Args:
      rate: step -> p, from 0 to 1.
      inner: how the candidates are mixed; a weighted sum unless given.

    Reference: Larsson et al. 2017, arXiv:1605.07648; quark0/darts `cnn/utils.py`. As the supernet of SNAS does it, on
      every edge.
    """
    inner = inner or weighted_sum()

    def around(inner: Mixing) -> Mix:
        def mix(ops: Mapping[str, Op], gates: Array, x: Array, key: Array, step: Array) -> Array:
            key_inner, key_kept = jax.random.split(key)
            y, keep = inner.mix(ops, gates, x, key_inner, step), 1 - jnp.asarray(rate(step))
            kept = jax.random.bernoulli(key_kept, keep, (x.shape[0], 1, 1, 1))
            return y * jnp.where(kept, 1 / keep, 0).astype(y.dtype)

        return mix

    return _inside(inner, inner.width, around)


def _halved(x: Array) -> Array:
    """2x2 maxima; at ties the first pixel in reading order takes the gradient, as in PyTorch."""
    odd = [(0, side % 2) for side in x.shape[1:3]]
    x = jnp.pad(x, [(0, 0), *odd, (0, 0)], constant_values=-jnp.inf)
    return reduce(lambda a, b: jnp.where(b > a, b, a), (x[:, i::2, j::2] for i, j in product((0, 1), repeat=2)))
