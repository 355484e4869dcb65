"""One forward and backward pass of a whole supernet."""

from collections.abc import Callable, Iterator, Mapping

import jax
import jax.numpy as jnp
import numpy as np
import optax
from parity_draws import drawn, draws, noise_of
from parity_lines import Image, Line, Tensors, batch, close, equal, part

from jaxnas.interop import from_torch, to_torch
from jaxnas.spaces.darts import darts
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.spaces.nasnet import nasnet
from jaxnas.spaces.networks import supernet
from jaxnas.spaces.space import Space
from jaxnas.strategies.mixing import (
    Mixing,
    broadcast,
    partial_channels,
    selected_only,
    weighted_sum,
)
from jaxnas.strategies.relaxation import Normalized, edge_normalized, softmax


def space_of(meta: Mapping, z: Tensors) -> Space:
    """The space of a file's network."""
    image = (*z["x"].shape[2:], z["x"].shape[1])
    classes = z["logits"].shape[1]
    if "max_nodes" in meta:
        return nas_bench_201(meta["C"], meta["N"], classes, image=image)
    if "layers" in meta:
        return darts(meta["C"], meta["layers"], classes, image=image)
    return nasnet(meta["C"], meta["N"], classes, image=image)


def alphas_of(space: Space, z: Tensors, prefix: str) -> dict[str, np.ndarray] | Normalized:
    """Alpha (or its gradient) by cell type; with beta where the file has it."""
    if space.cells == ("cell",):
        return {"cell": z[prefix + "arch_parameters"]}
    if prefix + "arch_normal_parameters" in z:
        return {cell: z[f"{prefix}arch_{cell}_parameters"] for cell in space.cells}
    if f"{prefix}normal_log_alpha" in z:
        return {cell: z[f"{prefix}{cell}_log_alpha"] for cell in space.cells}
    ops, edges = ({cell: z.get(f"{prefix}{kind}_{cell}") for cell in space.cells} for kind in ("alphas", "betas"))
    return ops if edges["normal"] is None else Normalized(ops, edges)


def arrows_of(space: Space, z: Tensors, meta: Mapping) -> tuple[Mixing, Callable]:
    """How edges mix in a file, and its alpha -> gates."""
    if "tau" in meta:
        mixing = broadcast() if "max_nodes" in meta else selected_only()
        return mixing, drawn(space, noise_of(space.cells, z), meta["tau"])
    if "K" in meta:
        return partial_channels(meta["K"]), lambda alpha: edge_normalized(softmax()).mean(alpha, space)
    return weighted_sum(), lambda alpha: softmax().mean(alpha, space)


def supernet_file(z: Tensors, meta: Mapping) -> Iterator[Line]:
    """Logits, loss, cell outputs and all gradients of one train-mode pass."""
    space, images = space_of(meta, z), batch(z["x"], z["y"])
    mixing, relax = arrows_of(space, z, meta)
    yield from one_pass(z, space, mixing, images, relax)
    if "tau" in meta:
        alpha = jax.tree.map(jnp.asarray, alphas_of(space, z, "arch/"))
        yield from draws("", z, relax(alpha), alpha, meta["tau"])


def one_pass(z: Tensors, space: Space, mixing: Mixing, images: Image, relax: Callable) -> Iterator[Line]:
    """The same for any relaxation: alpha -> gates."""
    net, weights = supernet(space, mixing), from_torch(space, part(z, "w/"), mixing)
    alpha = jax.tree.map(jnp.asarray, alphas_of(space, z, "arch/"))
    key, step = jax.random.key(0), jnp.int32(0)

    def loss(weights, alpha):
        logits = net.apply(weights, images.image, relax(alpha), key, step)
        return optax.softmax_cross_entropy_with_integer_labels(logits, images.label).mean(), logits

    (value, logits), grads = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(weights, alpha)
    yield close("logits", logits, z["logits"])
    yield close("loss", value, z["loss"])
    theirs = alphas_of(space, z, "garch/")
    for (path, found), wanted in zip(jax.tree.leaves_with_path(grads[1]), jax.tree.leaves(theirs), strict=True):
        yield close(f"alpha gradient, {jax.tree_util.keystr(path, simple=True, separator=' ')}", found, wanted)
    yield from weight_gradients(to_torch(space, grads[0], mixing), z)
    if any(name.startswith("cell_") for name in z):
        states = jax.jit(lambda w, a: net.states(w, images.image, relax(a), key, step))(weights, alpha)
        yield from cell_outputs(states, z)


def cell_outputs(states: list, z: Tensors) -> Iterator[Line]:
    """The output of every cell: whole where the file has it, else its mean over images and pixels."""
    for k, state in enumerate(states):
        ours = np.asarray(state).transpose(0, 3, 1, 2)
        if f"cell_out/{k}" in z:
            yield close(f"output of cell {k}", ours, z[f"cell_out/{k}"])
        else:
            # normalised outputs have means near zero: their error is compared with 1, the size of the outputs
            yield close(f"channel means of cell {k}", ours.mean((0, 2, 3)), z[f"cell_chmean/{k}"], scale=1.0)


def weight_gradients(ours: Tensors, z: Tensors) -> Iterator[Line]:
    """Every gradient norm, and every gradient that the file holds in full; a weight without a norm there has 0."""
    norms, full = dict.fromkeys(ours, 0.0) | part(z, "gnorm/"), part(z, "g/")
    whole = float(z["grad_global_norm"])
    yield equal("names of weights", sorted(ours), sorted({*norms, *part(z, "w/")}))
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
