"""Compares jaxnas with numbers that the official PyTorch codes produced: `python tests/parity.py FILE...`.

What a file holds is told by its content. One line per quantity (name, largest error, tolerance, ok); exit status 1
if any misses, 2 if a file cannot be compared. Everything in float64. Errors are relative to the largest reference
value of the quantity.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxnas.bilevel import alternating
from jaxnas.evaluation.cost import genotype_cost, supernet_cost, total
from jaxnas.hypergradient import (
    INNER,
    OUTER,
    Batches,
    finite_difference,
    first_order,
    gradient,
    one_pass,
    through,
    unrolled,
)
from jaxnas.interop import from_torch, official_name, to_torch
from jaxnas.search import bind
from jaxnas.spaces import ops
from jaxnas.spaces.darts import darts
from jaxnas.spaces.genotype import from_nas_bench_201, to_nas_bench_201
from jaxnas.spaces.nas_bench_201 import nas_bench_201, nas_bench_201_network
from jaxnas.spaces.networks import init_module, supernet
from jaxnas.spaces.space import Space
from jaxnas.strategies.algorithms import Strategy, clip_norm, cosine, heavy_ball, l2_adam
from jaxnas.strategies.algorithms import darts as darts_row
from jaxnas.strategies.decoding import argmax_edges, top_edges
from jaxnas.strategies.relaxation import softmax

FIXTURES = Path(__file__).parent / "fixtures"
EXACT, CLOSE = 1e-9, 1e-8  # CLOSE: what has gone through a central difference with kinks on its way
Tensors = Mapping[str, np.ndarray]


class Line(NamedTuple):
    """One compared quantity."""

    name: str
    error: float
    tolerance: float

    @property
    def ok(self) -> bool:
        return self.error <= self.tolerance  # false for NaN


class Image(NamedTuple):
    """A batch."""

    image: jax.Array
    label: jax.Array


def close(name: str, ours, theirs, tolerance: float = EXACT, scale: float | None = None) -> Line:
    """Largest difference over the largest reference value (or over `scale`)."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        return Line(f"{name} (shape {ours.shape}, reference {theirs.shape})", float("inf"), tolerance)
    scale = np.abs(theirs).max(initial=0) if scale is None else scale
    return Line(name, float(np.abs(ours - theirs).max(initial=0) / (scale or 1.0)), tolerance)


def equal(name: str, ours, theirs) -> Line:
    """0 where both are the same, 1 where not."""
    return Line(name if ours == theirs else f"{name}: ours {ours}, reference {theirs}", float(ours != theirs), 0.0)


def batch(x: np.ndarray, y: np.ndarray) -> Image:
    """NCHW images -> ours."""
    return Image(jnp.asarray(x.transpose(0, 2, 3, 1)), jnp.asarray(y))


def part(z: Tensors, prefix: str) -> dict[str, np.ndarray]:
    """Arrays under a prefix, without it."""
    return {key.removeprefix(prefix): z[key] for key in z if key.startswith(prefix)}


# ------------------------------------------------------------------------------- B: one forward and backward


def space_of(meta: Mapping, z: Tensors) -> Space:
    """The space of a file's network."""
    image = (*z["x"].shape[2:], z["x"].shape[1])
    classes = z["logits"].shape[1]
    if "max_nodes" in meta:
        return nas_bench_201(meta["C"], meta["N"], classes, image=image)
    return darts(meta["C"], meta["layers"], classes, image=image)


def alphas_of(space: Space, z: Tensors, prefix: str) -> dict[str, np.ndarray]:
    """Alpha (or its gradient) by cell type."""
    if space.cells == ("cell",):
        return {"cell": z[prefix + "arch_parameters"]}
    return {cell: z[f"{prefix}alphas_{cell}"] for cell in space.cells}


