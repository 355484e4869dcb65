"""Two losses, two players: who moves when.

Where in the river: loss -> alpha', weights'. Knows pytrees, optax and a loss for each of two levels; no cell, no
network, no random key, no device.

A search step is a short sequence of moves, each after one pass grad_{w, alpha} L of its level on its batch:

    look     (only where the hypergradient looks ahead)   inner loss, training batch
    alpha    outer loss at the looked-ahead weights        validation batch
    weights  inner loss at the new alpha                   training batch

All passes are one program on different data, so the moves are scanned and the pass is compiled once; under a flag where
a move reads no gradient of the weights (`wanted.py`).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array, lax

from jaxnas.hypergradient import (
    INNER,
    OUTER,
    Alpha,
    Batches,
    BilevelState,
    Grads,
    Hypergradient,
    Metrics,
    Problem,
    Weights,
    first_order,
    global_norm,
    move,
    one_pass,
    stay,
)
from jaxnas.spec import Count, specified
from jaxnas.wanted import weights_wanted


class Solver(NamedTuple):
    """A bilevel optimizer as two pure functions."""

    init: Callable[[Weights, Alpha], BilevelState]
    step: Callable[[Problem, BilevelState, Batches], tuple[BilevelState, Metrics]]
    like: partial["Solver"] | None = None  # makes it: `solver.like(when=always)` is the same one that never rests


def always(step: Array) -> Array:
    """Alpha moves at every step.

    Args:
      step: number of the step, from 0.
    """
    return step >= 0


@specified
def after(steps: int) -> Callable[[Array], Array]:
    """Alpha moves once `steps` steps have passed; until then its moments rest too.

    Args:
      steps: how many alpha rests.
    """
    return lambda step: step >= steps


@specified
def every(steps: Count) -> Callable[[Array], Array]:
    """Alpha moves at each `steps`-th step.

    Args:
      steps: from one move to the next, at least 1.
    """
    return lambda step: step % steps == 0


@specified
def last_of(steps: Count) -> Callable[[Array], Array]:
    """Alpha moves at the last of each so many steps.

    Args:
      steps: of the weights for each of alpha, at least 1.
    """
    return lambda step: (step + 1) % steps == 0


def never(step: Array) -> Array:
    """Alpha rests for the whole search: its pass is compiled, since it is that of the weights, and never run.

    Args:
      step: number of the step, from 0.
    """
    return step < 0


@specified
def alternating(
    weights_tx: optax.GradientTransformation,
    alpha_tx: optax.GradientTransformation,
    *,
    hypergradient: Hypergradient | None = None,
    when: Callable[[Array], Array] = always,
    weights_first: bool = False,
) -> Solver:
    """Alpha moves along the hypergradient, then the weights along grad_w L_inner at the new alpha.

    Args:
      weights_tx, alpha_tx: what turns gradients into steps.
      hypergradient: `first_order()` unless given.
      when: alpha moves at the steps for which this is true; elsewhere neither it nor its moments change and its
        passes are not run.
      weights_first: the weights move first (GDAS).

    Returns:
      A solver. Its metrics are those of the inner loss at the weights' move under "train", and of the outer loss at
      alpha's move under "valid", each with "grad_norm", the norm of the gradient that moves it before any clipping
      (grad_w; the hypergradient), and "moves", 1. Under "valid" all are 0 where alpha rests.

    Reference: Liu et al. 2019, arXiv:1806.09055, algorithm 1.
    """
    hypergradient = hypergradient or first_order()
    looks = hypergradient.lookahead is not stay
    look = _Move(INNER, partial(_look, hypergradient))
    alpha = _Move(OUTER, partial(_move_alpha, hypergradient, alpha_tx), hypergradient.reads_v)
    weights = _Move(INNER, partial(_move_weights, weights_tx))
    of_alpha = (look, alpha) if looks else (alpha,)
    moves = (weights, *of_alpha) if weights_first else (*of_alpha, weights)

    def step(problem: Problem, state: BilevelState, batches: Batches) -> tuple[BilevelState, Metrics]:
        ahead = _Ahead(state.weights, jax.tree.map(jnp.zeros_like, state.weights)) if looks else None
        active = [True if move is weights or when is always else when(state.step) for move in moves]
        (state, _), metrics = _play(problem, moves, active, (state, ahead), batches)
        reported = {"train": metrics[moves.index(weights)], "valid": metrics[moves.index(alpha)]}
        return state._replace(step=state.step + 1), reported

    settings: Any = {"hypergradient": hypergradient, "when": when, "weights_first": weights_first}
    return Solver(partial(_init, weights_tx, alpha_tx), step, partial(alternating, weights_tx, alpha_tx, **settings))


@specified
def joint(weights_tx: optax.GradientTransformation, alpha_tx: optax.GradientTransformation) -> Solver:
    """One loss, one batch, both players at once: the single-level search of SNAS.

    Uses the outer loss (with its penalties) on the training batch. Metrics as in `alternating`, under "train".

    Args:
      weights_tx, alpha_tx: optimizers of the two players.

    Reference: Xie et al. 2019, arXiv:1812.09926, equation 5.
    """

    def step(problem: Problem, state: BilevelState, batches: Batches) -> tuple[BilevelState, Metrics]:
        (_, metrics), grads = one_pass(problem, OUTER, state.weights, state.alpha, batches.train)
        weights, weights_opt = move(weights_tx, grads[0], state.weights_opt, state.weights)
        alpha, alpha_opt = move(alpha_tx, grads[1], state.alpha_opt, state.alpha)
        state = BilevelState(state.step + 1, weights, alpha, weights_opt, alpha_opt)
        return state, {"train": _report(metrics, _norm(grads[0]))}

    return Solver(partial(_init, weights_tx, alpha_tx), step)


class _Ahead(NamedTuple):
    """What a look-ahead leaves behind."""

    weights: Weights  # where the next pass is made
    grads: Grads  # grad_w L_inner at the present weights


class _Move(NamedTuple):
    level: int
    make: Callable[..., Any]  # (problem, batches, (state, ahead), grads) -> (state, ahead), norm of what moves it
    reads_weights: bool = True  # whether it reads grad_w


def _look(hypergradient: Hypergradient, problem, batches, carry, grads):
    state, _ = carry
    weights = hypergradient.lookahead(state.weights, grads[0], state.weights_opt)
    return (state, _Ahead(weights, grads[0])), _norm(grads[0])


def _move_alpha(hypergradient: Hypergradient, tx, problem, batches, carry, grads):
    state, ahead = carry
    v, direct = grads
    indirect = hypergradient.indirect(problem, state, batches, ahead and ahead.grads, v)
    whole = optax.tree.add(direct, indirect)
    alpha, opt = move(tx, whole, state.alpha_opt, state.alpha)
    state = state._replace(alpha=alpha, alpha_opt=opt)
    return (state, ahead and ahead._replace(weights=state.weights)), _norm(whole)


def _move_weights(tx, problem, batches, carry, grads):
    state, ahead = carry
    weights, opt = move(tx, grads[0], state.weights_opt, state.weights)
    state = state._replace(weights=weights, weights_opt=opt)
    return (state, ahead and ahead._replace(weights=weights)), _norm(grads[0])


def _play(problem: Problem, moves: tuple[_Move, ...], active: list, carry, batches: Batches):
    """Makes the moves in order: ((state, ahead), [metrics of each move]).

    Batches of one shape are stacked and the moves scanned, so that the pass is compiled once, unless the problem wants
    each written out: then a move that reads no gradient of the weights computes none.
    """
    levels = [move.level for move in moves]
    data = [batches.valid if level == OUTER else batches.train for level in levels]
    made = [partial(move.make, problem, batches) for move in moves]
    if not problem.one_program or len({_shapes(batch) for batch in data}) > 1:
        metrics = []
        for level, batch, on, make in zip(levels, data, active, made, strict=True):
            carry, seen = _one_move(problem, level, batch, on, (), make, carry)
            metrics.append(seen)
        return carry, metrics

    def body(carry, xs):
        index, level, batch, on, wanted = xs
        if all(flag is True for flag in active):
            on = True
        return _one_move(problem, level, batch, on, wanted, lambda c, g: lax.switch(index, made, c, g), carry)

    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *data)
    on = jnp.stack([jnp.asarray(flag) for flag in active])
    reads = [move.reads_weights for move in moves]
    wanted = () if all(reads) else (jnp.array(reads),)
    carry, metrics = lax.scan(body, carry, (jnp.arange(len(moves)), jnp.array(levels), stacked, on, wanted))
    return carry, [jax.tree.map(lambda x, i=i: x[i], metrics) for i in range(len(moves))]


def _one_move(problem: Problem, level, batch, on, wanted: tuple[Array, ...], make: Callable, carry):
    def run(carry):
        state, ahead = carry
        at = ahead.weights if ahead else state.weights
        with weights_wanted(*wanted):
            (_, metrics), grads = one_pass(problem, level, at, state.alpha, batch)
        carry, norm = make(carry, grads)
        return carry, _report(metrics, norm)

    if on is True:
        return run(carry)
    state, _ = carry
    measured = lambda state: _report(problem.loss(level, state.weights, state.alpha, batch)[1], jnp.zeros(()))
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(measured, state))
    return lax.cond(on, run, lambda carry: (carry, zeros), carry)


def _norm(grads: Grads | Alpha) -> Array:
    """In one type, whoever moves."""
    return global_norm(grads).astype(float)


def _report(metrics: Metrics, norm: Array) -> Metrics:
    return {**metrics, "grad_norm": norm, "moves": jnp.ones_like(norm)}


def _init(weights_tx, alpha_tx, weights: Weights, alpha: Alpha) -> BilevelState:
    return BilevelState(jnp.zeros((), jnp.int32), weights, alpha, weights_tx.init(weights), alpha_tx.init(alpha))


def _shapes(tree) -> tuple:
    return jax.tree.structure(tree), tuple((jnp.shape(x), jnp.result_type(x)) for x in jax.tree.leaves(tree))
