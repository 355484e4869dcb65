"""One forward and backward pass of a whole supernet, and every operation alone."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from parity_lines import Image, Line, Tensors, batch, close, equal, part

from jaxnas.interop import from_torch, official_name, to_torch
from jaxnas.spaces import ops
from jaxnas.spaces.darts import darts
from jaxnas.spaces.nas_bench_201 import nas_bench_201
from jaxnas.spaces.networks import init_module, supernet
from jaxnas.spaces.space import Space
from jaxnas.strategies.mixing import Mixing, partial_channels, weighted_sum
from jaxnas.strategies.relaxation import Normalized, edge_normalized, softmax


def space_of(meta: Mapping, z: Tensors) -> Space:
    """The space of a file's network."""
    image = (*z["x"].shape[2:], z["x"].shape[1])
    classes = z["logits"].shape[1]
    if "max_nodes" in meta:
        return nas_bench_201(meta["C"], meta["N"], classes, image=image)
    return darts(meta["C"], meta["layers"], classes, image=image)


def alphas_of(space: Space, z: Tensors, prefix: str) -> dict[str, np.ndarray] | Normalized:
    """Alpha (or its gradient) by cell type; with beta where the file has it."""
    if space.cells == ("cell",):
        return {"cell": z[prefix + "arch_parameters"]}
    if f"{prefix}normal_log_alpha" in z:
        return {cell: z[f"{prefix}{cell}_log_alpha"] for cell in space.cells}
    ops, edges = ({cell: z.get(f"{prefix}{kind}_{cell}") for cell in space.cells} for kind in ("alphas", "betas"))
    return ops if edges["normal"] is None else Normalized(ops, edges)


def supernet_file(z: Tensors, meta: Mapping) -> Iterator[Line]:
    """Logits, loss, cell outputs and all gradients of one train-mode pass."""
    space, images = space_of(meta, z), batch(z["x"], z["y"])
    mixing = partial_channels(meta["K"]) if "K" in meta else weighted_sum()
    relaxation = edge_normalized(softmax()) if "K" in meta else softmax()
    yield from one_pass(z, space, mixing, images, lambda alpha: relaxation.mean(alpha, space))


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
        yield close(f"{case}: gx", np.asarray(gx).transpose(0, 3, 1, 2), z[f"{case}/gx"])
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
