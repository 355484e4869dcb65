"""How a supernet is written down for the compiler: choices that change its size and speed, and no number.

Where in the river: inside `networks.py`. Knows that edges read states and add to states; no operation, gate or alpha.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array, lax

# (its mask, key and step; its parameters and gates; input [B, H, W, C]) -> output of one edge
Edge = Callable[[Any, Any, Array], Array]
# (edge, what edges differ in, twice: without and with gradients, source [n], target [n], inputs [S, B, H, W, C],
# states [N, B, h, w, C]) -> states with every edge's output added to its target. Edges read the inputs, or where these
# are None the states themselves, and come in an order in which a state is complete before it is read
Visit = Callable[[Edge, Any, Any, np.ndarray, np.ndarray, Array | None, Array], Array]

PRODUCTS = frozenset(
    {"dot_general", "conv_general_dilated", "pointwise_convolve", "depthwise_convolve", "dense_convolve"}
)  # names of primitives


def recomputed(unroll: int = 1) -> Visit:
    """Edges one after another in one loop, each computed again in the backward pass: needs the least memory.

        d states[t] += d edge(row, states[s])    where the states on the right are the complete ones, for edges s -> t

    The complete states are all that the backward pass needs besides parameters and gates, once for all edges that read
    them; a loop of rematerialised edges (`scanned`) keeps a copy of its input for each edge.

    Args:
      unroll: edges written out in the body of the loop; as many as a cell has gives no loop at all.
    """
    return partial(_recomputed, unroll)


@partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _recomputed(unroll: int, edge: Edge, fixed, rows, source, target, inputs: Array | None, states: Array) -> Array:
    return scanned(unroll, kept)(edge, fixed, rows, source, target, inputs, states)


@_recomputed.defjvp
def _recomputed_jvp(unroll: int, edge: Edge, primals, tangents):
    """Tangents of the states: a loop that reads the complete states, so that nothing else needs to be stored.

    Differentiated forward once more, the states themselves and their tangents are one loop (`scanned`).
    """
    fixed, rows, source, target, inputs, _ = primals
    _, drows, _, _, dinputs, dstates = tangents
    states = scanned(unroll)(edge, *primals)
    read = states if inputs is None else inputs

    @jax.checkpoint
    def slope(fix, row, s, read, drow, dx):
        return jax.jvp(partial(edge, fix), (row, read[s]), (drow, dx))[1]

    def body(dstates, item):
        fix, row, drow, s, t = item
        dx = (dstates if inputs is None else dinputs)[s]
        return dstates.at[t].add(slope(fix, row, s, read, drow, dx)), None

    return states, lax.scan(body, dstates, (fixed, rows, drows, source, target), unroll=unroll)[0]


def scanned(unroll: int = 1, remat: Callable[[Edge], Edge] = jax.checkpoint) -> Visit:
    """Edges one after another in one loop: the program holds `unroll` edges however many there are.

    Args:
      unroll: edges written out in the body of the loop.
      remat: what wraps one edge: `jax.checkpoint` (computed again in the backward pass), `products_kept`,
        `partial(jax.checkpoint, policy=...)` (other parts of it kept), or `kept` (everything kept).
    """

    def visit(edge: Edge, fixed, rows, source, target, inputs: Array | None, states: Array) -> Array:
        def body(states, item):
            fix, row, s, t = item
            x = (states if inputs is None else inputs)[s]
            return states.at[t].add(remat(edge)(fix, row, x)), None

        return lax.scan(body, states, (fixed, rows, source, target), unroll=unroll)[0]

    return visit


def fanned(remat: Callable[[Edge], Edge] = jax.checkpoint) -> Visit:
    """All edges into a node at once, by `vmap`: fewer and larger kernels, one program for each number of inputs.

    Under `vmap` an operation that a mask or a sample switches off is computed all the same and then not selected.

    Args:
      remat: what wraps one edge, as for `scanned`.
    """

    def visit(edge: Edge, fixed, rows, source, target, inputs: Array | None, states: Array) -> Array:
        for node in np.unique(target):
            into = np.flatnonzero(target == node)
            x = (states if inputs is None else inputs)[source[into]]
            fix, row = jax.tree.map(lambda a, into=into: a[into], (fixed, rows))
            states = states.at[node].add(jax.vmap(remat(edge))(fix, row, x).sum(0))
        return states

    return visit


def kept(edge: Edge) -> Edge:
    """Keeps every intermediate result for the backward pass.

    Args:
      edge: what computes an edge.
    """
    return edge


def products_kept(edge: Edge) -> Edge:
    """Keeps the results of convolutions and matrix products for the backward pass, and computes the rest again.

    JAX's own `dots_saveable` knows no convolution, and not the 1x1 ones that are primitives here.

    Args:
      edge: what computes an edge.
    """
    return jax.checkpoint(edge, policy=lambda primitive, *_, **options: primitive.name in PRODUCTS)


class Layout(NamedTuple):
    """Choices whose defaults weigh seconds to compile, memory and seconds of a step on CPU; BUILD.md has the table.

    Attributes:
      edges: how the edges of a cell are visited: `recomputed`, `scanned` or `fanned`.
      cells: cells of a row that are written out in the body of the loop over them.
    """

    edges: Visit = recomputed()
    cells: int = 1
