"""SNAS: a pass with given noise, its resource terms, its two decodings."""

from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
import optax
from parity_lines import Line, Tensors, batch, close, equal, part
from parity_networks import alphas_of, one_pass, space_of

from jaxnas.evaluation.resources import resources
from jaxnas.spaces.darts import darts
from jaxnas.spaces.space import Gates, Space
from jaxnas.strategies.decoding import argmax_edges, top_edges
from jaxnas.strategies.draws import concrete, concrete_gates
from jaxnas.strategies.mixing import weighted_sum
from jaxnas.strategies.penalty import Penalty, resource_linear, resource_log

OFFICIAL = {"normal": 6, "reduce": 2}  # the official code divides by these whatever the depth; we average over cells


def snas_file(z: Tensors, meta: Mapping) -> Iterator[Line]:
    """Gates, logits, loss and gradients; costs of every operation; both resource terms and their gradients."""
    space, noise = space_of(meta, z), {cell: -jnp.log(-jnp.log(u)) for cell, u in part(z, "u/").items()}
    relax = lambda alpha: concrete_gates(alpha, noise, meta["temp"], space)
    alpha = jax.tree.map(jnp.asarray, alphas_of(space, z, "arch/"))
    for cell, gates in relax(alpha).items():
        yield close(f"gates, {cell}", gates.ops, z[f"onehot/{cell}"])
    yield from one_pass(z, space, weighted_sum(), batch(z["x"], z["y"]), relax)
    yield from operation_costs(z, space)
    for name, penalty in {"resource": resource_linear, "log_resource": resource_log}.items():
        term = official_sum(penalty(optax.constant_schedule(1.0)), space)
        value, slopes = jax.value_and_grad(lambda a, term=term: term(relax(a)))(alpha)
        yield close(f"{name} term", value, z[f"{name}_penalty"])
        for cell, slope in slopes.items():
            yield close(f"{name} gradient, {cell}", slope, z[f"garch_{name}/{cell}"])


def operation_costs(z: Tensors, space: Space) -> Iterator[Line]:
    seen = dict.fromkeys(space.cells, 0)
    for k, layer in enumerate(space.skeleton):
        ours = resources(space)[layer.cell]
        for name, table in zip(("size", "flops", "mac"), ours, strict=True):
            yield equal(f"{name} in cell {k}", table[seen[layer.cell]].tolist(), z[f"op_{name}/{k}"].tolist())
        seen[layer.cell] += 1


def official_sum(penalty: Penalty, space: Space):
    """The sum over cell types with the official divisors."""
    count = {cell: sum(layer.cell == cell for layer in space.skeleton) for cell in space.cells}
    one = lambda cell, gates: penalty({cell: gates}, {}, space, jnp.int32(0)) * count[cell] / OFFICIAL[cell]
    return lambda gates: sum(one(cell, g) for cell, g in gates.items())


def snas_decoding_file(data: Mapping) -> Iterator[Line]:
    """Genotypes with two edges for each node and with all, `none` included; each is also its `argmax_edges`."""
    space = darts(channels=4, layers=3)
    yield equal("operations", list(space.op_names), data["primitives"])
    mean = concrete(optax.constant_schedule(1.0)).mean
    for i, case in enumerate(data["cases"]):
        alpha = {cell: jnp.asarray(case[f"{cell}_log_alpha"], jnp.float32) for cell in space.cells}
        scores: Mapping[str, Gates] = mean(alpha, space)
        for field, k in (("genotype", 2), ("genotype_edge_all", len(space.edges))):
            found = top_edges(k, never=())(scores, space)
            for cell in space.cells:
                ours = [[choice.op, choice.source] for choice in found.edges(cell)]
                yield equal(f"case {i}, {field}, {cell}", ours, case[field][cell])
        every = argmax_edges()(scores, space)
        for cell in space.cells:
            theirs = in_order_of_edges(space, case["genotype_edge_all"][cell])
            yield equal(f"case {i}, every edge, {cell}", [c.op for c in every.edges(cell)], theirs)


def in_order_of_edges(space: Space, listed: list) -> list[str]:
    """Operations of a list of [op, source], node by node in any order within a node, by row of alpha."""
    ops, start = [], 0
    for node in space.nodes:
        size = len(space.incoming(node))
        ops += [op for op, _ in sorted(listed[start : start + size], key=lambda row: row[1])]
        start += size
    return ops
