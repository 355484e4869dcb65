"""How a supernet is written down for the compiler: choices that change its size and speed, and no number.

Where in the river: inside `networks.py`. Knows that edges read states and add to states; no operation, gate or alpha.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array, lax

Edge = Callable[[Any, Array], Array]  # (one row of what the edges differ in, input [B, H, W, C]) -> output
# (edge, rows, source, target, inputs [S, B, H, W, C], states [N, B, h, w, C]) -> states with every edge's output added
# to its target; edges read the inputs, or where these are None the states themselves
Visit = Callable[[Edge, Any, np.ndarray, np.ndarray, Array | None, Array], Array]


def scanned(unroll: int = 1) -> Visit:
    """Edges one after another in one loop: the program holds `unroll` edges however many there are.

    Args:
      unroll: edges written out in the body of the loop; as many as a cell has gives no loop at all.
    """

    def visit(edge: Edge, rows, source: np.ndarray, target: np.ndarray, inputs: Array | None, states: Array) -> Array:
        def body(states, item):
            row, s, t = item
            x = (states if inputs is None else inputs)[s]
            return states.at[t].add(edge(row, x)), None

        return lax.scan(body, states, (rows, source, target), unroll=unroll)[0]

    return visit


def fanned() -> Visit:
    """All edges into a node at once, by `vmap`: fewer and larger kernels, one program for each number of inputs.

    Under `vmap` an operation that a mask or a sample switches off is computed all the same and then not selected.
    """

    def visit(edge: Edge, rows, source: np.ndarray, target: np.ndarray, inputs: Array | None, states: Array) -> Array:
        for node in np.unique(target):
            into = np.flatnonzero(target == node)
            x = (states if inputs is None else inputs)[source[into]]
            outs = jax.vmap(edge)(jax.tree.map(lambda a, into=into: a[into], rows), x)
            states = states.at[node].add(outs.sum(0))
        return states

    return visit


class Layout(NamedTuple):
    """Choices of which the defaults are the fastest measured on CPU; BUILD.md has the table.

    Attributes:
      edges: how the edges of a cell are visited, `scanned(unroll)` or `fanned()`.
      cells: cells of a row that are written out in the body of the loop over them.
      remat: what wraps one edge, `jax.checkpoint` (computed again in the backward pass), `partial(jax.checkpoint,
        policy=...)` (parts of it kept), or `kept` (everything kept).
    """

    edges: Visit = scanned()
    cells: int = 1
    remat: Callable[[Callable], Callable] = jax.checkpoint


def kept(function: Callable) -> Callable:
    """Keeps every intermediate result for the backward pass."""
    return function
