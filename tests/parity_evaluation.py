"""Networks built from a genotype: a pass in training, with given drop-path masks, and in evaluation; their sizes."""

from collections.abc import Iterator, Mapping
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
import optax
from parity_lines import Line, Tensors, batch, close, equal, part

from jaxnas.evaluation.cost import genotype_cost, module_cost, total
from jaxnas.interop_network import entries, from_torch, to_torch
from jaxnas.spaces.auxiliary import AuxiliaryHead
from jaxnas.spaces.darts import darts_network, snas_network
from jaxnas.spaces.genotype import Genotype, from_darts
from jaxnas.spaces.imagenet import darts_imagenet_network
from jaxnas.spaces.nasnet import FixedReduction, fixed_reduction
from jaxnas.spaces.network import Variables, network
from jaxnas.spaces.plan import plan
from jaxnas.spaces.space import Space


def genotype_of(rows: Mapping) -> Genotype:
    """From [op, input state] rows."""
    fields = {name: rows[name] and [tuple(row) for row in rows[name]] for name in ("normal", "reduce")}
    fields |= {f"{name}_concat": list(rows[f"{name}_concat"]) for name in ("normal", "reduce")}
    return from_darts(f"Genotype({', '.join(f'{name}={value}' for name, value in fields.items())})")


def network_file(z: Tensors, meta: Mapping) -> Iterator[Line]:
    """Logits of both heads, loss, norms and sums of all gradients; evaluation after one pass."""
    genotype, images = genotype_of(meta["genotype"]), batch(z["x"], z["y"])
    space = darts_network(meta["C"], meta["layers"], meta["classes"], image=images.image.shape[1:])
    options = {"auxiliary": meta["auxiliary"]}
    net = network(genotype, space, **options)
    official = {name: t.astype(z["x"].dtype) for name, t in part(z, "w/").items()}
    start = jax.tree.map(jnp.asarray, from_torch(genotype, space, official, **options))

    @jax.jit
    def one_pass(weights, statistics, paths):
        def loss(weights):
            logits, extra, moved = net.train(Variables(weights, statistics), images.image, paths)
            entropy = lambda x: optax.softmax_cross_entropy_with_integer_labels(x, images.label).mean()
            second = 0.0 if extra is None else meta["auxiliary_weight"] * entropy(extra)
            return entropy(logits) + second, (logits, extra, moved)

        return jax.value_and_grad(loss, has_aux=True)(weights)

    factors = np.ones((*net.paths, len(images.label)))
    for which in ("nodrop", "drop"):
        if which == "drop" and "drop/masks" in z:
            for (cell, choice), mask in zip(z["drop/mask_order_cell_edge"], z["drop/masks"], strict=True):
                factors[cell, choice] = mask / (1 - meta["drop_path_prob"])
        (value, (logits, extra, moved)), grads = one_pass(*start, jnp.asarray(factors))
        yield close(f"{which}: logits", logits, z[f"{which}/logits"])
        if extra is not None:
            yield close(f"{which}: auxiliary logits", extra, z[f"{which}/logits_aux"])
        if f"{which}/loss" in z:
            yield close(f"{which}: loss", value, z[f"{which}/loss"])
            ours = to_torch(genotype, space, Variables(grads, start.statistics), **options)
            ours = {name: g for name, g in ours.items() if not name.endswith(("running_mean", "running_var"))}
            yield from gradient_lines(which, ours, z)
        if which == "nodrop":
            logits = jax.jit(net.apply)(Variables(start.weights, moved), images.image)
            yield close("evaluation: logits", logits, z["eval_after_one_forward/logits"])
            yield from statistics_lines(genotype, space, Variables(start.weights, moved), z, options)


def gradient_lines(which: str, ours: Mapping[str, np.ndarray], z: Tensors) -> Iterator[Line]:
    """Every norm, and every sum against the norm times the root of the size; a weight without a norm there has 0."""
    norms, sums = dict.fromkeys(ours, 0.0) | part(z, f"{which}/gnorm/"), part(z, f"{which}/gsum/")
    yield equal(f"{which}: names of weights", sorted(ours), sorted({*norms, *part(z, "w/")}))
    whole = np.sqrt(sum(float(norm) ** 2 for norm in norms.values()))
    floor = lambda n: max(float(norms[n]), 1e-6 * whole)  # what the whole gradient resolves
    for what, found, theirs, scale in (
        ("norms", np.linalg.norm, norms, floor),
        ("sums", np.sum, sums, lambda n: floor(n) * np.sqrt(ours[n].size)),
    ):
        lines = [close(n, found(ours[n]), t, scale=scale(n)) for n, t in theirs.items() if n in ours]
        if lines:
            worst = max(lines, key=lambda line: line.error)
            yield worst._replace(name=f"{which}: {len(lines)} gradient {what} (worst: {worst.name})")


