"""A case as a search of ours that runs."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.case import CLASSES, Case, images
from jaxnas.data import Batch
from jaxnas.hypergradient import Batches
from jaxnas.names import SPACES, STRATEGIES
from jaxnas.search import Search, bind
from jaxnas.spaces.space import Space

LENGTH = 1000  # steps of the search that the measured step stands at the front of
PRECISIONS = {"float32": "highest", "tf32": "tensorfloat32", "bfloat16": "default"}  # -> what JAX calls it


class Built(NamedTuple):
    """A case as something that runs."""

    search: Search
    space: Space
    batches: Batches


def named(table: Mapping[str, Any], name: str, kind: str) -> Any:
    """The value behind a name; ValueError with the names that exist."""
    if name not in table:
        raise ValueError(f"no {kind} is called {name!r}; choose one of {', '.join(table)}.")
    return table[name]


def build(case: Case) -> Built:
    """The search and its batches on the default device; sets JAX's precision of products for the process."""
    row, chosen = named(STRATEGIES, case.strategy, "strategy"), named(SPACES, case.space, "space")
    jax.config.update("jax_default_matmul_precision", named(PRECISIONS, case.precision, "precision"))
    space = chosen.make(case.channels, case.depth, CLASSES, image=(case.image, case.image, 3))
    method = row(LENGTH)
    search = bind(method.replace(decode=chosen.decode(method.decode)), space, augment=as_type(case.precision))
    return Built(search, space, Batches(*(Batch(*map(jnp.asarray, half)) for half in images(case))))


def as_type(precision: str):
    """The augmentation that turns stored images into the type in which the network computes."""
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32

    def cast(key: Array, images: Array) -> Array:
        del key
        return images.astype(dtype)

    return cast
