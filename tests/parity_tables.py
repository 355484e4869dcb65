"""Discretisation, schedules and counts: what needs no gradient."""

from collections.abc import Callable, Iterator, Mapping

import jax.numpy as jnp
from parity_evaluation import network_counts
from parity_lines import Line, equal

from jaxnas.evaluation.cost import genotype_cost, supernet_cost, total
from jaxnas.spaces.darts import darts
from jaxnas.spaces.genotype import from_nas_bench_201, to_nas_bench_201
from jaxnas.spaces.nas_bench_201 import nas_bench_201, nas_bench_201_network
from jaxnas.spaces.nasnet import nasnet, nasnet_frc
from jaxnas.spaces.space import Layer, Space, dag
from jaxnas.strategies.decoding import argmax_edges, top_edges, top_pairs
from jaxnas.strategies.relaxation import Normalized, edge_normalized, softmax


def decoded(space: Space, decode: Callable, alphas: Mapping[str, list], betas: Mapping[str, list] | None = None):
    floats = lambda tables: {c: jnp.asarray(a, jnp.float32) for c, a in tables.items()}
    if betas is None:
        return decode(softmax().mean(floats(alphas), space), space)
    return decode(edge_normalized(softmax()).mean(Normalized(floats(alphas), floats(betas)), space), space)


def darts_decoding_file(data: Mapping) -> Iterator[Line]:
    """Genotypes of the DARTS rule, and of PC-DARTS where the file has weights of edges; ties included."""
    space = darts(channels=4, layers=3)
    yield equal("operations", list(space.op_names), data["primitives"])
    for group in ("cases", "tie_cases"):
        for i, case in enumerate(data.get(group, ())):
            betas = {c: case[f"betas_{c}"] for c in space.cells} if "betas_normal" in case else None
            ours = decoded(space, top_edges(2), {c: case[f"alphas_{c}"] for c in space.cells}, betas)
            for cell in space.cells:
                found = [[choice.op, choice.source] for choice in ours.edges(cell)]
                yield equal(f"{group} {i}, {cell}", found, case["genotype"][cell])
                yield equal(f"{group} {i}, {cell} outputs", list(ours.concat(cell)), case["genotype"][f"{cell}_concat"])


def autodl_decoding_file(data: Mapping) -> Iterator[Line]:
    """Genotypes of AutoDL-Projects, of the space that the edges tell."""
    yield from (nas_bench_decoding_file if len(data["edge_order"]) == 6 else nasnet_decoding_file)(data)


def nasnet_decoding_file(data: Mapping) -> Iterator[Line]:
    """The pairs of GDAS, in order; some nodes take both from one edge."""
    space = nasnet(channels=4, cells_per_stage=1)
    yield equal("operations", list(space.op_names), data["space"])
    for group in ("cases", "tie_cases"):
        for i, case in enumerate(data.get(group, ())):
            ours = decoded(space, top_pairs(2), {c: case[f"alphas_{c}"] for c in space.cells})
            for cell in space.cells:
                found = [[choice.op, choice.source, choice.target] for choice in ours.edges(cell)]
                pairs = enumerate(case["genotype"][cell], start=2)
                yield equal(f"{group} {i}, {cell}", found, [[*pair, node] for node, two in pairs for pair in two])
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


def recurrent_decoding_file(data: Mapping) -> Iterator[Line]:
    """Recurrent cells of DARTS: one input, eight nodes, and for each node its best edge."""
    image = darts(channels=4, layers=3)
    ops = tuple((name, image.ops[0][1]) for name in data["primitives"])
    one_cell = {"inputs": 1, "cells": ("cell",), "skeleton": (Layer("cell", 4),)}
    space = image.replace(name="recurrent", ops=ops, edges=dag(1, 8), outputs=tuple(range(1, 9)), **one_cell)
    for i, case in enumerate(data["cases"]):
        ours = decoded(space, top_edges(1), {"cell": case["weights"]})
        yield equal(f"cases {i}", [[choice.op, choice.source] for choice in ours.edges("cell")], case["recurrent"])
        yield equal(f"cases {i}, outputs", list(ours.concat("cell")), case["concat"])


def counts_file(data: Mapping) -> Iterator[Line]:
    """Parameters and multiply-adds of search networks, in all and by part; and of NAS-Bench-201's children."""
    for name, theirs in data["search_networks"].items():
        space, width = counted_space(name, theirs)
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
    yield from network_counts(data)
    for child in data.get("nas_bench_201_children", ()):
        network = nas_bench_201_network(child["C"], child["N"], child["classes"])
        cost = total(genotype_cost(from_nas_bench_201(child["arch"]), network))
        yield equal(f"{child['arch']}: parameters", cost.parameters, child["params"])
        yield equal(f"{child['arch']}: multiply-adds", cost.multiply_adds, child["macs"])


def counted_space(name: str, theirs: Mapping) -> tuple[Space, Callable[[int], int]]:
    if "N" in theirs:
        two_inputs = nasnet_frc if "frc" in name.lower() else nasnet
        make = nas_bench_201 if "max_nodes" in theirs else two_inputs
        return make(theirs["C"], theirs["N"], theirs["classes"]), lambda channels: channels
    space = darts(theirs["C"], theirs["layers"], theirs["classes"])
    if "switches_normal" in theirs:
        space = space.with_alive({cell: theirs[f"switches_{cell}"] for cell in space.cells})
    divisor = theirs.get("K", 1)
    return space, lambda channels: channels // divisor
