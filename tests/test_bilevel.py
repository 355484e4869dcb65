"""Solvers against the same moves made by hand, and one search run to its known end. No cell, no flax."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from problems import A, H, M, T, close, moved, quadratic, stack

from jaxnas.bilevel import after, alternating, always, every, joint
from jaxnas.hypergradient import (
    INNER,
    OUTER,
    Batches,
    BilevelState,
    Problem,
    conjugate_gradient,
    finite_difference,
    first_order,
    gradient,
    neumann,
    through,
    two_losses,
    unrolled,
)
from jaxnas.strategies.optimizers import heavy_ball

SGD, ADAM = heavy_ball(0.1, 0.9, 0.01), optax.adam(0.05, b1=0.5)
LOOK = through(SGD)


def _loss(level, weights, alpha, batch):
    """A line through softly gated features; alpha is penalised on the outer level only."""
    x, y = batch
    error = x @ (weights["slope"] * jax.nn.sigmoid(alpha)) + weights["offset"] - y
    loss = jnp.mean(jnp.square(error))
    return loss + jnp.where(level == OUTER, 0.1, 0.0) * jnp.sum(jnp.square(alpha)), {"error": jnp.mean(abs(error))}


PROBLEM = Problem(_loss)


def _batch(seed, rows=4):
    draw = np.random.default_rng(seed).standard_normal
    return jnp.asarray(draw((rows, 3))), jnp.asarray(draw(rows))


def _batches(seed=0):
    return Batches(_batch(2 * seed), _batch(2 * seed + 1))


def _twice(batches):
    """Every validation row twice: another shape, the same mean."""
    return batches._replace(valid=jax.tree.map(lambda x: jnp.concatenate([x, x]), batches.valid))


def _start(seed=0):
    draw = np.random.default_rng(100 + seed).standard_normal
    return {"slope": jnp.asarray(draw(3)), "offset": jnp.asarray(draw())}, jnp.asarray(draw(3))


@partial(jax.jit, static_argnums=0)
def _grads(level, weights, alpha, batch):
    return jax.value_and_grad(_loss, (1, 2), has_aux=True)(level, weights, alpha, batch)


_hypergradient = jax.jit(gradient, static_argnums=(0, 1))


def _metrics(found, grad):
    norm = jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in jax.tree.leaves(grad)))
    return {**found, "grad_norm": norm, "moves": 1.0}


def _by_hand(hypergradient, moves, weights_first, steps):
    """The loop that `alternating` stands for: (state, metrics) after every step."""
    weights, alpha = _start()
    state = BilevelState(0, weights, alpha, SGD.init(weights), ADAM.init(alpha))
    for step in range(steps):
        batches, metrics = _batches(step), {}
        for player in ("weights", "alpha") if weights_first else ("alpha", "weights"):
            if player == "weights":
                (_, seen), (g, _) = _grads(INNER, state.weights, state.alpha, batches.train)
                weights, opt = moved(SGD, g, state.weights_opt, state.weights)
                state = state._replace(weights=weights, weights_opt=opt)
                metrics["train"] = _metrics(seen, g)
            elif moves(step):
                at = state.weights
                if hypergradient.lookahead is LOOK:
                    g = _grads(INNER, at, state.alpha, batches.train)[1][0]
                    at = moved(SGD, g, state.weights_opt, at)[0]
                (_, seen), _ = _grads(OUTER, at, state.alpha, batches.valid)
                direction = _hypergradient(hypergradient, PROBLEM, state, batches)
                alpha, opt = moved(ADAM, direction, state.alpha_opt, state.alpha)
                state = state._replace(alpha=alpha, alpha_opt=opt)
                metrics["valid"] = _metrics(seen, direction)
            else:
                metrics["valid"] = {"error": 0.0, "grad_norm": 0.0, "moves": 0.0}
        state = state._replace(step=step + 1)
        yield state, metrics


CASES = {
    "first": (first_order(), False, always, lambda step: True),
    "first, weights first, after": (first_order(), True, after(3), lambda step: step >= 3),
    "first, every": (first_order(), False, every(2), lambda step: step % 2 == 0),
    "unrolled": (unrolled(LOOK), False, always, lambda step: True),
    "unrolled, after": (unrolled(LOOK), False, after(3), lambda step: step >= 3),
    "unrolled, weights first, every": (unrolled(LOOK), True, every(2), lambda step: step % 2 == 0),
}


@pytest.mark.parametrize("shapes", ("equal", "different"))
@pytest.mark.parametrize("name", CASES)
def test_alternating_is_the_loop_by_hand(name, shapes, x64):
    """Scanned where the batches have one shape, written out where not: the same numbers, resting steps included."""
    hypergradient, weights_first, when, moves = CASES[name]
    solver = alternating(SGD, ADAM, hypergradient=hypergradient, when=when, weights_first=weights_first)
    step = jax.jit(partial(solver.step, PROBLEM))
    state = solver.init(*_start())
    for expected, metrics in _by_hand(hypergradient, moves, weights_first, steps=5):
        batches = _batches(int(state.step))
        before = state
        state, found = step(state, batches if shapes == "equal" else _twice(batches))
        close(state, expected)
        close(found, metrics)
        if not moves(int(before.step)):
            chex.assert_trees_all_equal((state.alpha, state.alpha_opt), (before.alpha, before.alpha_opt))
            assert found["train"]["grad_norm"] > 0
        else:
            assert np.abs(state.alpha - before.alpha).min() > 0


def test_first_order_unless_told_otherwise(x64):
    state = alternating(SGD, ADAM).init(*_start())
    default, _ = jax.jit(partial(alternating(SGD, ADAM).step, PROBLEM))(state, _batches())
    told, _ = jax.jit(partial(alternating(SGD, ADAM, hypergradient=first_order()).step, PROBLEM))(state, _batches())
    chex.assert_trees_all_equal(default, told)


def test_joint_moves_both_on_one_pass(x64):
    solver = joint(SGD, ADAM)
    step = jax.jit(partial(solver.step, PROBLEM))
    state = solver.init(*_start())
    weights, alpha = _start()
    weights_opt, alpha_opt = SGD.init(weights), ADAM.init(alpha)
    for i in range(3):
        state, found = step(state, _batches(i))
        (_, seen), (g, h) = _grads(OUTER, weights, alpha, _batches(i).train)
        weights, weights_opt = moved(SGD, g, weights_opt, weights)
        alpha, alpha_opt = moved(ADAM, h, alpha_opt, alpha)
        close(state, BilevelState(i + 1, weights, alpha, weights_opt, alpha_opt))
        close(found, {"train": _metrics(seen, g)})


@pytest.mark.parametrize("shapes", ("equal", "different"))
def test_two_losses_are_one_loss_with_a_level(shapes, x64):
    split = two_losses(partial(_loss, INNER), partial(_loss, OUTER))
    batches = _batches() if shapes == "equal" else _twice(_batches())
    for level in (INNER, OUTER):
        chex.assert_trees_all_close(split.loss(level, *_start(), batches.train), _loss(level, *_start(), batches.train))
        traced = jax.jit(split.loss)(level, *_start(), batches.train)
        chex.assert_trees_all_close(traced, _loss(level, *_start(), batches.train), rtol=1e-12)
    solver = alternating(SGD, ADAM, hypergradient=unrolled(LOOK), when=every(2))
    step = jax.jit(solver.step, static_argnums=0)
    state = solver.init(*_start())
    close(step(split, state, batches), step(PROBLEM, state, batches))


# ------------------------------------------------------------------------------------- transformations


SOLVERS = {
    "first_order": alternating(SGD, ADAM),
    "unrolled": alternating(SGD, ADAM, hypergradient=unrolled(LOOK), when=after(1)),
    "joint": joint(SGD, ADAM),
}


@pytest.mark.smoke
@pytest.mark.parametrize("name", SOLVERS)
def test_state_keeps_its_form_and_the_step_its_trace(name):
    """In float32, the precision of a search."""
    chex.clear_trace_counter()
    solver = SOLVERS[name]
    step = jax.jit(chex.assert_max_traces(lambda state, batches: solver.step(PROBLEM, state, batches), n=1))
    weights, alpha = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), _start())
    first = state = solver.init(weights, alpha)
    for i in range(4):
        state, metrics = step(state, _batches(i))
        chex.assert_trees_all_equal_shapes_and_dtypes(state, first)
        chex.assert_tree_all_finite((state, metrics))
    assert state.step == 4


@pytest.mark.smoke
def test_steps_may_be_scanned(x64):
    solver = SOLVERS["unrolled"]
    step = partial(solver.step, PROBLEM)
    state = solver.init(*_start())
    scanned, metrics = jax.jit(partial(lax.scan, step))(state, stack(map(_batches, range(4))))
    compiled, seen = jax.jit(step), []
    for i in range(4):
        state, found = compiled(state, _batches(i))
        seen.append(found)
    close(scanned, state)
    close(metrics, stack(seen))


@pytest.mark.smoke
@pytest.mark.parametrize("name", SOLVERS)
def test_seeds_may_be_batched(name, x64):
    """Seeds share the batch, one of them rests at the first step if the solver says so."""
    solver = SOLVERS[name]
    step = partial(solver.step, PROBLEM)
    states = [solver.init(*_start(seed))._replace(step=jnp.asarray(seed, jnp.int32)) for seed in range(2)]
    together = jax.jit(jax.vmap(step, (0, None)))(stack(states), _batches())
    alone = [jax.jit(step)(state, _batches()) for state in states]
    close(together, stack(alone))


# ----------------------------------------------------------------------------------------------- devices

AVERAGED = {
    "first_order": alternating(SGD, ADAM),
    "unrolled": alternating(SGD, ADAM, hypergradient=unrolled(LOOK)),
    "finite_difference": alternating(SGD, ADAM, hypergradient=finite_difference(LOOK)),
    "neumann": alternating(SGD, ADAM, hypergradient=neumann(2, 0.1)),
    "conjugate_gradient": alternating(SGD, ADAM, hypergradient=conjugate_gradient(2, damping=0.1)),
    "joint": joint(SGD, ADAM),
}
MEAN = Problem(_loss, partial(lax.pmean, axis_name="device"))


@pytest.mark.parametrize("name", AVERAGED)
def test_two_halves_of_a_batch_are_the_whole(name, x64):
    """Of everything averaged (losses, gradients, second derivatives) only the gradient's norm is not linear."""
    solver = AVERAGED[name]
    state = solver.init(*_start())
    batches = _batches()
    whole = jax.jit(partial(solver.step, PROBLEM))(state, batches)
    halves = jax.tree.map(lambda x: x.reshape(2, 2, *x.shape[1:]), batches)
    step = jax.vmap(partial(solver.step, MEAN), (None, 0), axis_name="device")
    split = jax.jit(step)(state, halves)
    for i in range(2):
        close(jax.tree.map(lambda x, i=i: x[i], split), whole, rtol=1e-8)


