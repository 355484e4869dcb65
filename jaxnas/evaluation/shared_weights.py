"""What a genotype is worth with the weights of the supernet: one compiled program for all of them.

Where in the river: beside the way out. Knows a bound search, genotypes and images; no alpha, no optimizer.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jaxnas.data import Batch, epoch_rows, take
from jaxnas.hoisting import tree_of
from jaxnas.hypergradient import Metrics
from jaxnas.search import Search, SearchState
from jaxnas.spaces.genotype import Genotype
from jaxnas.spaces.space import CellGates, Gates, Space

Scorer = Callable[[SearchState, CellGates, Batch, Array], Metrics]  # (state, gates, images, key) -> means
Tell = Callable[[int, int], None]  # (evaluations done, of how many) -> shown somewhere


def silent(done: int, total: int) -> None:
    """Tells nobody."""
    del done, total


def one_hot_gates(genotype: Genotype, space: Space) -> dict[str, Gates]:
    """Gates that open what a genotype has chosen, and nothing else: zeros and ones.

    Two choices on one edge open both; the mixing `sampled` runs the first of them only.

    Args:
      genotype: what is open.
      space: that it was found in.

    Raises:
      ValueError: where the genotype has cells, edges or operations that the space does not know.
    """
    if set(genotype.names) != set(space.cells):
        raise ValueError(
            f"the genotype has the cells {genotype.names}, the space {space.cells}: give that of its search."
        )
    return {cell: _one_hot(genotype, space, cell) for cell in space.cells}


def _one_hot(genotype: Genotype, space: Space, cell: str) -> Gates:
    ops = np.zeros((len(space.edges), len(space.ops)))
    for op, source, target in genotype.edges(cell):
        if (source, target) not in space.edges or op not in space.op_names:
            raise ValueError(
                f"cell {cell!r} has {op} on edge {(source, target)}; the space {space.name!r} has the operations "
                f"{', '.join(space.op_names)} on the edges {space.edges}."
            )
        row, column = space.edges.index((source, target)), space.op_names.index(op)
        if not space.mask(cell)[row, column]:
            raise ValueError(f"cell {cell!r}: {op} is dead on edge {(source, target)} of {space.name!r}: no weights.")
        ops[row, column] = 1
    return Gates(*(jnp.asarray(table, jnp.result_type(float)) for table in (ops, ops.max(-1))))


def scorer(search: Search, batch: int, batches: int | None = None) -> Scorer:
    """Mean loss and accuracy of the supernet under any gates, compiled once for all gates and states.

    Images are drawn without replacement from the key and augmented like those of the search; the last batch of a whole
    pass is filled up with images already seen. The same key gives the same images, whatever the gates.

    Args:
      search: whose supernet.
      batch: images in a batch: norms take their statistics from it.
      batches: batches to look at; as many as show every image once unless given, and never more.

    Deviates: norms have no running averages, as in the search. The official codes score in evaluation mode.
    """

    score = counted_scorer(search, batch)
    return lambda state, gates, images, key: score(state, gates, images, key, batches)


def counted_scorer(search: Search, batch: int) -> Callable[..., Metrics]:
    """`scorer` with the number of batches as a fifth argument (None: all), so that any number is the same program."""

    @jax.jit
    def score(measure, state: SearchState, gates: CellGates, images: Batch, key: Array, most: Array) -> Metrics:
        key_rows, key = jax.random.split(key)
        rows = epoch_rows(key_rows, images.label.shape[0], batch)
        one = lambda i: measure(state, gates, take(images, rows[i]), jax.random.fold_in(key, i))
        count = jnp.minimum(most, len(rows))
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(one, 0))
        sums = lax.fori_loop(0, count, lambda i, sums: jax.tree.map(jnp.add, sums, one(i)), zeros)
        return jax.tree.map(lambda total: total / count.astype(total.dtype), sums)

    measure, everything = tree_of(search.measure), np.iinfo(np.int32).max
    return lambda *args: score(measure, *args[:-1], jnp.int32(everything if args[-1] is None else args[-1]))
