"""Every operation alone: output, gradient of the input, gradient of every parameter."""

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from parity_lines import Line, Tensors, close, part

from jaxnas.interop import official_name
from jaxnas.spaces import ops
from jaxnas.spaces.nas_bench_201 import ResidualReduction
from jaxnas.spaces.networks import init_module


def operation(name: str, stride: int, affine: bool, features: int, autodl: bool):
    """The module behind an official name; in AutoDL-Projects convolutions have biases where norms have none."""
    norm, bias = partial(ops.BatchNorm, affine=affine), autodl and not affine
    size = int(re.search(r"(\d)x\d", name).group(1)) if re.search(r"\dx\d", name) else 0
    made = {
        "none": lambda: ops.Zero(stride),
        "avg_pool_3x3": lambda: ops.AveragePool(stride),
        "max_pool_3x3": lambda: ops.MaxPool(stride),
        "skip_connect": lambda: ops.Skip(stride, norm, bias),
        "conv_7x1_1x7": lambda: ops.FactorizedConv(stride, norm=norm),
        "sep": lambda: ops.SepConv(stride, size, norm),
        "dua": lambda: ops.SepConv(stride, size, norm, bias),
        "dil": lambda: ops.DilConv(stride, size, norm, bias),
        "nor_conv": lambda: ops.ReluConvNorm(stride, size, features, bias, norm),
        "ResNetBasicblock": lambda: ResidualReduction(features),
        "ReLUConvBN": lambda: ops.ReluConvNorm(kernel=size, features=features, norm=norm),
        "FactorizedReduce": lambda: ops.FactorizedReduce(features, norm),
    }
    return made[next(key for key in made if name.startswith(key))]()


def operations_file(z: Tensors, meta: Mapping) -> Iterator[Line]:
    """Every operation alone: output, gradient of the input, gradient of every parameter."""
    autodl = "AutoDL" in meta["source"]
    for case in sorted({key.removesuffix("/gy") for key in z if key.endswith("/gy")}):
        x, gy = (jnp.asarray(z[f"{case}/{k}"].transpose(0, 2, 3, 1)) for k in ("x", "gy"))
        fields = case.removeprefix("odd7/").split("/")
        stride = next((int(field[1]) for field in fields if re.fullmatch("s[12]", field)), 1)
        affine = f"{case}/affine" in case or fields[-1] == "affine"
        module = operation(fields[0], stride, affine, gy.shape[-1], autodl)
        named = partial(official_name, module.clone(bias=True) if autodl and hasattr(module, "bias") else module)
        theirs = part(z, f"{case}/w/")
        params = fill(module, named, x.shape[1:], theirs)
        y, pull = jax.vjp(lambda p, x, m=module: m.apply({"params": p}, x), params, x)
        grads, gx = pull(gy)
        yield close(f"{case}: y", np.asarray(y).transpose(0, 3, 1, 2), z[f"{case}/y"])
        yield close(f"{case}: gx", np.asarray(gx).transpose(0, 3, 1, 2), z[f"{case}/gx"])
        for path, g in jax.tree_util.tree_leaves_with_path(grads):
            name = named(tuple(k.key for k in path))
            # a bias in front of a norm has gradient 0 but for rounding: compare with the cotangent that makes it
            scale = np.abs(gy).sum() if name.endswith("bias") and autodl and not affine else None
            yield close(f"{case}: {name}", g, layout(z[f"{case}/g/{name}"], g.ndim), scale=scale)


def fill(module, named: Callable, shape, theirs: Tensors):
    """Our parameters of a module with the official numbers; every official one must find its place."""
    params = jax.eval_shape(lambda key: init_module(module, key, shape), jax.random.key(0))
    used = {}

    def one(path, leaf):
        name = named(tuple(k.key for k in path))
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