@pytest.mark.smoke
def test_two_devices_are_one(x64):
    solver = AVERAGED["unrolled"]
    state = solver.init(*_start())
    whole = jax.jit(partial(solver.step, PROBLEM))(state, _batches())
    mesh = Mesh(np.array(jax.devices()[:2]), ("device",))
    options = {"mesh": mesh, "in_specs": (P(), P("device")), "out_specs": P(), "check_vma": False}
    close(jax.jit(jax.shard_map(partial(solver.step, MEAN), **options))(state, _batches()), whole)


# -------------------------------------------------------------------------------------------- end to end

RHO = 0.3


def _outer(weights, alpha, batch):
    return (jnp.sum(jnp.square(weights - T)) + RHO * jnp.sum(jnp.square(alpha))) / 2, {}


def _search(hypergradient, steps=1500):
    """Weights nearly at rest at every step of alpha."""
    solver = alternating(optax.sgd(1 / np.linalg.eigvalsh(H)[-1]), optax.sgd(0.05), hypergradient=hypergradient)
    step = partial(solver.step, two_losses(quadratic, _outer))
    state = solver.init(jnp.zeros(4), jnp.asarray(A))
    return jax.jit(lambda s: lax.scan(lambda s, _: step(s, Batches((), ())), s, length=steps)[0])(state)


def test_finds_the_solution_of_a_bilevel_problem(x64):
    """w* = M a, so a* = (M^T M + rho I)^-1 M^T t; only a hypergradient that looks through the weights gets there."""
    alpha = np.linalg.solve(M.T @ M + RHO * np.eye(3), M.T @ T)
    found = _search(conjugate_gradient(4))
    np.testing.assert_allclose(found.alpha, alpha, rtol=1e-6)
    np.testing.assert_allclose(found.weights, M @ alpha, rtol=1e-6)
    np.testing.assert_allclose(_search(neumann(200, 0.2)).alpha, alpha, rtol=1e-6)
    np.testing.assert_allclose(_search(first_order()).alpha, 0, atol=1e-6)  # the direct term alone pulls to zero
