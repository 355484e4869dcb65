"""In which numbers a network computes: the type of its activations, and how exact its products are.

Where in the river: around everything that is traced and lowered. Knows what JAX calls these things; no step, no space.

Weights, alpha, statistics of norms, logits, losses and optimizers are float32 in each of them (`docs/precision.md`).
JAX takes the precision of a product where a program is traced, and where it is lowered too: own primitives become
products there. Hence `in_force` goes around both.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import Any, NamedTuple

import jax
from jax import Array
from jax.tree_util import Partial

from jaxnas.hoisting import tree_of

ACTIVATIONS = ("float32", "bfloat16")
PRODUCTS = {"float32": "float32", "tf32": "tensorfloat32", "bfloat16": "bfloat16"}  # -> what JAX calls it


class LowPrecision(RuntimeWarning):
    """A method that numbers below float32 spoil."""


class Precision(NamedTuple):
    """Activations, and what products of convolutions and matrices keep of float32 operands; they add in float32."""

    activations: str  # of ACTIVATIONS; that of the images, in which the network computes
    products: str  # of PRODUCTS

    def in_force(self) -> AbstractContextManager[Any]:
        """Within it, what is traced and lowered has these products."""
        return jax.default_matmul_precision(PRODUCTS[self.products])

    def cast(self, augment: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
        """The augmentation, with images of this type.

        Args:
          augment: (key, images [B, H, W, C]) -> images.
        """
        return Partial(partial(_cast, self.activations), tree_of(augment))

    def check(self) -> None:
        """Raises ValueError where there is no such precision; says which there are."""
        for given, known in zip(self, (ACTIVATIONS, PRODUCTS), strict=True):
            if given not in known:
                raise ValueError(f"{self} does not exist: {given!r} is none of {', '.join(known)}.")

    @property
    def exact(self) -> bool:
        """Whether nothing is shorter than float32."""
        return self == FLOAT32


def _cast(activations: str, augment: Partial, key: Array, images: Array) -> Array:
    return augment(key, images).astype(activations)


FLOAT32 = Precision("float32", "float32")
TF32 = Precision("float32", "tf32")  # NVIDIA: operands of 11 bits; TPU: three passes of bfloat16; CPU: float32
BFLOAT16 = Precision("bfloat16", "float32")  # bfloat16 operands are exact as they are; the head's are float32
UNSAID: Mapping[str, Any] = {"precision": FLOAT32._asdict()}  # what a record means that was made before it said so
