"""A trained network without this package: its arrays by name, and its function as serialised StableHLO.

Where in the river: the mouth. Knows a network and its variables; no files, no recipe.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, export

from jaxnas.augmentation import Transform
from jaxnas.spaces.bilinear import in_common_operations
from jaxnas.spaces.network import Network, Variables

PLATFORMS = ("cpu", "cuda", "tpu")
Function = Callable[[Mapping[str, Any], Array], Array]  # (arrays by name, uint8 images [B, H, W, C]) -> logits [B, K]


def flatten(variables: Variables) -> dict[str, np.ndarray]:
    """Arrays by name: {"weights/head/classifier/kernel": ...}, on the host."""
    return {name: np.asarray(leaf) for name, leaf in _named(jax.device_get(variables))}


def unflatten(arrays: Mapping[str, Any], network: Network) -> Variables:
    """Variables of a network from arrays by name.

    Raises:
      ValueError: where a name or a shape is missing or another one; says which.
    """
    like = jax.eval_shape(network.init, jax.eval_shape(lambda: jax.random.key(0)))
    wanted = {name: leaf.shape for name, leaf in _named(like)}
    found = {name: tuple(leaf.shape) for name, leaf in arrays.items()}
    wrong = sorted(name for name in {**wanted, **found} if wanted.get(name) != found.get(name))
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{name} has the shape {found.get(name)}, the network wants {wanted.get(name)} ({len(wrong)} such arrays): "
            "these are the arrays of another network."
        )
    return jax.tree.unflatten(jax.tree.structure(like), [jnp.asarray(arrays[name]) for name in wanted])


def function(network: Network, prepare: Transform) -> Function:
    """(arrays by name, uint8 images [B, H, W, C]) -> logits [B, K]: prepared, then by the running statistics."""

    def apply(arrays: Mapping[str, Any], images: Array) -> Array:
        return network.apply(unflatten(arrays, network), prepare(jax.random.key(0), images))

    return apply


def portable(
    network: Network,
    prepare: Transform,
    arrays: Mapping[str, Any],
    image: Sequence[int],
    platforms: Sequence[str] = PLATFORMS,
) -> bytes:
    """The function as bytes that `jax.export.deserialize` reads, for any number of images.

    Args:
      network: with what `apply` needs.
      prepare: (key, uint8 images) -> float images; becomes part of the function.
      arrays: by name; their shapes count, not their values.
      image: (height, width, channels).
      platforms: where it can be called.
    """
    images = jax.ShapeDtypeStruct(export.symbolic_shape("b, " + ", ".join(map(str, image))), jnp.uint8)
    shapes = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for name, leaf in arrays.items()}
    exported = export.export(jax.jit(function(network, prepare)), platforms=platforms)(shapes, images)
    return bytes(exported.serialize())


def onnx(network: Network, prepare: Transform, arrays: Mapping[str, Any], image: Sequence[int]) -> bytes:
    """The network as an ONNX model: float32 pixels 0..255 [B, H, W, C] -> logits [B, K], the arrays inside.

    Args:
      network, prepare, arrays, image: as for `portable`.

    Raises:
      ImportError: where jax2onnx is not installed; says how to install it.
    """
    try:
        from jax2onnx import to_onnx
    except ImportError as error:
        raise ImportError("ONNX is written by jax2onnx: pip install 'jaxnas[onnx]', or leave out --onnx.") from error
    apply = function(network, prepare)
    with in_common_operations():
        model = to_onnx(lambda images: apply(arrays, images), [("B", *image)], input_names=["images"])
    return bytes(model.SerializeToString())


def _named(variables: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(variables)
    return [(jax.tree_util.keystr(path, simple=True, separator="/"), leaf) for path, leaf in leaves]


README = """# A trained network

* `weights.npz`: the trained arrays and running statistics, by name.
* `network.stablehlo`: (arrays by name, uint8 images [any, {height}, {width}, {channels}]) -> logits [any, classes], as
  `jax.export` serialises it. Pixels are normalised inside.
* `network.onnx`, where it was asked for: float32 pixels 0 to 255 of the same shape -> logits, the arrays inside.
* `network.py`, where it was asked for: the network in plain flax, a class for each type of cell, to read and to change;
  `network.npz` has its arrays by the names in it.
* `metadata.json`: input, output, normalisation, test accuracy, how it was trained.

With `pip install jax flatbuffers numpy`, and nothing else:

    import jax, numpy
    from jax import export

    with open("network.stablehlo", "rb") as file:
        network = export.deserialize(bytearray(file.read()))
    arrays = dict(numpy.load("weights.npz"))
    logits = network.call(arrays, images)

The same by `network.py`, with `pip install jax flax numpy`:

    from network import Network, load

    logits = Network().apply(load(), images)  # images as above, or of any float type
"""