def statistics_lines(genotype, space: Space, found: Variables, z: Tensors, options) -> Iterator[Line]:
    """Running statistics after the pass, where the file has them."""
    theirs = {n: t for n, t in part(z, "bn/").items() if not n.endswith("num_batches_tracked")}
    if theirs:
        ours = to_torch(genotype, space, found, **options)
        lines = [close(n, ours[n], t) for n, t in theirs.items()]
        worst = max(lines, key=lambda line: line.error)
        yield worst._replace(name=f"{len(lines)} running statistics (worst: {worst.name})")


# ---------------------------------------------------------------------------------------------------- sizes


def counted_network(name: str, theirs: Mapping) -> Space:
    """The space of a counted network: of quark0/darts, or "native", of the repository that its genotype is from.

    There pools of SNAS have norms, and ImageNet's auxiliary head keeps its last norm but in PC-DARTS and in SNAS
    where all edges are built.
    """
    native, (channels, height, width) = "native" in name, theirs["input"]
    make = darts_imagenet_network if "ImageNet" in theirs["source"] or "imagenet" in name else darts_network
    space = make(theirs["C"], theirs["layers"], theirs["classes"], image=(height, width, channels))
    if native and name.startswith("SNAS"):
        space = space.replace(ops=snas_network().ops)
    if native and make is darts_imagenet_network and not name.startswith("PC_DARTS") and "edge_all" not in name:
        space = space.replace(auxiliary=partial(AuxiliaryHead, stride=2))
    return space


def network_counts(data: Mapping) -> Iterator[Line]:
    """Parameters and multiply-adds of every counted network, by kind where the file has them."""
    for name, theirs in data.get("eval_networks", {}).items():
        genotype = genotype_of(data["genotypes"][name.partition("/")[0].partition("@")[0]])
        space = counted_network(name, theirs)
        if genotype.names == ("normal",):
            space = fixed_reduction(space, partial(FixedReduction, affine=True))
        cost, second = total(genotype_cost(genotype, space)), auxiliary_cost(genotype, space)
        ours = {
            "params_no_aux": cost.parameters,
            "params_with_aux": cost.parameters + second.parameters,
            "params_aux_only": second.parameters,
            "macs_no_aux": cost.multiply_adds,
            "macs_conv": cost.multiply_adds - theirs.get("macs_linear", 0),
            "macs_aux_only": second.multiply_adds,
            **kinds(genotype, space),
        }
        for key in sorted(ours.keys() & theirs.keys()):
            yield equal(f"{name}: {key}", ours[key], theirs[key])


def auxiliary_cost(genotype: Genotype, space: Space):
    """Cost of the auxiliary head behind the last reduction."""
    parts = plan(space, {cell: len(genotype.concat(cell)) for cell in space.cells})
    place = [found for found in parts if found.stride > 1][-1]
    return module_cost(space.auxiliary(classes=space.classes), place.result.shape(space.image))


def kinds(genotype: Genotype, space: Space) -> dict[str, int]:
    """Weights of convolutions, norms and the linear layer, counted in the network's own arrays by official name."""
    shapes = jax.eval_shape(network(genotype, space).init, jax.random.key(0))
    counts = dict.fromkeys(("params_conv", "params_bn_affine", "params_linear"), 0)
    for entry in entries(genotype, space):
        if entry.path[0] == 0:
            leaf = shapes
            for key in entry.path:
                leaf = leaf[key]
            shape = list(leaf.shape[len(entry.position) :])
            if entry.rows is not None:
                shape[-2] = entry.rows
            kind = "linear" if "classifier" in entry.name else "bn_affine" if len(shape) == 1 else "conv"
            counts[f"params_{kind}"] += prod(shape)
    return counts