def supernet_file(z: Tensors, meta: Mapping) -> Iterator[Line]:
    """Logits, loss, cell outputs and all gradients of one train-mode pass."""
    space, images = space_of(meta, z), batch(z["x"], z["y"])
    net, relaxation = supernet(space), softmax()
    weights = from_torch(space, part(z, "w/"))
    alpha = {cell: jnp.asarray(a) for cell, a in alphas_of(space, z, "arch/").items()}
    key, step = jax.random.key(0), jnp.int32(0)

    def loss(weights, alpha):
        gates = relaxation.mean(alpha, space)
        logits = net.apply(weights, images.image, gates, key, step)
        return optax.softmax_cross_entropy_with_integer_labels(logits, images.label).mean(), logits

    (value, logits), grads = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(weights, alpha)
    yield close("logits", logits, z["logits"])
    yield close("loss", value, z["loss"])
    for cell, theirs in alphas_of(space, z, "garch/").items():
        yield close(f"alpha gradient, {cell}", grads[1][cell], theirs)
    yield from weight_gradients(to_torch(space, grads[0]), z)
    states = jax.jit(lambda w, a: net.states(w, images.image, relaxation.mean(a, space), key, step))(weights, alpha)
    for k, state in enumerate(states):
        yield close(f"output of cell {k}", np.asarray(state).transpose(0, 3, 1, 2), z[f"cell_out/{k}"])


def weight_gradients(ours: Tensors, z: Tensors) -> Iterator[Line]:
    """Every gradient norm, and every gradient that the file holds in full; none may be left out on either side."""
    norms, full = part(z, "gnorm/"), part(z, "g/")
    whole = float(z["grad_global_norm"])
    yield equal("names of weights", sorted(ours), sorted(norms))
    # a bias in front of a norm has gradient 0 but for rounding: compare with what the whole gradient resolves
    worst = lambda lines: max(lines, key=lambda line: line.error)
    lines = [
        close(f"weight gradient norms (worst: {n})", np.linalg.norm(ours[n]), t, scale=max(float(t), 1e-6 * whole))
        for n, t in norms.items()
    ]
    yield worst(lines)._replace(name=f"{len(lines)} {worst(lines).name}")
    yield close("global gradient norm", np.sqrt(sum(np.sum(g**2) for g in ours.values())), whole)
    if full:
        lines = [
            close(f"weight gradients (worst: {n})", ours[n], g, scale=max(np.abs(g).max(), 1e-6 * whole))
            for n, g in full.items()
        ]
        yield worst(lines)._replace(name=f"{len(lines)} {worst(lines).name}")


# --------------------------------------------------------------------------------------- C: the architect


def architect_file(z: Tensors, meta: Mapping, folder: Path) -> Iterator[Line]:
    """First and second order, one Adam step and complete iterations, from a given state."""
    start = load(beside(folder, re.search(r"B_\w+\.npz", meta["source"]).group()))
    start_meta = json.loads(str(start["__meta__"]))
    space = space_of(start_meta, start)
    weights, alpha = from_torch(space, part(start, "w/")), alphas_of(space, start, "arch/")
    names = {str(n) for n in z["param_names"]}
    momentum = from_torch(space, {n: z[f"mom/{n}"] for n in names})
    data = [
        Batches(batch(z[f"train_x/{k}"], z[f"train_y/{k}"]), batch(z[f"valid_x/{k}"], z[f"valid_y/{k}"]))
        for k in range(sum(key.startswith("train_x/") for key in z))
    ]
    state = partial(architect_state, space, meta, weights, alpha)
    zero = jax.tree.map(np.zeros_like, momentum)
    yield from hypergradients(z, meta, space, state, {"mom": momentum, "nomom": zero}, data[0])
    yield from iterations(z, meta, space, state(momentum), data)
    yield from optimizer_traces(z, meta)


def optimizers(meta: Mapping):
    """(SGD without clipping, Adam) of the official code."""
    sgd = heavy_ball(meta["eta"], meta["momentum"], meta["weight_decay"])
    return sgd, l2_adam(meta["arch_lr"], meta["arch_weight_decay"], b1=meta["arch_betas"][0])


def architect_state(space, meta, weights, alpha, momentum):
    """A search state with given weights, alphas and momentum buffers; its clipping is looked at nowhere else."""
    sgd, adam = optimizers(meta)
    search = bind(Strategy(solver=alternating(optax.chain(clip_norm(5.0), sgd), adam)), space)
    state = jax.eval_shape(search.init, jax.random.key(0))
    weights_opt = optax.chain(clip_norm(5.0), sgd).init(weights)
    bilevel = state.bilevel._replace(
        step=jnp.int32(0),
        weights=weights,
        alpha=alpha,
        weights_opt=optax.tree.set(weights_opt, trace=momentum),
        alpha_opt=adam.init(alpha),
    )
    return state._replace(key=jax.random.key(0), bilevel=jax.tree.map(jnp.asarray, bilevel))


