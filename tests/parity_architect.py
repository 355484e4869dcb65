"""First and second order, one Adam step and complete iterations of the official architect, from a given state."""

import json
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from parity_lines import CLOSE, EXACT, Line, batch, beside, close, load, part
from parity_networks import alphas_of, space_of

from jaxnas.bilevel import alternating
from jaxnas.hypergradient import (
    INNER,
    OUTER,
    Batches,
    Lookahead,
    finite_difference,
    first_order,
    one_pass,
    through,
    unrolled,
)
from jaxnas.interop import from_torch, to_torch
from jaxnas.search import SearchState, bind
from jaxnas.spaces.space import Space
from jaxnas.strategies.optimizers import clip_norm, heavy_ball, l2_adam
from jaxnas.strategies.strategy import Strategy


class Setting(NamedTuple):
    """What a file fixes: where the architect starts, and its optimizers."""

    space: Space
    state: SearchState  # with the momentum buffers of the file
    data: list[Batches]
    sgd: optax.GradientTransformation  # without clipping
    adam: optax.GradientTransformation
    ahead: Lookahead
    eta: float
    radius: float
    names: list[str]  # of the weights, in the file's order


def architect_file(z, meta, folder: Path) -> Iterator[Line]:
    """Everything in one file."""
    setting = read_setting(z, meta, folder)
    yield from hypergradients(z, setting)
    yield from iterations(z, setting)
    yield from optimizer_traces(z, meta, setting)


def read_setting(z, meta, folder: Path) -> Setting:
    start = load(beside(folder, re.search(r"B_\w+\.npz", meta["source"]).group()))
    space = space_of(json.loads(str(start["__meta__"])), start)
    sgd = heavy_ball(meta["eta"], meta["momentum"], meta["weight_decay"])
    adam = l2_adam(meta["arch_lr"], meta["arch_weight_decay"], beta1=meta["arch_betas"][0])
    names = [str(name) for name in z["param_names"]]
    momentum = from_torch(space, {name: z[f"mom/{name}"] for name in names})
    solver = alternating(optax.chain(clip_norm(5.0), sgd), adam)
    state = solver.init(
        *jax.tree.map(jnp.asarray, (from_torch(space, part(start, "w/")), alphas_of(space, start, "arch/")))
    )
    state = state._replace(weights_opt=optax.tree.set(state.weights_opt, trace=jax.tree.map(jnp.asarray, momentum)))
    count = sum(key.startswith("train_x/") for key in z)
    half = lambda which, k: batch(z[f"{which}_x/{k}"], z[f"{which}_y/{k}"])
    data = [Batches(half("train", k), half("valid", k)) for k in range(count)]
    ahead = through(sgd, part=lambda s: s[1])
    state = SearchState(jax.random.key(0), state)
    return Setting(space, state, data, sgd, adam, ahead, meta["eta"], meta["r"], names)


def hypergradients(z, setting: Setting) -> Iterator[Line]:
    """Exact, official and first-order gradients at the start, with and without momentum buffers.

    Three compiled programs: one pass, the exact indirect term, and the official one at any radius.
    """
    batches, space, ahead = setting.data[0], setting.space, setting.ahead
    problem = bind(Strategy(solver=alternating(setting.sgd, setting.adam)), space).problem(setting.state)
    once = jax.jit(partial(one_pass, problem))
    exact = jax.jit(lambda s, g, v: unrolled(ahead).indirect(problem, s, batches, g, v))
    official = jax.jit(lambda s, g, v, r: finite_difference(ahead, r).indirect(problem, s, batches, g, v))
    with_buffers = setting.state.bilevel
    zeros = jax.tree.map(jnp.zeros_like, optax.tree.get(with_buffers.weights_opt, "trace"))
    without = with_buffers._replace(weights_opt=optax.tree.set(with_buffers.weights_opt, trace=zeros))
    for name, s in {"mom": with_buffers, "nomom": without}.items():
        (train_loss, _), (g, _) = once(INNER, s.weights, s.alpha, batches.train)
        there = ahead(s.weights, g, s.weights_opt)
        (valid_loss, _), (v, direct) = once(OUTER, there, s.alpha, batches.valid)
        norm = float(optax.tree.norm(v))
        yield close(f"{name}: training loss", train_loss, z[f"{name}/train_loss"])
        yield close(f"{name}: validation loss ahead", valid_loss, z[f"{name}/unrolled_valid_loss"])
        yield close(f"{name}: norm of v", norm, z[f"{name}/vector_norm"])
        yield close(f"{name}: R", setting.radius / norm, z[f"{name}/R"])
        terms = {"exact": exact(s, g, v), "official": official(s, g, v, setting.radius)}
        yield from second_order(z, name, setting, direct, terms)
        yield from weights_ahead(z, name, space, there)
        for radius in sorted({key.split("/")[1] for key in z if key.startswith(f"{name}/hvp_fd_r")}):
            r = float(radius.removeprefix("hvp_fd_r"))
            tolerance = CLOSE * max(1, 1e-3 / r)  # rounding in a difference of gradients grows with 1 / radius
            for cell, term in official(s, g, v, r).items():
                theirs = z[f"{name}/{radius}/{cell}"]
                yield close(
                    f"{name}: official implicit term, r = {r:g}, {cell}", -term / setting.eta, theirs, tolerance
                )
    (loss, _), (_, grads) = once(OUTER, with_buffers.weights, with_buffers.alpha, batches.valid)
    yield close("first order: validation loss", loss, z["first_order/valid_loss"])
    for cell in space.cells:
        yield close(f"first order: gradient, {cell}", grads[cell], z[f"first_order/arch_grad/{cell}"])


