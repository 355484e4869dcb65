"""Many searches in one program: the same search for several keys, side by side.

Where in the river: around `bind`. Knows a `Search` and how to run one function for many arguments; nothing inside a
step.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax import Array, lax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from jaxnas.hypergradient import Batches, Metrics
from jaxnas.search import Search, SearchState
from jaxnas.spaces.genotype import Genotype
from jaxnas.spaces.space import CellGates

Axis = Callable[[Callable], Callable]  # f of one -> f of many, stacked along a leading axis of every argument


def vmapped(function: Callable) -> Callable:
    """All at once in larger kernels: for accelerators, which one small search leaves idle.

    Conditionals on a batched value become selections: a sampled operation no longer saves the others.

    Args:
      function: of unstacked arguments.
    """
    return jax.vmap(function)


def mapped(function: Callable) -> Callable:
    """One after another in a loop: one compilation, the time of separate runs; conditionals stay conditionals.

    Args:
      function: of unstacked arguments.
    """
    return lambda *args: lax.map(lambda one: function(*one), args)


def sharded(mesh: Mesh, name: str, inner: Axis = vmapped) -> Axis:
    """Spread over the devices along one axis of a mesh, those of one place on it together as `inner` says.

    Other axes of the mesh are left to the compiler: where batches are dealt out along them, each search shares its own.

    Args:
      mesh: the devices; `parallel.grid(...)` for several of them to each search.
      name: an axis of the mesh; its size must divide the number of searches.
      inner: `vmapped` or `mapped`.

    Raises:
      ValueError: from JAX, when the devices do not divide the searches; names both numbers.
    """

    options: dict[str, Any] = {"axis_names": {name}, "check_vma": False}

    def axis(function: Callable) -> Callable:
        return jax.shard_map(inner(function), mesh=mesh, in_specs=P(name), out_specs=P(name), **options)

    return axis


class Searches(NamedTuple):
    """S independent searches; every array has a leading axis of length S."""

    init: Callable[[Array], SearchState]  # keys [S] -> states
    step: Callable[[SearchState, Batches], tuple[SearchState, Metrics]]  # batches [S, B, ...] -> states, metrics [S]
    scores: Callable[[SearchState], CellGates]  # mean gates, [S, E, O] and [S, E]
    genotypes: Callable[[SearchState], list[Genotype]]  # on the host


def over_seeds(search: Search, axis: Axis = mapped) -> Searches:
    """The same search for every key of a list, compiled once.

    Args:
      search: from `bind`.
      axis: how they share the machine: `mapped` (the default, best on CPU), `vmapped`, or `sharded(mesh, name)`.

    Returns:
      `Searches`; each is the search that its own key gives alone: to the last bit with `mapped` on CPU, to rounding
      with `vmapped`.
    """

    def genotypes(states: SearchState) -> list[Genotype]:
        count = states.bilevel.step.shape[0]
        return [search.genotype(seed(states, i)) for i in range(count)]

    return Searches(axis(search.init), axis(search.step), jax.vmap(search.scores), genotypes)


def seed(states: Any, number: int) -> Any:
    """One of the stacked states, batches or metrics; a leading axis less.

    Args:
      states: pytree whose arrays are [seeds, ...].
      number: which seed, from 0.
    """
    return jax.tree.map(lambda leaf: leaf[number], states)