def hypergradients(z, meta, space, state, momenta, batches) -> Iterator[Line]:
    """Exact, finite-difference and first-order gradients at the start, with and without momentum buffers."""
    sgd, adam = optimizers(meta)
    ahead = through(sgd, part=lambda s: s[1])
    search = bind(darts_row(1), space)
    at = lambda h: jax.jit(lambda s: gradient(h, search.problem(s), s.bilevel, batches))
    exact, official = at(unrolled(ahead)), at(finite_difference(ahead, meta["r"]))
    looks = jax.jit(partial(look_ahead, search, ahead, batches))
    for name, momentum in momenta.items():
        s = state(momentum)
        train_loss, valid_loss, direct, v, there = looks(s)
        norm = float(optax.tree.norm(v))
        yield close(f"{name}: training loss", train_loss, z[f"{name}/train_loss"])
        yield close(f"{name}: validation loss ahead", valid_loss, z[f"{name}/unrolled_valid_loss"])
        yield close(f"{name}: norm of v", norm, z[f"{name}/vector_norm"])
        yield close(f"{name}: R", meta["r"] / norm, z[f"{name}/R"])
        found, estimate = exact(s), official(s)
        for cell in space.cells:
            hvp = lambda g, cell=cell: (direct[cell] - g[cell]) / meta["eta"]
            yield close(f"{name}: direct term, {cell}", direct[cell], z[f"{name}/direct/{cell}"])
            yield close(f"{name}: exact second order, {cell}", found[cell], z[f"{name}/exact_arch_grad/{cell}"])
            yield close(f"{name}: exact implicit term, {cell}", hvp(found), z[f"{name}/hvp_exact/{cell}"])
            yield close(f"{name}: official second order, {cell}", estimate[cell], z[f"{name}/fd_arch_grad/{cell}"], CLOSE)
            yield close(f"{name}: official implicit term, {cell}", hvp(estimate), z[f"{name}/hvp_fd/{cell}"], CLOSE)
        norms = part(z, f"{name}/w_unrolled_norm/")
        if norms:
            ours = {n: np.linalg.norm(w) for n, w in to_torch(space, there).items()}
            yield close(f"{name}: norms of the weights ahead", [ours[n] for n in norms], list(norms.values()))
    yield from radii(z, space, state(momenta["mom"]), search, ahead, batches)
    first, loss = jax.jit(partial(first_order_at, search, batches))(state(momenta["mom"]))
    yield close("first order: validation loss", loss, z["first_order/valid_loss"])
    for cell in space.cells:
        yield close(f"first order: gradient, {cell}", first[cell], z[f"first_order/arch_grad/{cell}"])


def look_ahead(search, ahead, batches, state):
    """(training loss, validation loss ahead, direct term, v, weights ahead)."""
    problem, s = search.problem(state), state.bilevel
    (train, _), (grads, _) = one_pass(problem, INNER, s.weights, s.alpha, batches.train)
    there = ahead(s.weights, grads, s.weights_opt)
    (valid, _), (v, direct) = one_pass(problem, OUTER, there, s.alpha, batches.valid)
    return train, valid, direct, v, there


def first_order_at(search, batches, state):
    s = state.bilevel
    (loss, _), (_, grads) = one_pass(search.problem(state), OUTER, s.weights, s.alpha, batches.valid)
    return grads, loss


def radii(z, space, state, search, ahead, batches) -> Iterator[Line]:
    """The official estimate at other radii: ours must err as it does."""
    names = sorted({key.split("/")[1] for key in z if key.startswith("mom/hvp_fd_r")})
    estimate = jax.jit(
        lambda s, r: gradient(finite_difference(ahead, r), search.problem(s), s.bilevel, batches)
    )
    direct = jax.jit(lambda s: look_ahead(search, ahead, batches, s)[2])(state)
    for name in names:
        radius = float(name.removeprefix("hvp_fd_r"))
        found = estimate(state, radius)
        for cell in space.cells:
            ours = (direct[cell] - found[cell]) / 0.025
            # rounding in a difference of two gradients grows with 1 / radius
            yield close(f"official implicit term at r = {radius:g}, {cell}", ours, z[f"mom/{name}/{cell}"], CLOSE * max(1, 1e-3 / radius))