def second_order(z, name: str, setting: Setting, direct, terms) -> Iterator[Line]:
    for cell in setting.space.cells:
        yield close(f"{name}: direct term, {cell}", direct[cell], z[f"{name}/direct/{cell}"])
        for kind, whole, implicit, tolerance in (
            ("exact", "exact_arch_grad", "hvp_exact", EXACT),
            ("official", "fd_arch_grad", "hvp_fd", CLOSE),
        ):
            term = terms[kind][cell]
            yield close(
                f"{name}: {kind} second order, {cell}", direct[cell] + term, z[f"{name}/{whole}/{cell}"], tolerance
            )
            theirs = z[f"{name}/{implicit}/{cell}"]
            yield close(f"{name}: {kind} implicit term, {cell}", -term / setting.eta, theirs, tolerance)


def weights_ahead(z, name: str, space: Space, there) -> Iterator[Line]:
    norms = part(z, f"{name}/w_unrolled_norm/")
    if norms:
        ours = {n: np.linalg.norm(w) for n, w in to_torch(space, there).items()}
        yield close(f"{name}: norms of the weights ahead", [ours[n] for n in norms], list(norms.values()))


def iterations(z, setting: Setting) -> Iterator[Line]:
    """Complete iterations in a row, and the first alpha step alone; the real `step`, compiled once for each order."""
    orders = {"first": first_order(), "second": finite_difference(setting.ahead, setting.radius)}
    for order, hypergradient in orders.items():
        tolerance = EXACT if order == "first" else CLOSE

        def step(state, batches, limit, hypergradient=hypergradient):
            tx = optax.chain(clip_norm(limit), setting.sgd)
            solver = alternating(tx, setting.adam, hypergradient=hypergradient)
            return bind(Strategy(solver=solver), setting.space).step(state, batches)

        compiled = jax.jit(step)
        for run in sorted({key.split("/")[0] for key in z if key.startswith(f"iter_{order}_clip")}):
            state, limit = setting.state, float(run.split("clip")[1])
            for k, batches in enumerate(setting.data):
                found = part(z, f"{run}/{k}/")
                if not found:
                    break
                state, metrics = compiled(state, batches, limit)
                yield from iteration(f"{run}, iteration {k}", found, setting, state, metrics, tolerance)
                if k == 0:
                    for cell, theirs in part(z, f"adam_{order}/after/").items():
                        yield close(f"adam_{order}: alpha, {cell}", state.bilevel.alpha[cell], theirs, tolerance)


def iteration(prefix: str, z, setting: Setting, state, metrics, tolerance: float) -> Iterator[Line]:
    s, space, names = state.bilevel, setting.space, setting.names
    weights, momenta = to_torch(space, s.weights), to_torch(space, optax.tree.get(s.weights_opt, "trace"))
    norms = lambda tree: [np.linalg.norm(tree[n]) for n in names]
    for cell in space.cells:
        yield close(f"{prefix}: alpha, {cell}", s.alpha[cell], z[f"alphas_{cell}"], tolerance)
    yield close(f"{prefix}: training loss", metrics["train"]["loss"], z["train_loss_before_step"], tolerance)
    yield close(f"{prefix}: gradient norm", metrics["train"]["grad_norm"], z["grad_norm_before_clip"], tolerance)
    yield close(f"{prefix}: weight norms", norms(weights), z["weight_norms"], tolerance)
    yield close(f"{prefix}: weight sums", [weights[n].sum() for n in names], z["weight_sums"], tolerance)
    yield close(f"{prefix}: momentum norms", norms(momenta), z["momentum_norms"], tolerance)
    full = part(z, "w/")
    if full:
        worst = max((close(n, weights[n], w, tolerance) for n, w in full.items()), key=lambda line: line.error)
        yield worst._replace(name=f"{prefix}: all weights (worst: {worst.name})")


def optimizer_traces(z, meta, setting: Setting) -> Iterator[Line]:
    """Both optimizers alone on given gradients."""
    if "adam_trace/grads" in z:
        yield close("Adam alone", follow(setting.adam, part(z, "adam_trace/")), z["adam_trace/params"])
    if "sgd_trace/grads" in z:
        rates = jnp.asarray(z["sgd_trace/lrs"])
        sgd = heavy_ball(lambda count: rates[count], meta["momentum"], meta["weight_decay"])
        yield close("SGD alone", follow(sgd, part(z, "sgd_trace/")), z["sgd_trace/params"])


def follow(tx: optax.GradientTransformation, trace) -> np.ndarray:
    params = jnp.asarray(trace["params"][0])
    path, state = [params], tx.init(params)
    for g in trace["grads"]:
        updates, state = tx.update(jnp.asarray(g), state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return np.stack(path)
