"""What a user gives to a run besides its search: who is told of an epoch, and how the last state becomes the answer.

Where in the river: outside. Knows types; the loop that calls them is `runner`.
"""

from collections.abc import Callable, Mapping
from typing import Any

from jax import Array

from jaxnas.folder import Record
from jaxnas.hypergradient import Batches
from jaxnas.search import Search, SearchState
from jaxnas.spaces.genotype import Genotype

# (record of a finished epoch, {cell: scores [E, O]}) -> None
Observe = Callable[[Record, Mapping[str, Any]], None]
# (search, state, all images, key, batch, tell) -> genotype; tell(done, of how many) is shown
Finish = Callable[[Search, SearchState, Batches, Array, int, Callable[[int, int], None]], Genotype]


def decoded(search: Search, state: SearchState, data: Batches, key: Array, batch: int, tell) -> Genotype:
    """The genotype that the search's decoding reads off alpha."""
    del data, key, batch, tell
    return search.genotype(state)