def iterations(z, meta, space, start, data) -> Iterator[Line]:
    """Complete iterations in a row, and the first alpha step alone."""
    sgd, adam = optimizers(meta)
    ahead = through(sgd, part=lambda s: s[1])
    orders = {"first": first_order(), "second": finite_difference(ahead, meta["r"])}
    names = [str(n) for n in z["param_names"]]
    for order, hypergradient in orders.items():
        runs = sorted({key.split("/")[0] for key in z if key.startswith(f"iter_{order}_clip")})
        tolerance = EXACT if order == "first" else CLOSE

        def step(state, batches, limit, hypergradient=hypergradient):
            solver = alternating(optax.chain(clip_norm(limit), sgd), adam, hypergradient=hypergradient)
            return bind(Strategy(solver=solver), space).step(state, batches)

        step = jax.jit(step)
        for run in runs:
            state, limit = start, float(run.split("clip")[1])
            for k, batches in enumerate(data):
                if f"{run}/{k}/weight_norms" not in z:
                    break
                state, metrics = step(state, batches, limit)
                prefix = f"{run}, iteration {k}"
                yield from iteration(prefix, part(z, f"{run}/{k}/"), space, state, metrics, names, tolerance)
                if k == 0:
                    yield from adam_step(z, f"adam_{order}", space, state, tolerance)


def iteration(prefix, z, space, state, metrics, names, tolerance) -> Iterator[Line]:
    s = state.bilevel
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


def adam_step(z, name, space, state, tolerance) -> Iterator[Line]:
    if f"{name}/after/{space.cells[0]}" in z:
        for cell in space.cells:
            yield close(f"{name}: alpha, {cell}", state.bilevel.alpha[cell], z[f"{name}/after/{cell}"], tolerance)


def optimizer_traces(z, meta) -> Iterator[Line]:
    """Both optimizers alone on given gradients."""
    sgd, adam = optimizers(meta)
    if "adam_trace/grads" in z:
        yield close("Adam alone", follow(adam, z["adam_trace/grads"], z["adam_trace/params"][0]), z["adam_trace/params"])
    if "sgd_trace/grads" in z:
        rates = jnp.asarray(z["sgd_trace/lrs"])
        sgd = heavy_ball(lambda count: rates[count], meta["momentum"], meta["weight_decay"])
        yield close("SGD alone", follow(sgd, z["sgd_trace/grads"], z["sgd_trace/params"][0]), z["sgd_trace/params"])


def follow(tx, grads, params):
    path, params = [params], jnp.asarray(params)
    state = tx.init(params)
    for g in grads:
        updates, state = tx.update(jnp.asarray(g), state, params)
        params = optax.apply_updates(params, updates)
        path.append(params)
    return np.stack(path)


# ------------------------------------------------------------------- D, E: discretisation and schedules


def decoded(space: Space, decode: Callable, alphas: Mapping[str, list]):
    scores = softmax().mean({c: jnp.asarray(a, jnp.float32) for c, a in alphas.items()}, space)
    return decode(scores, space)


def darts_decoding_file(data: Mapping) -> Iterator[Line]:
    """Genotypes of the DARTS rule; ties included."""
    space = darts(channels=4, layers=3)
    yield equal("operations", list(space.op_names), data["primitives"])
    for group in ("cases", "tie_cases"):
        for i, case in enumerate(data.get(group, ())):
            ours = decoded(space, top_edges(2), {c: case[f"alphas_{c}"] for c in space.cells})
            for cell in space.cells:
                found = [[choice.op, choice.source] for choice in ours.edges(cell)]
                yield equal(f"{group} {i}, {cell}", found, case["genotype"][cell])
                yield equal(f"{group} {i}, {cell} outputs", list(ours.concat(cell)), case["genotype"][f"{cell}_concat"])


def nas_bench_decoding_file(data: Mapping) -> Iterator[Line]:
    """Architecture strings of NAS-Bench-201; ties included."""
    space = nas_bench_201(channels=4, cells_per_stage=1)
    yield equal("operations", list(space.op_names), data["space"])
    for group in ("cases", "tie_cases"):
        for i, case in enumerate(data.get(group, ())):
            ours = to_nas_bench_201(decoded(space, argmax_edges(), {"cell": case["alphas"]}))
            yield equal(f"{group} {i}", ours, case["arch"])
            yield equal(f"{group} {i} read back", to_nas_bench_201(from_nas_bench_201(case["arch"])), case["arch"])


