"""P-DARTS: the network of a stage, its cuts and decoding, and the dropout behind its skips."""

from collections.abc import Iterator, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from parity_lines import Line, Tensors, batch, close, equal, part
from parity_networks import cell_outputs, space_of, weight_gradients

from jaxnas.interop import from_torch, living_ops, to_torch
from jaxnas.spaces.darts import darts
from jaxnas.spaces.networks import supernet
from jaxnas.spaces.space import Space
from jaxnas.stages import keep_best
from jaxnas.strategies.decoding import Decode, in_edge_order, limit_skips, top_edges
from jaxnas.strategies.mixing import dropped_skip
from jaxnas.strategies.relaxation import softmax

once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})  # runs once: compile that fast


def full(space: Space, tables: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Alpha of the operations that are switched on, [E, k], as ours, [E, O]; what is off gets a number to be seen."""
    tables = {cell: np.asarray(table) for cell, table in tables.items()}
    wide = {cell: np.full(space.mask(cell).shape, 7, table.dtype) for cell, table in tables.items()}
    for cell, table in tables.items():
        wide[cell][space.mask(cell)] = table.ravel()
    return wide


def stage_network_file(z: Tensors, meta: Mapping) -> Iterator[Line]:
    """One train-mode pass of a stage's network, with dropout behind skips at rate 0."""
    space = space_of(meta, z)
    space = space.with_alive({cell: z[f"switches_{cell}"] for cell in space.cells})
    tables = {cell: z[f"arch/alphas_{cell}"] for cell in space.cells}
    net, images = supernet(space, dropped_skip(lambda step: 0.0 * step)), batch(z["x"], z["y"])
    weights, alpha = from_torch(space, part(z, "w/"), names=living_ops), full(space, tables)
    key, step = jax.random.key(0), jnp.int32(0)

    def loss(weights, alpha):
        logits = net.apply(weights, images.image, softmax().mean(alpha, space), key, step)
        return optax.softmax_cross_entropy_with_integer_labels(logits, images.label).mean(), logits

    (value, logits), grads = once(jax.value_and_grad(loss, (0, 1), has_aux=True))(weights, alpha)
    yield close("logits", logits, z["logits"])
    yield close("loss", value, z["loss"])
    for cell in space.cells:
        found, alive = np.asarray(grads[1][cell]), space.mask(cell)
        yield close(f"alpha gradient, {cell}", found[alive].reshape(tables[cell].shape), z[f"garch/alphas_{cell}"])
        yield equal(f"alpha gradient of what is off, {cell}", float(np.abs(found[~alive]).max(initial=0)), 0.0)
    yield from weight_gradients(to_torch(space, grads[0], names=living_ops), z)
    states = once(lambda w, a: net.states(w, images.image, softmax().mean(a, space), key, step))(weights, alpha)
    yield from cell_outputs(states, z)


def chains_file(data: Mapping) -> Iterator[Line]:
    """Whole chains: alpha -> cut -> alpha -> cut -> alpha -> genotypes for every limit on skips."""
    start = darts(channels=4, layers=3)
    yield equal("operations", list(start.op_names), data["primitives"])
    for i, case in enumerate(data["cases"]):
        space = start
        for stage, dropped in enumerate(data["num_to_drop"][:-1], 1):
            most = int(space.mask("normal")[0].sum()) - dropped
            space = keep_best(most)(space, scores_of(space, case[f"stage{stage}_alphas"]))
            for cell, wanted in zip(space.cells, case[f"switches_after_stage{stage}"], strict=True):
                yield equal(f"chain {i}, on after stage {stage}, {cell}", space.mask(cell).astype(int).tolist(), wanted)
        scores = scores_of(space, case["stage3_alphas"])
        told = partial(genotype_as_told, scores, space)
        free = in_edge_order(top_edges(2))
        yield equal(f"chain {i}, genotype", told(free), case["genotype_unrestricted"])
        for most, wanted in case["genotype_by_max_skips"].items():
            yield equal(f"chain {i}, at most {most} skips", told(limit_skips(int(most))), wanted)


def scores_of(space: Space, pair) -> dict:
    """Gates in float32, as the official code has them."""
    tables = {cell: np.asarray(t, np.float32) for cell, t in zip(space.cells, pair, strict=True)}
    return softmax().mean(jax.tree.map(jnp.asarray, full(space, tables)), space)


def genotype_as_told(scores: Mapping, space: Space, decode: Decode) -> dict:
    """A genotype in the layout of the file."""
    found = decode(scores, space)
    rows = {cell: [[choice.op, choice.source] for choice in found.edges(cell)] for cell in space.cells}
    return rows | {f"{cell}_concat": list(found.concat(cell)) for cell in space.cells}