def schedules_file(data: Mapping) -> Iterator[Line]:
    """Cosine learning rates by epoch, one step an epoch and seven."""
    for name, theirs in data["cosine_lr"].items():
        start, end = map(float, re.search(r"\(([\d.]+)->([\d.]+)", f"({name.split('(')[1]}" if "->" in name else "").groups()) if "->" in name else (theirs[0], 0.0)
        epochs = len(theirs)
        for each in (1, 7):
            rate = cosine(start, end, epochs * each, every=each)
            ours = [[rate(jnp.int32(e * each + i)) for i in range(0, each, 3)] for e in range(epochs)]
            yield close(f"cosine {name}, {each} steps an epoch", ours, np.array(theirs)[:, None] + np.zeros(len(ours[0])))


# ----------------------------------------------------------------------------- X, A: operations and counts


def operation(name: str, stride: int, affine: bool, features: int):
    """The module behind an official operation's name."""
    norm = partial(ops.BatchNorm, affine=affine)
    size = int(re.search(r"(\d)x\d", name).group(1)) if re.search(r"\dx\d", name) else 0
    made = {
        "none": lambda: ops.Zero(stride),
        "avg_pool_3x3": lambda: ops.AveragePool(stride),
        "max_pool_3x3": lambda: ops.MaxPool(stride),
        "skip_connect": lambda: ops.Skip(stride, norm),
        "conv_7x1_1x7": lambda: ops.FactorizedConv(stride, norm=norm),
        "sep": lambda: ops.SepConv(stride, size, norm),
        "dil": lambda: ops.DilConv(stride, size, norm),
        "ReLUConvBN": lambda: ops.ReluConvNorm(kernel=size, features=features, norm=norm),
        "FactorizedReduce": lambda: ops.FactorizedReduce(features, norm),
    }
    return made[next(key for key in made if name.startswith(key))]()


def operations_file(z: Tensors) -> Iterator[Line]:
    """Every operation alone: output, gradient of the input, gradient of every parameter."""
    for case in sorted({key.removesuffix("/gy") for key in z if key.endswith("/gy")}):
        x, gy = (jnp.asarray(z[f"{case}/{k}"].transpose(0, 2, 3, 1)) for k in ("x", "gy"))
        fields = case.removeprefix("odd7/").split("/")
        stride = int(fields[1][1:]) if len(fields) > 1 else 1
        affine = f"{case}/affine" in case or fields[-1] == "affine"
        module = operation(fields[0], stride, affine, gy.shape[-1])
        theirs = part(z, f"{case}/w/")
        params = fill(module, x.shape[1:], theirs)
        y, pull = jax.vjp(lambda p, x, m=module: m.apply({"params": p}, x), params, x)
        grads, gx = pull(gy)
        yield close(f"{case}: y", np.asarray(y).transpose(0, 3, 1, 2), z[f"{case}/y"])
        yield close(f"{case}: gx", np.asarray(gx).transpose(0, 3, 1, 2), z[f"{case}/gx"], scale=max(1e-3, np.abs(z[f"{case}/gx"]).max()))
        for path, g in jax.tree_util.tree_leaves_with_path(grads):
            name = official_name(module, tuple(k.key for k in path))
            yield close(f"{case}: {name}", g, layout(z[f"{case}/g/{name}"], g.ndim))


def fill(module, shape, theirs: Tensors):
    """Our parameters of a module with the official numbers; every official one must find its place."""
    params = jax.eval_shape(lambda key: init_module(module, key, shape), jax.random.key(0))
    used = {}

    def one(path, leaf):
        name = official_name(module, tuple(k.key for k in path))
        used[name] = layout(theirs[name], leaf.ndim)
        return jnp.asarray(used[name])

    filled = jax.tree_util.tree_map_with_path(one, params)
    assert set(used) == set(theirs), f"{set(theirs) ^ set(used)} have no place"
    return filled


def layout(tensor: np.ndarray, ndim: int) -> np.ndarray:
    """Official layout -> ours."""
    if tensor.ndim < 4:
        return tensor
    if ndim == 4:
        return tensor.transpose(2, 3, 1, 0)
    return tensor[:, 0].transpose(1, 2, 0) if ndim == 3 else tensor[:, :, 0, 0].T


def counts_file(data: Mapping) -> Iterator[Line]:
    """Parameters and multiply-adds of search networks, in all and by part; and of NAS-Bench-201's children."""
    for name, theirs in data["search_networks"].items():
        space, width = counted_space(theirs)
        costs = supernet_cost(space, width)
        ours = total(costs)
        yield equal(f"{name}: parameters", ours.parameters, theirs["params_weights"])
        if "macs_32x32" in theirs:
            yield equal(f"{name}: multiply-adds", ours.multiply_adds, theirs["macs_32x32"])
        known = {"classifier": "head"} if "lastact" not in theirs["per_part"] else {}
        for part_name, count in theirs["per_part"].items():
            key = known.get(part_name, part_name)
            if key in costs:
                yield equal(f"{name}: {part_name}", costs[key].parameters, count)
    for child in data.get("nas_bench_201_children", ()):
        network = nas_bench_201_network(child["C"], child["N"], child["classes"])
        cost = total(genotype_cost(from_nas_bench_201(child["arch"]), network))
        yield equal(f"{child['arch']}: parameters", cost.parameters, child["params"])
        yield equal(f"{child['arch']}: multiply-adds", cost.multiply_adds, child["macs"])


def counted_space(theirs: Mapping) -> tuple[Space, Callable[[int], int]]:
    if "N" in theirs:
        return nas_bench_201(theirs["C"], theirs["N"], theirs["classes"]), lambda channels: channels
    space = darts(theirs["C"], theirs["layers"], theirs["classes"])
    if "switches_normal" in theirs:
        space = space.with_alive({cell: theirs[f"switches_{cell}"] for cell in space.cells})
    divisor = theirs.get("K", 1)
    return space, lambda channels: channels // divisor


# --------------------------------------------------------------------------------------------- which is it


def load(path: Path) -> dict:
    """Arrays of an .npz, or the content of a .json."""
    if path.suffix == ".json":
        return json.loads(path.read_text())
    with np.load(path, allow_pickle=False) as z:
        return {key: z[key] for key in z.files}


def beside(folder: Path, name: str) -> Path:
    """A companion file: beside the given one, or among the fixtures."""
    for place in (folder, FIXTURES):
        if (place / name).exists():
            return place / name
    raise FileNotFoundError(f"this file starts from the weights of {name}: put it into {folder} or {FIXTURES}.")


def compare(path: Path) -> Iterator[Line]:
    """The comparison that fits a file's content."""
    data = load(path)
    if path.suffix == ".json":
        kinds = {
            "search_networks": counts_file,
            "cosine_lr": schedules_file,
            "primitives": darts_decoding_file,
            "edge_order": nas_bench_decoding_file,
        }
        kind = next((kinds[key] for key in kinds if key in data), None)
        if kind is darts_decoding_file and "betas_normal" in data["cases"][0]:
            kind = None
    else:
        meta = json.loads(str(data["__meta__"]))
        kind = array_kind(data, meta, path.parent)
    if kind is None:
        raise LookupError(f"{path.name}: no comparison for a file of this content.")
    yield from kind(data)


def array_kind(data: Tensors, meta: Mapping, folder: Path) -> Callable | None:
    source = meta.get("source", "")
    if "Architect" in source:
        return lambda z: architect_file(z, meta, folder)
    if "operations.py" in source and "quark0" in source:
        return operations_file
    if "quark0/darts" in source or "TinyNetworkDarts" in source:
        return lambda z: supernet_file(z, meta)
    return None


def main(paths: list[str]) -> int:
    """Prints every line; the exit status."""
    status = 0
    for path in map(Path, paths):
        print(path.name)
        try:
            for line in compare(path):
                print(f"  {'ok  ' if line.ok else 'MISS'}  {line.error:9.2e}  <= {line.tolerance:7.1e}  {line.name}", flush=True)
                status = max(status, 0 if line.ok else 1)
        except (LookupError, FileNotFoundError) as error:
            print(f"  cannot compare: {error}")
            status = 2
    return status


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    jax.config.update("jax_enable_x64", True)
    sys.exit(main(sys.argv[1:]))
